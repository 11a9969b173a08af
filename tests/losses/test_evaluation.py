"""Evaluation: batches in, one record out, which neither batching nor merging can change."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from xloss import cross_entropy
from xloss.evaluation import Evaluation, EvaluationResult
from xloss.evaluation.exact_sum import Sum

RNG = np.random.default_rng(7)
LOGITS = RNG.normal(scale=3, size=(200, 5))
LABELS = RNG.integers(0, 5, 200)
LABELS[::9] = -100
SOFT = RNG.dirichlet(np.ones(5), 200)


def ulps(got: float, expected: Fraction | float) -> float:
    return float(abs(Fraction(got) - Fraction(expected)) / Fraction(math.ulp(float(expected))))


def exact(record: Evaluation) -> tuple[Fraction, Fraction]:
    numbers = record.to_dict()
    return tuple(Fraction(numbers[n]) + Fraction(numbers[f"{n}_low"]) for n in ("loss", "weight"))


WEIGHT = np.array([1.0, 2.0, 0.5, 0.0, 3.0])
OPTIONS = [
    {},
    {"weight": WEIGHT, "where": RNG.uniform(size=200) < 0.5, "label_smoothing": 0.1},
    {"z_loss": 1e-3, "softcap": 5.0, "ignore_index": None, "targets": np.abs(LABELS) % 5},
    {"targets": SOFT, "sample_weight": RNG.uniform(size=200)},
    {"logits": LOGITS.reshape(10, 20, 5).transpose(0, 2, 1), "targets": LABELS.reshape(10, 20)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(o) or "plain")
def test_the_loss_is_the_mean_of_cross_entropy(options):
    options = {**options, "axis": 1} if "logits" in options else dict(options)
    arrays = options.pop("logits", LOGITS), options.pop("targets", LABELS)
    result = Evaluation().update(*arrays, **options).result()
    assert result.loss == pytest.approx(float(cross_entropy(*arrays, **options)), rel=4e-16)
    assert result.perplexity == math.exp(result.loss)
    rows = cross_entropy(*arrays, reduction="none", **options)
    assert ulps(result.loss * result.weight, sum(map(Fraction, rows.ravel().tolist()))) <= 2


def test_batches_add_up_to_the_whole():
    whole = Evaluation().update(LOGITS, LABELS)
    batches = Evaluation()
    for start in range(0, 200, 7):
        batches.update(LOGITS[start : start + 7], LABELS[start : start + 7])
    assert ulps(batches.result().loss, whole.result().loss) <= 1
    assert batches.result().counted == whole.result().counted == np.sum(LABELS >= 0)


def test_many_rows_of_one_batch_lose_nothing():
    logits, labels = RNG.normal(size=(100_001, 3)), RNG.integers(0, 3, 100_001)
    rows = cross_entropy(logits, labels, reduction="none")
    expected = sum(map(Fraction, rows.tolist()))
    got, _ = exact(Evaluation().update(logits, labels))
    assert abs(got / expected - 1) < 2**-95
    assert abs(Fraction(float(rows.sum())) / expected - 1) > 2**-60  # what NumPy's sum makes of it


def test_merging_is_associative_where_magnitudes_differ():
    records = []
    for exponent in RNG.uniform(-150, 150, 40):
        logits = np.array([[0.0, 10.0**exponent], [0.1, 0.2]])
        records.append(Evaluation().update(logits, np.array([0, 1])))
    shuffled = [records[i] for i in RNG.permutation(40)]
    halves = [sum(shuffled[i::2], Evaluation()) for i in range(2)]
    left, right, tree = (sum(r, Evaluation()) for r in (records, shuffled, halves))
    assert ulps(left.result().loss, right.result().loss) <= 1
    assert ulps(left.result().loss, tree.result().loss) <= 1


def test_the_low_part_reaches_the_loss():
    # 2^53 + 1 + 1 in float64 additions is 2^53 still.
    assert Sum(2.0**53) + Sum(1.0) + Sum(1.0) == Sum(2.0**53 + 2)
    numbers = Evaluation().to_dict() | {"rows": 3, "counted": 3}
    numbers |= {"loss": 1.0, "weight": 1.0, "weight_low": -(2.0**-54)}
    assert Evaluation.from_dict(numbers).result().loss == 1.0
    assert Evaluation.from_dict(numbers | {"loss_low": 2.0**-53}).result().loss > 1.0


def test_merging_changes_neither_side_and_an_empty_record_is_neutral():
    a, b = Evaluation().update(LOGITS, LABELS), Evaluation().update(LOGITS, SOFT)
    before = a.to_dict(), b.to_dict()
    assert (a + b).result().rows == 400
    assert Evaluation() + a == a + Evaluation() == a
    assert (a.to_dict(), b.to_dict()) == before
    assert Evaluation().update(LOGITS[:0], LABELS[:0]) == Evaluation()
    with pytest.raises(TypeError):
        a + 1


def test_nothing_counted_costs_nothing_and_has_no_accuracy():
    result = Evaluation().update(LOGITS, np.full(200, -100)).result()
    assert (result.loss, result.perplexity, result.counted, result.ignored) == (0.0, 1.0, 0, 200)
    assert math.isnan(result.accuracy)
    assert Evaluation().result().rows == 0


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("bad", "expected"), [(np.nan, math.nan), (-np.inf, math.inf)])
def test_a_loss_that_is_not_finite_stays_so(bad, expected, order):
    logits = np.array([[bad, 0.0, 1.0]])
    records = [Evaluation().update(logits, np.array([0])), Evaluation().update(LOGITS, LABELS)]
    first, second = records[::order]
    result = (first + second + Evaluation()).update(LOGITS, LABELS).result()
    assert str(result.loss) == str(result.perplexity) == str(expected)
    assert math.isfinite(result.weight)
    assert math.isfinite(result.accuracy)


def test_beyond_the_largest_number_is_infinite_and_not_nan():
    result = Evaluation().update(np.array([[0.0, 1e4]]), np.array([0])).result()
    assert (result.loss, result.perplexity) == (1e4, math.inf)
    logits = np.array([[0.0, 1.7e308]] * 3)
    assert Evaluation().update(logits, np.array([0, 0, 0])).result().loss == math.inf


def test_weights_decide_what_is_counted_and_not_how_much():
    logits = np.array([[5.0, 0.0], [5.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    labels = np.array([0, 1, 0, 1, -100])
    record = Evaluation().update(
        logits, labels, weight=np.array([1.0, 0.0]), sample_weight=np.array([9.0, 1, 0.5, 1, 1])
    )
    result = record.result()
    assert (result.counted, result.ignored, result.weight) == (2, 3, 9.5)  # class 1 weighs nothing
    assert result.accuracy == 1.0
    result = Evaluation().update(logits, labels, where=np.arange(5) > 0).result()
    assert (result.counted, result.accuracy) == (3, 2 / 3)


def test_a_failed_update_leaves_the_record_as_it_was():
    record = Evaluation().update(LOGITS, LABELS)
    before = record.to_dict()
    with pytest.raises(IndexError, match=r"label 5 at position \(0,\)"):
        record.update(LOGITS[:1], np.array([5]))
    with pytest.raises(ValueError, match="label_smoothing"):
        record.update(LOGITS, LABELS, label_smoothing=2.0)
    with pytest.raises(TypeError, match="reduction"):
        record.update(LOGITS, LABELS, reduction="sum")
    assert record.to_dict() == before


def test_json_loses_nothing():
    record = Evaluation().update(LOGITS, SOFT, sample_weight=RNG.uniform(size=200))
    assert record.to_dict()["loss_low"] != 0.0
    numbers = json.loads(json.dumps(record.to_dict()))
    assert Evaluation.from_dict(numbers) == record
    assert Evaluation.from_dict(numbers).result() == record.result()
    assert set(map(type, numbers.values())) == {int, float}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"schema": 2}, ValueError, "schema: expected 1, got 2"),
        ({"extra": 1}, ValueError, "unknown: extra"),
        ({"rows": 1.5}, TypeError, "rows: expected a plain number, got 1.5"),
        ({"loss": "nan"}, TypeError, "loss: expected a plain number"),
        ({"right": True}, TypeError, "right"),
        ({"counted": 5}, ValueError, "0, 5, 0"),
    ],
)
def test_a_broken_record_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        Evaluation.from_dict(Evaluation().to_dict() | change)
    with pytest.raises(ValueError, match=r"missing or unknown: loss$"):
        Evaluation.from_dict({k: v for k, v in Evaluation().to_dict().items() if k != "loss"})
    with pytest.raises(TypeError, match="expected a dict, got list"):
        Evaluation.from_dict([])


LIBRARIES = ["torch", "jax", "dask", "strict", "device1"]


@pytest.mark.parametrize("lib", LIBRARIES, indirect=True)
@pytest.mark.parametrize("targets", [LABELS, SOFT], ids=["labels", "soft"])
def test_every_library_gives_the_same_record(lib, targets):
    expected = Evaluation().update(np.float32(LOGITS), targets).result()
    got = Evaluation().update(lib.like(LOGITS), lib.like(targets)).result()
    assert got.loss == pytest.approx(expected.loss, rel=2e-7)
    assert type(got.loss) is type(got.weight) is float
    assert type(got) is EvaluationResult
    for name in ("rows", "counted", "ignored", "accuracy"):
        assert getattr(got, name) == getattr(expected, name)


def test_the_repr_is_read_by_a_person():
    record = Evaluation().update(np.zeros((3, 4)), np.array([0, 1, -100]))
    assert repr(record) == (
        "Evaluation(loss=1.38629, perplexity=4, accuracy=50.00%, rows=3: 2 counted, 1 ignored)"
    )
