"""The losses that `xloss eval --loss` knows: what each reads from its files, and its options."""

from __future__ import annotations

from dataclasses import dataclass

from .output import fail

SCORES = "logits"
LOG_PROBABILITIES = "log-probabilities"
PROBABILITIES = "probabilities"
CLASS_OPTIONS = frozenset({"axis", "weight", "ignore_index", "label_smoothing", "shift"})
ELEMENTWISE = (
    "this loss judges each element by itself; exp(loss) is a perplexity only where a whole "
    "distribution over classes is judged"
)
FOCAL = "the focal loss is no negative log-likelihood, so exp(loss) is no perplexity"
DIVERGENCE = (
    "the divergence leaves the targets' own entropy out; the perplexity is exp of the cross-entropy"
)


@dataclass(frozen=True, slots=True)
class LossChoice:
    """One public loss of xloss, as the command line sees it."""

    name: str
    reads: str  # what the first file holds
    argument: str  # what the public function calls its first argument
    options: frozenset[str]  # the parameters that the command line may set
    has_classes: bool = True  # False: every element of the file is a row of its own
    takes_labels: bool = True  # False: the targets can only be probabilities
    no_perplexity: str | None = None  # why exp(loss) is no perplexity


def _elementwise(name: str, reads: str, argument: str, *options: str) -> LossChoice:
    return LossChoice(
        name, reads, argument, frozenset(options), has_classes=False, no_perplexity=ELEMENTWISE
    )


CHOICES = {
    choice.name: choice
    for choice in (
        LossChoice("cross_entropy", SCORES, "logits", CLASS_OPTIONS),
        LossChoice("nll_loss", LOG_PROBABILITIES, "log_probs", CLASS_OPTIONS),
        LossChoice("log_loss", PROBABILITIES, "probs", CLASS_OPTIONS | {"eps"}),
        LossChoice("focal_loss", SCORES, "logits", CLASS_OPTIONS | {"gamma"}, no_perplexity=FOCAL),
        LossChoice(
            "kl_div",
            LOG_PROBABILITIES,
            "log_probs",
            frozenset({"axis"}),
            takes_labels=False,
            no_perplexity=DIVERGENCE,
        ),
        _elementwise("binary_cross_entropy_with_logits", SCORES, "logits", "label_smoothing"),
        _elementwise("binary_cross_entropy", PROBABILITIES, "probs", "label_smoothing", "eps"),
        _elementwise("sigmoid_focal_loss", SCORES, "logits", "gamma", "alpha"),
    )
}


def choice_of(loss: str) -> LossChoice:
    """Return the loss of this name, or refuse the name."""
    if loss not in CHOICES:
        fail(f"--loss {loss}: expected one of {', '.join(CHOICES)}")
    return CHOICES[loss]
