"""The compiled engine where a process has little: no folder, no memory to spare."""

import sys
from pathlib import Path

import numpy as np
import pytest

import xloss
from xloss.engines import disk_cache, generic


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
