"""Settings that all tests share: a second run draws the same random numbers as the first."""

import pytest
from hypothesis import settings

from libraries import NAMES, Library, library

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(params=NAMES)
def lib(request: pytest.FixtureRequest) -> Library:
    """Each array library in turn; `indirect` picks some by name."""
    return library(request.param)
