# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, index, operator"
"""The oracle against textbook formulas, numerical differentiation, values by hand, and limits.

That it says the same of masks, infinities, NaN and labels as a loss written apart from it, xloss's,
in every case of the catalogue, is held by test_generic.py.
"""

import math

import mpmath
import pytest

from xloss_conformance import oracle
from xloss_conformance.oracle import binary_row, kl_row, mp, reduce, softmax_row

INF, NAN, LOG2 = math.inf, math.nan, mp.log(2)
CE, FOCAL, NLL, LOG = "cross_entropy", "focal_loss", "nll_loss", "log_loss"
BCE_LOGITS, BCE = "binary_cross_entropy_with_logits", "binary_cross_entropy"
SIGMOID_FOCAL = "sigmoid_focal_loss"

WEIGHT = [1.0, 2.5, 0.5, 0.0]
SOFT = [0.2, 0.5, 0.0, 0.4]  # does not sum to 1, and has a 0
LOGITS = [1.5, -0.25, 3.0, 0.125]
ROW = {CE: LOGITS, FOCAL: LOGITS, NLL: [-2.5, -0.75, -1.25, -1.5], LOG: [0.1, 0.4, 0.3, 0.2]}
WEIGHTED = {"weight": WEIGHT, "sample_weight": 1.75, "label_smoothing": 0.1}
OPTIONS = [
    (CE, {}),
    (CE, WEIGHTED),
    (CE, {"weight": WEIGHT, "z_loss": 0.25, "sample_weight": 3, "softcap": 2.5}),
    (NLL, WEIGHTED),
    (LOG, {"eps": 0.15, **WEIGHTED}),
    (FOCAL, {"gamma": 0.5, "softcap": 2.5, **WEIGHTED}),
    (FOCAL, {"gamma": 0}),
]
BINARY = [
    (BCE_LOGITS, {"pos_weight": 3, "sample_weight": 2, "label_smoothing": 0.1}),
    (BCE, {"sample_weight": 1.75, "label_smoothing": 0.1, "eps": 0.05}),
    (SIGMOID_FOCAL, {}),
    (SIGMOID_FOCAL, {"gamma": 0.5, "alpha": 0.25, "sample_weight": 1.75}),
]


def close(got, want):
    """To 30 digits, element by element; what is 0, infinite or NaN must be exactly that."""
    if isinstance(want, list):
        return len(got) == len(want) and all(map(close, got, want))
    if mp.isnan(want):
        return mp.isnan(got)
    return got == want or (mp.isfinite(want) and abs(got - want) <= mp.mpf("1e-30") * abs(want))


def gradient(function, x):
    """Derivatives by each entry of x, by central differences fine enough to show exp(-700)."""
    at = [lambda v, k=k: function([*x[:k], v, *x[k + 1 :]]) for k in range(len(x))]
    with mp.workdps(400):
        return list(map(mp.diff, at, x))


def flat(row):  # the loss, its gradient, and the target's if there is one
    parts = [row.loss, row.grad, [] if row.grad_targets is None else row.grad_targets]
    return [v for part in parts for v in (part if isinstance(part, list) else [part])]


def one_hot(target):
    return target if isinstance(target, list) else [float(k == target) for k in range(4)]


def textbook(kind, x, t, **options):
    """A row's loss and weight as a book would write it, for finite x alone."""
    s, epsilon = options.get("sample_weight", 1), mp.mpf(options.get("label_smoothing", 0))
    w, cap = options.get("weight", [1] * 4), options.get("softcap")
    x = [max(mp.mpf(v), options.get("eps", -INF)) for v in x]
    x = x if cap is None else [cap * mp.tanh(v / cap) for v in x]
    lse = mp.log(sum(mp.exp(v) for v in x))
    losses = {
        CE: lambda v: lse - v,
        FOCAL: lambda v: (1 - mp.exp(v - lse)) ** options.get("gamma", 2) * (lse - v),
        NLL: lambda v: -v,
        LOG: lambda v: -mp.log(v),
    }
    q = [(1 - epsilon) * v + epsilon * sum(map(mp.mpf, t)) / 4 for v in t]
    weight = s * sum(w[k] * mp.mpf(t[k]) for k in range(4))
    loss = s * sum(w[k] * q[k] * losses[kind](x[k]) for k in range(4))
    return [loss + options.get("z_loss", 0) * weight * lse**2, weight]


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("target", [1, 3, SOFT])
@pytest.mark.parametrize("second", [-0.25, 82.0, 250.0, -700.0])
def test_softmax_values_and_gradients(kind, options, target, second):
    x = ROW[kind] if kind == LOG else [ROW[kind][0], second, *ROW[kind][2:]]
    row = softmax_row(kind, x, target, **options)
    with mp.workdps(400):
        assert close([row.loss, row.weight], textbook(kind, x, one_hot(target), **options))
    assert close(row.grad, gradient(lambda z: softmax_row(kind, z, target, **options).loss, x))
    if isinstance(target, int):
        assert row.grad_targets is row.weight_grad_targets is None
        return
    by_loss = gradient(lambda t: softmax_row(kind, x, t, **options).loss, target)
    by_weight = gradient(lambda t: softmax_row(kind, x, t, **options).weight, target)
    assert close(row.grad_targets + row.weight_grad_targets, by_loss + by_weight)


