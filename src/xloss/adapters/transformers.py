"""The loss of a causal language model, for Hugging Face ``Trainer``.

Either ``Trainer(compute_loss_func=causal_lm_loss)``, or the loss of one model replaced,
``patch_loss(model)``, with ``fuse_head=True`` together with its head, so that the logits are never
made. Both use the count of tokens that Trainer takes over all micro-batches, and leave the way it
counts them alone: Trainer recognises a shifted loss by what ``LOSS_MAPPING`` holds for the
model, and whoever replaces that entry makes it count one token a sequence too many.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from xloss import cross_entropy, linear_cross_entropy

__all__ = ["causal_lm_loss", "patch_loss", "unpatch_loss"]


def causal_lm_loss(
    outputs: Any, labels: Any, num_items_in_batch: Any = None, **options: Any
) -> Any:
    """:func:`xloss.cross_entropy` of shifted labels: ``Trainer(compute_loss_func=causal_lm_loss)``.

    Parameters
    ----------
    outputs
        What the model returns, with ``logits`` (batch, length, vocabulary).
    labels
        Token ids (batch, length), as ``input_ids``; -100 does not count. The token at position i is
        predicted from the logits at i - 1.
    num_items_in_batch
        How many tokens count in all micro-batches and ranks together; None: the mean of this one.
    options
        Of :func:`xloss.cross_entropy`: ``functools.partial(causal_lm_loss, z_loss=1e-4)``.

    Returns
    -------
    Tensor
        The loss, float32 or wider, without a copy of the logits in it.
    """
    if labels is None:
        raise ValueError("labels: is None; the dataset or the collator must give every batch some")
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    return _model_loss(logits, labels, num_items_in_batch=num_items_in_batch, options=options)


def patch_loss(model: Any, *, fuse_head: bool = False, **options: Any) -> None:
    """Replace the loss that one causal language model computes of its ``labels``.

    Parameters
    ----------
    model
        A ``...ForCausalLM`` of transformers, whose loss is the library's own.
    fuse_head
        Also replace the head by :func:`xloss.linear_cross_entropy`: in training, where labels are
        passed, the logits are never held, and the output's ``logits`` are None.
    options
        Of :func:`xloss.cross_entropy` (:func:`xloss.linear_cross_entropy` with ``fuse_head``).

    Raises
    ------
    ValueError
        The model's loss is another, or its head is no plain ``torch.nn.Linear``.
    RuntimeError
        Later, in the forward pass: the model computes with its logits before the loss (scales or
        caps them), and with ``fuse_head`` there are none.
    """
    model = _own(model)
    unpatch_loss(model)
    own = model.loss_function
    if own is not ForCausalLMLoss:
        raise ValueError(
            f"model: its loss is {getattr(own, '__name__', own)}, expected the ForCausalLMLoss of "
            "causal language models; for another, write a compute_loss_func for Trainer"
        )
    if fuse_head:
        _fuse(model)
    model.loss_function = partial(_model_loss, options=options)


def unpatch_loss(model: Any) -> None:
    """Give a model its own loss and head back.

    Parameters
    ----------
    model
        What :func:`patch_loss` was called with.
    """
    model = _own(model)
    if isinstance(getattr(model, "_loss_function", None), partial):
        del model._loss_function
    for handle in model.__dict__.pop("_xloss_hooks", ()):
        handle.remove()
        model.get_output_embeddings().__dict__.pop("forward", None)


def _own(model: Any) -> Any:
    """Return the transformers model within an adapter of PEFT."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _model_loss(
    logits: Any,
    labels: Any,
    vocab_size: int | None = None,
    num_items_in_batch: Any = None,
    ignore_index: int = -100,
    shift_labels: Any = None,
    *,
    options: dict[str, Any],
    **_: Any,
) -> Any:
    """Compute what a model's own ``loss_function`` does, with the arguments models pass it."""
    options = {"ignore_index": ignore_index, **options}
    loss: Any = cross_entropy
    of: Any = (logits,)
    if isinstance(logits, _Unmade):
        features, weight, options["bias"] = logits.factors
        loss, of = linear_cross_entropy, (features, weight)
    if shift_labels is None:  # the label of each position is the next token; of the last, none
        shift_labels = torch.full_like(labels, options["ignore_index"])
        shift_labels[..., :-1] = labels[..., 1:]
    device, count = of[0].device, num_items_in_batch
    if torch.is_tensor(count):  # under DataParallel the same number once for each GPU
        count = count.reshape(-1)[0].to(device)
    return loss(*of, shift_labels.to(device), normalizer=count, **options)


class _Unmade:
    """What a fused head returns for logits: the factors of the product that is never made.

    A model hands it to its loss. A model that computes with it must not get a wrong number: every
    operation is an error. It is no tensor: torch.compile and hooks would ask a tensor for more.
    """

    def __init__(self, features: Any, weight: Any, bias: Any) -> None:
        self.factors = features, weight, bias

    def float(self) -> _Unmade:
        """Stay: the loss is computed in float32 at least."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_REFUSAL.format(name))

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError(_REFUSAL.format("in arithmetic"))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __neg__ = __getitem__ = __setitem__ = _refuse

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any) -> Any:
        raise RuntimeError(_REFUSAL.format(function.__name__))


_REFUSAL = (
    "fuse_head: the model uses its logits before the loss ({}), but a fused head makes none; call "
    "patch_loss(model) without fuse_head"
)


def _fuse(model: Any) -> None:
    """Let the head pass its factors on where the model is training and has labels."""
    head = model.get_output_embeddings()
    kind = type(head)
    if kind is not torch.nn.Linear:
        raise ValueError(f"model: its head is {kind.__name__}, expected torch.nn.Linear")
    if "forward" in head.__dict__:
        raise ValueError("model: its head's forward has been replaced already, by another library")
    head.forward = MethodType(_head_forward, head)
    head.unmade = False
    first = model.register_forward_pre_hook(_before, with_kwargs=True)
    model._xloss_hooks = (first, model.register_forward_hook(_after, always_call=True))


def _before(model: Any, args: Any, kwargs: Any) -> None:
    """Note whether this call wants a loss or logits."""
    model.get_output_embeddings().unmade = model.training and kwargs.get("labels") is not None


def _after(model: Any, args: Any, output: Any) -> Any:
    """Leave out the logits that were not made."""
    model.get_output_embeddings().unmade = False
    if isinstance(output, tuple):
        return tuple(x for x in output if not isinstance(x, _Unmade))
    if isinstance(getattr(output, "logits", None), _Unmade):
        kept = {k: v for k, v in output.items() if not isinstance(v, _Unmade)}
        return type(output)(**kept)
    return None


def _head_forward(head: Any, input: Any) -> Any:
    """Multiply, or pass on what would be multiplied."""
    multiply = partial(type(head).forward, head)
    if not head.unmade:
        return multiply(input)
    # Under autocast the product would be of another dtype than its factors: that of no rows says.
    dtype = multiply(input.reshape(-1, input.shape[-1])[:0]).dtype
    bias = None if head.bias is None else head.bias.to(dtype)
    return _Unmade(input.to(dtype), head.weight.to(dtype), bias)
