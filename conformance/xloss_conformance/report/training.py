"""What a mistake means in training: one sentence for each rule, each kind of error, each family.

A reader who does not know the suite's words asks three things of a failure: what came out, when it
is met, and whether it matters. `mistakes.py` answers the first from the numbers; the other two
answers stand here. They claim no more than the documentation of xloss does, and a rule or a family
that has none fails a test.
"""

from __future__ import annotations

from typing import NamedTuple

YES, SOMETIMES, NO = "matters", "can matter", "does not matter"
ORDER = (YES, SOMETIMES, NO)


class Rule(NamedTuple):
    """A rule that is broken: what that is called, and what comes of it."""

    title: str
    training: str
    matters: str = SOMETIMES


class Effect(NamedTuple):
    """A number that is wrong in some way: what comes of it where only the loss is, and else."""

    of_loss: str
    of_gradient: str = ""  # where it is another
    matters: str = YES


class Family(NamedTuple):
    """What a family of cases is about, and when a training run meets it."""

    title: str
    met: str


RULES = {
    "value": Rule(
        "The loss is not exact",
        "The loss that is logged and compared is not that of the definition.",
    ),
    "gradient": Rule(
        "The gradient is not exact", "The optimizer's step is not the one that the loss asks for."
    ),
    "targets gradient": Rule(
        "The gradient to the targets is not exact",
        "Whatever makes the targets, such as a teacher that learns too, takes another step.",
    ),
    "nothing": Rule(
        "Padding leaks into the result",
        "What stands in padding changes the optimizer's step; a NaN there spoils every parameter.",
        YES,
    ),
    "raises": Rule(
        "A wrong call is answered",
        "A mistake in a shape, an option or a label is not reported: the run goes on with something"
        " that nobody asked for.",
    ),
    "runs": Rule(
        "A right call is refused", "A batch that has an answer ends the run with an error."
    ),
    "shape": Rule(
        "The result has another shape",
        "What follows stops, or broadcasts the result and computes something else.",
    ),
    "dtype": Rule(
        "The result has another dtype",
        "A loss of fewer bits shows fewer digits: small changes from step to step are lost.",
    ),
    "device": Rule(
        "The result is on another device",
        "Every step waits for a copy between devices, or the next operation refuses the array.",
    ),
    "input": Rule(
        "An argument is overwritten",
        "Whatever reads the logits or targets after the loss, a metric or the backward pass, reads"
        " other numbers.",
        YES,
    ),
    "repeat": Rule("The same call gives other bits", "A run cannot be repeated bit for bit."),
    "split": Rule(
        "A row depends on the batch around it",
        "The last digits of an example's loss change with its neighbours: runs of another batch"
        " size, or on more machines, cannot be compared bit for bit.",
    ),
}

EFFECTS = {
    "nan": Effect(
        "The loss is NaN; a gradient taken through it would be too, and with it every parameter.",
        "One NaN in a gradient spoils every parameter that it reaches, at the next step.",
    ),
    "infinite": Effect(
        "One infinite row makes the mean of the whole batch infinite.",
        "An infinite entry in a gradient spoils every parameter that it reaches, at the next step.",
    ),
    "hidden": Effect(
        "What is wrong with this row does not show: the mean looks like any other.",
        "What is wrong with this row does not show: the model is trained on it.",
    ),
    "wrong": Effect(
        "The loss that is logged and compared is that of something else.",
        "The optimizer follows something else than the loss that was asked for.",
    ),
    "small": Effect(
        "These rows’ share of the logged loss is lost, or has few right digits.",
        "These rows have no gradient any more, or a wrong one: nothing right is learnt from them.",
        SOMETIMES,
    ),
    "digits": Effect(
        "It is less than what the choice of the batch changes, but it always errs the same way.",
        matters=SOMETIMES,
    ),
    "rounding": Effect(
        "Only the last digits are off. Training does not notice; a test that compares two"
        " frameworks to the last digit does.",
        matters=NO,
    ),
}

