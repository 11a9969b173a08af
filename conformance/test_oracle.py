# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, index, operator"
"""The oracle against textbook formulas, numerical differentiation, values by hand, and limits."""

import pytest

from oracle_numbers import (
    BCE,
    BCE_LOGITS,
    BINARY,
    CE,
    FOCAL,
    INF,
    LOG,
    LOG2,
    LOGITS,
    NAN,
    NLL,
    OPTIONS,
    ROW,
    SIGMOID_FOCAL,
    SOFT,
    close,
    flat,
    gradient,
    hessian_vector,
    one_hot,
)
from xloss_conformance import oracle
from xloss_conformance.oracle import binary_row, kl_row, mp, softmax_row


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
class TestSoftmaxRow:
    @pytest.mark.parametrize("second", [-0.25, 82.0, 250.0, -700.0])
    def test_values_and_gradients(self, kind, options, target, second):
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

    def test_an_index_is_one_hot_and_a_masked_class_is_absent(self, kind, options, target):
        x = [*ROW[kind][:2], 0.0 if kind == LOG else -INF, ROW[kind][3]]
        got = softmax_row(kind, x, one_hot(target), **options)
        if isinstance(target, int):
            assert flat(softmax_row(kind, x, target, **options)) == flat(got)[:5]
        if "eps" not in options:  # clipping makes every class possible
            fewer = {k: [v[0], v[1], v[3]] if k == "weight" else v for k, v in options.items()}
            t = one_hot(target)
            want = softmax_row(kind, x[:2] + x[3:], t[:2] + t[3:], **fewer)
            assert flat(want) == [v for k, v in enumerate(flat(got)) if k not in (3, 7)]
            assert (got.weight, got.grad[2]) == (want.weight, 0)
            assert mp.isfinite(got.grad_targets[2])

    @pytest.mark.parametrize("sample_weight", [0, 1])
    def test_nan_is_nan_unless_the_row_weighs_nothing(self, kind, options, target, sample_weight):
        options = {**options, "sample_weight": sample_weight}
        want = mp.nan if sample_weight else mp.mpf(0)
        calls = [(NAN, target), (0.25, [NAN, 0.5, 0, 0]), (0.25, 4)]
        # Log-probabilities and probabilities are read one by one: by hand, below.
        for first, t in calls if kind in (CE, FOCAL) or not sample_weight else calls[2:]:
            row = softmax_row(kind, [first, *ROW[kind][1:]], t, **options)
            assert close(flat(row), [want] * (9 if isinstance(t, list) else 5))
        assert row.weight == sample_weight  # of the bad label

    def test_hessian_is_symmetric_and_has_the_closed_form(self, kind, options, target):
        x, u, v = ROW[kind], [1.0, 0.5, -0.25, 2.0], [0.5, -1.0, 2.0, 0.25]
        hu, hv = (hessian_vector(kind, x, target, a, **options) for a in (u, v))
        assert close(mp.fdot(u, hv), mp.fdot(v, hu))
        if kind == CE and not options.keys() & {"softcap", "label_smoothing"}:
            lam, p = options.get("z_loss", 0), oracle.softmax_row_probs(x)
            total, pv = softmax_row(kind, x, target, **options).weight, mp.fdot(p, v)
            scale = total * (1 + 2 * lam * oracle.logsumexp_row(x))
            want = [p[k] * (scale * (v[k] - pv) + 2 * lam * total * pv) for k in range(4)]
            assert close(hv, want)


