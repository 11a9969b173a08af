"""token_stats and linear_token_stats beside what they replace: types, bits, gradients.

What every number must be is the conformance suite's, in its family "tokens".
"""

import numpy as np
import pytest

import xloss
from xloss.engines.cpu.call import COLUMN_KERNEL_MAX_CLASSES
from xloss.engines.cpu.token_call import CACHED_LOGITS

L1_CHUNK = 4096  # logits that the kernel of many classes takes at a time
RNG = np.random.default_rng(26)
X = np.round(RNG.standard_normal((6, 5)) * 3, 2).astype(np.float32)
Y = np.array([0, 3, -100, 4, 2, 2])
WEIGHT = np.round(RNG.standard_normal((4, 5)), 2).astype(np.float32)
FEATURES = np.round(RNG.standard_normal((6, 5)), 2).astype(np.float32)


def test_dtypes_and_what_is_not_asked_for(lib):
    got = xloss.token_stats(lib.like(X), lib.like(Y), rank=True)
    kinds = {name: lib.dtype_of(a) for name, a in got._asdict().items()}
    assert kinds.pop("correct") == "bool"
    assert kinds.pop("rank") == ("int64" if lib.has("int64") else "int32")
    assert set(kinds.values()) == {"float32"}
    assert xloss.token_stats(lib.like(X), lib.like(Y)).rank is None
    if lib.has("float64"):
        wide = xloss.token_stats(lib.array(X, "float64"), lib.like(Y))
        assert {lib.dtype_of(wide.lse), lib.dtype_of(wide.weight)} == {"float64"}


@pytest.mark.parametrize("classes", [3, COLUMN_KERNEL_MAX_CLASSES + 1, L1_CHUNK + 7])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_loss_has_the_bits_that_it_has_alone_and_a_row_those_of_its_own(classes, order):
    rows = 2 * CACHED_LOGITS // classes // 3 + 300  # not a multiple of a block's
    rows = min(rows, 3000)
    x = np.asarray(RNG.standard_normal((rows, classes)), dtype=np.float32, order=order)
    y = RNG.integers(0, classes, rows)
    got = xloss.token_stats(x, y, rank=True)
    assert np.array_equal(got.loss, xloss.cross_entropy(x, y, reduction="none"))
    for i in (0, 1, rows // 2, rows - 1):
        alone = xloss.token_stats(np.ascontiguousarray(x[i : i + 1]), y[i : i + 1], rank=True)
        assert [a[0] for a in alone] == [a[i] for a in got]


@pytest.mark.parametrize("function", ["token_stats", "linear_token_stats"])
def test_torch_differentiates_the_loss_alone(function):
    torch = pytest.importorskip("torch")
    x, y = torch.from_numpy(X.copy()).requires_grad_(), torch.from_numpy(np.where(Y > 3, 3, Y))
    if function == "token_stats":
        given, loss, leaves = (x,), xloss.cross_entropy, (0,)
    else:
        w = torch.from_numpy(WEIGHT.copy()).requires_grad_()
        given, loss, leaves = (x, w), xloss.linear_cross_entropy, (0, 1)
    got = getattr(xloss, function)(*given, y, rank=True, z_loss=0.25)
    assert [name for name, a in got._asdict().items() if a.requires_grad] == ["loss"]
    grads = torch.autograd.grad(got.loss.sum(), given)
    _, want = xloss.value_and_grad(loss, leaves)(*given, y, reduction="sum", z_loss=0.25)
    for a, b in zip(grads, want, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-7)


def test_jax_differentiates_the_loss_alone_under_jit():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    y = jnp.asarray(np.where(Y > 3, 3, Y))

    @jax.jit
    def slopes(x, w):
        def floats(got):
            return [a for name, a in got._asdict().items() if name not in ("correct", "rank")]

        whole = jax.jacrev(lambda x: floats(xloss.token_stats(x, y, z_loss=0.5)))(x)
        return whole, jax.jacrev(lambda w: floats(xloss.linear_token_stats(x, w, y)))(w)

    by_x, by_w = slopes(jnp.asarray(X), jnp.asarray(WEIGHT))
    for tangents in (by_x, by_w):
        assert [bool(np.any(np.asarray(t) != 0)) for t in tangents] == [True] + [False] * 5


def test_torch_compile_traces_both():
    torch = pytest.importorskip("torch")
    x, w = torch.from_numpy(X.copy()).requires_grad_(), torch.from_numpy(WEIGHT.copy())
    y = torch.from_numpy(np.where(Y > 3, 3, Y))

    def both(x):
        return xloss.token_stats(x, y, rank=True), xloss.linear_token_stats(x, w, y, rank=True)

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for got, want in zip(compiled(x), both(x), strict=True):
        slopes = (torch.autograd.grad(s.loss.sum(), x, retain_graph=True) for s in (got, want))
        for a, b in zip((*got, *next(slopes)), (*want, *next(slopes)), strict=True):
            torch.testing.assert_close(a.detach(), b.detach(), rtol=2e-6, atol=1e-7)


def test_bad_arguments():
    with pytest.raises(TypeError, match="rank: expected True or False, got"):
        xloss.token_stats(X, Y, rank=3)
    with pytest.raises(IndexError, match="targets: label 9 at position"):
        xloss.token_stats(X, np.where(Y == 4, 9, Y))
    few = xloss.TopKTargets(Y[:, None], np.full((6, 1), 0.5))
    for name, call in {
        "token_stats": lambda: xloss.token_stats(X, few),
        "linear_token_stats": lambda: xloss.linear_token_stats(FEATURES, WEIGHT, few),
        "Evaluation": lambda: xloss.Evaluation().update(X, few),
    }.items():
        with pytest.raises(TypeError, match=f"targets: {name} takes no TopKTargets"):
            call()
    with pytest.raises(xloss.EngineUnavailable, match="cuda"), xloss.use_engine("cuda"):
        xloss.token_stats(X, Y)


def test_diagnose_takes_targets_of_few_classes():
    few = xloss.TopKTargets(np.array([[0, 3], [1, 2]]), np.array([[0.5, 0.25], [0.75, 0.125]]))
    loss = float(xloss.cross_entropy(X[:2], few))
    assert str(xloss.diagnose(X[:2], few)) == f"loss {loss:.9g}: 0 of 2 rows are not finite"