FAMILIES = {
    "tail": Family("Confident rows", "rows of which the model is sure: most of them, late"),
    "offsets": Family("Large logits", "logits that are large, or that drift away together"),
    "infinities": Family("Infinite and NaN logits", "a logit that has overflowed"),
    "ties": Family("Equal logits", "classes that share the largest logit"),
    "masks": Family("Masked classes", "classes that are ruled out by a logit of -inf"),
    "absent": Family("Padding and ignored rows", "padding, whatever stands in it"),
    "all absent": Family("A batch of padding alone", "a batch, or a rank's share, with no label"),
    "empty": Family("An empty batch", "a batch without rows"),
    "one class": Family("A single class", "a head with one class"),
    "labels": Family("Labels", "labels that are out of range, or in a narrow integer dtype"),
    "options": Family("Weights, smoothing, reductions", "options, alone or together"),
    "z-loss": Family("z-loss", "the z-loss that keeps logits from drifting"),
    "softcap": Family("Capped logits", "a soft cap on the logits"),
    "axis": Family("Another class axis", "images and sequences whose classes are not last"),
    "layouts": Family("Memory layouts", "arrays that are transposed, sliced or read-only"),
    "split": Family("Rows of a batch", "the same example in another batch"),
    "sixteen bits": Family("Many rows", "sums over many rows, in sixteen bits above all"),
    "vocabulary": Family("Large vocabularies", "a vocabulary of 128,000 tokens"),
    "size": Family("More than 2^31 elements", "logits too large for a 32-bit index"),
    "upstream": Family("Scaled losses", "a loss that is scaled, or summed with others"),
    "soft gradient": Family("Gradients of soft targets", "soft targets: distillation, mixup"),
    "errors": Family("Mistakes in the call", "a shape, an option or a type that cannot be right"),
    "nll": Family("Log-probabilities", "a model that ends in log-softmax"),
    "log loss": Family("Probabilities", "a model that returns probabilities"),
    "focal": Family("Focal loss", "class imbalance, for which focal loss is taken"),
    "binary logits": Family("Binary logits", "labels that do not exclude each other"),
    "binary probabilities": Family("Binary probabilities", "a model that ends in a sigmoid"),
    "sigmoid focal": Family("Binary focal loss", "detection, where most anchors are background"),
    "kl": Family("Divergence", "distillation, and penalties on a policy's drift"),
    "entropy": Family("Entropy", "a bonus or a measure of certainty"),
    "linear": Family("The head and the loss in one", "a head whose logits are never made"),
    "top k": Family("Targets of few classes", "distillation from a teacher’s top classes"),
    "tokens": Family("Statistics of each row", "the training log: entropy, accuracy, rank"),
    "range": Family("Very large and very small weights", "weights of very different size"),
}

# Words of the suite -> what they mean, for a reader who meets them for the first time.
WORDS = {
    "ulp": "The distance between two neighbouring numbers of the result’s format. 1 ulp is a wrong"
    " last digit, in binary; in float32 about 8 million ulp are a result that is wrong altogether.",
    "budget": "How many ulp a result may be off before it counts as wrong. It follows from the"
    " arithmetic of the loss, entry by entry, and is the same for everybody.",
    "call": "One question: a loss is called on one small batch, with its options and in one"
    " precision, and its value and its gradient are compared with the exact answer.",
    "subject": "One implementation: the losses of one library, on its arrays, in one precision.",
    "family": "Cases that ask about the same thing.",
    "generic": "The plain way: xloss by the array library’s own operations, no compiled engine.",
    "not offered": "The library has no such loss, option or precision, so nothing was asked."
    " It counts neither as right nor as wrong.",
    "declared": "A failure that is known and listed with its reason; it does not count as new.",
    "gap": "How far the true class’s logit is ahead of the others.",
}
