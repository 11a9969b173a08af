"""Calls that take turns on one clock, and how each library's loss is called to be timed.

`xloss bench` uses it, and so does `benchmarks/` in the source tree.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

import xloss

Loss = Callable[..., Any]
Record = dict[str, Any]
Read = Callable[[Any], Any]  # a gradient -> what is compared of it
SOME = 1000  # entries of a gradient that are compared
# A thread that has just computed for one library still spins for some milliseconds, waiting for
# more work; on a machine of few cores it would do so in the next library's time.
NAP = 0.008
SHORT = 0.02  # seconds of a turn that is filled with several runs, the first of them not timed


class NotOffered(Exception):
    """A contender has no such call, or computes something else; the message says what."""


# ---- The clock ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """What is timed: `run` alone. `before` and `within` are what a user does once, or elsewhere."""

    run: Callable[[], Any]
    before: Callable[[], None] = lambda: None  # before every run: forget the last gradient
    within: Callable[[], AbstractContextManager[Any]] = nullcontext  # around every turn
    # What `run` returned -> the loss, and some of the gradient where there is one.
    answer: Callable[[Any], tuple[float, Any]] = lambda got: (float(got), None)
    engine: str = ""
    losses: Callable[[], Any] | None = None  # the row losses that are compared, on a GPU


@dataclass(frozen=True)
class HostClock:
    """Times every run of a call by itself; a turn is one run, or as many as fill SHORT seconds."""

    now: Callable[[], float] = time.perf_counter
    nap: Callable[[float], None] = time.sleep
    quiet: ClassVar[bool] = True  # nothing is collected meanwhile

    def first(self, call: Call) -> float:
        """Return the seconds of the first run, which compiles."""
        return once(call, self.now)

    def turn(self, call: Call, estimate: float, left: int) -> list[float]:
        """Return the seconds of each run; before short ones there is one that is not timed."""
        self.nap(NAP)
        if estimate < SHORT:
            once(call, self.now)
        return [once(call, self.now) for _ in range(min(int(SHORT / estimate) or 1, left))]


def in_turns(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    least: int = 5,
    most: int = 200,
    clock: Any = None,
    lost: dict[str, Exception] | None = None,
) -> dict[str, list[float]]:
    """Return the seconds of each call's runs; they take turns, so that all meet the same noise.

    Each runs for about so many seconds, `least` times at least and `most` at most; a call that is
    far too slow for that, three times or once. The first run of each, which compiles, is not timed.
    The clock is the host's, or one with the same methods. With `lost`, a call that fails goes there
    with its reason, and leaves the others their turns.
    """
    clock = clock or HostClock()
    times: dict[str, list[float]] = {}
    estimate: dict[str, float] = {}

    def play(name: str) -> None:
        try:
            with calls[name].within():
                if name in times:
                    left = most - len(times[name])
                    times[name] += clock.turn(calls[name], estimate[name], left)
                else:
                    estimate[name] = max(clock.first(calls[name]), 1e-9)
                    times[name] = []
        except Exception as reason:  # of any peer: the others keep their turns
            if lost is None:
                raise
            lost[name] = reason
            times.pop(name, None)

    for name in calls:
        play(name)
    gc.collect()
    if clock.quiet:
        gc.disable()
    try:
        while playing := [n for n in times if not done(times[n], seconds, least, most)]:
            for name in playing:
                play(name)
    finally:
        gc.enable()
    return times


def done(taken: Sequence[float], seconds: float, least: int, most: int) -> bool:
    """Tell whether a call has run often enough, or has had its time."""
    spent = sum(taken)
    wanted = 1 if spent > 10 * seconds else min(3, least) if spent > 2 * seconds else least
    return len(taken) >= wanted and (spent >= seconds or len(taken) >= most)


def once(call: Call, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of one run; what it returns is freed after the clock has stopped."""
    call.before()
    start = clock()
    got = call.run()
    taken = clock() - start
    del got
    return taken


def spread(times: Sequence[float]) -> Record:
    """Return median, least and quartiles in milliseconds, and how many runs they are of."""
    ms = sorted(t * 1e3 for t in times)
    low, middle, high = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else ms * 3
    return {"runs": len(ms), "median_ms": middle, "min_ms": ms[0], "q1_ms": low, "q3_ms": high}


# ---- How a loss is called, by library: `leaves` is how many first arguments get a gradient -------


def some(gradient: Any) -> Any:
    """Return the first entries of a gradient, to be compared."""
    array = gradient if hasattr(gradient, "detach") else np.asarray(gradient)
    return on_host(array.reshape(-1)[:SOME])


def on_host(array: Any) -> Any:
    """Return a library's array as NumPy's of float64."""
    if hasattr(array, "detach"):
        array = array.detach().double().cpu()
    return np.asarray(array.get() if hasattr(array, "get") else array).astype(np.float64)