@pytest.mark.parametrize(
    ("kind", "x", "target", "options", "want"),
    [
        (CE, [0.0, 0.0], 0, {}, [LOG2, -0.5, 0.5]),
        (CE, [0, -INF], [0.5, 0.5], {"label_smoothing": 0.5}, [INF, 0.25, -0.25, 0, INF]),
        (CE, [0, -INF], [1, 0], {"label_smoothing": 0.5}, [0] * 5),
        (CE, [0.0, 0.0, -INF], 0, {"label_smoothing": 0.5}, [LOG2, -0.25, 0.25, 0]),
        (CE, [INF, 0.0], [1, 0], {"z_loss": 1, "weight": [0, 1]}, [0] * 5),
        (CE, [INF, -INF, INF], 0, {"softcap": 2}, [LOG2, 0, 0, 0]),
        (FOCAL, [-INF, -INF], [0, 0], {}, [NAN] * 5),
        (FOCAL, [0.0, 0.0], 0, {}, [LOG2 / 4, -LOG2 / 4 - 0.125, LOG2 / 4 + 0.125]),
        (FOCAL, [0.0, -INF], 0, {"gamma": 0.5}, [0] * 3),
        (NLL, [-1, -INF], 1, {}, [INF, 0, -1]),
        (LOG, [0, 1], [0, 1], {}, [0, 0, -1, 0, 0]),
        (LOG, [-0.5, 1], 0, {}, [NAN, NAN, 0]),
        (LOG, [0, 1], 0, {"eps": 0.25}, [2 * LOG2, 0, 0]),
        (LOG, [NAN, 0.25], 0, {}, [NAN, NAN, 0]),
        (NLL, [-1, -2], [NAN, 1], {}, [NAN, NAN, -1, 1, 2]),
    ],
)
def test_softmax_rows_by_hand(kind, x, target, options, want):
    assert close(flat(softmax_row(kind, x, target, **options)), [mp.mpf(v) for v in want])


@pytest.mark.parametrize(("kind", "options"), BINARY)
@pytest.mark.parametrize("x", [0.75, 82.0, -82.0, 1e-30])
@pytest.mark.parametrize("t", [0.3, 0.0, 1.0])
def test_binary_values_and_gradients(kind, options, x, t):
    x = min(abs(x), 0.99) if kind == BCE else x
    row = binary_row(kind, x, t, **options)
    eps, epsilon = (mp.mpf(options.get(name, 0)) for name in ("eps", "label_smoothing"))
    with mp.workdps(400):
        p = min(max(mp.mpf(x), eps), 1 - eps) if kind == BCE else 1 / (1 + mp.exp(-x))
        q, alpha, gamma = t * (1 - epsilon) + epsilon / 2, options.get("alpha"), 0
        want = -options.get("pos_weight", 1) * q * mp.log(p) - (1 - q) * mp.log(1 - p)
        if kind == SIGMOID_FOCAL:
            gamma = options.get("gamma", 2)
            want *= 1 if alpha is None else alpha * mp.mpf(t) + (1 - alpha) * (1 - mp.mpf(t))
        want *= (1 - p * t - (1 - p) * (1 - mp.mpf(t))) ** gamma * options.get("sample_weight", 1)
        assert close(row.loss, want)
    by_x = gradient(lambda v: binary_row(kind, v[0], t, **options).loss, [x])
    by_t = gradient(lambda v: binary_row(kind, x, v[0], **options).loss, [t])
    assert close([row.grad, row.grad_targets], by_x + by_t)
    assert close(flat(binary_row(kind, x, NAN, **options)), [mp.nan] * 3)
    assert flat(binary_row(kind, NAN, t, **{**options, "sample_weight": 0})) == [0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "x", "t", "options", "want"),
    [
        (BCE_LOGITS, 0.0, 1, {"pos_weight": 3}, [3 * LOG2, -1.5, 2 * LOG2]),
        (BCE, 1, 0, {}, [INF, INF, -INF]),
        (BCE, 1.5, 0, {}, [NAN] * 3),
        (BCE, 0.0, 1, {"eps": 0.25}, [2 * LOG2, 0, mp.log(3)]),
        (SIGMOID_FOCAL, 0.0, 1, {"alpha": 0.25}, [LOG2 / 16, -(LOG2 + 0.5) / 16, -LOG2 / 8]),
    ],
)
def test_binary_by_hand(kind, x, t, options, want):
    assert close(flat(binary_row(kind, x, t, **options)), [mp.mpf(v) for v in want])


