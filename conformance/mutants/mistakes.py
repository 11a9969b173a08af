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


def nll(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(f"nll: {mistake}", make, "nll", rule, loss="nll_loss")


def log_loss(mistake: str, terms: o.ByClass, rule: str = "value") -> Mutant:
    make = partial(o.ByClasses, terms)
    return Mutant(f"log loss: {mistake}", make, "log loss", rule, loss="log_loss")


def focal(mistake: str, terms: o.ByClass, rule: str = "value") -> Mutant:
    make = partial(o.ByClasses, terms, gamma=2.0)
    return Mutant(f"focal: {mistake}", make, "focal", rule, loss="focal_loss")


def kl(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(f"kl: {mistake}", make, "kl", rule, loss="kl_div")


def entropy(mistake: str, make: Make, rule: str = "value") -> Mutant:
    return Mutant(f"entropy: {mistake}", make, "entropy", rule, loss="entropy")


def linear(mistake: str, make: Make, rule: str = "gradient", dtype: str = "float32") -> Mutant:
    return Mutant(f"linear: {mistake}", make, "linear", rule, loss=LINEAR, dtype=dtype)


RIGHT_LOGITS = partial(o.binary, o.from_logits)
RIGHT_PROBS = partial(o.binary, o.from_probabilities)
RIGHT_FOCAL = partial(o.binary, o.sigmoid_focal)
BY_LOSS = [
    binary_logits("log(sigmoid)", lambda: o.binary(b.log_of_sigmoid)),
    binary_logits("p - t", lambda: o.binary(b.p_minus_t), "gradient"),
    binary_probs("logarithms clamped at -100", lambda: o.binary(b.clamped_at_100)),
    focal("NaN at p = 1", c.nan_at_one, "gradient"),
    focal("1 - p", c.one_minus_p),
    nll("every entry read", lambda: o.ByClasses(c.every_entry)),
    log_loss("clipped at 1e-7", c.clipped_at_1e7),
    sigmoid_focal("1 - p", lambda: o.binary(b.sigmoid_focal_of_p)),
    entropy("0·log 0", lambda: o.entropy(c.every_class)),
    kl("t·log t at 0", lambda: o.divergences(c.zero_log_zero)),
    linear("0·NaN in the sum over rows", lambda: o.linear(select=False)),
    linear("products summed in bfloat16", lambda: o.linear(li.sixteen_bits), "value"),
    binary_logits("max(x, 0) - x·t of infinities", lambda: o.binary(b.linear_form)),
    binary_logits("log(p + 1e-7)", lambda: o.binary(b.log_of_p_plus_epsilon)),
    binary_logits("logits clipped at 50", lambda: o.binary(b.logits_clipped)),
    # Those that are left out and those of weight 2 alike.
    binary_logits("mean over the elements", lambda: o.mean_over(RIGHT_LOGITS(), c.elements)),
    binary_logits("pos_weight on both terms", lambda: RIGHT_LOGITS(b.both_terms)),
    binary_logits(
        "pos_weight not in the gradient", lambda: RIGHT_LOGITS(b.no_gradient), "gradient"
    ),
    binary_probs("clipped at 1e-7", lambda: o.binary(b.clipped_at_1e7)),
    binary_probs("0·log 0", lambda: o.binary(b.zero_log_zero)),
    binary_probs("p (1 - p) of 1e-12 at least", lambda: o.binary(b.slope_clamped), "gradient"),
    binary_probs("1 - eps rounded", lambda: RIGHT_PROBS(clip=b.end_rounded)),
    binary_probs(
        "a gradient where clipped", lambda: RIGHT_PROBS(clip=b.slope_where_clipped), "gradient"
    ),
    sigmoid_focal("the factor detached", lambda: o.binary(b.focal_factor_detached), "gradient"),
    sigmoid_focal("1 - exp(-ce)", lambda: o.binary(b.focal_of_exp)),
    sigmoid_focal("alpha of the negatives", lambda: RIGHT_FOCAL(by_alpha=b.of_negatives)),
    sigmoid_focal("alpha of the positives alone", lambda: RIGHT_FOCAL(by_alpha=b.positives_alone)),
    focal("the factor detached", c.focal_factor_detached, "gradient"),
    focal("the weight inside p", c.weight_inside_p),
    focal("weighted twice", c.weighted_twice),
    nll("normalised again", lambda: o.ByClasses(c.normalised_again)),
    nll("p - t", lambda: o.ByClasses(c.slope_to_logits(o.label_alone, log=True)), "gradient"),
    # Whatever they weigh.
    nll("mean over the rows", lambda: o.mean_over(o.ByClasses(o.label_alone), c.rows_present)),
    log_loss("rows divided by their sum", c.divided_by_sum),
    log_loss("log(p + 1e-7)", c.log_plus_epsilon),
    log_loss("p - t", c.slope_to_logits(o.logarithm, log=False), "gradient"),
    sigmoid_focal("γ times the loss overflows", lambda: o.binary(e.loss_times_gamma), "gradient"),
    log_loss("t·(1/p)", e.reciprocal_first, "gradient"),
    log_loss("a slope where there is no logarithm", e.slope_of_no_logarithm, "gradient"),
    # PyTorch's "mean": over the classes too.
    kl("mean over the elements", lambda: o.mean_over(o.divergences(), c.elements)),
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
    ("numpy", BINARY): RIGHT_LOGITS,
    ("numpy", PROBABILITIES): RIGHT_PROBS,
    ("numpy", "sigmoid_focal_loss"): RIGHT_FOCAL,
    ("numpy", "focal_loss"): lambda: o.ByClasses(o.focal, gamma=2.0),
    ("numpy", "nll_loss"): lambda: o.ByClasses(o.label_alone),
    ("numpy", "log_loss"): lambda: o.ByClasses(o.logarithm),
    ("numpy", "kl_div"): o.divergences,
    ("numpy", LINEAR): o.linear,
    ("numpy", TOP_K): top_k,
    ("numpy", "entropy"): lambda: o.entropy(o.by_possible),
    **RIGHT_TOKENS,
}