def on_torch(loss: Loss, arguments: Sequence[Any], leaves: int, read: Read = some) -> Call:
    """Return loss(...) on tensors, and .backward() where a gradient is asked for."""
    given = [a.detach().requires_grad_() if i < leaves else a for i, a in enumerate(arguments)]
    if not leaves:
        return Call(lambda: loss(*given))

    def run() -> Any:
        value = loss(*given)
        value.backward()
        return value

    def before() -> None:
        for leaf in given[:leaves]:
            leaf.grad = None

    def answer(got: Any) -> tuple[float, Any]:
        return float(got.detach()), read(given[0].grad)

    return Call(run, before, answer=answer)


def on_jax(
    loss: Loss, arguments: Sequence[Any], leaves: int, read: Read = some, waits: bool = True
) -> Call:
    """Return jax.jit of the loss, or of its jax.value_and_grad; waited for, or only queued up."""
    import jax

    wait: Any = jax.block_until_ready
    # A function of its own: JAX keeps what it traced by the function, not by the engine asked for.
    made: Any = jax.value_and_grad(loss, tuple(range(leaves))) if leaves else partial(loss)
    function: Any = jax.jit(made)
    run = (lambda: wait(function(*arguments))) if waits else (lambda: function(*arguments))
    return Call(run, answer=_first(read) if leaves else _value)


def on_tensorflow(
    loss: Loss, arguments: Sequence[Any], leaves: int, read: Read = some, graph: bool = False
) -> Call:
    """Return the loss, with its gradient by a tape; `graph`: all of it as one tf.function."""
    import tensorflow as tf

    def both(*given: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(given[:leaves])
            value = loss(*given)
        return value, tape.gradient(value, given[:leaves])

    function = both if leaves else loss
    function = tf.function(function) if graph else function
    return Call(lambda: function(*arguments), answer=_first(read) if leaves else _value)


def on_numpy(
    loss: Loss, arguments: Sequence[Any], leaves: int, read: Read = some, **options: Any
) -> Call:
    """Return a loss of xloss, or its value_and_grad, on the arrays of any library."""
    if not leaves:
        return Call(lambda: loss(*arguments, **options))
    both = xloss.value_and_grad(loss, tuple(range(leaves)))
    return Call(lambda: both(*arguments, **options), answer=_first(read))


def _value(got: Any) -> tuple[float, Any]:
    return float(got), None


def _first(read: Read) -> Callable[[Any], tuple[float, Any]]:
    """Return what gives the value, and what is compared of the gradient to the first argument."""
    return lambda got: (float(got[0]), read(got[1][0]))


def on_sklearn(x: Any, y: Any, gradient: bool, threads: int, read: Read = some) -> Call:
    """Return the loss inside scikit-learn's LogisticRegression."""
    from sklearn._loss import HalfMultinomialLoss

    loss, labels = HalfMultinomialLoss(n_classes=x.shape[-1]), y.astype(x.dtype)
    if not gradient:
        return Call(lambda: loss(labels, x, n_threads=threads))

    def run() -> Any:
        rows, to_logits = loss.loss_gradient(labels, x, n_threads=threads)
        to_logits /= len(rows)
        return rows.mean(), (to_logits,)

    return Call(run, answer=_first(read))


def on_scipy(x: Any, y: Any, gradient: bool, axis: int = -1) -> Call:
    """Return what one writes with SciPy, which has no loss and no gradient."""
    from scipy.special import log_softmax

    if gradient:
        raise NotOffered("gives no gradient")
    at = np.expand_dims(y, axis)
    return Call(lambda: -np.take_along_axis(log_softmax(x, axis=axis), at, axis).mean())


def keras_backend() -> str:
    """Return the library that Keras runs on, settled before Keras is imported."""
    return os.environ.setdefault("KERAS_BACKEND", "jax" if find_spec("jax") else "torch")


def keras_loss() -> Loss:
    """Return Keras' loss of (logits, labels), on the library that KERAS_BACKEND names."""
    keras_backend()
    keras: Any = import_module("keras")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return lambda logits, labels: loss(labels, logits)


def tensorflow_loss() -> Loss:
    """Return the mean of TensorFlow's own loss of (logits, labels)."""
    import tensorflow as tf

    rows = tf.nn.sparse_softmax_cross_entropy_with_logits
    return lambda logits, labels: tf.reduce_mean(rows(labels, logits))


def optax_loss(**options: Any) -> Loss:
    """Return the mean of optax's loss of (logits, labels)."""
    import optax

    rows = optax.softmax_cross_entropy_with_integer_labels
    return lambda logits, labels: rows(logits, labels, **options).mean()
