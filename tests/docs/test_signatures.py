"""What users see: the signatures of the contract, to the letter."""

import inspect
import json
import operator
import pickle
from types import FunctionType

import pytest

import xloss

CLASSES = (
    "(logits, targets, /, *, axis=-1, weight=None, sample_weight=None, where=None, "
    "ignore_index=-100, label_smoothing=0.0, z_loss=0.0, softcap=None, reduction='mean', "
    "normalizer=None, validate='auto')"
)
NO_LOGITS = CLASSES.replace("z_loss=0.0, softcap=None, ", "")
TOKENS = CLASSES.replace("axis", "rank=False, axis").replace(
    "reduction='mean', normalizer=None, ", ""
)
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
    "token_stats": TOKENS,
    "linear_token_stats": TOKENS.replace("logits", "features, weight").replace(
        "axis=-1, weight=None", "bias=None, class_weight=None, block_rows='auto'"
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


# It is decorated: `contextmanager` keeps the generator as `__wrapped__`.
PLAIN = sorted(set(SIGNATURES) - {"use_engine"})


@pytest.mark.parametrize("name", PLAIN)
def test_a_public_function_is_itself_and_has_types(name):
    """Neither decorated nor a place to keep things: its own lines are what a traceback shows.

    `Any` is what a group of ranks and a library's own dtype are: nobody has a type for these.
    """
    function = getattr(xloss, name)
    assert type(function) is FunctionType
    assert vars(function) == {}
    assert pickle.loads(pickle.dumps(function)) is function
    loose = {said for said, hint in function.__annotations__.items() if hint in ("Any", "str")}
    assert loose <= {"group", "dtype"}
    assert {*function.__annotations__} == {*inspect.signature(function).parameters, "return"}


SECTIONS = ("Parameters", "Returns", "Raises", "See Also", "References", "Examples")
DOCUMENTED = sorted(set(SIGNATURES) - {"engines", "use_engine"})


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_has_every_section(name):
    text = inspect.getdoc(getattr(xloss, name))
    positions = [text.find(f"\n{section}\n{'-' * len(section)}\n") for section in SECTIONS]
    assert -1 not in positions, dict(zip(SECTIONS, positions, strict=True))
    assert positions == sorted(positions)


def parameters(thing):
    """Return what a docstring says a parameter is, by its name: the text after the colon."""
    text = inspect.getdoc(thing)
    head = text[text.index("\nParameters\n") :].split("\n\n")[0]
    lines = [line for line in head.splitlines()[3:] if line[:1].strip()]
    said = [line.partition(" : ")[::2] for line in lines]
    return {name: what for names, what in said for name in names.split(", ")}


SAID = [*DOCUMENTED, "CrossEntropyLoss", "diagnose", "Evaluation.update"]


@pytest.mark.parametrize("name", SAID)
def test_a_docstring_says_what_each_parameter_is_and_its_default(name):
    thing = operator.attrgetter(name)(xloss)
    said = parameters(thing)
    # No docstring sends its reader elsewhere for a parameter.
    assert "As in" not in inspect.getdoc(thing)
    assert ", as in :func:" not in inspect.getdoc(thing)
    taken = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    assert list(said) == [p.name for p in taken]
    for parameter in (p for p in taken if p.default not in (p.empty, None)):
        shown = parameter.default
        shown = json.dumps(shown) if isinstance(shown, str) else repr(shown)
        assert said[parameter.name].endswith(f", default {shown}")
    assert {n for n, what in said.items() if not what} <= {"group"}
