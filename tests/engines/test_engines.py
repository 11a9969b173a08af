"""Engines: named, asked for inside a block, refused with the reason."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

import xloss
from expected import BINARY, CLASS, inputs, labels, loss, shape, targets
from libraries import across

MISSING = [name for name, reason in xloss.engines().items() if reason is not None]


def call():
    return xloss.cross_entropy(inputs("cross_entropy", (6, 5)), labels(6, 5))


def test_engines_says_which_are_there_and_why_not():
    found = xloss.engines()
    assert found["generic"] is None
    assert set(found) == {"generic", "cpu", "cuda"}
    assert issubclass(xloss.EngineUnavailable, RuntimeError)


@pytest.mark.parametrize("engine", MISSING)
@across((*CLASS, "kl_div", *BINARY))
def test_an_engine_that_is_not_there_is_refused_with_the_reason(lib, name, engine):
    form = shape(name, 6, 5)
    x, t = lib.like(inputs(name, form)), lib.like(targets(name, form))
    reason = xloss.engines()[engine]
    if reason is None:
        pytest.skip("it is emulated here; the other libraries are refused")
    want = rf"^engine '{engine}' cannot take this call: {re.escape(reason)}$"
    with xloss.use_engine(engine):
        for run in (loss(name), xloss.value_and_grad(loss(name))):
            with pytest.raises(xloss.EngineUnavailable, match=want):
                lib.host(run(x, t)[0] if run is not loss(name) else run(x, t))


@pytest.mark.parametrize("engine", MISSING)
def test_the_ops_refuse_it_too(lib, engine):
    x = lib.array(inputs("cross_entropy", (6, 5)))
    with xloss.use_engine(engine):
        for op in (xloss.logsumexp, xloss.softmax, xloss.log_softmax, xloss.entropy):
            with pytest.raises(xloss.EngineUnavailable):
                lib.host(op(x))


def test_a_name_that_is_no_engine_is_an_error():
    want = r"^name: expected one of .*'generic'.*, got 'gpu'"
    with pytest.raises(ValueError, match=want), xloss.use_engine("gpu"):
        pytest.fail("entered")


@pytest.mark.skipif(not MISSING, reason="every engine is there")
def test_the_choice_ends_with_its_block():
    with xloss.use_engine(MISSING[0]):
        with xloss.use_engine("generic"):
            call()
        with pytest.raises(xloss.EngineUnavailable):
            call()
    call()
    with pytest.raises(KeyError), xloss.use_engine(MISSING[0]):
        raise KeyError
    call()


@pytest.mark.skipif(not MISSING, reason="every engine is there")
def test_the_choice_is_made_when_the_call_is():
    """Threads of a pool do not inherit it."""
    with xloss.use_engine(MISSING[0]), ThreadPoolExecutor(1) as pool:
        assert pool.submit(call).result() > 0


@pytest.mark.skipif(not MISSING, reason="every engine is there")
def test_dask_keeps_the_choice_that_the_graph_was_built_with():
    da = pytest.importorskip("dask.array")
    x = da.from_array(inputs("cross_entropy", (6, 5)), chunks=3)
    with xloss.use_engine("generic"):
        lazy = xloss.cross_entropy(x, da.from_array(labels(6, 5), chunks=3))
    with xloss.use_engine(MISSING[0]):
        assert lazy.compute(scheduler="sync") > 0
