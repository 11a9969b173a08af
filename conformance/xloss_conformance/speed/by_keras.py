"""Keras: its loss class, as `model.fit` runs it on the backend: jitted by JAX, eager by PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..conventions import keras as convention
from .clock import Call
from .contenders import Contender, NotOffered
from .work import Data, Work

keras: Any = convention.keras  # type: ignore[attr-defined]  # imported there, on its backend
BACKEND = keras.backend.backend()


def _call(work: Work, given: Data, threads: int) -> Call:
    if work.features:
        raise NotOffered("has no linear_cross_entropy")
    if work.axis % len(work.shape) != len(work.shape) - 1:
        raise NotOffered("takes classes on the last axis")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def called(logits: object, labels: object) -> object:
        return loss(labels, logits)

    if BACKEND == "jax":
        from .by_optax import jitted

        return jitted(called, work, given)
    from .by_torch import backward, tensors

    x, y, _ = tensors(work, given)
    if work.gradient:
        return backward(called, (x, y), {}, 1)
    return replace(Call(lambda: called(x, y)), answer=lambda got: (float(got.detach()), None))


HOW = {"jax": ", under jax.jit; jax.value_and_grad of it", "torch": "; .backward()"}
SAID = f"keras.losses.SparseCategoricalCrossentropy(from_logits=True){HOW[BACKEND]}"
CONTENDERS = {"keras": Contender("keras", BACKEND, SAID, _call, True)}
