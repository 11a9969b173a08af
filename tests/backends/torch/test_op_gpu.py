"""Losses on a GPU under torch.compile: an operation for the loss, one for the gradient."""

import warnings
from itertools import product

import pytest

import xloss
from emulated import emulated
from torch_cases import compiled, graphs, torch
from xloss.core.call import LossCall
from xloss.core.options import Operands, Options
from xloss.engines.cuda import engine as cuda

custom_op = pytest.importorskip("xloss.backends.torch.custom_op")

ROWS, CLASSES = 6, 50


@pytest.fixture
def gpu(monkeypatch):
    """Take the host's tensors for a GPU's."""
    monkeypatch.setattr(custom_op, "DEVICE", "cpu")
    with emulated() as made:
        yield made


def inputs(dtype=torch.float32, rows=ROWS):
    torch.manual_seed(0)
    x = (3 * torch.randn(rows, CLASSES)).to(dtype)
    return x.requires_grad_(), torch.randint(CLASSES, (rows,))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("gpu")
def test_one_operation_reads_the_logits_and_one_writes_the_gradient(monkeypatch, old, dtype):
    """Each operation of the compiler's own would be a launch more, and takes the host as long."""
    if old:  # up to 2.12 the answer was True wherever Dynamo traced the question
        answer = torch.compiler.is_dynamo_compiling
        monkeypatch.setattr(torch.compiler, "is_exporting", answer, raising=False)
    free = ("getitem", "aten.detach.default")  # which compute nothing
    for graph, name in zip(
        graphs(xloss.cross_entropy, *inputs(dtype)), ("", "_backward"), strict=True
    ):
        called = [str(n.target) for n in graph.nodes if n.op == "call_function"]
        assert [c for c in called if not any(f in c for f in free)] == [
            f"xloss.cross_entropy{name}.default"
        ]


OPTIONS = {
    "sum": {"reduction": "sum", "sample_weight": torch.linspace(0, 1, ROWS)},
    "weights": {"weight": torch.linspace(0.5, 2, CLASSES), "label_smoothing": 0.1, "softcap": 5.0},
    "denominator": {"normalizer": torch.tensor(7.0), "where": torch.arange(ROWS) != 2},
    "rows": {"reduction": "none", "where": torch.arange(ROWS) != 2},
}


@pytest.mark.parametrize(
    ("options", "soft"), [*product(OPTIONS, [False]), ("rows", True), ("weights", True)]
)
def test_every_option_by_either_engine(options, soft, gpu):
    """The engine that is asked for where the graph runs computes it, of one graph."""
    given, (x, y) = OPTIONS[options], inputs()
    if soft:
        y = torch.softmax(torch.randn(ROWS, CLASSES), -1)

    def loss(x, y):
        return xloss.cross_entropy(x, y, **given)

    traced = compiled(loss)
    traced(x, y)
    want = loss(x, y)
    (slope,) = torch.autograd.grad(3.0 * want.sum(), x)
    for engine in ("cuda", "generic"):
        made = len(gpu.launches)
        assert made
        with xloss.use_engine(engine):
            got = traced(x, y)
            (mine,) = torch.autograd.grad(3.0 * got.sum(), x)
        assert len(gpu.launches) - made == (2 if engine == "cuda" else 0)
        with torch.no_grad():
            torch.testing.assert_close(traced(x, y), got, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(mine, slope, rtol=1e-5, atol=1e-8)


def test_a_number_of_rows_that_nobody_knows_none_too(gpu):
    traced = compiled(xloss.cross_entropy)
    for rows in (4, 7, 0):
        x, y = inputs(rows=rows)
        for a in (x, y):
            torch._dynamo.decorators.mark_unbacked(a, 0)
        made = len(gpu.launches)
        value = traced(x, y)
        (mine,) = torch.autograd.grad(value, x)
        assert len(gpu.launches) - made == (2 if rows else 0)
        want = xloss.cross_entropy(x, y)
        assert torch.equal(value, want)
        assert torch.equal(mine, torch.autograd.grad(want, x)[0])


def test_a_compiler_that_asks_the_engine_warns_of_nothing():
    """As every loss under torch.compile does that is not kept whole, on a GPU."""
    x, y = inputs()

    def refused(x):
        from xloss._arrays.context import context
        from xloss._arrays.inspect import namespace

        cx = context(x, namespace(x))._replace(device=torch.device("cuda"))
        reason = cuda.refuses(LossCall("", Options("cross_entropy"), cx, Operands(x, y), 5))
        return x if reason is None else -x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = torch.compile(refused, backend="eager", fullgraph=True)(x)
    assert torch.equal(got, -x)
