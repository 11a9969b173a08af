"""Absent rows: to the bit as if they were not there, seen by no check, and by which options.

On every library they are the suite's families "absent" and "all absent", and cases of each loss.
"""

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, LOSSES, inputs, loss, shape, soft, targets

PRESENT = np.array([True, False, True, True, False, True])
ROWS = np.array([1.0, 0.5, 2.0, 0.25, 3.0, 0.75])


def batch(name: str, way: str, soft_targets: bool):
    """A batch whose rows 1 and 4 are absent and full of rubbish, and the batch without them."""
    form = shape(name, 6, 5)
    x = inputs(name, form)
    t = soft(form) if soft_targets and name in CLASS else targets(name, form)
    s = ROWS.copy()
    clean = x[PRESENT], t[PRESENT], s[PRESENT]
    x[1] = np.nan
    x[4] = np.inf if name in BINARY else [np.inf, -np.inf, np.nan, 3e38, -np.inf]
    if t.dtype.kind == "f":
        t[1], t[4] = np.nan, -np.inf
    else:
        t[1], t[4] = (-100, -100) if way == "ignore_index" else (99, -7)
    given = {}
    if way == "where":
        given["where"] = PRESENT
        s[1], s[4] = np.nan, -np.inf
    elif way == "sample_weight":
        s[1], s[4] = 0.0, -0.0
    return x, t, {"sample_weight": s, **given}, clean


def ways(name: str, soft_targets: bool) -> tuple[str, ...]:
    by_label = ("ignore_index",) if name in CLASS and not soft_targets else ()
    return (*by_label, "where", "sample_weight")


@pytest.mark.parametrize("soft_targets", [False, True], ids=["index", "soft"])
@pytest.mark.parametrize("name", LOSSES)
def test_absent_is_removed_to_the_bit_and_seen_by_no_check(name, soft_targets):
    checked = {"validate": True} if name in CLASS else {}
    for way in ways(name, soft_targets):
        x, t, given, (x_, t_, s_) = batch(name, way, soft_targets)
        run = xloss.value_and_grad(loss(name))
        for how in ("none", "mean"):
            value, gradient = run(x.astype("f4"), t, reduction=how, **checked, **given)
            value_, gradient_ = run(x_.astype("f4"), t_, sample_weight=s_, reduction=how)
            np.testing.assert_array_equal(gradient[PRESENT], gradient_)
            np.testing.assert_array_equal(value[PRESENT] if how == "none" else value, value_)
            assert not gradient[~PRESENT].any()


@pytest.mark.parametrize("lib", ["torch", "device1"], indirect=True)
def test_a_check_on_another_device_does_not_see_them_either(lib):
    for soft_targets in (False, True):
        for way in ways("cross_entropy", soft_targets):
            x, t, given, _ = batch("cross_entropy", way, soft_targets)
            value = xloss.cross_entropy(lib.like(x), lib.like(t), validate=True, **lib.given(given))
            assert np.isfinite(lib.host(value))
