"""The losses that `xloss eval --loss` knows: what each reads from its files, and its options."""

from __future__ import annotations

from dataclasses import dataclass

# What the first file may hold -> what the public functions call an argument of that kind.
ARGUMENTS = {"logits": "logits", "log-probabilities": "log_probs", "probabilities": "probs"}
SCORES, LOG_PROBABILITIES, PROBABILITIES = ARGUMENTS
CLASS_OPTIONS = frozenset({"axis", "weight", "ignore_index", "label_smoothing", "shift"})
NO_PERPLEXITY = (
    "exp(loss) is a perplexity only of a negative log-likelihood of a whole distribution over "
    "classes"
)


@dataclass(frozen=True, slots=True)
class LossChoice:
    """One public loss of xloss, as the command line sees it."""

    name: str
    reads: str  # what the first file holds
    options: frozenset[str]  # the parameters that the command line may set
    takes_labels: bool = True  # False: the targets can only be probabilities
    has_perplexity: bool = False

    @property
    def has_classes(self) -> bool:
        """Whether a row has classes; otherwise every element of the file is a row of its own."""
        return "axis" in self.options


CHOICES = {
    choice.name: choice
    for choice in (
        LossChoice("cross_entropy", SCORES, CLASS_OPTIONS, has_perplexity=True),
        LossChoice("nll_loss", LOG_PROBABILITIES, CLASS_OPTIONS, has_perplexity=True),
        LossChoice("log_loss", PROBABILITIES, CLASS_OPTIONS | {"eps"}, has_perplexity=True),
        LossChoice("focal_loss", SCORES, CLASS_OPTIONS | {"gamma"}),
        LossChoice("kl_div", LOG_PROBABILITIES, frozenset({"axis"}), takes_labels=False),
        LossChoice("binary_cross_entropy_with_logits", SCORES, frozenset({"label_smoothing"})),
        LossChoice("binary_cross_entropy", PROBABILITIES, frozenset({"label_smoothing", "eps"})),
        LossChoice("sigmoid_focal_loss", SCORES, frozenset({"gamma", "alpha"})),
    )
}
