"""Cross-entropy on NumPy with one mistake each: the right one with one step changed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from .numpy_right import Array, CrossEntropy, Softmax, times


class NoShift(CrossEntropy):
    """exp of the logits as they are, in float32."""

    def softmax(self, z: Array) -> Softmax:
        e = np.exp(z.astype(np.float32))
        total = e.sum(-1, keepdims=True)
        p = (e / total).astype(np.float64)
        lse = np.log(total).astype(np.float64)
        return Softmax(p, 1 - p, lse - z, lse)


class LogSoftmaxThenGather(CrossEntropy):
    """log_softmax in float32, and the label's entry of it; p - 1 from exp of it."""

    def softmax(self, z: Array) -> Softmax:
        z = z.astype(np.float32)
        top = z.max(-1, keepdims=True, initial=-np.inf)
        log_p = (z - top) - np.log(np.exp(z - top).sum(-1, keepdims=True))
        p = np.exp(log_p)
        right = super().softmax(z.astype(np.float64))
        miss, nll = (v.astype(np.float64) for v in (1 - p, -log_p))
        return Softmax(p.astype(np.float64), miss, nll, right.lse)


class LogOfTheWholeSum(CrossEntropy):
    """log Σ exp(z - m) in float32, the maximum's own 1 in the sum: no log1p."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        least = right.nll.min(-1, keepdims=True, initial=np.inf)  # log(1 + the others)
        return right._replace(nll=right.nll - least + np.log(np.exp(least).astype(np.float32)))


class LseMinusLogit(CrossEntropy):
    """lse - z in float32: a common offset eats the digits."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        nll = (right.lse.astype(np.float32) - z.astype(np.float32)).astype(np.float64)
        return right._replace(nll=np.where(np.isfinite(z), nll, right.nll))


class OwnProbabilityMinus1(CrossEntropy):
    """p - 1 in float32 for the true class."""

    def slopes(self, soft: Softmax, a: Array) -> Array:
        return super().slopes(soft._replace(miss=1 - soft.p.astype(np.float32)), a)


class TiesToTheFirst(CrossEntropy):
    """The whole gradient of the tied goes to the first of them."""

    def slopes(self, soft: Softmax, a: Array) -> Array:
        right = super().slopes(soft, a)
        tied = soft.nll == soft.nll.min(-1, keepdims=True, initial=np.inf)
        first = np.arange(a.shape[-1]) == tied.argmax(-1)[:, None] if a.size else tied
        one = tied.sum(-1, keepdims=True) == 1
        shared = np.where(tied, right, 0.0).sum(-1, keepdims=True)
        return np.where(one | ~tied, right, first * shared)


class InfinityMinusItself(CrossEntropy):
    """No limit for +inf logits."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        lost = (z == np.inf).any(-1, keepdims=True)
        return Softmax(*(np.where(lost, np.nan, v) for v in right))


class OnlineFromMinusInfinity(CrossEntropy):
    """Blocks of 256 classes merged from max = -inf: one of -inf alone gives inf - inf."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        lost = (z[:, :256] == -np.inf).all(-1, keepdims=True)
        return Softmax(*(np.where(lost, np.nan, v) for v in right))


class BatchMaximum(CrossEntropy):
    """The batch's maximum is taken off, not the row's."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        top = z.max(initial=-np.inf)
        if not np.isfinite(top):
            return right
        shifted = (z - top).astype(np.float32)
        log = np.log(np.exp(shifted).sum(-1, keepdims=True))
        return right._replace(nll=np.where(np.isfinite(z), log - shifted, right.nll))


class MinusHundredWraps(CrossEntropy):
    """-100 is a label as any other, counted from the end; so is every negative one."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        return super().ignored(labels, None if ignore_index == -100 else ignore_index)

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        wrapped = np.where(labels == -100, labels.astype(np.int64) % classes, labels)
        return super().one_hot(wrapped if labels.dtype.kind == "i" else labels, classes)


