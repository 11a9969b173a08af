"""A process whose kernels are on disk calls them without importing Numba, and to the same bits."""

import ctypes
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fresh import python, said
from xloss.engines.cpu import kept_objects

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


LOADED = """
libraries = open("/proc/self/maps").read()
print(any(name in libraries for name in ("scipy.libs", "cython_blas")))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile the kernel once, which takes ten seconds; tests take copies."""
    cache = tmp_path_factory.mktemp("compiled")
    *answer, numba, algebra = said(CALL + LOADED, env={"XLOSS_CACHE_DIR": str(cache)}).split()
    assert numba == "True"
    return cache, answer, algebra


@pytest.fixture
def warm(tmp_path, compiled):
    shutil.copytree(compiled[0], tmp_path / "cache")
    return {"XLOSS_CACHE_DIR": str(tmp_path / "cache")}


def kept(env):
    (path,) = Path(env["XLOSS_CACHE_DIR"]).rglob("*.object")
    return path


def test_the_next_process_does_not_import_numba(warm, compiled):
    assert said(CALL, env=warm).split() == [*compiled[1], "False"]


def test_numba_s_own_settings_are_left_to_numba(warm, compiled):
    assert said(CALL, env=warm | {"NUMBA_OPT": "3"}).split() == [*compiled[1], "True"]


@pytest.mark.parametrize("damage", ["other processor", "cut", "changed"])
def test_what_cannot_be_loaded_is_left_to_numba(warm, compiled, damage):
    path = kept(warm)
    content = path.read_bytes()
    if damage == "other processor":
        path.rename(path.with_name("rows-float32-0000000000000000.object"))
    else:
        path.write_bytes(content[:5000] if damage == "cut" else content[:-1] + b"?")
    assert said(CALL, env=warm).split() == [*compiled[1], "True"]


def test_starting_numba_loads_no_linear_algebra(compiled):
    """SciPy's OpenBLAS, loaded under such a limit as below, waits for memory without end."""
    pytest.importorskip("scipy", reason="Numba looks for BLAS in SciPy")
    assert compiled[2] == "False"


def test_a_tight_limit_of_memory(warm, compiled):
    """What has been compiled runs where there is little memory, and nothing hangs."""
    env = warm | {"OPENBLAS_NUM_THREADS": "1", "XLOSS_NUM_THREADS": "1"}
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_DATA, (150 * 2**20,) * 2)\n"
    ran = python(limit + CALL, env=env, timeout=60)
    assert (ran.returncode, ran.stdout.split()) == (0, [*compiled[1], "False"]), ran.stderr


def test_a_forked_child_calls_what_its_parent_has_loaded(warm):
    script = CALL + (
        "import os\n"
        "again = lambda: xloss.cross_entropy(x, y, label_smoothing=0.1)\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(int(again() != loss))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert said(script, env=warm).split()[-1] == "0"


def test_a_kernel_without_memory_is_an_error(monkeypatch, tmp_path):
    """A status that is not 0 is all that machine code says."""
    monkeypatch.setattr(kept_objects.disk_cache, "read", lambda path: b"")
    monkeypatch.setattr(kept_objects, "_loaded", lambda payload, kind, numbers: lambda *given: -1)
    rows = kept_objects.Kernel("rows", tmp_path, None, ())
    with pytest.raises(MemoryError, match=r"^no memory for the buffers of the kernel 'rows'$"):
        rows(np.float32(0))


def test_a_name_that_the_process_lacks_keeps_a_kernel_off_the_disk():
    """LLVM ends the process where it finds no such name."""
    from llvmlite import binding

    from xloss.engines.cpu import object_runtime

    text = "declare i64 @NRT_Allocate(i64)\ndeclare i64 @malloc(i64)\ndeclare i64 @no_such_name()"
    assert not hasattr(ctypes.CDLL(None), "no_such_name")
    module = binding.parse_assembly(text)
    assert object_runtime._missing(module, {"NRT_Allocate"}) == {"no_such_name"}
    assert object_runtime._missing(binding.parse_assembly(""), set())