@pytest.mark.parametrize(
    ("kind", "x", "target", "options", "want"),
    [
        (CE, [0.0, 0.0], 0, {}, [LOG2, -0.5, 0.5]),
        (CE, [5.0], 0, {}, [0, 0]),
        (CE, [INF, 0.0], [1, 0], {}, [0] * 5),
        (CE, [INF, 0.0], 1, {}, [INF, 1, -1]),
        (CE, [INF, INF, 0.0], 0, {}, [LOG2, -0.5, 0.5, 0]),
        (CE, [0.0, -INF], [0.5, 0.5], {}, [INF, 0.5, -0.5, 0, INF]),
        (CE, [0, -INF], [0.5, 0.5], {"label_smoothing": 0.5}, [INF, 0.25, -0.25, 0, INF]),
        (CE, [INF, 0], [0.5, 0.5], {}, [INF, 0.5, -0.5, 0, INF]),
        (CE, [0, -INF], [1, 1], {"weight": [1, 0]}, [0] * 5),
        (CE, [0, -INF], [1, 0], {"label_smoothing": 0.5}, [0] * 5),
        (CE, [0.0, 0.0, -INF], 0, {"label_smoothing": 0.5}, [LOG2, -0.25, 0.25, 0]),
        (CE, [INF, 0.0], [1, 0], {"z_loss": 1, "weight": [0, 1]}, [0] * 5),
        (CE, [INF, -INF], 0, {"softcap": 2}, [0, 0, 0]),
        (CE, [INF, -INF, INF], 0, {"softcap": 2}, [LOG2, 0, 0, 0]),
        (CE, [-INF, -INF], 0, {}, [NAN] * 3),
        (FOCAL, [-INF, -INF], [0, 0], {}, [NAN] * 5),
        (FOCAL, [0.0, 0.0], 0, {}, [LOG2 / 4, -LOG2 / 4 - 0.125, LOG2 / 4 + 0.125]),
        (FOCAL, [0.0, -INF], 0, {"gamma": 0.5}, [0] * 3),
        (FOCAL, [0, -INF], 1, {}, [INF, 1, -1]),
        (NLL, [-1.0, -2.0], [1, 2], {}, [5, -1, -2, 1, 2]),
        (NLL, [-1, -INF], 1, {}, [INF, 0, -1]),
        (NLL, [-INF, -INF], 0, {"label_smoothing": 0.5}, [NAN] * 3),
        (LOG, [0.25, 0.75], 0, {}, [2 * LOG2, -4, 0]),
        (LOG, [0, 1], [0, 1], {}, [0, 0, -1, 0, 0]),
        (LOG, [0, 1], [1, 0], {}, [INF, -INF, 0, INF, 0]),
        (LOG, [-0.5, 1], 0, {}, [NAN, NAN, 0]),
        (LOG, [0, 1], 0, {"eps": 0.25}, [2 * LOG2, 0, 0]),
        (LOG, [0, 1], 1, {"eps": 0.5}, [LOG2, 0, 0]),
        (NLL, [NAN, -2], 1, {}, [2, 0, -1]),
        (NLL, [NAN, -2], 0, {}, [NAN, -1, 0]),
        (LOG, [NAN, 0.25], 1, {}, [2 * LOG2, 0, -4]),
        (LOG, [NAN, 0.25], 0, {}, [NAN, NAN, 0]),
        (NLL, [NAN, -2], [0, 1], {}, [2, 0, -1, NAN, 2]),
        (NLL, [-1, -2], [NAN, 1], {}, [NAN, NAN, -1, 1, 2]),
        (NLL, [NAN, -2], [1, 1], {"weight": [0, 1]}, [2, 0, -1, 0, 2]),
        (NLL, [NAN, -2], 0, {"weight": [0, 1]}, [0] * 3),
        (LOG, [NAN, 0.75], 0, {"eps": 0.25}, [NAN, NAN, 0]),
        (LOG, [NAN, 1], 0, {"weight": [0, 1]}, [0] * 3),
        (NLL, [NAN, -2], 1, {"label_smoothing": 0.5}, [NAN, -0.25, -0.75]),
        (LOG, [-1, 0.5], 1, {"label_smoothing": 0.5}, [NAN, NAN, -1.5]),
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
        (BCE_LOGITS, -INF, 0, {}, [0, 0, 0]),
        (BCE_LOGITS, INF, 0, {}, [INF, 1, -INF]),
        (BCE, 0.0, 0, {}, [0, 1, 0]),
        (BCE, 1, 0, {}, [INF, INF, -INF]),
        (BCE, 1.5, 0, {}, [NAN] * 3),
        (BCE, 0.0, 1, {"eps": 0.25}, [2 * LOG2, 0, mp.log(3)]),
        (SIGMOID_FOCAL, 0.0, 1, {"alpha": 0.25}, [LOG2 / 16, -(LOG2 + 0.5) / 16, -LOG2 / 8]),
        (SIGMOID_FOCAL, INF, 1, {"gamma": 0.5}, [0, 0, 0]),
        (SIGMOID_FOCAL, INF, 0, {"alpha": 1}, [0, 0, 0]),
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
    assert close(flat(kl_row([NAN, -1], [0, 1])), [1, 0, -1, 0, 2])
    assert close(flat(kl_row([NAN, -1], [1, 1])), [mp.nan, -1, -1, mp.nan, 2])
    assert close(flat(kl_row([-1], [NAN])), [mp.nan] * 3)
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