class NegativeWraps(CrossEntropy):
    """-1 is the last class, as in NumPy's indexing."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        inside = (labels < 0) & (labels.astype(np.int64) >= -classes)
        return super().one_hot(np.where(inside, labels + classes, labels), classes)


class LabelsClipped(CrossEntropy):
    """JAX's gathers: a label that is no class is the nearest one."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(np.clip(labels.astype(np.float64), 0, classes - 1), classes)


class LabelsTo16Bits(CrossEntropy):
    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(labels.astype(np.uint16) if classes > 2**16 else labels, classes)


class IgnoredAsInt8(CrossEntropy):
    """Labels are compared with ignore_index as int8: 156 is -100, in any dtype."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        if ignore_index is None or not -128 <= ignore_index < 128:
            return super().ignored(labels, ignore_index)
        return np.asarray(labels.astype(np.int8) == np.int8(ignore_index))


class IgnoredInTheirDtype(CrossEntropy):
    """ignore_index is cast to the labels' dtype: in uint8, 156 is -100."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        if ignore_index is None:
            return super().ignored(labels, None)
        return np.asarray(labels == np.asarray(ignore_index, np.int64).astype(labels.dtype))


class MeanOverRows(CrossEntropy):
    """The mean over the number of rows present, whatever their weights."""

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return np.float64(keep.sum()) if normalizer is None else np.float64(normalizer)


class SampleWeightsNotInTheMean(CrossEntropy):
    """Sample weights multiply the losses, but not the mean's denominator."""

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        ones = np.where(keep & (s != 0), s, 1.0)
        return super().divisor(mass / ones, s, keep, normalizer)


class NormalizerIgnored(CrossEntropy):
    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return mass.sum()


class SmoothingOfMegatron(CrossEntropy):
    """ε C/(C-1) in place of ε."""

    def smoothed(self, t: Array, epsilon: float, possible: Array) -> Array:
        classes = np.float64(t.shape[-1])
        return super().smoothed(t, float(epsilon * classes / (classes - 1)), possible)


class SmoothingOverMasked(CrossEntropy):
    """u is 1/C, over classes that cannot be too."""

    def smoothed(self, t: Array, epsilon: float, possible: Array) -> Array:
        return super().smoothed(t, epsilon, np.ones(possible.shape))


class SmoothingByLabelWeight(CrossEntropy):
    """All of a smoothed row is weighted by its label's weight."""

    def weighted(self, q: Array, t: Array, w: Array, index: bool) -> Array:
        right = super().weighted(q, t, w, index)
        return right if (q == t).all() else q * times(t, w).sum(-1, keepdims=True)


class SoftWeightsOff(CrossEntropy):
    """Soft targets under class weights are off by 0.1%."""

    def weighted(self, q: Array, t: Array, w: Array, index: bool) -> Array:
        right = super().weighted(q, t, w, index)
        return right if index or (w == 1).all() else right * 1.001


class MaskByMultiplication(CrossEntropy):
    """0 · NaN is NaN."""

    def absent(self, keep: Array, x: Array, s: Array, t: Array) -> tuple[Array, Array, Array]:
        return x, s * keep, t * keep[:, None]

    def kept(self, keep: Array, grads: Array) -> Array:
        return grads * keep[:, None]


