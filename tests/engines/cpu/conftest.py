"""What the tests of the CPU engine share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fresh import forking


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Give a process three threads, and a folder of its own for what it compiles."""
    return {
        "XLOSS_CACHE_DIR": str(tmp_path / "cache"),
        "XLOSS_NUM_THREADS": "3",
        # Python 3.12 warns of a fork beside threads, which is what is tested.
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }


@pytest.fixture(scope="session")
def forked() -> Iterator[Callable[..., str]]:
    """Run a script in a child of a process that has Numba, and return what it prints."""
    with forking() as run:
        yield run
