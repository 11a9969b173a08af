"""What users see: the signatures of the contract, to the letter."""

import inspect

import pytest

import xloss

CLASSES = (
    "(logits, targets, /, *, axis=-1, weight=None, sample_weight=None, where=None, "
    "ignore_index=-100, label_smoothing=0.0, z_loss=0.0, softcap=None, reduction='mean', "
    "normalizer=None, validate='auto')"
)
NO_LOGITS = CLASSES.replace("z_loss=0.0, softcap=None, ", "")
SIGNATURES = {
    "cross_entropy": CLASSES,
    "nll_loss": NO_LOGITS.replace("logits", "log_probs"),
    "log_loss": NO_LOGITS.replace("logits", "probs").replace("'auto')", "'auto', eps=None)"),
    "focal_loss": CLASSES.replace("axis=-1", "gamma=2.0, axis=-1").replace("z_loss=0.0, ", ""),
    "binary_cross_entropy_with_logits": (
        "(logits, targets, /, *, pos_weight=None, sample_weight=None, where=None, "
        "label_smoothing=0.0, reduction='mean', normalizer=None)"
    ),
    "binary_cross_entropy": (
        "(probs, targets, /, *, sample_weight=None, where=None, label_smoothing=0.0, eps=None, "
        "reduction='mean', normalizer=None)"
    ),
    "sigmoid_focal_loss": (
        "(logits, targets, /, *, gamma=2.0, alpha=None, sample_weight=None, where=None, "
        "reduction='mean', normalizer=None)"
    ),
    "kl_div": (
        "(log_probs, targets, /, *, axis=-1, log_target=False, sample_weight=None, where=None, "
        "reduction='mean', normalizer=None)"
    ),
    "entropy": "(logits, /, *, axis=-1)",
    "linear_cross_entropy": CLASSES.replace("logits", "features, weight").replace(
        "axis=-1, weight=None", "bias=None, class_weight=None, block_rows='auto', group=None"
    ),
    "vocab_parallel_cross_entropy": CLASSES.replace("logits", "logits_shard").replace(
        "axis=-1, weight=None", "group, weight=None"
    ),
    "value_and_grad": "(loss, argnums=0)",
    "logsumexp": "(x, /, *, axis=-1, keepdims=False)",
    "log_softmax": "(x, /, *, axis=-1)",
    "softmax": "(x, /, *, axis=-1)",
    "one_hot": "(labels, num_classes, /, *, axis=-1, dtype=None)",
    "smooth_labels": "(probs, epsilon, /, *, axis=-1, where=None)",
    "l2_penalty": "(params, /, *, strength)",
    "perplexity": "(loss, /)",
    "effective_count": (
        "(targets, /, *, axis=-1, weight=None, sample_weight=None, where=None, ignore_index=-100)"
    ),
    "engines": "()",
    "use_engine": "(name)",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    found = inspect.signature(getattr(xloss, name))
    bare = found.replace(
        parameters=[p.replace(annotation=p.empty) for p in found.parameters.values()],
        return_annotation=found.empty,
    )
    assert str(bare) == SIGNATURES[name]


@pytest.mark.parametrize("name", sorted(xloss.__all__))
def test_what_is_public_is_there_and_documented(name):
    thing = getattr(xloss, name)
    assert thing.__doc__
    assert thing.__doc__.strip().splitlines()[0].endswith((".", "``.", ":"))


SECTIONS = ("Parameters", "Returns", "Raises", "References", "Examples")


@pytest.mark.parametrize("name", sorted(set(SIGNATURES) - {"engines", "use_engine"}))
def test_a_docstring_has_every_section_and_names_every_parameter(name):
    text = inspect.getdoc(getattr(xloss, name))
    positions = [text.find(f"\n{section}\n---") for section in SECTIONS]
    assert -1 not in positions, dict(zip(SECTIONS, positions, strict=True))
    assert positions == sorted(positions)
    head = text[positions[0] : positions[1]]
    named = {n.strip() for line in head.splitlines() if line[:1].strip() for n in line.split(",")}
    assert set(inspect.signature(getattr(xloss, name)).parameters) <= named