class WhereIgnored(CrossEntropy):
    def rows(self, sample_weight: Any, where: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
        return super().rows(sample_weight, None, shape)


class MeanOfNothing(CrossEntropy):
    """0/0."""

    def mean(self, total: Any, divisor: Any, counted: bool) -> tuple[Array, Any]:
        return np.asarray(total / divisor), divisor if counted else np.inf


class MaximumOfLabels(CrossEntropy):
    """max(labels) of an empty batch raises."""

    def check(self, logits: Array, targets: Array, options: dict[str, Any]) -> None:
        super().check(logits, targets, options)
        targets.max()


class OneClassIsBinary(CrossEntropy):
    """A single logit is taken for that of a binary loss."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        return right if z.shape[-1] > 1 else right._replace(nll=np.logaddexp(0.0, -z))


class ZLossDropped(CrossEntropy):
    def z_terms(self, coefficient: Array, value: Array) -> Array:
        return np.zeros(())


class ZLossSubtracted(CrossEntropy):
    def z_terms(self, coefficient: Array, value: Array) -> Array:
        return -super().z_terms(coefficient, value)


class SoftcapDropped(CrossEntropy):
    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        return super().capped(x, None)


class SoftcapUnmasks(CrossEntropy):
    """tanh(-inf) is -1: a masked class comes back."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        return (z if c is None else np.where(x == -np.inf, -c, z)), slope


class SoftcapSlopeDropped(CrossEntropy):
    """The gradient to the capped logits is returned."""

    def chained(self, grads: Array, slope: Array) -> Array:
        return grads


class SoftcapSlopeCancels(CrossEntropy):
    """1 - tanh² in float32 for sech²."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        if c is None:
            return z, slope
        return z, 1 - np.tanh((x / c).astype(np.float32)) ** 2


class UpstreamIgnored(CrossEntropy):
    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return super().upstream(grads, np.ones(cotangent.shape), divisor)


class UpstreamOfTheFirstRow(CrossEntropy):
    """Every row's gradient is scaled by the first upstream number."""

    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return super().upstream(grads, cotangent[:1], divisor)


class ClassesNotMoved(CrossEntropy):
    """(N, C, d) is reshaped to rows of C without moving the class axis."""

    def classes_last(self, array: Array, axis: int) -> Array:
        return array.reshape(super().classes_last(array, axis).shape)


class RunningSum(CrossEntropy):
    """Rows are added one by one in float32."""

    def total(self, losses: Array) -> Any:
        return np.add.accumulate(losses, dtype=np.float32)[-1] if losses.size else 0.0


class LastBlockDropped(CrossEntropy):
    """Rows go in blocks of 1024; what does not fill the last one is left out."""

    def total(self, losses: Array) -> Any:
        whole = len(losses) - len(losses) % 1024
        return super().total(losses[: whole or None])


class Noise(CrossEntropy):
    """A relative error of 2e-6."""

    def softmax(self, z: Array) -> Softmax:
        right = super().softmax(z)
        return right._replace(nll=right.nll * (1 + 2e-6))


class RandomOrder(CrossEntropy):
    """Blocks' sums are added in float32 in an order that changes, as atomics do."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def total(self, losses: Array) -> Any:
        if len(losses) <= 1024:
            return super().total(losses)
        blocks = np.add.reduceat(losses, np.arange(0, len(losses), 1024))
        shuffled = self.rng.permutation(blocks.astype(np.float32))
        return np.add.accumulate(shuffled)[-1]


class Stateful(CrossEntropy):
    """What one call leaves behind changes the next."""

    def __init__(self) -> None:
        self.calls = 0

    def softmax(self, z: Array) -> Softmax:
        self.calls += 1
        right = super().softmax(z)
        return right._replace(nll=right.nll * (1 + (self.calls % 2) * 1e-7))


class BadOptionAccepted(CrossEntropy):
    """A call that cannot be right is answered."""

    def check(self, logits: Array, targets: Array, options: dict[str, Any]) -> None:
        with suppress(ValueError):
            super().check(logits, targets, options)


class ReturnsFloat16(CrossEntropy):
    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits, targets, **options)
        return value.astype(np.float16), grad


class InputOverwritten(CrossEntropy):
    """The maximum is taken off in place, where the memory lets it."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        result = super().__call__(logits, targets, **options)
        if logits.flags.writeable:
            logits -= logits.max(initial=0)
        return result


class FlatRows(CrossEntropy):
    """Memory is read in the order in which it lies, whatever the strides say."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        if logits.ndim == 2 and logits.flags.f_contiguous and not logits.flags.c_contiguous:
            logits = logits.ravel(order="K").reshape(logits.shape)
        return super().__call__(logits, targets, **options)


class OtherByteOrder(CrossEntropy):
    """Bytes are taken for numbers of this machine's order."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        logits = logits.view(logits.dtype.newbyteorder("="))
        return super().__call__(logits, targets, **options)
