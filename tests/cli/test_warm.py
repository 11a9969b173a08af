"""xloss engines --warm: what is compiled ahead is what calls need; said, and said in JSON."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import xloss
from emulated import COMPILER, emulated
from fresh import said
from libraries import FLOATS
from xloss.cli import warm_gpu
from xloss.engines.cpu import engine as cpu
from xloss.engines.cpu import xla_ffi
from xloss.engines.cuda import engine as cuda
from xloss.engines.cuda import gpus

REASON = xloss.engines()["cpu"]
engine = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")


@pytest.fixture
def two(monkeypatch, tmp_path):
    """Two kernels, compiled in no time; one is kept."""
    compiled = pytest.importorskip("xloss.engines.cpu.kernel_cache")
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(tmp_path))
    folder = compiled.cache_folder()

    def kernels():
        yield "rows float32", 1.25
        folder.mkdir(exist_ok=True)
        (folder / "rows-1.kernel").write_bytes(b"")
        yield "rows float64", 0.5

    monkeypatch.setattr(cpu, "warm", kernels)
    monkeypatch.setattr(xla_ffi, "warm", lambda: iter(()))
    monkeypatch.setattr(cuda, "unavailable", lambda: "no GPU is found")
    return folder


@engine
def test_each_kernel_its_seconds_and_the_folder(two, command):
    ran = command("engines --warm")
    assert (ran.returncode, ran.stderr) == (0, "")
    first, second, total, skipped, place = ran.stdout.splitlines()
    assert re.fullmatch(r" +1\.25 s  rows float32", first)
    assert re.fullmatch(r" +0\.50 s  rows float64", second)
    assert re.fullmatch(r" +\d+\.\d\d s  all 2 kernels, with the start of Numba", total)
    assert skipped == "engine 'cuda' is skipped: no GPU is found"
    assert place == f"kept in {two}"
    ran = command("engines --warm --json")
    assert (ran.returncode, ran.stderr) == (0, "")
    got = json.loads(ran.stdout)
    assert got.pop("seconds") >= 0
    assert got == {
        "schema": 1,
        "kernels": [
            {"name": "rows float32", "seconds": 1.25},
            {"name": "rows float64", "seconds": 0.5},
        ],
        "skipped": [{"engine": "cuda", "reason": "no GPU is found"}],
        "cache": str(two),
    }


@engine
def test_an_unwritable_cache_is_reported(two, command, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(tmp_path / "file"))
    assert command("engines --warm").stdout.splitlines()[-1].startswith("not kept on disk")
    two.joinpath("rows-1.kernel").unlink()
    two.rmdir()
    assert json.loads(command("engines --warm --json").stdout)["cache"] is None


def test_with_neither_engine_it_is_refused(command, monkeypatch):
    monkeypatch.setattr(cuda, "unavailable", lambda: "no GPU is found")
    monkeypatch.setattr(cpu, "unavailable", lambda: 'no Numba: pip install "xloss[fast]"')
    expected = (
        """engine 'cpu': no Numba: pip install "xloss[fast]"; engine 'cuda': no GPU is found"""
    )
    assert command.refusal("engines --warm") == expected


@engine
def test_every_dtype_by_rows_and_by_columns():
    # Whatever is kept already: with all of it on disk no call would compile, whatever was left out.
    kernels = ("rows", "columns", "scan_rows", "scan_columns")
    names = [f"{kernel} {dtype}" for kernel in kernels for dtype in FLOATS]
    assert sorted(name for name, _ in cpu.warm()) == sorted(names)


@engine
def test_after_it_no_call_compiles():
    """Every dtype, by rows and by columns, value and gradient, soft and weighted, on both."""
    pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    said("from xloss.cli import main; import sys; sys.argv[1:] = ['engines', '--warm']; main()")
    script = """
    import ml_dtypes, numpy as np, torch, xloss
    from numba.core import event

    class Compiled(event.Listener):
        def on_start(self, event):
            raise SystemExit(f"compiled {event.data['dispatcher']}")

        def on_end(self, event):
            pass

    event.register("numba:compile", Compiled())
    some = {"label_smoothing": 0.1, "z_loss": 1e-4, "softcap": 9.0}
    y = torch.arange(5)
    for name in ("float32", "float64", "float16", "bfloat16"):
        for classes in (7, 600):
            x = torch.ones(5, classes)
            made = x, x / classes, x[0]
            tensors = [a.to(getattr(torch, name)) for a in made]
            arrays = [a.numpy().astype(name) for a in made]
            with xloss.use_engine("cpu"):
                xloss.cross_entropy(tensors[0].clone().requires_grad_(), y).backward()
                for (x, p, w), labels in ((tensors, y), (arrays, y.numpy())):
                    for options in ({}, {"weight": w, **some}):
                        for t in (labels, p):
                            xloss.cross_entropy(x, t, reduction="none", **options)
                            xloss.value_and_grad(xloss.cross_entropy)(x, t, **options)
    print("done")
    """
    assert said(script) == "done"


# ---- A GPU ---------------------------------------------------------------------------------------


def test_the_gpu_that_is_here_is_compiled_for(two, command, monkeypatch):
    def calls(library, dtype, classes):
        return f"cuda {dtype}, {classes:,} classes", 2.0

    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(warm_gpu, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor())
    monkeypatch.setattr(warm_gpu, "gpu_library", lambda: "cupy")
    monkeypatch.setattr(warm_gpu, "calls", calls)
    got = json.loads(command("engines --warm --json").stdout)
    assert got["skipped"] == []
    named = {kernel["name"] for kernel in got["kernels"]}
    assert {"rows float32", "cuda float16, 2 classes", "cuda float64, 262,144 classes"} <= named
    assert not any("bfloat16" in name for name in named)  # CuPy has none


@pytest.mark.skipif(COMPILER is None, reason="the kernels are run on the host by g++: install it")
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_calls_compile_value_and_gradient_of_a_dtype(dtype, monkeypatch):
    from xloss.engines.cuda.launch_plan import KINDS

    monkeypatch.setattr(warm_gpu, "ROWS", (2, 3))
    with emulated() as gpu:
        name, seconds = warm_gpu.calls("torch", dtype, 64)
    assert name == f"cuda {dtype}, 64 classes"
    assert seconds > 0
    launched = [dict(constants) for constants, _ in gpu.launches]
    rows = [c for c in launched if "GRAD" in c]
    assert {c["STORED"] for c in rows} == {KINDS[dtype]}
    assert {c["GRAD"] for c in rows} == {0, 1}


def test_kernels_too_large_for_the_gpu_are_named(monkeypatch):
    class OutOfMemoryError(Exception):
        pass

    def cross_entropy(x, y):
        if len(x) > 2:
            raise OutOfMemoryError

    monkeypatch.setattr(xloss, "cross_entropy", cross_entropy)
    monkeypatch.setattr(xloss, "value_and_grad", lambda loss: loss)
    monkeypatch.setattr(xloss, "use_engine", lambda name: nullcontext())
    monkeypatch.setattr(warm_gpu, "converter", lambda name: np.asarray)
    name, _ = warm_gpu.calls("cupy", "float32", 8)
    assert name == "cuda float32, 8 classes; not for 1100 rows: out of memory"


def test_the_driver_is_asked_what_the_gpus_are(command, monkeypatch):
    driver = pytest.importorskip("cuda.bindings.driver", reason="pip install 'xloss[cuda]'")
    told = {"MAJOR": 10, "MINOR": 3}
    asked = {
        "cuDeviceGetCount": lambda: (0, 2),
        "cuDeviceGet": lambda number: (0, number),
        "cuDeviceGetName": lambda size, device: (0, f"NVIDIA B{device}".encode() + b"\0" * 9),
        "cuDeviceGetAttribute": lambda asked, device: (0, told[asked.name.split("_")[-1]]),
        "CUdevice_attribute": driver.CUdevice_attribute,
    }
    monkeypatch.setattr("cuda.bindings.driver", SimpleNamespace(**asked))
    monkeypatch.setattr(gpus, "missing", lambda: "no GPU is found")
    assert gpus.gpus() == []
    monkeypatch.setattr(gpus, "missing", lambda: None)
    first, second = (f"cuda:{i} NVIDIA B{i}, compute capability 10.3" for i in range(2))
    assert gpus.gpus() == [first, second]
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    lines = command("engines").stdout.splitlines()
    assert lines[-1].split(maxsplit=2)[2] == f"{first}; {second}"
