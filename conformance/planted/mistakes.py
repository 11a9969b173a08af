"""Every planted mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import Planted, numpy_right, torch_right
from . import numpy_wrong as n
from . import others as o
from . import torch_wrong as t
from .extremes_wrong import EXTREMES

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
    Planted("-100 wraps", n.MinusHundredWraps, "labels", "value"),
    Planted("negative labels wrap", n.NegativeWraps, "labels", "value"),
    Planted("labels clipped", n.LabelsClipped, "labels", "value"),
    Planted("ignored as int8", n.IgnoredAsInt8, "labels", "value"),
    Planted("ignored in the labels' dtype", n.IgnoredInTheirDtype, "labels", "value"),
    Planted("labels in 16 bits", n.LabelsTo16Bits, "vocabulary", "value"),
    Planted("mean over the rows", n.MeanOverRows, "options", "value"),
    Planted("sample weights not in the mean", n.SampleWeightsNotInTheMean, "options", "value"),
    Planted("normalizer ignored", n.NormalizerIgnored, "options", "value"),
    Planted("Megatron's smoothing", n.SmoothingOfMegatron, "options", "value"),
    Planted("smoothing by the label's weight", n.SmoothingByLabelWeight, "options", "value"),
    Planted("smoothing over masked classes", n.SmoothingOverMasked, "masks", "value"),
    Planted("soft targets under weights off by 0.1%", n.SoftWeightsOff, "options", "value"),
    Planted("where ignored", n.WhereIgnored, "options", "value"),
    Planted("mask by multiplication", n.MaskByMultiplication, "absent", "nothing"),
    Planted("0/0", n.MeanOfNothing, "all absent", "value"),
    Planted("maximum of no labels", n.MaximumOfLabels, "empty", "runs"),
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
]
TORCH = [
    Planted("autograd: detached", t.Detached, "upstream", "gradient", "torch"),
    Planted("autograd: upstream ignored", t.UpstreamIgnored, "upstream", "gradient", "torch"),
    Planted("autograd: upstream of the first row", t.UpstreamOfTheFirstRow, "upstream",
            "gradient", "torch"),
    Planted("autograd: the mean's denominator detached", t.DenominatorDetached, "soft gradient",
            "targets gradient", "torch"),
    Planted("autograd: maximum of one tied", t.MaximumOfOneTied, "ties", "gradient", "torch"),
    Planted("autograd: where after the logarithm", t.WhereAfterTheLogarithm, "absent", "nothing",
            "torch"),
]  # fmt: skip
BINARY = "binary_cross_entropy_with_logits"
PROBABILITIES = "binary_cross_entropy"
LINEAR = "linear_cross_entropy"
OTHERS = [
    Planted("log(sigmoid)", lambda: o.binary(o.log_of_sigmoid), "binary logits", "value",
            loss=BINARY),
    Planted("p - t", lambda: o.binary(o.p_minus_t), "binary logits", "gradient", loss=BINARY),
    Planted("logarithms clamped at -100", lambda: o.binary(o.clamped_at_100),
            "binary probabilities", "value", loss=PROBABILITIES),
    Planted("focal: NaN at p = 1", lambda: o.classes(o.nan_at_one, gamma=2.0), "focal", "gradient",
            loss="focal_loss"),
    Planted("focal: 1 - p", lambda: o.classes(o.one_minus_p, gamma=2.0), "focal", "value",
            loss="focal_loss"),
    Planted("nll: every entry read", lambda: o.classes(o.every_entry), "nll", "value",
            loss="nll_loss"),
    Planted("log loss: clipped at 1e-7", lambda: o.classes(o.clipped_at_1e7), "log loss", "value",
            loss="log_loss"),
    Planted("sigmoid focal: 1 - p", lambda: o.binary(o.sigmoid_focal_of_p), "sigmoid focal",
            "value", loss="sigmoid_focal_loss"),
    Planted("entropy: 0·log 0", lambda: o.entropy(o.every_class), "entropy", "value",
            loss="entropy"),
    Planted("kl: t·log t at 0", lambda: o.classes(o.zero_log_zero, labels=False), "kl", "value",
            loss="kl_div"),
    Planted("linear: 0·NaN in the sum over rows", lambda: o.linear(select=False), "linear",
            "gradient", loss=LINEAR),
    Planted("linear: products summed in bfloat16", lambda: o.linear(o.sixteen_bits), "linear",
            "value", loss=LINEAR),
]  # fmt: skip
MISTAKES = [*NUMPY, *TORCH, *OTHERS, *EXTREMES]

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
    ("numpy", "kl_div"): lambda: o.classes(o.divergence, labels=False),
    ("numpy", LINEAR): o.linear,
    ("numpy", "entropy"): lambda: o.entropy(o.by_possible),
}
