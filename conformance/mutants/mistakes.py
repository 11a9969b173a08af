"""Every mutant."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from xloss_conformance.top_k import TOP_K

from . import PLANTED, Mutant, numpy_right, torch_right
from . import binary_wrong as b
from . import classes_wrong as c
from . import extremes_wrong as e
from . import linear_wrong as li
from . import others as o
from .tokens_wrong import RIGHT as RIGHT_TOKENS
from .tokens_wrong import TOKENS
from .top_k_wrong import TOP_K_MISTAKES, top_k

# Cross-entropies, each of which says in its class what is to catch it.
for name in ("numpy", "labels", "weights", "softmax", "calls", "extremes", "torch"):
    import_module(f".{name}_wrong", __package__)

Make = Callable[[], Callable[..., Any]]

BINARY = "binary_cross_entropy_with_logits"
PROBABILITIES = "binary_cross_entropy"
LINEAR = "linear_cross_entropy"


def binary_logits(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(mistake, make, "binary logits", rule, loss=BINARY)


def binary_probs(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(mistake, make, "binary probabilities", rule, loss=PROBABILITIES)


def sigmoid_focal(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(
        f"sigmoid focal: {mistake}", make, "sigmoid focal", rule, loss="sigmoid_focal_loss"
    )


def of_classes(family: str, mistake: str, terms: o.ByClass, rule: str = "value") -> Mutant:
    loss = {"nll": "nll_loss", "log loss": "log_loss"}[family]
    return Mutant(f"{family}: {mistake}", partial(o.classes, terms), family, rule, loss=loss)


def focal(mistake: str, terms: o.ByClass, rule: str = "value") -> Mutant:
    make = partial(o.classes, terms, gamma=2.0)
    return Mutant(f"focal: {mistake}", make, "focal", rule, loss="focal_loss")


def kl(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(f"kl: {mistake}", make, "kl", rule, loss="kl_div")


def entropy(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(f"entropy: {mistake}", make, "entropy", rule, loss="entropy")


def linear(mistake: str, make: Make, rule: str = "gradient", dtype: str = "float32") -> Mutant:
    return Mutant(f"linear: {mistake}", make, "linear", rule, loss=LINEAR, dtype=dtype)


BY_LOSS = [
    binary_logits("log(sigmoid)", lambda: o.binary(b.log_of_sigmoid)),
    binary_logits("p - t", lambda: o.binary(b.p_minus_t), "gradient"),
    binary_probs("logarithms clamped at -100", lambda: o.binary(b.clamped_at_100)),
    focal("NaN at p = 1", c.nan_at_one, "gradient"),
    focal("1 - p", c.one_minus_p),
    of_classes("nll", "every entry read", c.every_entry),
    of_classes("log loss", "clipped at 1e-7", c.clipped_at_1e7),
    sigmoid_focal("1 - p", lambda: o.binary(b.sigmoid_focal_of_p)),
    entropy("0·log 0", lambda: o.entropy(c.every_class)),
    kl("t·log t at 0", lambda: o.divergences(c.zero_log_zero)),
    linear("0·NaN in the sum over rows", lambda: o.linear(select=False)),
    linear("products summed in bfloat16", lambda: o.linear(li.sixteen_bits), "value"),
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
    focal("the factor detached", c.focal_factor_detached, "gradient"),
    focal("the weight inside p", c.weight_inside_p),
    focal("weighted twice", c.weighted_twice),
    of_classes("nll", "normalised again", c.normalised_again),
    of_classes("nll", "p - t", c.slope_to_logits(o.label_alone, log=True), "gradient"),
    Mutant(
        "nll: mean over the rows",
        partial(c.mean_over_rows, o.label_alone),
        "nll",
        "value",
        loss="nll_loss",
    ),
    of_classes("log loss", "rows divided by their sum", c.divided_by_sum),
    of_classes("log loss", "log(p + 1e-7)", c.log_plus_epsilon),
    of_classes("log loss", "p - t", c.slope_to_logits(o.logarithm, log=False), "gradient"),
    sigmoid_focal("γ times the loss overflows", lambda: o.binary(e.loss_times_gamma), "gradient"),
    of_classes("log loss", "t·(1/p)", e.reciprocal_first, "gradient"),
    of_classes(
        "log loss", "a slope where there is no logarithm", e.slope_of_no_logarithm, "gradient"
    ),
    kl("mean over the elements", c.mean_over_elements),
    kl("the targets' entropy left out", lambda: o.divergences(c.without_entropy)),
    kl("of the targets from the predictions", lambda: o.divergences(c.reversed_divergence)),
    kl("0·(-inf) of a masked class", lambda: o.divergences(c.masked_read)),
    kl("log_target: 0·(-inf)", lambda: o.divergences(logs=c.zero_times_minus_infinity)),
    kl("log_target: logged again", lambda: o.divergences(logs=c.logged_again)),
    entropy("lse - Σ p·x", lambda: o.entropy(c.lse_minus_mean)),
    entropy("log(p + 1e-9)", lambda: o.entropy(c.log_of_p_plus_epsilon)),
    entropy("in bits", lambda: o.entropy(c.in_bits)),
    entropy("the gradient p·nll", lambda: o.entropy(c.slope_without_entropy), "gradient"),
    linear("the bias not added", lambda: li.changed(li.without_bias), "value"),
    linear("the last block's gradient", lambda: li.changed(li.last_block)),
    linear(
        "the mean's denominator not in the gradient", lambda: li.changed(li.without_denominator)
    ),
    linear("upstream to the features alone", lambda: li.changed(li.upstream_of_features_alone)),
    linear(
        "the weight's gradient summed in 16 bits",
        lambda: li.changed(li.sixteen_bit_sum),
        dtype="float16",
    ),
]
MISTAKES = [*PLANTED, *BY_LOSS, *TOP_K_MISTAKES, *TOKENS]

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
