"""value_and_grad: what to differentiate, the cotangent, and CrossEntropyLoss as its loss."""

import dataclasses
import inspect

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, FIRST, LOSSES, inputs, labels, loss, shape, soft, targets
from libraries import across


def soft_call(name):
    form = shape(name, 6, 5)
    return inputs(name, form), (soft(form) if name in CLASS else targets(name, form))


@pytest.mark.parametrize("name", LOSSES)
def test_argnums_by_position_and_by_name(name):
    x, t = soft_call(name)
    _, gx = xloss.value_and_grad(loss(name))(x, t)
    _, gt = xloss.value_and_grad(loss(name), 1)(x, t)
    assert gx.shape == gt.shape == x.shape
    first = FIRST[name]
    for argnums, want in (
        (0, gx),
        (first, gx),
        ("targets", gt),
        ((0,), (gx,)),
        ((0, 1), (gx, gt)),
        ((1, 0), (gt, gx)),
        ((first, "targets"), (gx, gt)),
        ((0, "targets"), (gx, gt)),
        ((0, first), (gx, gx)),
        ((), ()),
    ):
        _, got = xloss.value_and_grad(loss(name), argnums)(x, t)
        assert isinstance(got, tuple) == isinstance(want, tuple), argnums
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)


@across(LOSSES, jax=0, dask=2)
def test_the_value_is_the_loss(lib, name):
    form = shape(name, 6, 5)
    x, t = lib.like(inputs(name, form)), lib.like(targets(name, form))
    for how in ("mean", "sum", "none"):
        value, _ = xloss.value_and_grad(loss(name))(x, t, reduction=how)
        want = lib.host(loss(name)(x, t, reduction=how))
        np.testing.assert_array_equal(lib.host(value), want)


CONSTANTS = ("weight", "sample_weight", "where", "normalizer", "axis", "reduction")


@pytest.mark.parametrize("argument", [*CONSTANTS, 2, -1])
def test_constants_have_no_gradient(argument):
    run = xloss.value_and_grad(xloss.cross_entropy, argument)
    want = r"^argnums: \w+ is a constant of cross_entropy; gradients go to logits and targets$"
    with pytest.raises(ValueError, match=want):
        run(*soft_call("cross_entropy"))


@pytest.mark.parametrize("name", CLASS + BINARY)
def test_labels_and_bools_have_no_gradient(name):
    x = inputs(name, shape(name, 6, 5))
    t = np.ones(6, bool) if name in BINARY else labels(6, 5)
    want = rf"^argnums: targets of dtype {t.dtype} have no gradient$"
    for argument in (1, "targets", (0, 1)):
        with pytest.raises(TypeError, match=want):
            xloss.value_and_grad(loss(name), argument)(x, t)


def test_what_argnums_refuses():
    for wrong in (None, 1.0, True, [0], np.array(0), (0, None)):
        with pytest.raises(TypeError, match=r"^argnums: expected ints or names, got "):
            xloss.value_and_grad(xloss.cross_entropy, wrong)
    for wrong in ("logit", "probs", 100, -100, (0, "x")):
        with pytest.raises(ValueError, match=r"^argnums: no argument "):
            xloss.value_and_grad(xloss.cross_entropy, wrong)


def test_what_the_cotangent_refuses():
    x, t = soft_call("cross_entropy")
    run = xloss.value_and_grad(xloss.cross_entropy)
    for how, wrong in (
        ("mean", (1,)),
        ("sum", (6,)),
        ("none", ()),
        ("none", (6, 5)),
        ("none", (5,)),
    ):
        with pytest.raises(ValueError, match=r"^cotangent: expected shape \((6,)?\), got "):
            run(x, t, reduction=how, cotangent=np.ones(wrong))
    for wrong in ([1.0], "1", {}):
        with pytest.raises(TypeError, match=r"^cotangent: expected "):
            run(x, t, cotangent=wrong)


def test_nothing_is_recorded_by_autograd():
    torch = pytest.importorskip("torch")
    x, t = (torch.tensor(a, requires_grad=True) for a in soft_call("cross_entropy"))
    value, gradients = xloss.value_and_grad(xloss.cross_entropy, (0, 1))(x, t)
    assert not value.requires_grad
    assert not any(g.requires_grad for g in gradients)
    assert x.grad is None


OPTIONS = {
    "weight": np.arange(1.0, 6),
    "label_smoothing": 0.125,
    "z_loss": 0.25,
    "reduction": "sum",
    "ignore_index": 2,
}


class TestCrossEntropyLoss:
    def test_it_is_cross_entropy_with_its_options_kept(self):
        x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
        kept = xloss.CrossEntropyLoss(**OPTIONS)
        assert kept(x, y) == xloss.cross_entropy(x, y, **OPTIONS)
        one = xloss.value_and_grad(kept)(x, y)
        other = xloss.value_and_grad(xloss.cross_entropy)(x, y, **OPTIONS)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_it_takes_keywords_only(self):
        with pytest.raises(TypeError, match="positional"):
            xloss.CrossEntropyLoss(-1)

    def test_it_has_all_options_of_cross_entropy_with_their_defaults(self):
        options = {
            p.name: p.default
            for p in inspect.signature(xloss.cross_entropy).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }
        own = {f.name: f.default for f in dataclasses.fields(xloss.CrossEntropyLoss)}
        assert own == options

    def test_it_is_frozen_and_compared_by_identity(self):
        kept = xloss.CrossEntropyLoss(weight=np.ones(3))
        with pytest.raises(dataclasses.FrozenInstanceError):
            kept.axis = 1
        same = kept
        assert kept == same  # weights have no truth value to compare by
        assert kept != xloss.CrossEntropyLoss(weight=np.ones(3))
        assert {kept: 1}[kept] == 1
