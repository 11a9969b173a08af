"""Cross-entropy on NumPy with one mistake each: the right one with one step changed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from .checks import Options
from .numpy_right import Array, CrossEntropy, Softmax


class NoShift(CrossEntropy, family="offsets", rule="value"):
    """exp of the logits as they are, in float32."""

    def softmax(self, z: Array) -> Softmax:
        e = np.exp(z.astype(np.float32))
        total = e.sum(-1, keepdims=True)
        p = (e / total).astype(np.float64)
        lse = np.log(total).astype(np.float64)
        return Softmax(p, 1 - p, lse - z, lse)


class LogSoftmaxThenGather(CrossEntropy, family="tail", rule="value"):
    """log_softmax in float32, and the label's entry of it; p - 1 from exp of it."""

    def softmax(self, z: Array) -> Softmax:
        z = z.astype(np.float32)
        top = z.max(-1, keepdims=True, initial=-np.inf)
        log_p = (z - top) - np.log(np.exp(z - top).sum(-1, keepdims=True))
        p = np.exp(log_p)
        right = super().softmax(z.astype(np.float64))
        miss, nll = (v.astype(np.float64) for v in (1 - p, -log_p))
        return Softmax(p.astype(np.float64), miss, nll, right.lse)


class LogOfTheWholeSum(CrossEntropy, family="tail", rule="value"):
    """log Σ exp(z - m) in float32, the maximum's own 1 in the sum: no log1p."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        least = right.nll.min(-1, keepdims=True, initial=np.inf)  # log(1 + the others)
        return right._replace(nll=right.nll - least + np.log(np.exp(least).astype(np.float32)))


class LseMinusLogit(CrossEntropy, family="offsets", rule="value"):
    """lse - z in float32: a common offset eats the digits."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        nll = (right.lse.astype(np.float32) - z.astype(np.float32)).astype(np.float64)
        return right._replace(nll=np.where(np.isfinite(z), nll, right.nll))


class OwnProbabilityMinus1(CrossEntropy, family="tail", rule="gradient"):
    """p - 1 in float32 for the true class."""

    def slopes(self, soft: Softmax, a: Array) -> Array:
        return super().slopes(soft._replace(miss=1 - soft.p.astype(np.float32)), a)


class TiesToTheFirst(CrossEntropy, family="ties", rule="gradient"):
    """The whole gradient of the tied goes to the first of them."""

    def slopes(self, soft: Softmax, a: Array) -> Array:
        right = super().slopes(soft, a)
        tied = soft.nll == soft.nll.min(-1, keepdims=True, initial=np.inf)
        first = np.arange(a.shape[-1]) == tied.argmax(-1)[:, None] if a.size else tied
        one = tied.sum(-1, keepdims=True) == 1
        shared = np.where(tied, right, 0.0).sum(-1, keepdims=True)
        return np.where(one | ~tied, right, first * shared)


class InfinityMinusItself(CrossEntropy, family="infinities", rule="value"):
    """No limit for +inf logits."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        lost = (z == np.inf).any(-1, keepdims=True)
        return Softmax(*(np.where(lost, np.nan, v) for v in right))


class OnlineFromMinusInfinity(CrossEntropy, family="masks", rule="value"):
    """Blocks of 256 classes merged from max = -inf: one of -inf alone gives inf - inf."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        lost = (z[:, :256] == -np.inf).all(-1, keepdims=True)
        return Softmax(*(np.where(lost, np.nan, v) for v in right))


class BatchMaximum(CrossEntropy, family="split", rule="split"):
    """The batch's maximum is taken off, not the row's."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        top = z.max(initial=-np.inf)
        if not np.isfinite(top):
            return right
        shifted = (z - top).astype(np.float32)
        log = np.log(np.exp(shifted).sum(-1, keepdims=True))
        return right._replace(nll=np.where(np.isfinite(z), log - shifted, right.nll))


class OneClassIsBinary(CrossEntropy, family="one class", rule="value"):
    """A single logit is taken for that of a binary loss."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        return right if z.shape[-1] > 1 else right._replace(nll=np.logaddexp(0.0, -z))


class ZLossDropped(CrossEntropy, family="z-loss", rule="value"):
    def z_terms(self, coefficient: Array, value: Array) -> Array:
        return np.zeros(())


