"""Kernels as Numba makes them: without the GIL, and under the compiler's lock."""

import pytest

from fresh import KERNEL, said

pytest.importorskip("numba")


def test_a_kernel_releases_the_gil_and_makes_no_threads(env, forked):
    script = "print(*(steps.targetoptions.get(n, False) for n in ('nogil', 'parallel')))"
    assert forked(KERNEL + script, env=env) == "True False"


def test_a_first_call_imports_nothing_but_under_the_compiler_s_lock(env):
    """A module that a thread was importing at a fork stays locked in the child."""
    script = (
        KERNEL
        + """
from numba.core.compiler_lock import global_compiler_lock
unlocked = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if not global_compiler_lock.is_locked():
            unlocked.append(name)

sys.meta_path.insert(0, Watch())

@kernel
def mixed(a, b, c, d, out):
    out[0] = a + b + c + d

mixed(1, 1.5, True, np.int16(2), np.zeros(3)[::2])
mixed(1, np.float32(1), np.uint16(1), np.float64(2), np.zeros(3))
print(computed(), unlocked)
"""
    )
    assert said(script, env=env) == "[1.0, 4.0, 7.0, 10.0] []"


def test_who_waits_for_the_compiler_is_told_once_and_never_of_what_comes_from_disk(env, forked):
    script = """
from xloss.engines import compile_notice
compile_notice.PATIENCE = 0
sys.stderr = sys.stdout
computed()
computed()
"""
    told = "compiling the CPU engine's kernel 'steps'; later calls and processes need not, and "
    assert forked(KERNEL + script, env=env) == f"{told}`xloss engines --warm` does it ahead"
    assert forked(KERNEL + script, env=env) == ""
