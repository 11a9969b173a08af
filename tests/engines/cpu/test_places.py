"""The compiled engine where a process has little: no folder, no memory to spare, odd variables."""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

import xloss
from fresh import KERNEL, said
from xloss.engines import disk_cache, generic
from xloss.engines.cpu import thread_pool

GONE = """
import os, tempfile
folder = tempfile.mkdtemp()
os.chdir(folder)
os.rmdir(folder)
"""


# ---- A folder that has been deleted --------------------------------------------------------------


@pytest.mark.parametrize("cache", ["", "relative", "absolute"])
def test_a_deleted_folder_compiles(tmp_path, cache, forked):
    pytest.importorskip("numba")
    name = str(tmp_path / "cache") if cache == "absolute" else cache
    env = {"XLOSS_CACHE_DIR": name, "XDG_CACHE_HOME": str(tmp_path / "empty")}
    assert forked(f"{GONE}\n{KERNEL}\nprint(computed())", env=env) == "[1.0, 4.0, 7.0, 10.0]"
    assert len(list(tmp_path.rglob("*.kernel"))) == (0 if cache == "relative" else 1)


def test_a_relative_cache_folder_counts_for_nothing(monkeypatch):
    monkeypatch.delenv("XLOSS_CACHE_DIR", raising=False)
    if sys.platform in ("win32", "darwin"):
        pytest.skip("XDG_CACHE_HOME is for other systems")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert disk_cache.root() == Path.home() / ".cache" / "xloss"
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert disk_cache.root() == Path("/there/xloss")


# ---- What lies where a kernel is expected --------------------------------------------------------


def fifo(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def listener(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def folder(path):
    path.mkdir()


def loop(path):
    path.symlink_to(path)


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("made", [fifo, endless, listener, folder, loop])
def test_what_is_no_file_is_never_waited_for(tmp_path, monkeypatch, made, forked):
    pytest.importorskip("numba")
    env = {"XLOSS_CACHE_DIR": "cache"}  # relative: a socket's path must be short
    monkeypatch.chdir(tmp_path)
    script = f"import os; os.chdir({str(tmp_path)!r})\n{KERNEL}\nprint(computed())"
    assert forked(script, env=env) == "[1.0, 4.0, 7.0, 10.0]"
    (kernel,) = Path("cache").rglob("*.kernel")
    os.unlink(kernel)
    os.chdir(kernel.parent)
    made(Path(kernel.name))
    os.chdir(tmp_path)
    assert forked(script, env=env) == "[1.0, 4.0, 7.0, 10.0]"


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
def test_a_kernel_of_another_engine_is_read_the_same_way(tmp_path):
    fifo(tmp_path / "x.cubin")
    assert disk_cache.read(tmp_path / "x.cubin") is None
    disk_cache.write(tmp_path / "x.cubin", b"code")  # in its place
    assert disk_cache.read(tmp_path / "x.cubin") == b"code"


# ---- Memory --------------------------------------------------------------------------------------


def test_a_hint_that_finds_no_memory_is_no_failure(monkeypatch):
    def none(size):
        raise MemoryError

    monkeypatch.setattr(generic, "bytearray", none, raising=False)
    generic._keep_freed_pages.cache_clear()
    logits = np.zeros((64, 2**13))  # several blocks
    with xloss.use_engine("generic"):
        loss = xloss.cross_entropy(logits, np.zeros(64, np.int64))
    assert loss == pytest.approx(13 * np.log(2), rel=1e-15)
    generic._keep_freed_pages.cache_clear()


def test_linear_algebra_of_others_still_compiles(tmp_path):
    pytest.importorskip("scipy", reason="Numba looks for BLAS in SciPy")
    numba = pytest.importorskip("numba")
    assert numba
    script = """
        import numpy as np, xloss, numba
        from xloss.engines.cpu import engine
        assert engine.unavailable() is None

        @numba.njit
        def both(a):
            return np.dot(a, a) + np.linalg.inv(a)

        print(both(np.array([[2.0, 0.0], [0.0, 4.0]])).tolist())
    """
    assert said(script) == "[[4.5, 0.0], [0.0, 16.25]]"


# ---- Variables -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["many", "0", "-1", "1.5", "1e3", "٣", "³", "1_0", "9" * 5000, "1\n"]
)
def test_a_number_of_threads_that_is_none_names_the_variable(monkeypatch, given):
    monkeypatch.setenv("XLOSS_NUM_THREADS", given)
    with pytest.raises(ValueError, match=r"^XLOSS_NUM_THREADS: expected a positive integer, got '"):
        thread_pool.threads()


@pytest.mark.parametrize(("given", "number"), [("3", 3), (" 3 ", 3), ("007", 7), ("10000", 10000)])
def test_a_number_of_threads(monkeypatch, given, number):
    monkeypatch.setenv("XLOSS_NUM_THREADS", given)
    assert thread_pool.threads() == number


def test_the_command_line_says_it_in_one_line(tmp_path, monkeypatch, capsys):
    app = pytest.importorskip("xloss.cli.app")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLOSS_NUM_THREADS", "many")
    np.save("z.npy", np.zeros((2, 3)))
    np.save("y.npy", np.zeros(2, np.int64))
    assert app.run(["eval", "z.npy", "y.npy"]) == 2
    out, err = capsys.readouterr()
    want = "xloss: XLOSS_NUM_THREADS: expected a positive integer, got 'many'\n"
    assert (out, err) == ("", want)