class ZLossSubtracted(CrossEntropy, family="z-loss", rule="value"):
    def z_terms(self, coefficient: Array, value: Array) -> Array:
        return -super().z_terms(coefficient, value)


class SoftcapDropped(CrossEntropy, family="softcap", rule="value"):
    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        return super().capped(x, None)


class SoftcapUnmasks(CrossEntropy, family="softcap", rule="value"):
    """tanh(-inf) is -1: a masked class comes back."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        return (z if c is None else np.where(x == -np.inf, -c, z)), slope


class SoftcapSlopeDropped(CrossEntropy, family="softcap", rule="gradient"):
    """The gradient to the capped logits is returned."""

    def chained(self, grads: Array, slope: Array) -> Array:
        return grads


class SoftcapSlopeCancels(CrossEntropy, family="softcap", rule="gradient"):
    """1 - tanh² in float32 for sech²."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        if c is None:
            return z, slope
        return z, 1 - np.tanh((x / c).astype(np.float32)) ** 2


class UpstreamIgnored(CrossEntropy, family="upstream", rule="gradient"):
    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return super().upstream(grads, np.ones(cotangent.shape), divisor)


class UpstreamOfTheFirstRow(CrossEntropy, family="upstream", rule="gradient"):
    """Every row's gradient is scaled by the first upstream number."""

    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return super().upstream(grads, cotangent[:1], divisor)


class ClassesNotMoved(CrossEntropy, family="axis", rule="value"):
    """(N, C, d) is reshaped to rows of C without moving the class axis."""

    def classes_last(self, array: Array, axis: int) -> Array:
        return array.reshape(super().classes_last(array, axis).shape)


class RunningSum(CrossEntropy, family="sixteen bits", rule="value"):
    """Rows are added one by one in float32."""

    def total(self, losses: Array) -> Any:
        return np.add.accumulate(losses, dtype=np.float32)[-1] if losses.size else 0.0


class LastBlockDropped(CrossEntropy, family="sixteen bits", rule="value"):
    """Rows go in blocks of 1024; what does not fill the last one is left out."""

    def total(self, losses: Array) -> Any:
        whole = len(losses) - len(losses) % 1024
        return super().total(losses[: whole or None])


class Noise(CrossEntropy, family="tail", rule="value"):
    """A relative error of 2e-6."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        return right._replace(nll=right.nll * (1 + 2e-6))


class RandomOrder(CrossEntropy, family="sixteen bits", rule="repeat"):
    """Blocks' sums are added in float32 in an order that changes, as atomics do."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def total(self, losses: Array) -> Any:
        if len(losses) <= 1024:
            return super().total(losses)
        blocks = np.add.reduceat(losses, np.arange(0, len(losses), 1024))
        shuffled = self.rng.permutation(blocks.astype(np.float32))
        return np.add.accumulate(shuffled)[-1]


class Stateful(CrossEntropy, family="tail", rule="repeat"):
    """What one call leaves behind changes the next."""

    def __init__(self) -> None:
        self.calls = 0

    def softmax(self, z: Array) -> Softmax:
        self.calls += 1
        right = super().softmax(z)
        return right._replace(nll=right.nll * (1 + (self.calls % 2) * 1e-7))


class BadOptionAccepted(CrossEntropy, family="errors", rule="raises"):
    """A call that cannot be right is answered."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        with suppress(ValueError):
            super().check(logits, targets, o)


class ReturnsFloat16(CrossEntropy, family="sixteen bits", rule="dtype", dtype="float16"):
    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits, targets, **options)
        return value.astype(np.float16), grad


class InputOverwritten(CrossEntropy, family="layouts", rule="input"):
    """The maximum is taken off in place, where the memory lets it."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        result = super().__call__(logits, targets, **options)
        if logits.flags.writeable:
            logits -= logits.max(initial=0)
        return result


class FlatRows(CrossEntropy, family="layouts", rule="value"):
    """Memory is read in the order in which it lies, whatever the strides say."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        if logits.ndim == 2 and logits.flags.f_contiguous and not logits.flags.c_contiguous:
            logits = logits.ravel(order="K").reshape(logits.shape)
        return super().__call__(logits, targets, **options)


class OtherByteOrder(CrossEntropy, family="layouts", rule="value"):
    """Bytes are taken for numbers of this machine's order."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        logits = logits.view(logits.dtype.newbyteorder("="))
        return super().__call__(logits, targets, **options)
