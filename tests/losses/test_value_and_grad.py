"""value_and_grad: what it takes, the cotangent, and CrossEntropyLoss as its loss.

That it prepares the call that its function evaluates is seen by the suite, which asks the function
for the value and this for the gradient, under every option.
"""

import dataclasses
import functools
import inspect

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, FIRST, LOSSES, inputs, labels, loss, shape, soft, targets
from libraries import across
from xloss.gradients import DIFFERENTIABLE


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


@pytest.mark.parametrize("argument", ["weight", "where", "normalizer", "reduction", 2, -1])
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
    for wrong in (None, 1.0, True, [0], (0, None)):
        with pytest.raises(TypeError, match=r"^argnums: expected ints or names, got "):
            xloss.value_and_grad(xloss.cross_entropy, wrong)
    for wrong in ("logit", 100, -100, (0, "x")):
        with pytest.raises(ValueError, match=r"^argnums: no argument "):
            xloss.value_and_grad(xloss.cross_entropy, wrong)


def test_what_the_cotangent_refuses():
    x, t = soft_call("cross_entropy")
    run = xloss.value_and_grad(xloss.cross_entropy)
    for how, wrong in (("mean", (1,)), ("sum", (6,)), ("none", ()), ("none", (6, 5))):
        with pytest.raises(ValueError, match=r"^cotangent: expected shape \((6,)?\), got "):
            run(x, t, reduction=how, cotangent=np.ones(wrong))
    with pytest.raises(TypeError, match=r"^cotangent: expected "):
        run(x, t, cotangent=[1.0])


def test_every_loss_can_be_differentiated():
    public = (getattr(xloss, name) for name in xloss.__all__)
    losses = {f for f in public if inspect.isfunction(f)}
    losses = {f for f in losses if "reduction" in inspect.signature(f).parameters}
    assert set(DIFFERENTIABLE) == losses - {xloss.diagnose} | {xloss.entropy, xloss.logsumexp}


def halved(*args, **kwargs):
    return 0.5 * xloss.cross_entropy(*args, **kwargs)


def test_what_is_no_loss_of_xloss_is_refused():
    """A wrapper's own arithmetic has no part in the closed form, whatever it copied of the loss."""
    for wrong in (
        functools.wraps(xloss.cross_entropy)(halved),
        functools.partial(xloss.cross_entropy, reduction="sum"),
        functools.lru_cache(xloss.cross_entropy),
        xloss.CrossEntropyLoss,
        np.zeros(3),
        xloss.perplexity,
    ):
        with pytest.raises(TypeError, match=r"^loss: expected a loss of xloss, got "):
            xloss.value_and_grad(wrong)


@pytest.mark.parametrize(
    ("name", "args", "keywords", "message"),
    [
        ("cross_entropy", 1, {}, "missing a required argument: 'targets'"),
        ("cross_entropy", 3, {}, "too many positional arguments"),
        ("cross_entropy", 2, {"z_los": 0.1}, "got an unexpected keyword argument 'z_los'"),
        ("nll_loss", 2, {"z_loss": 0.1}, "got an unexpected keyword argument 'z_loss'"),
        ("kl_div", 2, {"binary": True}, "got an unexpected keyword argument 'binary'"),
        ("logsumexp", 1, {"keepdims": True}, "got an unexpected keyword argument 'keepdims'"),
        ("vocab_parallel_cross_entropy", 2, {}, "missing a required .*argument: 'group'"),
    ],
)
def test_wrong_arguments_are_told_in_the_function_s_own_name(name, args, keywords, message):
    """An entry's `prepare` takes options of other losses too, which it must not get."""
    with pytest.raises(TypeError, match=f"^{name}: {message}$"):
        xloss.value_and_grad(getattr(xloss, name))(*[np.zeros(5)] * args, **keywords)


def test_nothing_is_recorded_by_autograd():
    torch = pytest.importorskip("torch")
    x, t = (torch.tensor(a, requires_grad=True) for a in soft_call("cross_entropy"))
    value, gradients = xloss.value_and_grad(xloss.cross_entropy, (0, 1))(x, t)
    assert not value.requires_grad
    assert not any(g.requires_grad for g in gradients)


OPTIONS = {
    "weight": np.arange(1.0, 6),
    "label_smoothing": 0.125,
    "z_loss": 0.25,
    "reduction": "sum",
    "ignore_index": 2,
}


def test_a_kept_loss_is_cross_entropy_with_its_options():
    x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
    kept = xloss.CrossEntropyLoss(**OPTIONS)
    assert kept(x, y) == xloss.cross_entropy(x, y, **OPTIONS)
    one = xloss.value_and_grad(kept)(x, y)
    other = xloss.value_and_grad(xloss.cross_entropy)(x, y, **OPTIONS)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
        xloss.value_and_grad(kept)(x, y, reduction="mean")


def test_a_kept_loss_has_all_options_of_cross_entropy_as_keywords_with_their_defaults():
    parameters = inspect.signature(xloss.cross_entropy).parameters.values()
    options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    own = {f.name: f.default for f in dataclasses.fields(xloss.CrossEntropyLoss)}
    assert own == options
    with pytest.raises(TypeError, match="positional"):
        xloss.CrossEntropyLoss(-1)


def test_a_kept_loss_is_frozen_and_compared_by_identity():
    kept = xloss.CrossEntropyLoss(weight=np.ones(3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        kept.axis = 1
    assert kept != xloss.CrossEntropyLoss(weight=np.ones(3))
    assert {kept: 1}[kept] == 1  # weights have no truth value to compare by
