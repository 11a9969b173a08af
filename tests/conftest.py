"""Settings that all tests share: a second run draws the same random numbers as the first."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from libraries import NAMES, Library, library

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(params=NAMES)
def lib(request: pytest.FixtureRequest) -> Iterator[Library]:
    """Each array library in turn; `indirect` picks some by name."""
    chosen = library(request.param)
    with chosen.used():
        yield chosen
