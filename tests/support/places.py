"""Where the files that tests read are, from wherever in tests/ the test itself is."""

from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
