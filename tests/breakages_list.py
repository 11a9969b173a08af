"""Every rule, a small patch that breaks it, and the test that must go red (`breakages.py`).

More than one file can hold: a part of its own in `breakages_NAME.py`, added up here.
"""

from breakages import Breakage
from breakages_arithmetic import ARITHMETIC
from breakages_calls import CALLS
from breakages_cluster import CLUSTER
from breakages_cuda import CUDA
from breakages_engine import COMPILED
from breakages_examples import EXAMPLES
from breakages_linear import LINEAR
from breakages_rules import RULES
from breakages_speed import SPEED_BREAKAGES
from breakages_spread import SPREAD
from breakages_threads import THREADS
from breakages_tools import TOOLS

BREAKAGES: list[Breakage] = [
    *RULES,
    *ARITHMETIC,
    *CALLS,
    *TOOLS,
    *EXAMPLES,
    *SPEED_BREAKAGES,
    *LINEAR,
    *COMPILED,
    *THREADS,
    *CLUSTER,
    *SPREAD,
    *CUDA,
]
