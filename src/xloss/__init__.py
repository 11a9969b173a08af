"""The cross-entropy family, written once against the Python Array API standard."""

from .engines import EngineUnavailable, engines, use_engine
from .gradients import value_and_grad
from .losses.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    sigmoid_focal_loss,
)
from .losses.divergence import entropy, kl_div
from .losses.softmax import CrossEntropyLoss, cross_entropy, focal_loss, log_loss, nll_loss

__all__ = [
    "CrossEntropyLoss",
    "EngineUnavailable",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "engines",
    "entropy",
    "focal_loss",
    "kl_div",
    "log_loss",
    "nll_loss",
    "sigmoid_focal_loss",
    "use_engine",
    "value_and_grad",
]
__version__ = "0.1.0"
