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


def _mean_over(count: Any, function: Any, module: Any, *arrays: Tensor, **options: Any) -> Tensor:
    """Return a loss whose mean divides by a count, where xloss would divide by the weights' sum.

    By the loss itself: a sum that is divided later rounds twice, overflows where the mean does not,
    and gives a gradient that was computed with the loss a cotangent that is not 1.
    """
    reduction = "mean" if module.reduction == "batchmean" else module.reduction
    if reduction == "mean":
        options["normalizer"] = count
    loss: Tensor = function(*arrays, reduction=reduction, **options)
    return loss


_DEFAULTS = {
    "ignore_index": -100,
    "label_smoothing": 0.0,
    "z_loss": 0.0,
    "softcap": None,
    "log_target": False,
    "reduction": "mean",
}


class _Shown:
    def extra_repr(self) -> str:
        """Show the options that are not PyTorch's defaults."""
        found = {name: getattr(self, name, default) for name, default in _DEFAULTS.items()}
        return ", ".join(f"{k}={v!r}" for k, v in found.items() if v != _DEFAULTS[k])


class CrossEntropyLoss(_Shown, nn.CrossEntropyLoss):
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
        options = {
            "axis": axis,
            "weight": self.weight,
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing,
            "z_loss": self.z_loss,
            "softcap": self.softcap,
        }
        function = _losses.cross_entropy
        if target.is_floating_point():
            rows = input.numel() // (input.shape[axis] or 1)
            return _mean_over(rows, function, self, input, target, **options)
        loss: Tensor = function(input, target, reduction=self.reduction, **options)
        return loss


class NLLLoss(_Shown, nn.NLLLoss):
    """:func:`xloss.nll_loss` in the place of ``torch.nn.NLLLoss``, same arguments.

    Differs from PyTorch by what the module's docstring lists.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of log-probabilities (N, C, ...) and labels (N, ...)."""
        loss: Tensor = _losses.nll_loss(
            input,
            target,
            axis=_class_axis(input),
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )
        return loss


class BCEWithLogitsLoss(_Shown, nn.BCEWithLogitsLoss):
    """:func:`xloss.binary_cross_entropy_with_logits` in the place of PyTorch's, same arguments.

    The mean divides by the number of elements, as PyTorch's does, whatever the weights. Differs
    from PyTorch by what the module's docstring lists.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits and targets of one shape."""
        options = {"sample_weight": self.weight, "pos_weight": self.pos_weight}
        function = _losses.binary_cross_entropy_with_logits
        return _mean_over(input.numel(), function, self, input, target, **options)


class BCELoss(_Shown, nn.BCELoss):
    """:func:`xloss.binary_cross_entropy` in the place of ``torch.nn.BCELoss``, same arguments.

    The mean divides by the number of elements, as PyTorch's does, whatever the weights. Differs
    from PyTorch by what the module's docstring lists; and a certain and wrong probability costs
    infinity, where PyTorch clamps the logarithm and says 100.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of probabilities and targets of one shape."""
        function = _losses.binary_cross_entropy
        return _mean_over(input.numel(), function, self, input, target, sample_weight=self.weight)


class KLDivLoss(_Shown, nn.KLDivLoss):
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
        return _mean_over(count, _losses.kl_div, self, *rows, log_target=self.log_target)


class MultiLabelSoftMarginLoss(_Shown, nn.MultiLabelSoftMarginLoss):
    """:func:`xloss.binary_cross_entropy_with_logits`, the mean over the last axis, as PyTorch's.

    Same arguments; weights are those of classes. Differs by what the module's docstring lists.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (..., C) and bits of the same shape."""
        function = _losses.binary_cross_entropy_with_logits
        loss = _mean_over(input.numel(), function, self, input, target, sample_weight=self.weight)
        if self.reduction == "none":
            return loss.mean(-1)
        return loss / (input.shape[-1] or 1) if self.reduction == "sum" else loss


class SoftMarginLoss(_Shown, nn.SoftMarginLoss):
    """:func:`xloss.binary_cross_entropy_with_logits` of targets -1 and 1, as PyTorch's.

    Same arguments. Differs by what the module's docstring lists: PyTorch's overflows to infinity
    from 89 on. Every target above 0 is taken as 1, every other as -1.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of scores and targets -1 and 1 of one shape."""
        loss: Tensor = _losses.binary_cross_entropy_with_logits(
            input, target > 0, reduction=self.reduction
        )
        return loss
