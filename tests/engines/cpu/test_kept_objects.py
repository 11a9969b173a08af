"""A process whose kernels are on disk calls them without importing Numba, and to the same bits."""

import ctypes
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fresh import python, said
from xloss.engines.cpu import kept_objects, kernel_folder

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="machine code is kept on Linux")

CALL = """
import hashlib, sys
import numpy as np
import xloss
assert "numba" not in sys.modules
x = 5 * np.random.default_rng(0).standard_normal((700, 1000)).astype(np.float32)
y = np.arange(700)
loss, gradient = xloss.value_and_grad(xloss.cross_entropy)(x, y, label_smoothing=0.1)
print(loss.tobytes().hex(), hashlib.sha256(gradient.tobytes()).hexdigest(), "numba" in sys.modules)
"""
# What has been loaded with Numba.
LIBRARIES = """
libraries = open("/proc/self/maps").read()
print(any(name in libraries for name in ("scipy.libs", "cython_blas")))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The kernel from the user's cache, compiled there if need be; tests take copies."""
    said(CALL)
    own = kernel_folder.folder_of(kernel_folder.stamp())
    assert own is not None
    cache = tmp_path_factory.mktemp("compiled")
    others = shutil.ignore_patterns("columns*", "scan*", "xla*", "*64-*", "*int16-*")
    shutil.copytree(own, cache / own.name, ignore=others)
    return cache


@pytest.fixture(scope="module")
def answer(compiled):
    """What Numba computes, to which its own settings leave it; SciPy's OpenBLAS is not loaded.

    Under such a limit of memory as below, that waits for memory without end.
    """
    env = {"XLOSS_CACHE_DIR": str(compiled), "NUMBA_OPT": "3"}
    *found, numba, blas = said(CALL + LIBRARIES, env=env).split()
    assert (numba, blas) == ("True", "False")
    return found


@pytest.fixture
def warm(tmp_path, compiled):
    shutil.copytree(compiled, tmp_path / "cache")
    return {"XLOSS_CACHE_DIR": str(tmp_path / "cache")}


def kept(env):
    (path,) = Path(env["XLOSS_CACHE_DIR"]).rglob("*.object")
    return path


def test_the_next_process_does_not_import_numba(warm, answer):
    assert said(CALL, env=warm).split() == [*answer, "False"]


@pytest.mark.parametrize("damage", ["other processor", "cut", "changed"])
def test_what_cannot_be_loaded_is_left_to_numba(warm, answer, damage):
    path = kept(warm)
    content = path.read_bytes()
    if damage == "other processor":
        path.rename(path.with_name("rows-float32-0000000000000000.object"))
    else:
        path.write_bytes(content[:5000] if damage == "cut" else content[:-1] + b"?")
    assert said(CALL, env=warm).split() == [*answer, "True"]


def test_a_tight_limit_of_memory(warm, answer):
    """What has been compiled runs where there is little memory, and nothing hangs."""
    env = warm | {"OPENBLAS_NUM_THREADS": "1", "XLOSS_NUM_THREADS": "1"}
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (150 * 2**20,) * 2)\n"
    ran = python(limit + CALL, env=env, timeout=60)
    assert (ran.returncode, ran.stdout.split()) == (0, [*answer, "False"]), ran.stderr


def test_a_kernel_without_memory_is_an_error(monkeypatch, tmp_path):
    """A status that is not 0 is all that machine code says."""
    monkeypatch.setattr(kept_objects.disk_cache, "read", lambda path: b"")
    monkeypatch.setattr(kept_objects, "_loaded", lambda payload, kind, numbers: lambda *given: -1)
    rows = kept_objects.Kernel("rows", tmp_path, None)
    with pytest.raises(MemoryError, match=r"^no memory for the buffers of the kernel 'rows'$"):
        rows(np.float32(0))


def test_a_name_that_the_process_lacks_keeps_a_kernel_off_the_disk():
    """LLVM ends the process where it finds no such name."""
    from llvmlite import binding

    text = "declare i64 @NRT_Allocate(i64)\ndeclare i64 @malloc(i64)\ndeclare i64 @no_such_name()"
    assert not hasattr(ctypes.CDLL(None), "no_such_name")
    assert kept_objects._missing(binding.parse_assembly(text)) == {"no_such_name"}
    assert kept_objects._missing(binding.parse_assembly(""))
