"""What a user's type checker sees: mypy checks this file beside the sources, and nothing runs it.

An error that mypy has to find is a `type: ignore` with its code: mypy says so where one is unused.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, assert_type

import dask.array as da
import jax
import numpy as np
import numpy.typing as npt
import torch

import xloss
from xloss._typing import Array


def arrays_of_every_library_are_taken(
    f16: npt.NDArray[np.float16],
    f32: npt.NDArray[np.float32],
    f64: npt.NDArray[np.float64],
    anything: npt.NDArray[Any],
    labels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_],
    tensor: torch.Tensor,
    parameter: torch.nn.Parameter,
    traced: jax.Array,
    lazy: da.Array,
) -> None:
    for logits in (f16, f32, f64, anything):
        xloss.cross_entropy(logits, labels, weight=f32, sample_weight=f64, where=mask)
    xloss.cross_entropy(tensor, labels, normalizer=torch.tensor(3.0))
    xloss.linear_cross_entropy(tensor, parameter, tensor, bias=parameter)
    xloss.binary_cross_entropy_with_logits(traced, traced, pos_weight=traced)
    xloss.kl_div(lazy, lazy)
    xloss.CrossEntropyLoss(weight=tensor)(tensor, tensor)
    xloss.Evaluation().update(tensor, labels)
    xloss.token_stats(tensor, labels, rank=True)
    xloss.linear_token_stats(tensor, parameter, tensor, bias=parameter)
    xloss.l2_penalty([parameter, parameter], strength=0.1)
    xloss.l2_penalty(f32, strength=0.1)


def what_is_no_array_is_refused(x: Array) -> None:
    xloss.cross_entropy([[1.0, 2.0]], x)  # type: ignore[arg-type]
    xloss.cross_entropy(x, 1)  # type: ignore[arg-type]
    xloss.softmax("logits")  # type: ignore[arg-type]


def options_have_few_values(x: Array) -> None:
    xloss.cross_entropy(x, x, reduction="none", validate=True, normalizer=3)
    xloss.cross_entropy(x, x, reduction="average")  # type: ignore[arg-type]
    xloss.cross_entropy(x, x, validate="never")  # type: ignore[arg-type]
    xloss.linear_cross_entropy(x, x, x, block_rows="all")  # type: ignore[arg-type]
    xloss.CrossEntropyLoss(reduction="average")  # type: ignore[arg-type]
    xloss.diagnose(x, x, reduction="average")  # type: ignore[arg-type]
    xloss.Evaluation().update(x, x, validate="never")  # type: ignore[arg-type]
    xloss.cross_entropy(logits=x, targets=x)  # type: ignore[call-arg]


def results(x: Array, tensor: torch.Tensor) -> None:
    loss = assert_type(xloss.cross_entropy(x, x), Array)
    for name in (loss, xloss.entropy(x), xloss.logsumexp(x), xloss.one_hot(x, 3)):
        assert_type(name, Array)
    assert_type(xloss.CrossEntropyLoss()(tensor, tensor), Array)
    assert_type(xloss.perplexity(loss), Array)
    assert_type(xloss.perplexity(1.5), float)
    assert_type(xloss.perplexity(2), float)
    number: float = float(loss) + float(loss[0]) + 2 * loss
    assert_type(number, float)
    xloss.cross_entropy(x, x, normalizer=xloss.effective_count(x))


Gradient = Callable[..., tuple[Array, Array]]
Gradients = Callable[..., tuple[Array, tuple[Array, ...]]]


def gradients(x: Array) -> None:
    assert_type(xloss.value_and_grad(xloss.cross_entropy), Gradient)
    assert_type(xloss.value_and_grad(xloss.cross_entropy, "targets"), Gradient)
    assert_type(xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias")), Gradients)
    assert_type(xloss.value_and_grad(xloss.CrossEntropyLoss()), Gradient)
    assert_type(xloss.value_and_grad(xloss.entropy), Gradient)
    assert_type(xloss.value_and_grad(xloss.logsumexp, (0,)), Gradients)
    # One array or several: of the penalty the parameters decide, which the type cannot tell.
    assert_type(xloss.value_and_grad(xloss.l2_penalty), Callable[..., tuple[Array, Any]])
    xloss.value_and_grad(xloss.cross_entropy, 1.5)  # type: ignore[call-overload]
    xloss.value_and_grad("cross_entropy")  # type: ignore[call-overload]
    partial(xloss.cross_entropy, reduction="sum")(x, x)
