"""The compiled engine where a process has little: no folder, no memory to spare."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import xloss
from fresh import KERNEL
from xloss.engines import disk_cache, generic

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


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="where other systems keep caches")
@pytest.mark.parametrize(
    ("caches", "setting", "want"),
    [("here", "", "~/.cache/xloss"), ("/x", "", "/x/xloss"), ("/x", "/own", "/own")],
)
def test_where_kernels_lie(monkeypatch, caches, setting, want):
    """A relative folder counts for nothing in XDG_CACHE_HOME; without a home there is no place."""
    monkeypatch.setenv("XDG_CACHE_HOME", caches)
    monkeypatch.setenv("XLOSS_CACHE_DIR", setting)
    assert disk_cache.root() == Path(want).expanduser()
    monkeypatch.setattr(Path, "home", lambda: Path("~no such user").expanduser())
    assert (disk_cache.root() is None) == want.startswith("~")


# ---- What lies where a kernel is expected --------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("endless", [False, True])
def test_what_is_no_file_is_never_waited_for(tmp_path, endless):
    path = tmp_path / "x.kernel"
    if endless:
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    assert disk_cache.read(path) is None
    disk_cache.write(path, b"code")  # in its place
    assert disk_cache.read(path) == b"code"


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
