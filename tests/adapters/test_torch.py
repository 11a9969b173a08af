"""Modules of xloss in the place of torch.nn's: one import changed, and the same numbers.

Expected values are PyTorch's own losses in double precision; where the two differ, closed forms.
"""

import copy
import importlib
import inspect
import math
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; the `test` extra has it")
CompileCounter = importlib.import_module("torch._dynamo.testing").CompileCounter
nn = torch.nn
xnn = importlib.import_module("xloss.adapters.torch")

N, C = 6, 5


def made(*shape, seed=3):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LOGITS, MAPS = made(N, C), made(2, C, 3, 4)
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])
MARKED = torch.tensor([0, -100, 2, 2, -100, 3])
MAP_LABELS = torch.arange(24).reshape(2, 3, 4) % C
WEIGHT = torch.tensor([1.0, 0.5, 2.0, 3.0, 0.25], dtype=torch.float64)
SOFT = torch.softmax(made(N, C, seed=8), 1)
SOFT_MAPS = torch.softmax(made(2, C, 3, 4, seed=9), 1)
BITS = (made(N, C, seed=4) > 0).double()
ELEMENTS = made(N, C, seed=5).abs()

CASES = {
    "weight, ignored": ("CrossEntropyLoss", {"weight": WEIGHT}, LOGITS, MARKED),
    "smoothed": ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, LOGITS, LABELS),
    "maps": ("CrossEntropyLoss", {"weight": WEIGHT}, MAPS, MAP_LABELS),
    "no batch": ("CrossEntropyLoss", {}, LOGITS[0], LABELS[0]),
    "soft, unnormalised": ("CrossEntropyLoss", {}, LOGITS, 3 * SOFT),
    "soft maps": (
        "CrossEntropyLoss",
        {"weight": WEIGHT, "label_smoothing": 0.2},
        MAPS,
        SOFT_MAPS,
    ),
    "log-probabilities": ("NLLLoss", {"weight": WEIGHT}, LOGITS.log_softmax(1), MARKED),
    "binary": ("BCEWithLogitsLoss", {}, LOGITS, BITS),
    "binary, weights": (
        "BCEWithLogitsLoss",
        {"weight": ELEMENTS, "pos_weight": WEIGHT},
        LOGITS,
        BITS,
    ),
    "probabilities": ("BCELoss", {}, LOGITS.sigmoid(), BITS),
    "probabilities, weight": ("BCELoss", {"weight": WEIGHT}, LOGITS.sigmoid(), SOFT),
    "divergence of logs": ("KLDivLoss", {"log_target": True}, LOGITS.log_softmax(1), SOFT.log()),
    "divergence of maps": ("KLDivLoss", {}, MAPS.log_softmax(1), SOFT_MAPS),
    "multilabel": ("MultiLabelSoftMarginLoss", {"weight": WEIGHT}, LOGITS, BITS),
    "soft margin": ("SoftMarginLoss", {}, LOGITS, 2 * BITS - 1),
}


# PyTorch's own `kl_div` warns that its mean will change.
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")


@pytest.mark.parametrize(
    ("case", "reduction"),
    [
        *((case, reduction) for case in CASES for reduction in ("mean", "sum", "none")),
        *((case, "batchmean") for case, (name, *_) in CASES.items() if name == "KLDivLoss"),
    ],
)
def test_loss_and_gradient_are_pytorchs(case, reduction):
    name, options, x, target = CASES[case]
    results = []
    for where in (xnn, nn):
        leaf = x.clone().requires_grad_()
        value = getattr(where, name)(**options, reduction=reduction)(leaf, target)
        value.backward(torch.ones_like(value))
        results.append((value.detach(), leaf.grad))
    (ours, our_grad), (theirs, their_grad) = results
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=4e-15, atol=1e-15)
    torch.testing.assert_close(our_grad, their_grad, rtol=1e-14, atol=4e-16)


def test_the_constructor_takes_what_pytorchs_takes_in_pytorchs_order():
    """Of the class that has one of its own."""
    theirs = inspect.signature(nn.CrossEntropyLoss).parameters
    ours = inspect.signature(xnn.CrossEntropyLoss).parameters
    shared = [(k, p.default) for k, p in ours.items() if p.kind is not p.KEYWORD_ONLY]
    assert shared == [(k, p.default) for k, p in theirs.items()]
    with pytest.warns(UserWarning, match="size_average"):
        assert xnn.CrossEntropyLoss(None, False).reduction == "sum"


