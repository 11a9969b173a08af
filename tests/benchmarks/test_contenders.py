"""Who takes part, that all compute the same, and which engine a call of xloss is told to run on."""

import pytest

from benchmarks import tasks
from benchmarks.contenders import CONTENDERS, HOW, engine_of
from benchmarks.libraries import LIBRARIES
from benchmarks.work import Work

# Others compile for seconds, or need a GPU.
SLOW = ("compile", "Quack", "Liger", "cupy")
QUICK = [name for name in CONTENDERS if not any(slow in name for slow in SLOW)]
NO_GRADIENT = {"scipy"}
LINEAR = ("xloss numpy", "xloss torch", "torch", "torch linear", "torch linear, chunked")
ONCE = {"seconds": 1e-4, "least": 1, "most": 1}


def test_bytes_that_must_move_are_logits_labels_and_gradient():
    assert Work("forward", (4, 3)).moved == 4 * 3 * 4 + 4 * 8
    assert Work("gradient", (4, 3), True).moved == 2 * 4 * 3 * 4 + 4 * 8
    assert Work("x", (2, 21, 5, 5), dtype="bfloat16", axis=1).moved == 2 * 21 * 25 * 2 + 50 * 8


def test_every_contender_of_the_table_has_its_call_and_every_call_is_in_the_table():
    assert set(CONTENDERS) == set(HOW)
    assert all(one.call for one in CONTENDERS.values())


def test_every_contender_computes_the_same():
    """What comes of each is compared before it is timed: nobody is refused for another answer."""
    works = [Work("forward", (6, 5), gradient) for gradient in (False, True)]
    groups = [
        tasks.Group(works, [name for name in QUICK if "linear" not in name], ONCE),
        tasks.Group([Work("linear", (6, 5), True, features=4)], LINEAR, ONCE),
    ]
    found = list(tasks.times(1, groups))
    here = {one["name"] for section, one in found if section == "contenders"}
    value, gradient, linear = (entry for section, entry in found if section == "works")
    assert [one["contender"] for one in gradient["refused"]] == [*NO_GRADIENT & here]
    assert (value["refused"], linear["refused"]) == ([], [])
    for entry, left_out in ((value, set()), (gradient, NO_GRADIENT), (linear, set())):
        asked = LINEAR if entry is linear else set(QUICK) - {*LINEAR[-2:]}
        assert {run["contender"] for run in entry["runs"]} == (here & {*asked}) - left_out
        assert entry["bound"]["gb_s"] > 0
    for run in (*value["runs"], *gradient["runs"]):
        # A unit is float32's last place, of which most peers lose some.
        assert run["value_ulp"] <= (4 if run["contender"].startswith("xloss ") else 50)
    assert all(run["gradient_ulp"] is not None for run in gradient["runs"])


def test_a_second_gradient_is_not_added_to_the_first():
    pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    work, where = Work("forward", (6, 5), True), LIBRARIES["torch"]()
    call = CONTENDERS["xloss torch"].prepare(work, where.given(work), where)
    answers = []
    for _ in range(2):
        call.before()
        answers.append(call.answer(call.run())[1])
    assert (answers[0] == answers[1]).all()


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
    from xloss.backends.torch import custom_op

    monkeypatch.setattr(custom_op, "takes", lambda call: False)
    work, one = Work("forward", (6, 5)), CONTENDERS["xloss torch.compile"]
    where = LIBRARIES[one.arrays]()
    assert engine_of(one, work, where.given(work), where, "cpu") == "generic"


def test_the_engine_is_told():
    pytest.importorskip("numba", reason="pip install 'xloss[fast]'")
    work, place = Work("forward", (6, 5), True), tasks.Place()
    one = CONTENDERS["xloss numpy"]
    where = place.library(one)
    assert place.engine(one, work, where.given(work)) == "cpu"
    call = CONTENDERS["xloss numpy, generic"].prepare(work, where.given(work), where)
    assert call.engine == "generic"
    place = tasks.Place("cuda")  # whose engine takes no array of the host
    assert place.engine(one, work, where.given(work)) == "generic"
