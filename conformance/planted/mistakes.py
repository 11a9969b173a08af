"""Every planted mistake."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from xloss_conformance.top_k import TOP_K

from . import Planted, numpy_right, torch_right
from . import binary_wrong as b
from . import calls_wrong as ca
from . import classes_wrong as c
from . import labels_wrong as la
from . import linear_wrong as li
from . import numpy_wrong as n
from . import others as o
from . import softmax_wrong as so
from . import torch_wrong as t
from . import weights_wrong as w
from .extremes_wrong import EXTREMES
from .top_k_wrong import TOP_K_MISTAKES, top_k

Make = Callable[[], Callable[..., Any]]

NUMPY = [
    Planted("no maximum taken off", n.NoShift, "offsets", "value"),
    Planted("log_softmax, then gather", n.LogSoftmaxThenGather, "tail", "value"),
    Planted("log of the whole sum", n.LogOfTheWholeSum, "tail", "value"),
    Planted("lse - z", n.LseMinusLogit, "offsets", "value"),
    Planted("p - 1 for the true class", n.OwnProbabilityMinus1, "tail", "gradient"),
    Planted("a relative error of 2e-6", n.Noise, "tail", "value"),
    Planted("ties to the first", n.TiesToTheFirst, "ties", "gradient"),
    Planted("inf - inf", n.InfinityMinusItself, "infinities", "value"),
    Planted("online softmax from -inf", n.OnlineFromMinusInfinity, "masks", "value"),
    Planted("the batch's maximum", n.BatchMaximum, "split", "split"),
    Planted("-100 wraps", la.MinusHundredWraps, "labels", "value"),
    Planted("negative labels wrap", la.NegativeWraps, "labels", "value"),
    Planted("labels clipped", la.LabelsClipped, "labels", "value"),
    Planted("ignored as int8", la.IgnoredAsInt8, "labels", "value"),
    Planted("ignored in the labels' dtype", la.IgnoredInTheirDtype, "labels", "value"),
    Planted("labels in 16 bits", la.LabelsTo16Bits, "vocabulary", "value"),
    Planted("mean over the rows", w.MeanOverRows, "options", "value"),
    Planted("sample weights not in the mean", w.SampleWeightsNotInTheMean, "options", "value"),
    Planted("normalizer ignored", w.NormalizerIgnored, "options", "value"),
    Planted("Megatron's smoothing", w.SmoothingOfMegatron, "options", "value"),
    Planted("smoothing by the label's weight", w.SmoothingByLabelWeight, "options", "value"),
    Planted("smoothing over masked classes", w.SmoothingOverMasked, "masks", "value"),
    Planted("soft targets under weights off by 0.1%", w.SoftWeightsOff, "options", "value"),
    Planted("where ignored", w.WhereIgnored, "options", "value"),
    Planted("mask by multiplication", w.MaskByMultiplication, "absent", "nothing"),
    Planted("0/0", w.MeanOfNothing, "all absent", "value"),
    Planted("maximum of no labels", w.MaximumOfLabels, "empty", "runs"),
    Planted("one class is binary", n.OneClassIsBinary, "one class", "value"),
    Planted("z-loss dropped", n.ZLossDropped, "z-loss", "value"),
    Planted("z-loss subtracted", n.ZLossSubtracted, "z-loss", "value"),
    Planted("softcap dropped", n.SoftcapDropped, "softcap", "value"),
    Planted("softcap unmasks", n.SoftcapUnmasks, "softcap", "value"),
    Planted("softcap's slope dropped", n.SoftcapSlopeDropped, "softcap", "gradient"),
    Planted("softcap's slope as 1 - tanh²", n.SoftcapSlopeCancels, "softcap", "gradient"),
    Planted("upstream ignored", n.UpstreamIgnored, "upstream", "gradient"),
    Planted("upstream of the first row", n.UpstreamOfTheFirstRow, "upstream", "gradient"),
    Planted("class axis not moved", n.ClassesNotMoved, "axis", "value"),
    Planted("memory order taken for C", n.FlatRows, "layouts", "value"),
    Planted("the other byte order", n.OtherByteOrder, "layouts", "value"),
    Planted("input overwritten", n.InputOverwritten, "layouts", "input"),
    Planted("running float32 sum", n.RunningSum, "sixteen bits", "value"),
    Planted("last block of rows dropped", n.LastBlockDropped, "sixteen bits", "value"),
    Planted("loss in float16", n.ReturnsFloat16, "sixteen bits", "dtype", dtype="float16"),
    Planted("rows in random order", n.RandomOrder, "sixteen bits", "repeat"),
    Planted("a state between calls", n.Stateful, "tail", "repeat"),
    Planted("bad options accepted", n.BadOptionAccepted, "errors", "raises"),
    Planted("a bad label left out as ignored", la.BadLabelIgnored, "labels", "value"),
    Planted("no gradient of a bad label", la.BadLabelWithoutGradient, "labels", "gradient"),
    Planted("ignored only if negative", la.IgnoredOnlyIfNegative, "labels", "runs"),
    Planted("classes in the labels' dtype", la.RangeInTheirDtype, "labels", "runs"),
    Planted("unsigned labels refused", la.UnsignedRefused, "labels", "runs"),
    Planted("labels of the first block", la.LabelsOfTheFirstBlock, "sixteen bits", "value"),
    Planted("class weights ignored", w.ClassWeightsIgnored, "options", "value"),
    Planted("sample weights ignored", w.SampleWeightsIgnored, "options", "value"),
    Planted("the uniform part not weighted", w.UniformPartNotWeighted, "options", "value"),
    Planted("soft targets not smoothed", w.SoftTargetsNotSmoothed, "options", "value"),
    Planted("the gradient not smoothed", w.GradientNotSmoothed, "options", "gradient"),
    Planted("mean over smoothed weights", w.MeanOverSmoothedWeights, "options", "value"),
    Planted("PyTorch's mean of soft targets", w.SoftMeanOverRows, "options", "value"),
    Planted("absent rows in the mean", w.AbsentRowsInTheMean, "absent", "value"),
    Planted("1e-6 in the mean's denominator", w.DenominatorPlusEpsilon, "options", "value"),
    Planted("normalizer not in the gradient", w.GradientWithoutNormalizer, "options", "gradient"),
    Planted("gradient over the rows", w.GradientOverRows, "options", "gradient"),
    Planted("sample weight 0 is present", w.SampleWeight0Present, "absent", "value"),
    Planted("gradient masked by multiplication", w.AbsentGradientMultiplied, "absent", "nothing"),
    Planted("0/0 in the gradient", w.GradientOfNothing, "all absent", "gradient"),
    Planted("z-loss not weighted", w.ZLossNotWeighted, "z-loss", "value"),
    Planted("z-loss without a gradient", w.ZLossWithoutGradient, "z-loss", "gradient"),
    Planted("probabilities clipped", so.ProbabilityClipped, "tail", "value"),
    Planted("0·inf of a masked class", so.ZeroTimesInfinity, "masks", "value"),
    Planted("-1e9 for -inf", so.MaskedByALargeNumber, "masks", "value"),
    Planted("no possible class costs 0", so.NothingPossibleIsNothing, "masks", "value"),
    Planted("the first +inf takes all", so.FirstInfinityTakesAll, "infinities", "value"),
    Planted("NaN taken for 0", ca.NaNTakenFor0, "infinities", "value"),
    Planted("tied logits counted once", so.TiedCountedOnce, "ties", "value"),
    Planted("sum in float16", so.SumInFloat16, "sixteen bits", "value", dtype="float16"),
    Planted("sum in the order of memory", so.SumInTheOrderOfMemory, "split", "split"),
    Planted("classes beyond 65536 not read", so.ClassesBeyond65536, "vocabulary", "value"),
    Planted("softcap clips", so.SoftcapClips, "softcap", "value"),
    Planted("float64 in float32", ca.Float64InFloat32, "tail", "value", dtype="float64"),
    Planted("gradient in float32", ca.GradientInFloat32, "sixteen bits", "dtype", dtype="float16"),
    Planted("the value times the upstream", ca.ValueTimesUpstream, "upstream", "value"),
    Planted("gradient's axis not moved back", ca.GradientNotMovedBack, "axis", "gradient"),
    Planted("read-only logits refused", ca.ReadOnlyRefused, "layouts", "runs"),
    Planted("a column of labels squeezed", ca.ColumnSqueezed, "errors", "raises"),
    Planted("bools taken for numbers", ca.BoolsAsNumbers, "errors", "raises"),
    Planted("one row of targets for all", ca.OneRowOfTargetsForAll, "errors", "raises"),
    Planted("rows without a label dropped", ca.RowsWithoutLabelDropped, "errors", "raises"),
    Planted("smoothing clipped into [0, 1]", ca.SmoothingClipped, "errors", "raises"),
    Planted("normalizer of a sum dropped", ca.NormalizerDroppedOfASum, "errors", "raises"),
    Planted("a short weight filled up", ca.WeightFilledUp, "errors", "raises"),
]
TORCH = [
    Planted("autograd: detached", t.Detached, "upstream", "gradient", "torch"),
    Planted("autograd: upstream ignored", t.UpstreamIgnored, "upstream", "gradient", "torch"),
    Planted(
        "autograd: upstream of the first row",
        t.UpstreamOfTheFirstRow,
        "upstream",
        "gradient",
        "torch",
    ),
    Planted(
        "autograd: the mean's denominator detached",
        t.DenominatorDetached,
        "soft gradient",
        "targets gradient",
        "torch",
    ),
    Planted("autograd: maximum of one tied", t.MaximumOfOneTied, "ties", "gradient", "torch"),
    Planted(
        "autograd: soft targets detached",
        t.TargetsDetached,
        "soft gradient",
        "targets gradient",
        "torch",
    ),
    Planted(
        "autograd: targets' gradient without weight",
        t.TargetsWithoutClassWeights,
        "soft gradient",
        "targets gradient",
        "torch",
    ),
    Planted(
        "autograd: NaN to a masked target",
        t.MaskedTargetNaN,
        "soft gradient",
        "targets gradient",
        "torch",
    ),
    Planted(
        "autograd: where after the logarithm",
        t.WhereAfterTheLogarithm,
        "absent",
        "nothing",
        "torch",
    ),
]
BINARY = "binary_cross_entropy_with_logits"
PROBABILITIES = "binary_cross_entropy"
LINEAR = "linear_cross_entropy"
OTHERS = [
    Planted(
        "log(sigmoid)", lambda: o.binary(b.log_of_sigmoid), "binary logits", "value", loss=BINARY
    ),
    Planted("p - t", lambda: o.binary(b.p_minus_t), "binary logits", "gradient", loss=BINARY),
    Planted(
        "logarithms clamped at -100",
        lambda: o.binary(b.clamped_at_100),
        "binary probabilities",
        "value",
        loss=PROBABILITIES,
    ),
    Planted(
        "focal: NaN at p = 1",
        lambda: o.classes(c.nan_at_one, gamma=2.0),
        "focal",
        "gradient",
        loss="focal_loss",
    ),
    Planted(
        "focal: 1 - p",
        lambda: o.classes(c.one_minus_p, gamma=2.0),
        "focal",
        "value",
        loss="focal_loss",
    ),
    Planted(
        "nll: every entry read", lambda: o.classes(c.every_entry), "nll", "value", loss="nll_loss"
    ),
    Planted(
        "log loss: clipped at 1e-7",
        lambda: o.classes(c.clipped_at_1e7),
        "log loss",
        "value",
        loss="log_loss",
    ),
    Planted(
        "sigmoid focal: 1 - p",
        lambda: o.binary(b.sigmoid_focal_of_p),
        "sigmoid focal",
        "value",
        loss="sigmoid_focal_loss",
    ),
    Planted(
        "entropy: 0·log 0", lambda: o.entropy(c.every_class), "entropy", "value", loss="entropy"
    ),
    Planted(
        "kl: t·log t at 0", lambda: o.divergences(c.zero_log_zero), "kl", "value", loss="kl_div"
    ),
    Planted(
        "linear: 0·NaN in the sum over rows",
        lambda: o.linear(select=False),
        "linear",
        "gradient",
        loss=LINEAR,
    ),
    Planted(
        "linear: products summed in bfloat16",
        lambda: o.linear(li.sixteen_bits),
        "linear",
        "value",
        loss=LINEAR,
    ),
]


def binary_logits(mistake: str, make: Make, rule: str = "value") -> Planted:
    return Planted(mistake, make, "binary logits", rule, loss=BINARY)


def binary_probs(mistake: str, make: Make, rule: str = "value") -> Planted:
    return Planted(mistake, make, "binary probabilities", rule, loss=PROBABILITIES)


def sigmoid_focal(mistake: str, make: Make, rule: str = "value") -> Planted:
    return Planted(
        f"sigmoid focal: {mistake}", make, "sigmoid focal", rule, loss="sigmoid_focal_loss"
    )


def of_classes(
    family: str, loss: str, mistake: str, terms: o.ByClass, rule: str = "value", gamma: float = 0.0
) -> Planted:
    make = partial(o.classes, terms, gamma=gamma)
    return Planted(f"{family}: {mistake}", make, family, rule, loss=loss)


def kl(mistake: str, make: Make, rule: str = "value") -> Planted:
    return Planted(f"kl: {mistake}", make, "kl", rule, loss="kl_div")


def entropy(mistake: str, terms: Callable[[Any], Any], rule: str = "value") -> Planted:
    return Planted(
        f"entropy: {mistake}", partial(o.entropy, terms), "entropy", rule, loss="entropy"
    )


def linear(mistake: str, change: Any, rule: str = "gradient", dtype: str = "float32") -> Planted:
    make = partial(li.changed, change)
    return Planted(f"linear: {mistake}", make, "linear", rule, loss=LINEAR, dtype=dtype)


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
    Planted(
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
MISTAKES = [*NUMPY, *TORCH, *OTHERS, *BY_LOSS, *TOP_K_MISTAKES, *EXTREMES]

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
}
