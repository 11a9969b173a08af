"""The table of value_and_grad: each entry prepares the very call that its function evaluates."""

import functools
import inspect

import numpy as np
import pytest

import xloss
from spread import Alone
from xloss.gradients import DIFFERENTIABLE, prepared

rng = np.random.default_rng(0)
Z = rng.standard_normal((6, 5))
P = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
Y = np.array([0, 1, 2, 3, 4, 2])
WEIGHT = np.array([0.5, 1.0, 2.0, 1.0, 0.25])
BIAS, MATRIX = rng.standard_normal(5), rng.standard_normal((5, 5))
FIRST = {"nll_loss": np.log(P), "kl_div": np.log(P), "log_loss": P, "binary_cross_entropy": P}
SOFT = {"kl_div", "binary_cross_entropy", "binary_cross_entropy_with_logits", "sigmoid_focal_loss"}
# Another value than the default for every option there is.
OPTIONS = {
    "axis": 0,
    "weight": WEIGHT,
    "class_weight": WEIGHT,
    "pos_weight": WEIGHT,
    "bias": BIAS,
    "block_rows": 2,
    "ignore_index": 2,
    "label_smoothing": 0.125,
    "z_loss": 0.25,
    "softcap": 7.0,
    "gamma": 1.5,
    "alpha": 0.75,
    "eps": 0.125,
    "log_target": True,
    "reduction": "sum",
    "normalizer": 3.0,
    "validate": True,
}
PUBLIC = [getattr(xloss, name) for name in xloss.__all__]
NAMES = sorted(function.__name__ for function in DIFFERENTIABLE)


def test_every_loss_has_an_entry():
    losses = {f for f in PUBLIC if inspect.isfunction(f)}
    losses = {f for f in losses if "reduction" in inspect.signature(f).parameters}
    assert set(DIFFERENTIABLE) == losses - {xloss.diagnose} | {xloss.entropy, xloss.logsumexp}


def arguments(name):
    first = FIRST.get(name, Z)
    if name in ("entropy", "logsumexp"):
        return (first,)
    targets = P if name in SOFT else Y
    return (first, MATRIX, targets) if name == "linear_cross_entropy" else (first, targets)


def same(a, b):
    if hasattr(a, "__array__"):
        return np.array_equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def options(name):
    """Return sets of options: none, and each option with a value of its own."""
    keywords = {
        p.name
        for p in inspect.signature(getattr(xloss, name)).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    rows = {"sample_weight": Y + 1.0, "where": Y != 1}
    if name in SOFT - {"kl_div"}:
        rows = {option: np.repeat(value[:, None], 5, 1) for option, value in rows.items()}
    values = {**OPTIONS, **rows}
    assert keywords <= {*values, "group", "keepdims"}
    return [{}, *({option: values[option]} for option in sorted(keywords & set(values)))]


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_prepares_what_the_function_evaluates(name, monkeypatch):
    function, given, seen = getattr(xloss, name), arguments(name), []
    always = {"group": "alone"} if name == "vocab_parallel_cross_entropy" else {}
    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Alone())
    monkeypatch.setitem(function.__globals__, "evaluate", lambda call: seen.append(call) or call)
    for chosen in options(name):
        args = given
        if chosen.get("axis") == 0:
            args = tuple(np.ascontiguousarray(a.T) for a in given)
        function(*args, **always, **chosen)
        mine = prepared(function, *args, **always, **chosen)._replace(group=None)
        assert same(mine, seen[-1]._replace(group=None)), chosen
    assert seen


def halved(*args, **kwargs):
    return 0.5 * xloss.cross_entropy(*args, **kwargs)


@pytest.mark.parametrize(
    "wrong",
    [
        functools.wraps(xloss.cross_entropy)(halved),
        functools.partial(xloss.cross_entropy, reduction="sum"),
        functools.lru_cache(xloss.cross_entropy),
        xloss.CrossEntropyLoss,
        [xloss.cross_entropy],
        np.zeros(3),
        xloss.perplexity,
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_is_no_loss_of_xloss_is_refused(wrong):
    """A wrapper's own arithmetic has no part in the closed form, whatever it copied of the loss."""
    with pytest.raises(TypeError, match=r"^loss: expected a loss of xloss, got "):
        xloss.value_and_grad(wrong)


@pytest.mark.parametrize(
    ("name", "args", "keywords", "message"),
    [
        ("cross_entropy", (Z,), {}, "missing a required argument: 'targets'"),
        ("cross_entropy", (Z, Y, WEIGHT), {}, "too many positional arguments"),
        ("cross_entropy", (Z, Y), {"z_los": 0.1}, "got an unexpected keyword argument 'z_los'"),
        ("nll_loss", (Z, Y), {"z_loss": 0.1}, "got an unexpected keyword argument 'z_loss'"),
        ("focal_loss", (Z, Y), {"z_loss": 0.1}, "got an unexpected keyword argument 'z_loss'"),
        ("kl_div", (Z, P), {"binary": True}, "got an unexpected keyword argument 'binary'"),
        ("nll_loss", (Z, Y), {"first": "x"}, "got an unexpected keyword argument 'first'"),
        ("logsumexp", (Z,), {"keepdims": True}, "got an unexpected keyword argument 'keepdims'"),
        ("vocab_parallel_cross_entropy", (Z, Y), {}, "missing a required .*argument: 'group'"),
        ("vocab_parallel_cross_entropy", (Z, Y, 0), {}, "too many positional arguments"),
    ],
)
def test_wrong_arguments_are_told_in_the_function_s_own_name(name, args, keywords, message):
    """An entry's `prepare` takes options of other losses too, which it must not get."""
    run = xloss.value_and_grad(getattr(xloss, name))
    with pytest.raises(TypeError, match=f"^{name}: {message}$"):
        run(*args, **keywords)


def test_options_of_a_kept_loss_are_not_given_twice():
    run = xloss.value_and_grad(xloss.CrossEntropyLoss(reduction="sum"))
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
        run(Z, Y, reduction="mean")
