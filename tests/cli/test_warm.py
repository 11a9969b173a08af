"""xloss engines --warm: what is compiled ahead is what calls need; said, and said in JSON."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import xloss
from emulated import COMPILER, emulated
from fresh import said
from libraries import FLOATS
from xloss.cli import warm_gpu
from xloss.engines.cpu import engine as cpu
from xloss.engines.cpu import xla_ffi
from xloss.engines.cuda import driver
from xloss.engines.cuda import engine as cuda
from xloss.engines.cuda.launch_plan import KINDS

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
    first, _, total, skipped, place = ran.stdout.splitlines()
    assert re.fullmatch(r" +1\.25 s  rows float32", first)
    assert re.fullmatch(r" +\d+\.\d\d s  all 2 kernels, with the start of Numba", total)
    assert skipped == "engine 'cuda' is skipped: no GPU is found"
    assert place == f"kept in {two}"
    got = json.loads(command("engines --warm --json").stdout)
    assert got["kernels"][1] == {"name": "rows float64", "seconds": 0.5}
    assert (got["cache"], got["seconds"] >= 0) == (str(two), True)


@engine
def test_an_unwritable_cache_is_reported(two, command, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(tmp_path / "file"))
    assert command("engines --warm").stdout.splitlines()[-1].startswith("not kept on disk")


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


@pytest.mark.skipif(COMPILER is None, reason="the kernels are run on the host by g++: install it")
def test_the_gpu_that_is_here_is_compiled_for(two, command, monkeypatch):
    """Value and gradient, of the dtypes and lengths that the command goes through."""
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    monkeypatch.setattr(warm_gpu, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(warm_gpu, "gpu_library", lambda: "torch")
    monkeypatch.setattr(warm_gpu, "ROWS", (2, 3))
    monkeypatch.setattr(warm_gpu, "LENGTHS", (64,))
    monkeypatch.setattr(warm_gpu, "DTYPES", ("bfloat16", "float64"))
    with emulated() as gpu:
        got = json.loads(command("engines --warm --json").stdout)
    named = {kernel["name"] for kernel in got["kernels"]}
    assert {"rows float32", "cuda bfloat16, 64 classes", "cuda float64, 64 classes"} <= named
    launched = [dict(constants) for constants, _ in gpu.launches]
    rows = {(c["STORED"], c["GRAD"]) for c in launched if "GRAD" in c}
    assert rows == {(KINDS[dtype], grad) for dtype in warm_gpu.DTYPES for grad in (0, 1)}


def test_the_driver_is_asked_what_the_gpus_are(command, monkeypatch):
    pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
    made = [
        SimpleNamespace(device_id=i, name=f"NVIDIA B{i}", compute_capability=(10, 3))
        for i in range(2)
    ]
    found = SimpleNamespace(get_all_devices=lambda: made)
    monkeypatch.setattr("cuda.core.Device", found)
    monkeypatch.setattr(driver, "missing", lambda: None)
    first, second = (f"cuda:{i} NVIDIA B{i}, compute capability 10.3" for i in range(2))
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    lines = command("engines").stdout.splitlines()
    assert lines[-1].split(maxsplit=2)[2] == f"{first}; {second}"
