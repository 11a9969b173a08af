"""Losses of xloss in the place of ``torch.nn``'s: change the import, and nothing else.

    from xloss.adapters.torch import CrossEntropyLoss    # was: from torch.nn import ...

Each class is PyTorch's own with another ``forward``: the constructor, its defaults and errors, the
buffers in ``state_dict`` and ``isinstance`` are inherited. The class axis is 1 (0 without a batch).
What holds for all of them, and differs from PyTorch:

- the tail of a confident row is not rounded to 0, nor is its gradient;
- 16-bit input is computed in float32, and so is the loss returned;
- a mean over no row (all of them ignored, or an empty batch) is 0, with gradient 0, not NaN;
- what is ignored or has weight 0 contributes nothing, even if NaN stands in it;
- 0·log 0 is 0; an infinite logit is the limit, not NaN;
- labels may have any integer dtype; a bad label on a GPU is a NaN row, no device assertion.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import xloss

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "KLDivLoss",
    "MultiLabelSoftMarginLoss",
    "NLLLoss",
    "SoftMarginLoss",
]

# The modules return tensors, as PyTorch's do: xloss's functions are declared to return an Array.
_losses: Any = xloss


def _class_axis(x: Tensor) -> int:
    """Return PyTorch's class axis."""
    return 1 if x.ndim > 1 else 0


def _loss(module: Any, function: Any, *arrays: Tensor, count: Any = None, **options: Any) -> Tensor:
    """Return a loss with a module's reduction; its mean divides by the count, where one is given.

    By the loss itself: a sum that is divided later rounds twice, overflows where the mean does not,
    and gives a gradient that was computed with the loss a cotangent that is not 1.
    """
    reduction = "mean" if module.reduction == "batchmean" else module.reduction
    normalizer = count if reduction == "mean" else None
    loss: Tensor = function(*arrays, reduction=reduction, normalizer=normalizer, **options)
    return loss


class CrossEntropyLoss(nn.CrossEntropyLoss):
    """:func:`xloss.cross_entropy` in the place of ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction, label_smoothing
        As in ``torch.nn.CrossEntropyLoss``. The mean of soft targets divides by the number of rows,
        as PyTorch's does, whatever the weights.
    z_loss, softcap
        As in :func:`xloss.cross_entropy`; PyTorch has neither.

    Notes
    -----
    Differs from PyTorch by what the module's docstring lists; and smoothing spreads over the
    classes that are possible (logit > -inf), where PyTorch's loss is infinite.

    Examples
    --------
    >>> import torch
    >>> from xloss.adapters.torch import CrossEntropyLoss
    >>> CrossEntropyLoss()(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    tensor(2.0612e-09)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        self.z_loss = z_loss
        self.softcap = softcap

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (N, C, ...) and labels (N, ...) or probabilities."""
        axis = _class_axis(input)
        rows = input.numel() // (input.shape[axis] or 1)
        return _loss(
            self,
            _losses.cross_entropy,
            input,
            target,
            count=rows if target.is_floating_point() else None,
            axis=axis,
            weight=self.weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            softcap=self.softcap,
        )


class NLLLoss(nn.NLLLoss):
    """:func:`xloss.nll_loss` in the place of ``torch.nn.NLLLoss``, same arguments.

    Differs from PyTorch by what the module's docstring lists.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of log-probabilities (N, C, ...) and labels (N, ...)."""
        axis, ignored = _class_axis(input), self.ignore_index
        of = (_losses.nll_loss, input, target)
        return _loss(self, *of, axis=axis, weight=self.weight, ignore_index=ignored)


class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """:func:`xloss.binary_cross_entropy_with_logits` in the place of PyTorch's, same arguments.

    The mean divides by the number of elements, as PyTorch's does, whatever the weights. Differs
    from PyTorch by what the module's docstring lists.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits and targets of one shape."""
        options = {"sample_weight": self.weight, "pos_weight": self.pos_weight}
        of = (_losses.binary_cross_entropy_with_logits, input, target)
        return _loss(self, *of, count=input.numel(), **options)


class BCELoss(nn.BCELoss):
    """:func:`xloss.binary_cross_entropy` in the place of ``torch.nn.BCELoss``, same arguments.

    The mean divides by the number of elements, as PyTorch's does, whatever the weights. Differs
    from PyTorch by what the module's docstring lists; and a certain and wrong probability costs
    infinity, where PyTorch clamps the logarithm and says 100.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of probabilities and targets of one shape."""
        of = (_losses.binary_cross_entropy, input, target)
        return _loss(self, *of, count=input.numel(), sample_weight=self.weight)


class KLDivLoss(nn.KLDivLoss):
    """:func:`xloss.kl_div` in the place of ``torch.nn.KLDivLoss``, same arguments.

    As in PyTorch "mean" divides by the number of elements, "batchmean" by the first axis' length,
    and "none" gives one number an element. Differs from PyTorch by what the module's docstring
    lists, and there is no warning that "mean" will change.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the divergence of log-probabilities from targets of the same shape."""
        # Each element is a row of one class: its divergence is the element's own term.
        rows = (input.unsqueeze(-1), target.unsqueeze(-1))
        by_batch = self.reduction == "batchmean" and input.ndim
        count = input.shape[0] if by_batch else input.numel()
        return _loss(self, _losses.kl_div, *rows, count=count, log_target=self.log_target)


class MultiLabelSoftMarginLoss(nn.MultiLabelSoftMarginLoss):
    """:func:`xloss.binary_cross_entropy_with_logits`, the mean over the last axis, as PyTorch's.

    Same arguments; weights are those of classes. Differs by what the module's docstring lists.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (..., C) and bits of the same shape."""
        of = (_losses.binary_cross_entropy_with_logits, input, target)
        loss = _loss(self, *of, count=input.numel(), sample_weight=self.weight)
        if self.reduction == "none":
            return loss.mean(-1)
        return loss / (input.shape[-1] or 1) if self.reduction == "sum" else loss


class SoftMarginLoss(nn.SoftMarginLoss):
    """:func:`xloss.binary_cross_entropy_with_logits` of targets -1 and 1, as PyTorch's.

    Same arguments. Differs by what the module's docstring lists: PyTorch's overflows to infinity
    from 89 on. Every target above 0 is taken as 1, every other as -1.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of scores and targets -1 and 1 of one shape."""
        return _loss(self, _losses.binary_cross_entropy_with_logits, input, target > 0)
