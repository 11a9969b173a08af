"""The CUDA engine on the host: tensors of PyTorch's CPU, taken for a GPU's, and kernels that run on
them thread by thread (`cuda_on_host`). What a GPU adds is speed, and memory that is apart."""

from __future__ import annotations

import ctypes
import getpass
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from xloss.backends import fingerprints
from xloss.engines import gpu_arrays
from xloss.engines.cuda import build, driver, kernel_variants
from xloss.engines.cuda import engine as cuda

HERE = Path(__file__).parent / "cuda_on_host"
COMPILER = shutil.which("g++")
# Hidden, so that no kernel's fibers are taken for another's.
FLAGS = ["-O0", "-std=c++17", "-shared", "-fPIC", "-w", "-fvisibility=hidden"]
FOLDER = Path(tempfile.gettempdir()) / f"xloss-cuda-on-host-{getpass.getuser()}"


def called(*parts: Any) -> str:
    """Name what is made of the emulator and of these parts."""
    emulator = b"".join(p.read_bytes() for p in sorted(HERE.iterdir()))
    return hashlib.sha256(emulator + repr((FLAGS, parts)).encode()).hexdigest()[:32]


def kept(made: Path, make: Callable[[Path], Any]) -> Path:
    """Make a file or folder unless it is there; of processes that make it at once, one wins."""
    if not made.exists():
        FOLDER.mkdir(exist_ok=True)
        draft = made.with_suffix(f".{os.getpid()}")
        make(draft)
        with suppress(OSError):  # a folder that another process has put there is not replaced
            draft.rename(made)
    return made


def emulator(draft: Path) -> None:
    """Compile all that is the same of every kernel: half of what a kernel would cost."""
    shutil.copytree(HERE, draft)
    header = [*FLAGS, "-x", "c++-header", draft / "intrinsics.h"]
    machine = [*FLAGS, "-c", draft / "emulator.cpp", "-o", draft / "emulator.o"]
    for arguments in (header, machine):
        subprocess.run([COMPILER, *arguments], check=True)


@cache
def compiled(constants: Any) -> Any:
    """Compile a kernel for the host, or find it compiled."""
    here = kept(FOLDER / f"{called()}.emulator", emulator)
    given = [f"-I{build.HERE}", *(f"-D{n}={v}" for n, v in constants)]

    def make(draft: Path) -> None:
        command = [COMPILER, *FLAGS, *given, here / "kernel.cpp", here / "emulator.o", "-o", draft]
        subprocess.run(command, check=True)

    return ctypes.CDLL(str(kept(FOLDER / f"{called(build.sources(), constants)}.so", make)))


class OneGpu:
    """What is the same of every library: one GPU, and its default stream."""

    def __init__(self, capability):
        self.capability = lambda index: capability
        self.index = lambda a: 0
        self.stream = lambda index: 0
        self.in_turn = lambda index, stream: not self.capturing
        self.capturing = False


class Tensors(OneGpu):
    """What PyTorch offers of tensors on a GPU, of those on the host."""

    holds = staticmethod(gpu_arrays.storage_holds)

    def __init__(self, capability):
        import torch

        super().__init__(capability)
        self.address, self.steps = torch.Tensor.data_ptr, torch.Tensor.stride
        self.in_order = torch.Tensor.contiguous
        # What was not written is seen.
        self.alike = self.empty_like = lambda a: torch.empty_like(a.detach()).fill_(77)
        self.empty = lambda shape, dtype, like: like.new_empty(shape, dtype=dtype).fill_(77)


