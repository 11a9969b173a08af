"""Objects that travel: value_and_grad pickles; and a bool is no number, wherever one is meant."""

import copy
import pickle

import numpy as np
import pytest

import xloss
from expected import LOSSES, inputs, loss, targets

WEIGHT = np.array([0.5, 1.0, 2.0, 1.0, 0.25])


def test_value_and_grad_travels():
    x, y = inputs("cross_entropy", (6, 5)), targets("cross_entropy", (6, 5))
    for f, arguments in (
        *((loss(name), (inputs(name, (6, 5)), targets(name, (6, 5)))) for name in LOSSES),
        (xloss.entropy, (x,)),
        (xloss.CrossEntropyLoss(weight=WEIGHT), (x, y)),
        (xloss.linear_cross_entropy, (x, np.eye(5), y)),
        (xloss.l2_penalty, (x,)),
    ):
        grads = xloss.value_and_grad(f)
        options = {"strength": 2.0} if f is xloss.l2_penalty else {}
        for one in (pickle.loads(pickle.dumps(grads)), copy.deepcopy(grads)):
            pairs = zip(one(*arguments, **options), grads(*arguments, **options), strict=True)
            for got, want in pairs:
                np.testing.assert_array_equal(got, want)
    assert isinstance(pickle.loads(pickle.dumps(xloss.Evaluation())), xloss.Evaluation)


def test_an_iterable_of_parameters_is_read_once():
    value, grads = xloss.value_and_grad(xloss.l2_penalty)((np.ones(2) for _ in "ab"), strength=3.0)
    assert value == 6
    assert len(grads) == 2


def test_a_cotangent_of_the_penalty(lib):
    x = lib.like(np.array([1.0, 2.0]))
    run = xloss.value_and_grad(xloss.l2_penalty)
    for cotangent in (-2.0, -2, np.float32(-2), np.array(-2.0), lib.like(np.array(-2.0))):
        _, grad = run(x, strength=0.5, cotangent=cotangent)
        np.testing.assert_array_equal(lib.host(grad), [-1.0, -2.0])
    for wrong in (np.ones(1), lib.like(np.ones(2))):
        with pytest.raises(ValueError, match=r"^cotangent: expected shape \(\)"):
            run(x, strength=0.5, cotangent=wrong)


X, Y, P = np.zeros((6, 5)), np.zeros(6, int), np.full((6, 5), 0.2)
# Of each check that arguments share, one; numbers that are options of a loss: test_errors.py.
CALLS = {
    "axis": [
        lambda v: xloss.cross_entropy(X, Y, axis=v),
        lambda v: xloss.one_hot(Y, 5, axis=v),
        lambda v: xloss.smooth_labels(P, 0.1, axis=v),
        lambda v: xloss.effective_count(Y, axis=v),
    ],
    "ignore_index": [
        lambda v: xloss.cross_entropy(X, Y, ignore_index=v),
        lambda v: xloss.effective_count(Y, ignore_index=v),
    ],
    "normalizer": [lambda v: xloss.binary_cross_entropy(P, P, normalizer=v)],
    "weight": [lambda v: xloss.cross_entropy(X, Y, weight=np.full(5, v))],
    "sample_weight": [lambda v: xloss.cross_entropy(X, Y, sample_weight=np.full(6, v))],
    "pos_weight": [
        lambda v: xloss.binary_cross_entropy_with_logits(X, P, pos_weight=np.full(5, v)),
    ],
    "epsilon": [lambda v: xloss.smooth_labels(P, v)],
    "num_classes": [lambda v: xloss.one_hot(Y, v)],
    "strength": [lambda v: xloss.l2_penalty(X, strength=v)],
    "loss": [lambda v: xloss.perplexity(v)],
    "block_rows": [lambda v: xloss.linear_cross_entropy(X, np.eye(5), Y, block_rows=v)],
    "cotangent": [
        lambda v: xloss.value_and_grad(xloss.cross_entropy)(X, Y, cotangent=v),
        lambda v: xloss.value_and_grad(xloss.l2_penalty)(X, strength=1.0, cotangent=v),
    ],
    "argnums": [
        lambda v: xloss.value_and_grad(xloss.cross_entropy, (v,)),
        lambda v: xloss.value_and_grad(xloss.l2_penalty, (v, 0)),
    ],
}


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_, np.array(True)], ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_a_bool_is_no_number(name, value):
    for call in CALLS[name]:
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: "):
            call(value)


@pytest.mark.parametrize("value", [1, 0, 1.0, None, "yes", np.array(1)])
def test_a_number_is_no_bool(value):
    for call in (xloss.cross_entropy, xloss.diagnose, xloss.Evaluation().update):
        with pytest.raises(ValueError, match=r"^validate: expected"):
            call(X, Y, validate=value)
    with pytest.raises(TypeError, match=r"^log_target: expected True or False"):
        xloss.kl_div(X, P, log_target=value)
