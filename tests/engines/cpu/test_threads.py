"""The CPU engine through public calls: threads, forks, workers; the same bits, and no abort."""

import os

import numpy as np
import pytest

import xloss
from fresh import CHILD, python, said
from xloss.engines.cpu import engine

REASON = xloss.engines()["cpu"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# Enough elements for several threads, by rows and by columns; every bit of what comes out.
CALLS = (
    CHILD
    + """
import hashlib
import numpy as np
import xloss

rng = np.random.default_rng(7)
wide = (rng.standard_normal((64, 32000)) * 8).astype(np.float32)
few = (rng.standard_normal((30000, 10)) * 8).astype(np.float32)
labels = {id(wide): rng.integers(0, 32000, 64), id(few): rng.integers(0, 10, 30000)}

def bits(calls=1):
    seen = set()
    for _ in range(calls):
        got = hashlib.sha256()
        for x in (wide, few):
            y = labels[id(x)]
            with xloss.use_engine("cpu"):
                value, gradient = xloss.value_and_grad(xloss.cross_entropy)(x, y, z_loss=1e-3)
                rows = xloss.cross_entropy(x, y, reduction="none", label_smoothing=0.1)
            for part in (value, gradient, rows):
                got.update(np.asarray(part).tobytes())
        seen.add(got.hexdigest())
    (one,) = seen
    return one
"""
)


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    """Compile what these tests use before the first of them, for all their interpreters."""
    said(CALLS + "bits()")


@pytest.fixture
def env():
    # Python 3.12 warns of a fork beside threads, which is what is tested.
    return {"XLOSS_NUM_THREADS": "3", "PYTHONWARNINGS": "ignore::DeprecationWarning"}


def test_the_number_of_threads_changes_no_bit():
    script = CALLS + "print(bits(2), sum(t.name == 'xloss' for t in threading.enumerate()))"
    got = {n: said(script, env={"XLOSS_NUM_THREADS": n}).split() for n in ("1", "2", "3")}
    assert [got[n][1] for n in ("1", "2", "3")] == ["0", "1", "2"]
    assert len({bits for bits, _ in got.values()}) == 1


def test_the_process_ends_in_the_middle_of_calls(env):
    script = """
def loop():
    while True:
        bits()

bits()
for _ in range(3):
    threading.Thread(target=loop, daemon=True).start()
time.sleep(0.1)
"""
    ran = python(CALLS + script, env=env)
    assert (ran.returncode, ran.stderr) == (0, "")


@forking
def test_children_of_a_busy_process_compute_the_same_bits(env):
    script = """
right, over = bits(), []

def loop():
    while not over:
        assert bits() == right

def child():
    assert bits() == right
    assert sum(t.name == "xloss" for t in threading.enumerate()) == 2

busy = [threading.Thread(target=loop) for _ in range(2)]
for thread in busy:
    thread.start()
print({in_a_child(child) for _ in range(5)}, bits() == right)
over.append(True)
"""
    assert said(CALLS + script, env=env) == "{0} True"


@forking
@pytest.mark.parametrize("delay", ["0.1", "0.3"])
def test_a_fork_while_another_thread_makes_the_first_call(env, delay):
    """It imports Numba and loads the kernels; both hold locks."""
    script = """
from xloss.engines.cpu import fork_safety
got = []
thread = threading.Thread(target=lambda: got.append(bits()))
thread.start()
time.sleep(float(sys.argv[1]))
code = in_a_child(lambda: got.append(bits()))
thread.join()
print(code, got == [bits()])
"""
    assert said(CALLS + script, delay, env=env) == "0 True"


def test_without_numba_the_generic_engine_runs_and_a_line_installs_it(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    engine._load.cache_clear()
    try:
        reason = xloss.engines()["cpu"]
        x, y = np.zeros((64, 32000)), np.zeros(64, int)
        assert xloss.cross_entropy(x, y) == np.log(32000)
        with xloss.use_engine("cpu"), pytest.raises(xloss.EngineUnavailable) as error:
            xloss.cross_entropy(x, y)
    finally:
        engine._load.cache_clear()
    assert 'pip install "xloss[fast]"' in reason
    assert str(error.value) == f"engine 'cpu' cannot take this call: {reason}"
