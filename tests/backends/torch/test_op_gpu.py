"""Losses on a GPU under torch.compile: an operation for the loss, one for the gradient."""

import warnings
from itertools import product

import pytest

import xloss
from emulated import COMPILER, emulated
from xloss.core.call import LossCall
from xloss.core.options import Operands, Options
from xloss.engines.cuda import engine as cuda

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
custom_op = pytest.importorskip("xloss.backends.torch.custom_op")
from functorch.compile import make_boxed_func  # noqa: E402
from torch._dynamo.backends.common import aot_autograd  # noqa: E402

ROWS, CLASSES = 6, 50
on_emulated = pytest.mark.skipif(COMPILER is None, reason="no g++, which compiles the kernels")
quiet = pytest.mark.filterwarnings("ignore:`torch.jit.script")  # inductor's own import


@pytest.fixture
def _taken(monkeypatch):
    """Take the host's tensors for a GPU's."""
    monkeypatch.setattr(custom_op, "DEVICE", "cpu")
    monkeypatch.setattr(cuda, "unavailable", lambda: None)


def inputs(dtype=torch.float32, shape=(ROWS, CLASSES)):
    torch.manual_seed(0)
    x = (3 * torch.randn(shape)).to(dtype)
    return x.requires_grad_(), torch.randint(shape[-1], shape[:-1])


def graphs(x, y):
    """Return the graphs of the loss and of its gradient that the compiler is given."""
    found = []

    def look(graph, _):
        found.append(graph.graph)
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=look, bw_compiler=look)
    compiled = torch.compile(xloss.cross_entropy, backend=backend, fullgraph=True, dynamic=False)
    compiled(x, y).backward()
    return found


def of_logits_size(graph):
    """Return the operations that read or write an array of the logits' size."""

    def large(node):
        return getattr(node.meta.get("val"), "shape", ()) == (ROWS, CLASSES)

    calls = [node for node in graph.nodes if node.op == "call_function"]
    return [str(n.target) for n in calls if large(n) or any(map(large, n.all_input_nodes))]


def exporting_up_to_2_12():
    """Answer as torch.compiler.is_exporting did: True wherever Dynamo traces the question."""
    return torch.compiler.is_dynamo_compiling()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("_taken")
def test_one_operation_reads_the_logits_and_one_writes_the_gradient(monkeypatch, old, dtype):
    if old:
        monkeypatch.setattr(torch.compiler, "is_exporting", exporting_up_to_2_12, raising=False)
    forward, backward = graphs(*inputs(dtype))
    assert of_logits_size(forward) == ["xloss.cross_entropy.default"]
    assert of_logits_size(backward) == ["xloss.cross_entropy_backward.default"]
    # Each operation of the compiler's own would be a launch more, and takes the host as long.
    other = [str(n.target) for g in (forward, backward) for n in g.nodes if "aten" in str(n.target)]
    assert set(other) <= {"aten.detach.default"}  # which computes nothing


LAYOUTS = {
    "classes first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "rows permuted": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every other row": lambda x: x[::2],
}


@quiet
@on_emulated
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("_taken")
def test_logits_in_any_memory_order(reduction, layout):
    """A compiled graph asserts how a gradient lies in memory."""
    x, y = inputs(shape=(4, 3, CLASSES))
    x = LAYOUTS[layout](x.detach()).requires_grad_()
    y = y[: len(x)]

    def loss(x, y):
        return xloss.cross_entropy(x, y, reduction=reduction).sum()

    with emulated():
        torch.compile(loss, fullgraph=True)(x, y).backward()
        mine, x.grad = x.grad, None
        loss(x, y).backward()
    assert torch.equal(mine, x.grad)


OPTIONS = {
    "sum": {"reduction": "sum", "sample_weight": torch.linspace(0, 1, ROWS)},
    "weights": {"weight": torch.linspace(0.5, 2, CLASSES), "label_smoothing": 0.1, "softcap": 5.0},
    "denominator": {"normalizer": torch.tensor(7.0), "where": torch.arange(ROWS) != 2},
    "rows": {"reduction": "none", "where": torch.arange(ROWS) != 2},
}


@on_emulated
@pytest.mark.parametrize(
    ("options", "soft"), [*product(OPTIONS, [False]), ("rows", True), ("weights", True)]
)
@pytest.mark.parametrize("engine", ["cuda", "generic"])
@pytest.mark.usefixtures("_taken")
def test_every_option_by_either_engine(options, soft, engine):
    """The engine that is asked for where the graph runs computes it."""
    given, (x, y) = OPTIONS[options], inputs()
    if soft:
        y = torch.softmax(torch.randn(ROWS, CLASSES), -1)
    with emulated() as gpu:
        compiled = torch.compile(
            lambda x, y: xloss.cross_entropy(x, y, **given), backend="aot_eager", fullgraph=True
        )
        compiled(x, y)
        made = len(gpu.launches)
        assert made
        with xloss.use_engine(engine):
            got = compiled(x, y)
            (3.0 * got).sum().backward()
        assert len(gpu.launches) - made == (2 if engine == "cuda" else 0)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x, y), got, rtol=1e-6, atol=1e-7)
    mine, x.grad = x.grad, None
    want = xloss.cross_entropy(x, y, **given)
    (3.0 * want).sum().backward()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(mine, x.grad, rtol=1e-5, atol=1e-8)


@on_emulated
@pytest.mark.usefixtures("_taken")
def test_a_number_of_rows_that_nobody_knows_none_too():
    with emulated() as gpu:
        compiled = torch.compile(xloss.cross_entropy, backend="aot_eager", fullgraph=True)
        for rows in (4, 7, 0):
            x, y = inputs(shape=(rows, CLASSES))
            for a in (x, y):
                torch._dynamo.decorators.mark_unbacked(a, 0)
            made = len(gpu.launches)
            value = compiled(x, y)
            value.backward()
            assert len(gpu.launches) - made == (2 if rows else 0)
            mine, x.grad = x.grad, None
            want = xloss.cross_entropy(x, y)
            want.backward()
            assert torch.equal(value, want)
            assert torch.equal(mine, x.grad)


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
