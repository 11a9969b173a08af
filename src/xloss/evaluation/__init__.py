"""Batches in, one mergeable record of loss, perplexity, accuracy and counts."""

from .record import Evaluation, EvaluationResult

__all__ = ["Evaluation", "EvaluationResult"]
