"""Every mutant."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from xloss_conformance.top_k import TOP_K

from . import Mutant, numpy_right, torch_right
from . import binary_wrong as b
from . import classes_wrong as c
from . import linear_wrong as li
from . import others as o
from .cross_entropy import NUMPY, TORCH
from .extremes_wrong import EXTREMES
from .tokens_wrong import RIGHT as RIGHT_TOKENS
from .tokens_wrong import TOKENS
from .top_k_wrong import TOP_K_MISTAKES, top_k

Make = Callable[[], Callable[..., Any]]

BINARY = "binary_cross_entropy_with_logits"
PROBABILITIES = "binary_cross_entropy"
LINEAR = "linear_cross_entropy"
OTHERS = [
    Mutant(
        "log(sigmoid)", lambda: o.binary(b.log_of_sigmoid), "binary logits", "value", loss=BINARY
    ),
    Mutant("p - t", lambda: o.binary(b.p_minus_t), "binary logits", "gradient", loss=BINARY),
    Mutant(
        "logarithms clamped at -100",
        lambda: o.binary(b.clamped_at_100),
        "binary probabilities",
        "value",
        loss=PROBABILITIES,
    ),
    Mutant(
        "focal: NaN at p = 1",
        lambda: o.classes(c.nan_at_one, gamma=2.0),
        "focal",
        "gradient",
        loss="focal_loss",
    ),
    Mutant(
        "focal: 1 - p",
        lambda: o.classes(c.one_minus_p, gamma=2.0),
        "focal",
        "value",
        loss="focal_loss",
    ),
    Mutant(
        "nll: every entry read", lambda: o.classes(c.every_entry), "nll", "value", loss="nll_loss"
    ),
    Mutant(
        "log loss: clipped at 1e-7",
        lambda: o.classes(c.clipped_at_1e7),
        "log loss",
        "value",
        loss="log_loss",
    ),
    Mutant(
        "sigmoid focal: 1 - p",
        lambda: o.binary(b.sigmoid_focal_of_p),
        "sigmoid focal",
        "value",
        loss="sigmoid_focal_loss",
    ),
    Mutant(
        "entropy: 0·log 0", lambda: o.entropy(c.every_class), "entropy", "value", loss="entropy"
    ),
    Mutant(
        "kl: t·log t at 0", lambda: o.divergences(c.zero_log_zero), "kl", "value", loss="kl_div"
    ),
    Mutant(
        "linear: 0·NaN in the sum over rows",
        lambda: o.linear(select=False),
        "linear",
        "gradient",
        loss=LINEAR,
    ),
    Mutant(
        "linear: products summed in bfloat16",
        lambda: o.linear(li.sixteen_bits),
        "linear",
        "value",
        loss=LINEAR,
    ),
]


def binary_logits(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(mistake, make, "binary logits", rule, loss=BINARY)


def binary_probs(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(mistake, make, "binary probabilities", rule, loss=PROBABILITIES)


def sigmoid_focal(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(
        f"sigmoid focal: {mistake}", make, "sigmoid focal", rule, loss="sigmoid_focal_loss"
    )


def of_classes(
    family: str, loss: str, mistake: str, terms: o.ByClass, rule: str = "value", gamma: float = 0.0
) -> Mutant:
    make = partial(o.classes, terms, gamma=gamma)
    return Mutant(f"{family}: {mistake}", make, family, rule, loss=loss)


def kl(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(f"kl: {mistake}", make, "kl", rule, loss="kl_div")


def entropy(mistake: str, terms: Callable[[Any], Any], rule: str = "value") -> Mutant:
    return Mutant(f"entropy: {mistake}", partial(o.entropy, terms), "entropy", rule, loss="entropy")


def linear(mistake: str, change: Any, rule: str = "gradient", dtype: str = "float32") -> Mutant:
    make = partial(li.changed, change)
    return Mutant(f"linear: {mistake}", make, "linear", rule, loss=LINEAR, dtype=dtype)


BY_LOSS = [
    binary_logits("max(x, 0) - x·t of infinities", lambda: o.binary(b.linear_form)),
    binary_logits("log(p + 1e-7)", lambda: o.binary(b.log_of_p_plus_epsilon)),
    binary_logits("logits clipped at 50", lambda: o.binary(b.logits_clipped)),
    binary_logits("mean over the elements", b.mean_over_elements),
    binary_logits("pos_weight on both terms", lambda: b.pos_weight(b.both_terms)),
    binary_logits(
        "pos_weight not in the gradient", lambda: b.pos_weight(b.no_gradient), "gradient"
    ),
    binary_probs("clipped at 1e-7", lambda: o.binary(b.clipped_at_1e7)),
    binary_probs("0·log 0", lambda: o.binary(b.zero_log_zero)),
    binary_probs("p (1 - p) of 1e-12 at least", lambda: o.binary(b.slope_clamped), "gradient"),
    binary_probs("1 - eps rounded", lambda: b.clips(b.end_rounded)),
    binary_probs("a gradient where clipped", lambda: b.clips(b.slope_where_clipped), "gradient"),
    sigmoid_focal("the factor detached", lambda: o.binary(b.focal_factor_detached), "gradient"),
    sigmoid_focal("1 - exp(-ce)", lambda: o.binary(b.focal_of_exp)),
    sigmoid_focal("alpha of the negatives", lambda: b.alpha(b.of_negatives)),
    sigmoid_focal("alpha of the positives alone", lambda: b.alpha(b.of_positives_alone)),
    of_classes(
        "focal", "focal_loss", "the factor detached", c.focal_factor_detached, "gradient", 2.0
    ),
    of_classes("focal", "focal_loss", "the weight inside p", c.weight_inside_p, gamma=2.0),
    of_classes("focal", "focal_loss", "weighted twice", c.weighted_twice, gamma=2.0),
    of_classes("nll", "nll_loss", "normalised again", c.normalised_again),
    of_classes("nll", "nll_loss", "p - t", c.slope_to_logits(o.label_alone, log=True), "gradient"),
    Mutant(
        "nll: mean over the rows",
        lambda: c.mean_over_rows(o.label_alone),
        "nll",
        "value",
        loss="nll_loss",
    ),
    of_classes("log loss", "log_loss", "rows divided by their sum", c.divided_by_sum),
    of_classes("log loss", "log_loss", "log(p + 1e-7)", c.log_plus_epsilon),
    of_classes(
        "log loss", "log_loss", "p - t", c.slope_to_logits(o.logarithm, log=False), "gradient"
    ),
    kl("mean over the elements", c.mean_over_elements),
    kl("the targets' entropy left out", lambda: o.divergences(c.without_entropy)),
    kl("of the targets from the predictions", lambda: o.divergences(c.reversed_divergence)),
    kl("0·(-inf) of a masked class", lambda: o.divergences(c.masked_read)),
    kl("log_target: 0·(-inf)", lambda: o.divergences(logs=c.zero_times_minus_infinity)),
    kl("log_target: logged again", lambda: o.divergences(logs=c.logged_again)),
    entropy("lse - Σ p·x", c.lse_minus_mean),
    entropy("log(p + 1e-9)", c.log_of_p_plus_epsilon),
    entropy("in bits", c.in_bits),
    entropy("the gradient p·nll", c.slope_without_entropy, "gradient"),
    linear("the bias not added", li.without_bias, "value"),
    linear("the last block's gradient", li.last_block),
    linear("the mean's denominator not in the gradient", li.without_denominator),
    linear("upstream to the features alone", li.upstream_of_features_alone),
    linear("the weight's gradient summed in 16 bits", li.sixteen_bit_sum, dtype="float16"),
]
MISTAKES = [*NUMPY, *TORCH, *OTHERS, *BY_LOSS, *TOP_K_MISTAKES, *EXTREMES, *TOKENS]

# (library of the arrays, loss) -> what makes a right one.
RIGHT: dict[tuple[str, str], Callable[[], Callable[..., Any]]] = {
    ("numpy", "cross_entropy"): numpy_right.CrossEntropy,
    ("torch", "cross_entropy"): torch_right.CrossEntropy,
    ("numpy", BINARY): lambda: o.binary(o.from_logits),
    ("numpy", PROBABILITIES): lambda: o.binary(o.from_probabilities),
    ("numpy", "sigmoid_focal_loss"): lambda: o.binary(o.sigmoid_focal),
    ("numpy", "focal_loss"): lambda: o.classes(o.focal, gamma=2.0),
    ("numpy", "nll_loss"): lambda: o.classes(o.label_alone),
    ("numpy", "log_loss"): lambda: o.classes(o.logarithm),
    ("numpy", "kl_div"): o.divergences,
    ("numpy", LINEAR): o.linear,
    ("numpy", TOP_K): top_k,
    ("numpy", "entropy"): lambda: o.entropy(o.by_possible),
    **RIGHT_TOKENS,
}
