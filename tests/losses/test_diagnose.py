"""diagnose: every way in which a loss becomes NaN or infinite is found, named and placed."""

from importlib import import_module

import numpy as np
import pytest

from xloss import cross_entropy, diagnose

nan, inf = np.nan, np.inf


def found(report):
    return {f.rule: [p[0] if len(p) == 1 else p for p in f.positions] for f in report.findings}


FINE = [0.0, 1.0, 2.0]


def case(logits, targets, found=None, /, **options):
    """A call, and what is found in it: each rule and its positions."""
    options = {k: np.array(v) if isinstance(v, list) else v for k, v in options.items()}
    targets = np.array(targets)
    targets = targets.astype(float) if targets.ndim == 2 else targets
    return np.array(logits, dtype=float), targets, options, found or {}


CASES = {
    "nothing": case([FINE, FINE], [0, 2]),
    "labels out of range": case([FINE, FINE, FINE], [0, 3, -1], {"label_out_of_range": [1, 2]}),
    "label -100 not ignored": case([FINE], [-100], {"label_out_of_range": [0]}, ignore_index=None),
    "NaN logit beside infinities": case(
        [[nan, inf, -inf]], [2], {"nan_logit": [0], "masked_target": [0], "infinite_logit": [0]}
    ),
    "no possible class": case([[-inf] * 3, FINE], [0, 0], {"no_possible_class": [0]}),
    "target masked": case([FINE, [-inf, 0, 0]], [0, 0], {"masked_target": [1]}),
    "masked target, smoothed away": case([[-inf, 0, 0]], [0], label_smoothing=1.0),
    "masked target without weight": case(
        [[-inf, 0, 0]], [0], {"nothing_counted": []}, weight=[0.0, 1, 1]
    ),
    "soft targets, one on the mask": case(
        [[-inf, 0, 0]] * 2, [[0.1, 0.9, 0], [0.0, 0.9, 0.1]], {"masked_target": [0]}
    ),
    "+inf elsewhere": case([[0, inf, 0], FINE], [0, 0], {"infinite_logit": [0]}),
    "+inf at the target and smoothing": case(
        [[0, inf, 0]], [1], {"infinite_logit": [0]}, label_smoothing=0.1
    ),
    "+inf at the target and z_loss": case([[0, inf, 0]], [1], {"infinite_logit": [0]}, z_loss=0.1),
    "sample_weight NaN, infinite, negative": case(
        [FINE] * 4, [0] * 4, {"bad_sample_weight": [0, 2, 3]}, sample_weight=[nan, 1.0, inf, -2.0]
    ),
    "weights NaN, infinite, negative": case(
        [FINE, FINE], [0, 2], {"bad_weight": [1, 2]}, weight=[1.0, -1.0, nan]
    ),
    "soft target NaN, negative, infinite": case(
        [FINE] * 4, [[1, 0, 0], [nan, 0, 0], [1.5, -0.5, 0], [0, inf, 0]], {"bad_target": [1, 2, 3]}
    ),
    "row overflows": case([[0.0, 1.7e308], [-1.7e308, 1.7e308]], [0, 0], {"overflow": [1]}),
    "sum overflows": case([[0.0, 1.7e308]] * 2, [0, 0], {"overflow": []}),
    "normalizer 0": case([FINE], [0], {"bad_normalizer": []}, normalizer=0.0),
    "normalizer NaN": case([FINE], [0], {"bad_normalizer": []}, normalizer=np.array(nan)),
    "a row of zeros whose sample weight is NaN": case(
        [FINE] * 2, [[0.0] * 3, [1, 0, 0]], {"bad_sample_weight": [0]}, sample_weight=[nan, 1.0]
    ),
    "class weight 0 times an infinite sample weight": case(
        [FINE] * 2, [0, 1], {"bad_sample_weight": [0]}, weight=[0.0, 1, 1], sample_weight=[inf, 1.0]
    ),
    "weight 0, smoothed, under a normalizer": case(
        [FINE], [0], weight=[0.0, 1, 1], label_smoothing=0.1, normalizer=2.0
    ),
    "+inf elsewhere, capped, in a bad row": case(
        [[0, inf, 0]], [0], {"bad_sample_weight": [0]}, softcap=5.0, sample_weight=[nan]
    ),
    "two rules in one row": case([[nan, 0, 0]], [7], {"label_out_of_range": [0], "nan_logit": [0]}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule(name):
    logits, targets, options, expected = CASES[name]
    report = diagnose(logits, targets, **options)
    assert found(report) == expected
    loss = cross_entropy(logits, targets, validate=False, **options)
    np.testing.assert_equal(np.float64(report.loss), loss)
    options.pop("normalizer", None)
    rows = cross_entropy(logits, targets, validate=False, reduction="none", **options)
    assert report.not_finite == np.sum(~np.isfinite(rows))


ODD = [0.0, 1.0, 1.0, 2.0, nan, inf, -1.0]
OPTIONS = {"label_smoothing": [0.1, 1.0], "z_loss": [0.5], "softcap": [3.0], "ignore_index": [-1]}
# The rules that say why a row is not finite.
OF_ROWS = {"label_out_of_range", "nan_logit", "no_possible_class", "masked_target"}
OF_ROWS |= {"infinite_logit", "overflow"}


def random_call(rng):
    """A small call full of awkward numbers."""
    rows, classes = rng.integers(1, 5), rng.integers(1, 4)
    odd = rng.choice([nan, inf, -inf, 0.0, 1.0, -2.0, 1e308, -1e308], (rows, classes))
    logits = np.where(rng.random((rows, classes)) < 0.4, odd, rng.normal(size=(rows, classes)))
    targets = rng.integers(-1, classes + 1, rows)
    if rng.random() < 0.4:
        targets = rng.choice([0.0, 0.0, 0.3, 1.0, nan, -1.0, inf], (rows, classes))
    options = {k: rng.choice(values) for k, values in OPTIONS.items() if rng.random() < 0.3}
    if rng.random() < 0.5:
        options["sample_weight"] = rng.choice(ODD, rows)
    if rng.random() < 0.5:
        options["weight"] = rng.choice(ODD, classes)
    present = rng.random(rows) < 0.7
    if rng.random() < 0.3:
        options["where"] = present
    present = options.get("where", True) & (options.get("sample_weight", np.ones(rows)) != 0)
    if targets.ndim == 1:
        present = present & (targets != options.get("ignore_index", -100))
    return logits, targets, options, set(np.flatnonzero(present).tolist())


def test_whatever_is_not_finite_has_a_finding_that_names_the_row_and_nothing_else_has():
    rng = np.random.default_rng(0)
    overflowed = 0
    for _ in range(1500):
        logits, targets, options, present = call = random_call(rng)
        report = diagnose(logits, targets, **options)
        rows = cross_entropy(logits, targets, reduction="none", validate=False, **options)
        by_rule = {f.rule: {p[0] for p in f.positions} for f in report.findings}
        bad_weight = by_rule.pop("bad_weight", None)
        lost = set(np.flatnonzero(~np.isfinite(rows)).tolist())
        assert bad_weight or lost <= set().union(*by_rule.values()), (call, report)
        for rule, named in by_rule.items():  # absent rows are exempt
            assert named <= (lost if rule in OF_ROWS else present), (call, report)
        loss = cross_entropy(logits, targets, validate=False, **options)
        assert np.isfinite(loss) or report.findings, (call, report)
        if "overflow" in by_rule:
            overflowed += 1
            assert np.max(np.abs(logits[np.isfinite(logits)])) >= 1e308
    assert 0 < overflowed < 300


def test_labels_are_judged_in_their_own_dtype():
    for labels in (np.array([156, 3], np.uint8), np.array([2**64 - 100, 3], np.uint64)):
        report = diagnose(np.zeros((2, 4)), labels)
        assert found(report) == {"label_out_of_range": [0]}
        assert f"the first {labels[0]}," in report.findings[0].explanation


def test_only_the_first_positions_are_named():
    report = diagnose(np.full((1000, 256), nan), np.zeros(1000, dtype=int))  # four blocks
    (finding,) = report.findings
    assert (finding.count, finding.positions) == (1000, ((0,), (1,), (2,), (3,), (4,)))
    assert str(finding).startswith("nan_logit: 1,000 rows (0, 1, 2, 3, 4, ...)\n    ")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_positions_in_many_blocks_and_axes(axis):
    rows, classes = (3, 40, 5), 4096  # a block holds 16 rows
    logits = np.zeros((*rows, classes), dtype=np.float32)
    logits[2, 39, 4, 4095] = nan
    logits[1, 0, 3, 17] = -inf
    labels = np.full(rows, 17)
    labels[0, 21, 1] = classes
    report = diagnose(np.moveaxis(logits, -1, axis), labels, axis=axis)
    assert found(report) == {
        "label_out_of_range": [(0, 21, 1)],
        "masked_target": [(1, 0, 3)],
        "nan_logit": [(2, 39, 4)],
    }


def test_reductions():
    logits, labels = np.float32([[0, 3e38], [0, 3e38]]), np.array([0, 0])
    assert diagnose(logits, labels).loss == float(np.float32(3e38))
    report = diagnose(logits, labels, reduction="sum")
    assert report.loss == inf
    assert found(report) == {"overflow": []}
    assert "float32" in report.findings[0].explanation
    report = diagnose(np.float32([[0, inf], [0, inf]]), labels, reduction="none")
    assert report.loss is None
    assert found(report) == {"infinite_logit": [0, 1]}
    with pytest.raises(ValueError, match="normalizer: needs"):
        diagnose(logits, labels, reduction="sum", normalizer=2.0)


def test_the_report_reads_well():
    logits, labels = np.array([FINE, [nan, 0, 0], FINE]), np.array([0, 0, 5])
    assert str(diagnose(logits, labels, weight=np.array([1.0, nan, 1.0]))) == (
        "loss nan: 2 of 3 rows are not finite\n"
        "bad_weight: 1 class (1)\n"
        "    the weight of the class is NaN, infinite or negative\n"
        "label_out_of_range: 1 row (2)\n"
        "    a label, as the first 5, is not in [0, 3) and not -100: the loss is NaN\n"
        "nan_logit: 1 row (1)\n"
        "    a logit is NaN: so is the loss"
    )
    fine = diagnose(np.array([FINE]), np.array([2]))
    assert str(fine) == "loss 0.407605964: 0 of 1 rows are not finite"
    assert str(diagnose(logits, labels, reduction="none")).startswith("row losses: 2")


def test_wrong_arguments_are_still_errors():
    with pytest.raises(ValueError, match="targets: class indices must have the shape"):
        diagnose(np.zeros((2, 3)), np.array([0]))
    with pytest.raises(ValueError, match="validate: expected"):
        diagnose(np.zeros((2, 3)), np.array([0, 1]), validate="never")
    assert diagnose(np.zeros((2, 3)), np.array([0, 9]), validate=True).findings


def test_a_single_row_without_row_axis():
    report = diagnose(np.array([nan, 0.0]), np.array(0))
    assert (report.rows, report.findings[0].positions) == (1, ((),))


@pytest.mark.parametrize("lib", ["torch", "jax", "dask", "strict", "device1"], indirect=True)
def test_every_library(lib):
    logits = np.float32([FINE, [nan, 0, 0], [-inf, 0, 0], FINE, [inf, 0, 0]])
    labels = np.array([0, 0, 0, 3, -100])
    soft = np.float32([[1, 0, 0], [0, 1, 0], [1, 0, 0], [nan, 0, 0], [0, 1, 0]])
    z = lib.like(logits)
    if lib.name == "torch":
        z = lib.array(logits, "bfloat16").requires_grad_()
    common = {"nan_logit", "masked_target"}
    for targets, more in (
        (labels, {"label_out_of_range"}),
        (soft, {"bad_target", "infinite_logit"}),
    ):
        expected = diagnose(logits, targets)
        assert set(found(expected)) == common | more
        assert str(diagnose(z, lib.like(targets))) == str(expected)


def test_dask_rows_of_unknown_number():
    da = import_module("dask.array")
    logits = np.array([FINE, [nan, 0, 0], FINE])
    keep = np.array([True, True, False])
    z = da.from_array(logits, chunks=(2, 3))[da.from_array(keep, chunks=2)]
    y = da.from_array(np.array([0, 0, 0]), chunks=2)[da.from_array(keep, chunks=2)]
    report = diagnose(z, y)
    assert (report.rows, found(report)) == (2, {"nan_logit": [1]})