def test_the_weight_is_a_buffer():
    loss = xnn.CrossEntropyLoss(weight=WEIGHT, z_loss=0.5)
    assert [name for name, _ in loss.named_buffers()] == ["weight"]
    assert not list(loss.parameters())
    assert loss.to(torch.float32).weight.dtype == torch.float32
    other = xnn.CrossEntropyLoss(weight=torch.zeros(C, dtype=torch.float64))
    other.load_state_dict(nn.CrossEntropyLoss(weight=WEIGHT).state_dict())
    torch.testing.assert_close(other.weight, WEIGHT, rtol=0, atol=0)
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        torch.testing.assert_close(again(LOGITS, LABELS), loss(LOGITS, LABELS), rtol=0, atol=0)
        assert (again.z_loss, again.softcap) == (0.5, None)


@pytest.mark.parametrize(
    ("name", "options", "target"),
    [
        ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, LABELS),
        ("CrossEntropyLoss", {"weight": WEIGHT}, SOFT),
        ("BCEWithLogitsLoss", {"weight": WEIGHT}, SOFT),
        ("BCEWithLogitsLoss", {}, SOFT),
        ("KLDivLoss", {}, SOFT),
    ],
)
def test_compiled_and_exported_with_its_weight_and_of_any_batch(name, options, target):
    loss, rows = getattr(xnn, name)(**options), torch.export.Dim("rows", min=2)
    exported = torch.export.export(
        loss, (LOGITS, target), dynamic_shapes={"input": {0: rows}, "target": {0: rows}}
    )
    assert ("weight" in dict(exported.named_buffers())) == ("weight" in options)
    graphs = CompileCounter()
    compiled = torch.compile(loss, fullgraph=True, backend=graphs, dynamic=True)
    for count in (N, 5, 4, 3):
        expected = getattr(nn, name)(**options)(LOGITS[:count], target[:count])
        for made in (exported.module(), compiled):
            got = made(LOGITS[:count], target[:count])
            torch.testing.assert_close(got, expected, rtol=4e-15, atol=0)
    # Not one for each size; the first call of a class may be traced twice, as it imports modules.
    assert graphs.frame_count <= 2


def single(*values):
    return torch.tensor([values], dtype=torch.float32)


LARGE, FAR = (single(0.0, 2e38).expand(4, 2), single(1.0, 0.0).expand(4, 2)), 2e38
INF, FIRST, LOG2, EMPTY = math.inf, torch.tensor([0]), math.log(2), torch.zeros(0, 3)
# What the modules add to functions that the suite judges, or have otherwise than PyTorch's.
DIFFERENT = {
    **{
        f"nothing at all, {name}": (name, {}, (EMPTY, EMPTY), 0.0)
        for name in (
            "CrossEntropyLoss",
            "BCEWithLogitsLoss",
            "KLDivLoss",
            "MultiLabelSoftMarginLoss",
        )
    },
    "a mean whose sum overflows": ("CrossEntropyLoss", {}, LARGE, FAR),
    "the same of bits": ("BCEWithLogitsLoss", {}, (LARGE[0], 0 * LARGE[1]), FAR / 2),
    "the same of log-probabilities": ("KLDivLoss", {}, (-LARGE[0], 1 - LARGE[1]), FAR / 2),
    "z_loss": ("CrossEntropyLoss", {"z_loss": 0.5}, (single(0, 0), FIRST), LOG2 + LOG2**2 / 2),
    "softcap": (
        "CrossEntropyLoss",
        {"softcap": 2.0},
        (single(2.0, 0.0), FIRST),
        math.log1p(math.exp(-2 * math.tanh(1))),
    ),
    "certain and wrong": ("BCELoss", {}, (single(0.0), single(1.0)), INF),
    "a large margin": ("SoftMarginLoss", {}, (single(200.0), single(-1.0)), 200.0),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_is_different(case):
    name, options, arguments, expected = DIFFERENT[case]
    got = getattr(xnn, name)(**options)(*arguments)
    assert got.item() == pytest.approx(expected, rel=2e-7, abs=0)
