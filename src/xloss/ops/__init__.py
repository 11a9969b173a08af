"""What stands around a loss: log-sum-exp, softmax, targets made, penalties, counts."""

from .numbers import l2_penalty, perplexity
from .softmax import log_softmax, logsumexp, softmax
from .targets import effective_count, one_hot, smooth_labels

__all__ = [
    "effective_count",
    "l2_penalty",
    "log_softmax",
    "logsumexp",
    "one_hot",
    "perplexity",
    "smooth_labels",
    "softmax",
]
