"""Who takes part on the host, in what, and that all compute the same."""

import numpy as np
import pytest

from benchmarks import tasks
from benchmarks.contenders import CONTENDERS, HOW, NotOffered, engine_of
from benchmarks.libraries import LIBRARIES
from benchmarks.plan import OPS, BadPlan, Plan, jobs, rows
from benchmarks.work import Work, drawn
from xloss_conformance.bench import Missing


def test_bytes_that_must_move_are_logits_labels_and_gradient():
    assert Work("forward", (4, 3)).moved == 4 * 3 * 4 + 4 * 8
    assert Work("gradient", (4, 3), True).moved == 2 * 4 * 3 * 4 + 4 * 8
    assert Work("x", (2, 21, 5, 5), dtype="bfloat16", axis=1).moved == 2 * 21 * 25 * 2 + 50 * 8


# Others compile for seconds, or need a GPU: test_gpu_peers.py and _events.py have stand-ins.
SLOW = ("compile", "Quack", "Liger", "cupy")
QUICK = [name for name in CONTENDERS if not any(slow in name for slow in SLOW)]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("gradient", [False, True])
def test_every_contender_computes_the_same(name, gradient):
    one = CONTENDERS[name]
    asked = Work("forward", (6, 5), gradient)
    if "linear" in name:
        asked = Work("linear", (6, 5), gradient, features=4)
    given = drawn(asked)
    z = (given.x if given.weight is None else given.x @ given.weight.T).astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    hot = np.eye(5)[given.y]
    slope = (p - hot) / 6
    slope = slope if given.weight is None else slope @ given.weight.astype(np.float64)
    try:
        one.told()
    except Missing as missing:
        pytest.skip(str(missing))
    where = LIBRARIES[one.arrays]()
    try:
        call = one.prepare(asked, where.given(asked), where)
    except NotOffered:
        assert (name, gradient) in {("scipy", True), ("xloss torch, closed form", False)}
        return
    with call.within():
        for _ in range(2):  # the second gradient is not added to the first
            call.before()
            value, got = call.answer(call.run())
    assert value == pytest.approx(-np.log(p[hot == 1]).mean(), rel=1e-5)
    assert (got is not None) == gradient
    if gradient:
        np.testing.assert_allclose(got, slope, atol=1e-6)
    losses = call.losses() if call.losses else None
    if losses is not None:
        np.testing.assert_allclose(losses[1:], -np.log(p[hot == 1])[1:], rtol=1e-5)


def test_every_contender_of_the_table_has_its_call_and_every_call_is_in_the_table():
    assert set(CONTENDERS) == set(HOW)
    assert all(one.call for one in CONTENDERS.values())


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # inductor's own import
@pytest.mark.parametrize("name", ["xloss jax", "xloss torch.compile"])
def test_the_engine_of_a_traced_call_is_told_of_what_was_traced(name):
    """The same function was traced before, for no engine that was asked for."""
    pytest.importorskip("numba", reason="pip install 'xloss[fast]'")
    work, one = Work("forward", (6, 5)), CONTENDERS[name]
    where = LIBRARIES[one.arrays]()
    given = where.given(work)
    one.prepare(work, given, where).run()
    assert engine_of(one, work, given, where, "cpu") == "cpu"
    assert engine_of(one, work, given, where, "cuda") == "generic"


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # inductor's own import
def test_a_graph_of_plain_operations_is_not_told_as_the_engines(monkeypatch):
    """While PyTorch traces, no engine is asked for that could refuse."""
    pytest.importorskip("numba", reason="pip install 'xloss[fast]'")
    from xloss.backends.torch import custom_op_host

    monkeypatch.setattr(custom_op_host, "takes", lambda call: False)
    work, one = Work("forward", (6, 5)), CONTENDERS["xloss torch.compile"]
    where = LIBRARIES[one.arrays]()
    assert engine_of(one, work, where.given(work), where, "cpu") == "generic"


def test_the_engine_is_told():
    pytest.importorskip("numba", reason="pip install 'xloss[fast]'")
    work, place = Work("forward", (6, 5), True), tasks.Place()
    one = CONTENDERS["xloss numpy"]
    assert place.engine(one, work, place.library(one).given(work)) == "cpu"
    where = place.library(one)
    call = CONTENDERS["xloss numpy, generic"].prepare(work, where.given(work), where)
    assert call.engine == "generic"
    half = Work("forward", (6, 5), True, "float16")
    place.compiled = "cuda"  # which takes no array of the host
    assert place.engine(one, half, where.given(half)) == "generic"


def test_a_plan_measures_what_is_asked():
    assert {row["op"] for row in rows(Plan())} == set(OPS) - {"linear-large"}
    assert {row["op"] for row in rows(Plan(ops=("linear-large",)))} == {"linear-large"}

    def calls(plan):
        return [
            (work, set(group.names))
            for job in jobs(plan)
            for group in job.arguments.get("groups", ())
            for work in group.works
        ]

    forward = calls(Plan(ops=("forward",), peers=("torch", "scipy")))
    shapes = [(65536, 10), (8192, 1000), (2048, 32000), (512, 128256)]
    assert [work.shape for work, _ in forward] == shapes
    (small,) = {frozenset(who) for _, who in calls(Plan(ops=("small",), peers=("torch", "scipy")))}
    assert {"xloss numpy", "xloss jax", "xloss tf.function", "torch", "scipy"} <= small
    # What torch.compile takes seconds for is left out with it.
    assert not {"optax", "torch linear", "torch.compile", "xloss torch.compile"} & small
    slow = [w.classes for w, who in calls(Plan()) if "xloss torch.compile, generic" in who]
    assert slow == [1000, 32000] * 2
    ((_, linear),) = calls(Plan(ops=("linear",), peers=("torch",)))
    assert {"torch", "torch linear", "torch linear, chunked"} <= linear
    threads = [job.threads for job in jobs(Plan(ops=("threads", "small")))]
    assert threads == sorted(threads, reverse=True)
    assert threads[-1] == 1
    for plan in (Plan(ops=("fwd",)), Plan(peers=("jax",)), Plan(threads=10**6)):
        with pytest.raises(BadPlan, match=r"--\w+ \w+: "):
            jobs(plan)
