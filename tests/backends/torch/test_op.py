"""Row losses as an operation of PyTorch's: checked by PyTorch, kept whole by its compiler."""

from itertools import product

import pytest

import xloss
from emulated import COMPILER, emulated
from nightly import core
from xloss.engines.cuda import engine as cuda
from xloss.gradients import prepared

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
torch_op = pytest.importorskip("xloss.backends.torch.custom_op")
torch_op_host = pytest.importorskip("xloss.backends.torch.custom_op_host")

OPTIONS = {
    "plain": {},
    "smooth": {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0},
    "weighted": {"weight": torch.linspace(0.5, 2, 50), "ignore_index": 3},
    "sum": {"reduction": "sum", "sample_weight": torch.linspace(0, 1, 7)},
    "rows": {"reduction": "none", "where": torch.arange(7) != 2},
}


def inputs(soft=False):
    torch.manual_seed(0)
    z = torch.randn(7, 50, requires_grad=True)
    return z, torch.softmax(torch.randn(7, 50), -1) if soft else torch.arange(7)


@pytest.fixture
def taken(monkeypatch):
    """Take the host's tensors too, and not by the host's own operation."""
    monkeypatch.setattr(torch_op, "DEVICE", "cpu")
    monkeypatch.setattr(torch_op_host, "takes", lambda call: False)
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    torch._dynamo.reset()


def test_pytorch_s_own_checks():
    z, y = inputs()
    given = (z, y, None, torch.rand(7), None, -100, 0.1, 0.0, None)
    torch.library.opcheck(torch.ops.xloss.cross_entropy_rows.default, given)
    z, soft = inputs(soft=True)
    given = (z, soft, torch.rand(50), None, torch.arange(7) > 1, None, 0.0, 0.1, 3.0)
    torch.library.opcheck(torch.ops.xloss.cross_entropy_rows.default, given)


@pytest.mark.parametrize(
    ("options", "soft"),
    core(
        product(OPTIONS, (False, True)),
        lambda options, soft: options in ("weighted", "rows") and soft == (options == "weighted"),
    ),
)
@pytest.mark.usefixtures("taken")
def test_the_compiler_keeps_it_whole(options, soft):
    given = OPTIONS[options]
    given = {k: v for k, v in given.items() if not (soft and k == "ignore_index")}
    z, t = inputs(soft)
    seen = []

    def look(graph, _):
        seen.append([str(node.target) for node in graph.graph.nodes])
        return graph

    compiled = torch.compile(
        lambda z, t: xloss.cross_entropy(z, t, **given), backend=look, fullgraph=True
    )
    got = compiled(z, t)
    got.sum().backward()
    whole = "cross_entropy_rows" if options == "rows" else "cuda_cross_entropy"
    assert any(whole in name for name in seen[0])
    mine, z.grad = z.grad, None
    want = xloss.cross_entropy(z, t, **given)
    want.sum().backward()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(mine, z.grad, rtol=1e-5, atol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(z, t), want, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # inductor's own import
@pytest.mark.usefixtures("taken")
def test_inductor_compiles_around_it():
    z, y = inputs()
    compiled = torch.compile(lambda z: xloss.cross_entropy(2 * z, y), fullgraph=True)
    compiled(z).backward()
    mine, z.grad = z.grad, None
    xloss.cross_entropy(2 * z, y).backward()
    torch.testing.assert_close(mine, z.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures("taken")
def test_what_it_leaves_to_plain_operations(monkeypatch):
    """Other losses, targets that want a gradient, an engine asked for; and where it is not."""
    z, soft = inputs(soft=True)

    def taken(loss=xloss.cross_entropy, targets=soft):
        return torch_op.takes(prepared(loss, z, targets))

    assert taken()
    assert not taken(xloss.focal_loss)
    assert not taken(targets=soft.requires_grad_())
    with xloss.use_engine("generic"):
        assert not taken()
    monkeypatch.setattr(cuda, "unavailable", lambda: "no GPU")
    assert not taken(targets=soft.detach())


@pytest.mark.skipif(COMPILER is None, reason="no g++ here, which compiles the kernels for the host")
def test_it_runs_the_cuda_engine():
    z, y = inputs()
    with emulated() as gpu:
        rows, maxima, rests = torch.ops.xloss.cross_entropy_rows(
            z.detach(), y, None, None, None, -100, 0.0, 0.0, None
        )
        assert len(gpu.launches) == 1
        torch.ops.xloss.cross_entropy_rows_gradient(
            torch.ones(7), maxima, rests, z.detach(), y, None, None, None, -100, 0.0, 0.0, None
        )
        assert dict(gpu.launches[1][0])["GRAD"] == 1
    torch.testing.assert_close(rows, xloss.cross_entropy(z.detach(), y, reduction="none"))
