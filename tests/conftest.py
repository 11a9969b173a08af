"""Settings that all tests share: a second run draws the same random numbers as the first."""

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")