class StandIns(OneGpu):
    """The same of the array that stands in for CuPy's."""

    def address(self, a):
        return a._values.ctypes.data

    def steps(self, a):
        return tuple(s // a._values.itemsize for s in a._values.strides)

    def empty(self, shape, dtype, like):
        return type(like)(np.full(shape, 77, dtype))

    def empty_like(self, a):
        return type(a)(np.full_like(a._values, 77))

    alike = empty_like

    def holds(self, a, size):
        return True

    def in_order(self, a):
        return type(a)(np.ascontiguousarray(a._values))


class Gpu:
    """Launches that were made, and in which order the threads of a block run."""

    def __init__(self, home):
        self.home, self.launches, self.backward = home, [], False
        self.packed: list[bytes] = []  # each launch's parameters
        self.ways: list[tuple[int, bool]] = []  # each launch's stream, and whether it follows

    def load(self, constants, capability, index, shared=0):
        return constants, compiled(constants), shared

    def launch(self, kernel, index, grid, threads, stream, packed, *, follows):
        constants, code, shared = kernel
        given = dict(constants)
        cluster = given.get("PARTS", 1) if given.get("STAGE") == 0 else 1
        assert grid % cluster == 0
        self.launches.append((constants, grid))
        self.ways.append((stream, follows))
        self.packed.append(packed)
        stuck = code.launch(grid, threads, cluster, shared, packed, int(self.backward))
        assert not stuck, "threads wait for each other"


@contextmanager
def emulated(capability: int = 90, library: str = "torch") -> Iterator[Gpu]:
    """Take PyTorch's CPU for a GPU; or, of "cupy", the array that stands in for CuPy's."""
    if COMPILER is None:
        pytest.skip("no g++ here, which compiles the kernels for the host")
    if library == "torch":
        pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    gpu = Gpu((Tensors if library == "torch" else StandIns)(capability))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xloss._arrays.context, "_contexts", {})
        patch.setattr(cuda, "_on_gpu", lambda cx: cx.library == library)
        patch.setattr(cuda, "unavailable", lambda: None)
        patch.setattr(driver, "unfit", lambda capability: None)
        patch.setattr(gpu_arrays, "of", lambda library: gpu.home)
        patch.setattr(driver, "load", gpu.load)
        patch.setattr(driver, "launch", gpu.launch)
        patch.setattr(kernel_variants, "_shared_rooms", {})
        patch.setattr(fingerprints, "_calls", {})
        if library == "torch":
            for module in (xloss._arrays.context, xloss._arrays.inspect):
                patch.setattr(module, "on_host", lambda lib, dev: lib != "torch")
            patch.setattr("xloss.backends.torch.cuda.on_gpu", lambda x: True)
        yield gpu


both = xloss.value_and_grad(xloss.cross_entropy)


def by_row(z: Any, y: Any, **options: Any) -> tuple[Any, ...]:
    """Row losses and gradient, the losses alone, and the gradient that autograd takes of a sum."""
    leaf = z.detach().requires_grad_()
    xloss.cross_entropy(leaf, y, reduction="sum", **options).backward()
    rows = {**options, "reduction": "none"}
    return *both(z.detach(), y, **rows), xloss.cross_entropy(z.detach(), y, **rows), leaf.grad


def inputs(*shape: int, kind: str = "float32", axis: int = -1, seed: int = 0) -> tuple[Any, Any]:
    """Logits, and labels of the classes along an axis."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(shape, generator=draw).mul(4).to(getattr(torch, kind))
    rows = z.select(axis, 0).shape
    return z, torch.randint(0, shape[axis], rows, generator=draw)


def at_odd_address(z: Any) -> Any:
    """The same numbers where no word of two and no vector begins."""
    room = z.new_empty(z.numel() + 1)
    room[1:] = z.flatten()
    return room[1:].view(z.shape)


def expected(z: Any, y: Any, **options: Any) -> tuple[Any, Any]:
    """The value and the gradient by the generic engine, in float64."""

    def wide(a: Any) -> Any:
        if not hasattr(a, "detach"):
            return a
        return (a.detach().double() if a.is_floating_point() else a).numpy()

    given = {k: wide(v) for k, v in options.items()}
    with xloss.use_engine("generic"):
        return both(wide(z), wide(y), **given)


def assert_near(got: Any, want: Any, ulp: float = 4) -> None:
    """Within some units in the last place; of 16 bits one, since they are a wider result rounded.

    In float64 what is wanted is off too: by half a unit in the last place a unit of gap.
    """
    import torch

    info = torch.finfo(got.dtype)
    ulp = {16: 1, 32: ulp, 64: 32}[info.bits]
    step = np.maximum(np.abs(want), info.smallest_normal) * info.eps
    off = np.abs(got.detach().double().numpy() - want)
    assert (off <= ulp * step).all(), float((off / step).max())


def assert_same(got: Any, want: Any) -> None:
    """Bit by bit, NaN where NaN is wanted."""
    import torch

    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
