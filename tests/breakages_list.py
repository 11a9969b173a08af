"""Every rule, a small patch that breaks it, and the test that must go red (`breakages.py`)."""

from breakages import Breakage

BREAKAGES: list[Breakage] = []
