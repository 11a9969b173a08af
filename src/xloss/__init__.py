"""The cross-entropy family, written once against the Python Array API standard."""

from .capabilities import capabilities
from .diagnose import diagnose
from .engines import EngineUnavailable, engines, use_engine
from .evaluation import Evaluation
from .gradients import value_and_grad
from .losses.binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    sigmoid_focal_loss,
)
from .losses.cross_entropy import cross_entropy
from .losses.cross_entropy_class import CrossEntropyLoss
from .losses.divergence import entropy, kl_div
from .losses.focal import focal_loss
from .losses.linear import linear_cross_entropy
from .losses.log_loss import log_loss
from .losses.nll import nll_loss
from .losses.parallel import vocab_parallel_cross_entropy
from .losses.token_stats import TokenStats, linear_token_stats, token_stats
from .losses.top_k import TopKTargets
from .ops import (
    effective_count,
    l2_penalty,
    log_softmax,
    logsumexp,
    one_hot,
    perplexity,
    smooth_labels,
    softmax,
)

__all__ = [
    "CrossEntropyLoss",
    "EngineUnavailable",
    "Evaluation",
    "TokenStats",
    "TopKTargets",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "capabilities",
    "cross_entropy",
    "diagnose",
    "effective_count",
    "engines",
    "entropy",
    "focal_loss",
    "kl_div",
    "l2_penalty",
    "linear_cross_entropy",
    "linear_token_stats",
    "log_loss",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "one_hot",
    "perplexity",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax",
    "token_stats",
    "use_engine",
    "value_and_grad",
    "vocab_parallel_cross_entropy",
]
__version__ = "0.1.0"
