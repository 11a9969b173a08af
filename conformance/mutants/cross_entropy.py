"""Wrong cross-entropies, on NumPy arrays and on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import Mutant
from . import calls_wrong as ca
from . import extremes_wrong as e
from . import labels_wrong as la
from . import numpy_wrong as n
from . import softmax_wrong as so
from . import torch_wrong as t
from . import weights_wrong as w

NUMPY = [
    Mutant("no maximum taken off", n.NoShift, "offsets", "value"),
    Mutant("log_softmax, then gather", n.LogSoftmaxThenGather, "tail", "value"),
    Mutant("log of the whole sum", n.LogOfTheWholeSum, "tail", "value"),
    Mutant("lse - z", n.LseMinusLogit, "offsets", "value"),
    Mutant("p - 1 for the true class", n.OwnProbabilityMinus1, "tail", "gradient"),
    Mutant("a relative error of 2e-6", n.Noise, "tail", "value"),
    Mutant("ties to the first", n.TiesToTheFirst, "ties", "gradient"),
    Mutant("inf - inf", n.InfinityMinusItself, "infinities", "value"),
    Mutant("online softmax from -inf", n.OnlineFromMinusInfinity, "masks", "value"),
    Mutant("the batch's maximum", n.BatchMaximum, "split", "split"),
    Mutant("-100 wraps", la.MinusHundredWraps, "labels", "value"),
    Mutant("negative labels wrap", la.NegativeWraps, "labels", "value"),
    Mutant("labels clipped", la.LabelsClipped, "labels", "value"),
    Mutant("ignored as int8", la.IgnoredAsInt8, "labels", "value"),
    Mutant("ignored in the labels' dtype", la.IgnoredInTheirDtype, "labels", "value"),
    Mutant("labels in 16 bits", la.LabelsTo16Bits, "vocabulary", "value"),
    Mutant("mean over the rows", w.MeanOverRows, "options", "value"),
    Mutant("sample weights not in the mean", w.SampleWeightsNotInTheMean, "options", "value"),
    Mutant("normalizer ignored", w.NormalizerIgnored, "options", "value"),
    Mutant("Megatron's smoothing", w.SmoothingOfMegatron, "options", "value"),
    Mutant("smoothing by the label's weight", w.SmoothingByLabelWeight, "options", "value"),
    Mutant("smoothing over masked classes", w.SmoothingOverMasked, "masks", "value"),
    Mutant("soft targets under weights off by 0.1%", w.SoftWeightsOff, "options", "value"),
    Mutant("where ignored", w.WhereIgnored, "options", "value"),
    Mutant("mask by multiplication", w.MaskByMultiplication, "absent", "nothing"),
    Mutant("0/0", w.MeanOfNothing, "all absent", "value"),
    Mutant("maximum of no labels", w.MaximumOfLabels, "empty", "runs"),
    Mutant("one class is binary", n.OneClassIsBinary, "one class", "value"),
    Mutant("z-loss dropped", n.ZLossDropped, "z-loss", "value"),
    Mutant("z-loss subtracted", n.ZLossSubtracted, "z-loss", "value"),
    Mutant("softcap dropped", n.SoftcapDropped, "softcap", "value"),
    Mutant("softcap unmasks", n.SoftcapUnmasks, "softcap", "value"),
    Mutant("softcap's slope dropped", n.SoftcapSlopeDropped, "softcap", "gradient"),
    Mutant("softcap's slope as 1 - tanh²", n.SoftcapSlopeCancels, "softcap", "gradient"),
    Mutant("upstream ignored", n.UpstreamIgnored, "upstream", "gradient"),
    Mutant("upstream of the first row", n.UpstreamOfTheFirstRow, "upstream", "gradient"),
    Mutant("class axis not moved", n.ClassesNotMoved, "axis", "value"),
    Mutant("memory order taken for C", n.FlatRows, "layouts", "value"),
    Mutant("the other byte order", n.OtherByteOrder, "layouts", "value"),
    Mutant("input overwritten", n.InputOverwritten, "layouts", "input"),
    Mutant("running float32 sum", n.RunningSum, "sixteen bits", "value"),
    Mutant("last block of rows dropped", n.LastBlockDropped, "sixteen bits", "value"),
    Mutant("loss in float16", n.ReturnsFloat16, "sixteen bits", "dtype", dtype="float16"),
    Mutant("rows in random order", n.RandomOrder, "sixteen bits", "repeat"),
    Mutant("a state between calls", n.Stateful, "tail", "repeat"),
    Mutant("bad options accepted", n.BadOptionAccepted, "errors", "raises"),
    Mutant("a bad label left out as ignored", la.BadLabelIgnored, "labels", "value"),
    Mutant("no gradient of a bad label", la.BadLabelWithoutGradient, "labels", "gradient"),
    Mutant("ignored only if negative", la.IgnoredOnlyIfNegative, "labels", "runs"),
    Mutant("classes in the labels' dtype", la.RangeInTheirDtype, "labels", "runs"),
    Mutant("unsigned labels refused", la.UnsignedRefused, "labels", "runs"),
    Mutant("labels of the first block", la.LabelsOfTheFirstBlock, "sixteen bits", "value"),
    Mutant("class weights ignored", w.ClassWeightsIgnored, "options", "value"),
    Mutant("sample weights ignored", w.SampleWeightsIgnored, "options", "value"),
    Mutant("the uniform part not weighted", w.UniformPartNotWeighted, "options", "value"),
    Mutant("soft targets not smoothed", w.SoftTargetsNotSmoothed, "options", "value"),
    Mutant("the gradient not smoothed", w.GradientNotSmoothed, "options", "gradient"),
    Mutant("mean over smoothed weights", w.MeanOverSmoothedWeights, "options", "value"),
    Mutant("PyTorch's mean of soft targets", w.SoftMeanOverRows, "options", "value"),
    Mutant("absent rows in the mean", w.AbsentRowsInTheMean, "absent", "value"),
    Mutant("1e-6 in the mean's denominator", w.DenominatorPlusEpsilon, "options", "value"),
    Mutant("normalizer not in the gradient", w.GradientWithoutNormalizer, "options", "gradient"),
    Mutant("gradient over the rows", w.GradientOverRows, "options", "gradient"),
    Mutant("sample weight 0 is present", w.SampleWeight0Present, "absent", "value"),
    Mutant("gradient masked by multiplication", w.AbsentGradientMultiplied, "absent", "nothing"),
    Mutant("0/0 in the gradient", w.GradientOfNothing, "all absent", "gradient"),
    Mutant("z-loss not weighted", w.ZLossNotWeighted, "z-loss", "value"),
    Mutant("z-loss without a gradient", w.ZLossWithoutGradient, "z-loss", "gradient"),
    Mutant("probabilities clipped", so.ProbabilityClipped, "tail", "value"),
    Mutant("0·inf of a masked class", so.ZeroTimesInfinity, "masks", "value"),
    Mutant("-1e9 for -inf", so.MaskedByALargeNumber, "masks", "value"),
    Mutant("no possible class costs 0", so.NothingPossibleIsNothing, "masks", "value"),
    Mutant("the first +inf takes all", so.FirstInfinityTakesAll, "infinities", "value"),
    Mutant("NaN taken for 0", ca.NaNTakenFor0, "infinities", "value"),
    Mutant("tied logits counted once", so.TiedCountedOnce, "ties", "value"),
    Mutant("sum in float16", so.SumInFloat16, "sixteen bits", "value", dtype="float16"),
    Mutant("sum in the order of memory", so.SumInTheOrderOfMemory, "split", "split"),
    Mutant("classes beyond 65536 not read", so.ClassesBeyond65536, "vocabulary", "value"),
    Mutant("softcap clips", so.SoftcapClips, "softcap", "value"),
    Mutant("float64 in float32", ca.Float64InFloat32, "tail", "value", dtype="float64"),
    Mutant("gradient in float32", ca.GradientInFloat32, "sixteen bits", "dtype", dtype="float16"),
    Mutant("the value times the upstream", ca.ValueTimesUpstream, "upstream", "value"),
    Mutant("gradient's axis not moved back", ca.GradientNotMovedBack, "axis", "gradient"),
    Mutant("read-only logits refused", ca.ReadOnlyRefused, "layouts", "runs"),
    Mutant("a column of labels squeezed", ca.ColumnSqueezed, "errors", "raises"),
    Mutant("bools taken for numbers", ca.BoolsAsNumbers, "errors", "raises"),
    Mutant("one row of targets for all", ca.OneRowOfTargetsForAll, "errors", "raises"),
    Mutant("rows without a label dropped", ca.RowsWithoutLabelDropped, "errors", "raises"),
    Mutant("smoothing clipped into [0, 1]", ca.SmoothingClipped, "errors", "raises"),
    Mutant("normalizer of a sum dropped", ca.NormalizerDroppedOfASum, "errors", "raises"),
    Mutant("a short weight filled up", ca.WeightFilledUp, "errors", "raises"),
    Mutant("mean in float32", e.SumsInFloat32, "range", "value"),
    Mutant("1e-8 in the mean's divisor", e.EpsilonInTheDivisor, "range", "value"),
    Mutant("compensated past infinity", e.CompensatedPastInfinity, "range", "value"),
]


def autograd(mistake: str, make: Callable[[], Any], family: str, rule: str) -> Mutant:
    return Mutant(f"autograd: {mistake}", make, family, rule, "torch")


SOFT, TO_TARGETS = "soft gradient", "targets gradient"
TORCH = [
    autograd("detached", t.Detached, "upstream", "gradient"),
    autograd("upstream ignored", t.UpstreamIgnored, "upstream", "gradient"),
    autograd("upstream of the first row", t.UpstreamOfTheFirstRow, "upstream", "gradient"),
    autograd("the mean's denominator detached", t.DenominatorDetached, SOFT, TO_TARGETS),
    autograd("maximum of one tied", t.MaximumOfOneTied, "ties", "gradient"),
    autograd("soft targets detached", t.TargetsDetached, SOFT, TO_TARGETS),
    autograd("targets' gradient without weight", t.TargetsWithoutClassWeights, SOFT, TO_TARGETS),
    autograd("NaN to a masked target", t.MaskedTargetNaN, SOFT, TO_TARGETS),
    autograd("where after the logarithm", t.WhereAfterTheLogarithm, "absent", "nothing"),
    autograd("rows without targets left out", e.RowsWithoutTargetsLeftOut, SOFT, TO_TARGETS),
]
