# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type"
"""What the tests of the oracle share: inputs, comparison to 30 digits, numerical derivatives."""

import math

from xloss_conformance.oracle import mp, softmax_row

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
    (CE, {"weight": WEIGHT, "z_loss": 0.25, "sample_weight": 3}),
    (CE, {"z_loss": 0.25, "softcap": 2.5, "label_smoothing": 0.1}),
    (NLL, {}),
    (NLL, WEIGHTED),
    (LOG, {}),
    (LOG, {"eps": 0.15, **WEIGHTED}),
    (FOCAL, {}),
    (FOCAL, {"gamma": 0.5, "softcap": 2.5, **WEIGHTED}),
    (FOCAL, {"gamma": 0}),
]
BINARY = [
    (BCE_LOGITS, {}),
    (BCE_LOGITS, {"pos_weight": 3, "sample_weight": 2, "label_smoothing": 0.1}),
    (BCE, {}),
    (BCE, {"sample_weight": 1.75, "label_smoothing": 0.1, "eps": 0.05}),
    (SIGMOID_FOCAL, {}),
    (SIGMOID_FOCAL, {"gamma": 0, "alpha": 0.25}),
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


def hessian_vector(kind, x, target, v, **options):
    """d grad(x + h v)/dh at h = 0 of ``softmax_row``: a central difference, its error about h²."""
    h = mp.ldexp(1, -mp.prec)
    with mp.workprec(3 * mp.prec):
        up = softmax_row(kind, [a + h * b for a, b in zip(x, v, strict=True)], target, **options)
        down = softmax_row(kind, [a - h * b for a, b in zip(x, v, strict=True)], target, **options)
        return [(a - b) / (2 * h) for a, b in zip(up.grad, down.grad, strict=True)]
