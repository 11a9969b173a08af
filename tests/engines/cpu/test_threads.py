"""The CPU engine through public calls: threads, forks, workers; the same bits, and no abort."""

import os
from importlib.util import find_spec

import pytest

import xloss
from fresh import CHILD, python, said

REASON = xloss.engines()["cpu"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
torch_too = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")

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


def test_the_first_calls_of_many_threads_meet(env):
    script = (
        CALLS
        + """
from concurrent.futures import ThreadPoolExecutor
ready = threading.Barrier(16)

def call(i):
    ready.wait()
    return bits()

with ThreadPoolExecutor(16) as many:
    print(set(many.map(call, range(16))) == {bits()})
"""
    )
    assert said(script, env=env) == "True"


def test_threads_at_once_and_pools_of_pools_get_the_bits_of_one(env):
    script = (
        CALLS
        + """
from concurrent.futures import ThreadPoolExecutor

def outer(i):
    with ThreadPoolExecutor(3) as inner:
        return {f.result() for f in [inner.submit(bits) for _ in range(3)]}

right = bits()
with ThreadPoolExecutor(16) as many:
    print(set(many.map(lambda i: bits(3), range(16))) == {right})
with ThreadPoolExecutor(4) as pool:
    print(set().union(*pool.map(outer, range(4))) == {right})
"""
    )
    assert said(script, env=env) == "True\nTrue"


def test_the_process_ends_in_the_middle_of_calls(env):
    script = (
        CALLS
        + """
def loop():
    while True:
        bits()

bits()
for _ in range(3):
    threading.Thread(target=loop, daemon=True).start()
time.sleep(0.1 + 0.03 * int(sys.argv[1]))
"""
    )
    for turn in range(3):
        ran = python(script, str(turn), env=env)
        assert (ran.returncode, ran.stderr) == (0, "")


@forking
def test_children_compute_the_same_bits(env):
    script = (
        CALLS
        + """
import multiprocessing
right = bits()

def child():
    assert bits() == right
    assert sum(t.name == "xloss" for t in threading.enumerate()) == 2

print(in_a_child(child), bits() == right)
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(set(pool.map_async(bits, [1] * 9).get(100)) == {right})
"""
    )
    assert said(script, env=env) == "0 True\nTrue"


@forking
def test_a_child_computes_what_its_parent_never_did(env):
    script = CALLS + "print(in_a_child(bits), in_a_child(bits))"
    assert said(script, env=env) == "0 0"


@forking
@pytest.mark.parametrize("delay", ["0", "0.1", "0.3"])
def test_a_fork_while_another_thread_makes_the_first_call(env, delay):
    """It imports Numba and loads the kernels; both hold locks."""
    script = (
        CALLS
        + """
from xloss.engines.cpu import fork_safety
got = []
thread = threading.Thread(target=lambda: got.append(bits()))
thread.start()
time.sleep(float(sys.argv[1]))
code = in_a_child(lambda: got.append(bits()))
thread.join()
print(code, got == [bits()])
"""
    )
    assert said(script, delay, env=env) == "0 True"


@forking
@pytest.mark.nightly  # test_forks.py does it by day with a kernel that takes no ten seconds
def test_a_fork_while_another_thread_compiles_the_engine(env, tmp_path):
    """The first call ever on a machine."""
    script = (
        CALLS
        + """
from numba.core import event

class Begun(event.Listener):
    begun = threading.Event()

    def on_start(self, event):
        self.begun.set()

    def on_end(self, event):
        pass

event.register("numba:compile", Begun())
got = []
x, y = np.zeros((3, 5), dtype=np.float64), np.zeros(3, dtype=np.int64)

def call():
    with xloss.use_engine("cpu"):
        got.append(float(xloss.cross_entropy(x, y)))

thread = threading.Thread(target=call)
thread.start()
assert Begun.begun.wait(120)
code = in_a_child(call, seconds=120)
thread.join()
print(code, got == [float(np.log(5))])
"""
    )
    assert said(script, env={**env, "XLOSS_CACHE_DIR": str(tmp_path)}) == "0 True"


@forking
@torch_too
def test_torch_s_forked_workers_and_threads_of_its_own(env):
    """A data loader forks; autograd runs backward in a thread that it started."""
    script = (
        CALLS
        + """
import torch
from concurrent.futures import ThreadPoolExecutor
y = torch.from_numpy(labels[id(wide)])

class Losses(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return bits(), float(xloss.cross_entropy(torch.from_numpy(wide), y))

right = Losses()[0]
loader = torch.utils.data.DataLoader(
    Losses(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=100
)
print(all(tuple(got) == right for _ in range(2) for got in loader))

def call(i=0):
    z = torch.from_numpy(wide).clone().requires_grad_()
    xloss.cross_entropy(z, y).backward()
    return z.grad.numpy().tobytes()

right = call()
with ThreadPoolExecutor(4) as many:
    print(set(many.map(call, range(8))) == {right})
"""
    )
    assert said(script, env=env) == "True\nTrue"


def test_without_numba_the_generic_engine_runs_and_a_line_installs_it():
    script = """
import sys
sys.modules["numba"] = None
import numpy as np, xloss
print(xloss.engines()["cpu"])
print(float(xloss.cross_entropy(np.zeros((64, 32000)), np.zeros(64, dtype=int))) == np.log(32000))
try:
    with xloss.use_engine("cpu"):
        xloss.cross_entropy(np.zeros((3, 5)), np.zeros(3, dtype=int))
except xloss.EngineUnavailable as error:
    print(error)
"""
    reason, generic, error = said(script).splitlines()
    assert 'pip install "xloss[fast]"' in reason
    assert generic == "True"
    assert error == f"engine 'cpu' cannot take this call: {reason}"
