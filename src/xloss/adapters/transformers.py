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
    return _reduced(
        cross_entropy,
        (logits,),
        _shifted(labels, options.get("ignore_index", -100)),
        num_items_in_batch,
        options,
    )


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
    TypeError
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


def _shifted(labels: Any, ignore_index: int) -> Any:
    """Return the label of each position: the next token; nothing for the last."""
    targets = labels.new_full(labels.shape, ignore_index)
    targets[..., :-1] = labels[..., 1:]
    return targets


def _reduced(loss: Any, of: tuple[Any, ...], targets: Any, count: Any, options: Any) -> Any:
    """Divide by the count of the whole batch, or take the mean of this one."""
    targets = targets.to(of[0].device)
    if hasattr(count, "reshape"):  # under DataParallel the same number once for each GPU
        count = count.reshape(-1)[0].to(of[0].device)
    return loss(*of, targets, normalizer=count, **options)


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
    targets = _shifted(labels, options["ignore_index"]) if shift_labels is None else shift_labels
    if not isinstance(logits, _Unmade):
        return _reduced(cross_entropy, (logits,), targets, num_items_in_batch, options)
    options["bias"] = logits.bias
    of = (logits.features, logits.weight)
    return _reduced(linear_cross_entropy, of, targets, num_items_in_batch, options)


_REFUSAL = (
    "fuse_head: the model uses its logits before the loss ({}), but a fused head makes none; call "
    "patch_loss(model) without fuse_head"
)


class _Unmade:
    """What a fused head returns for logits: the two factors of the product that is never made.

    A model hands it to its loss. A model that computes with it must not get a wrong number: every
    operation is an error.
    """

    def __init__(self, features: Any, weight: Any, bias: Any) -> None:
        self.features, self.weight, self.bias = features, weight, bias

    def float(self) -> _Unmade:
        """Stay: the loss is computed in float32 at least."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_REFUSAL.format(name))

    def _refuse(self, *_: Any) -> Any:
        raise TypeError(_REFUSAL.format("in arithmetic"))

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __neg__ = __getitem__ = __setitem__ = _refuse

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any) -> Any:
        raise TypeError(_REFUSAL.format(function.__name__))


def _fuse(model: Any) -> None:
    """Let the head pass its factors on where the model is training and has labels."""
    head = model.get_output_embeddings()
    if f"{type(head).__module__}.{type(head).__name__}" != "torch.nn.modules.linear.Linear":
        raise ValueError(f"model: its head is {type(head).__name__}, expected torch.nn.Linear")
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