@pytest.mark.parametrize("target", [[0.25, 0.5, 1.0], [-1.0, -0.125, -3.0]])
def test_kl_values_and_gradients(target):
    lp, options = [-0.5, -1.5, -0.25], {"log_target": target[0] < 0, "sample_weight": 1.75}
    row, t = kl_row(lp, target, **options), [mp.exp(v) if v < 0 else mp.mpf(v) for v in target]
    want = 1.75 * sum(t[k] * (mp.log(t[k]) - lp[k]) for k in range(3))
    assert close([row.loss, row.weight], [want, mp.mpf(1.75)])
    assert close(row.grad, gradient(lambda v: kl_row(v, target, **options).loss, lp))
    assert close(row.grad_targets, gradient(lambda v: kl_row(lp, v, **options).loss, target))


def test_kl_limits():
    for target in ([1, 0], [0.0, -INF]):
        got = kl_row([-LOG2, -INF], target, log_target=target[0] == 0)
        assert close(flat(got), [LOG2, -1, 0, LOG2 + 1, 0])
    assert close([kl_row([0, -INF], [s, 0.5]).loss for s in (0.5, -1)], [mp.inf, mp.nan])
    assert close(flat(kl_row([NAN, -1], [1, 1])), [mp.nan, -1, -1, mp.nan, 2])
    assert flat(kl_row([NAN], [0.0], sample_weight=0)) == [0, 0, 0]


@pytest.mark.parametrize("x", [LOGITS, [82.0, 0.0, 1.0], [-700.0, 3.0]])
def test_entropy_and_its_parts(x):
    with mp.workdps(400):
        lse = mp.log(sum(mp.exp(v) for v in x))
        log_p = [v - lse for v in x]
        want = -sum(mp.exp(v) * v for v in log_p)
    by_x = gradient(lambda v: oracle.entropy_row(v).loss, x)
    assert close(flat(oracle.entropy_row(x)), [want, *by_x])
    assert close([oracle.logsumexp_row(x), *oracle.log_softmax_row(x)], [lse, *log_p])
    assert close(oracle.softmax_row_probs(x), [mp.exp(v) for v in log_p])


def test_limits_of_entropy_and_its_parts():
    assert close(flat(oracle.entropy_row([7.0] * 5)), [mp.log(5)] + [0] * 5)
    assert close(flat(oracle.entropy_row([INF, -INF, 0.0, INF])), [LOG2, 0, 0, 0, 0])
    assert oracle.log_softmax_row([INF, 0.0, -INF]) == [0, -mp.inf, -mp.inf]
    assert oracle.softmax_row_probs([INF, INF, 0.0]) == [0.5, 0.5, 0]
    lse = [oracle.logsumexp_row(x) for x in ([-INF, -INF], [INF, 0.0], [NAN, INF])]
    assert close(lse, [-mp.inf, mp.inf, mp.nan])
    for x in ([-INF, -INF], [NAN, INF]):
        parts = oracle.softmax_row_probs(x) + oracle.log_softmax_row(x)
        assert close(flat(oracle.entropy_row(x)) + parts, [mp.nan] * 7)


@pytest.mark.parametrize("options", [{}, {"normalizer": 7}, {"reduction": "sum"}])
def test_reduce(options):
    b = softmax_row(CE, LOGITS, 1)

    def batch(x=LOGITS, t=SOFT):
        return reduce([softmax_row(CE, x, t, **WEIGHTED), None, b], **options)

    a, got = softmax_row(CE, LOGITS, SOFT, **WEIGHTED), batch()
    divisor = 1 if "reduction" in options else options.get("normalizer", a.weight + b.weight)
    assert close(got.value, (a.loss + b.loss) / divisor)
    assert close(got.grads[0], gradient(lambda x: batch(x=x).value, LOGITS))
    assert close(got.grads_targets[0], gradient(lambda t: batch(t=t).value, SOFT))
    assert got.grads[1] is got.grads_targets[1] is got.grads_targets[2] is None
    two = reduce([binary_row(BCE, 0.25, 1)] * 2, **options)
    want = [v / mp.mpf(divisor if options else 2) for v in (-4, mp.log(3))]
    assert close([two.grads[0], two.grads_targets[1]], want)


def test_reduce_without_a_contributing_row_or_with_a_nan():
    weightless = softmax_row(CE, LOGITS, SOFT, weight=[0, 0, 1, 0], label_smoothing=0.5)
    got = reduce([None, weightless])
    assert (got.value, got.grads, got.grads_targets) == (0, [None, [0] * 4], [None, [0] * 4])
    assert reduce([]).value == reduce([None]).value == reduce([None], normalizer=2).value == 0
    # A part of a batch whose other rows weigh something.
    assert reduce([weightless], normalizer=2).value == weightless.loss / 2 > 0
    assert reduce([weightless], normalizer=0).value == 0
    bad, good = softmax_row(CE, LOGITS, 4), softmax_row(CE, LOGITS, 1)
    assert mp.isnan(reduce([bad, good]).value)
    assert close(reduce([bad, good]).grads[1], [v / 2 for v in good.grad])


def test_it_leaves_mpmath_s_precision_alone():
    assert oracle.mp.dps == 80
    assert mpmath.mp.dps == 15
