"""Memory safety: no engine takes the address of an array that does not fit the others."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import emulated
from fresh import said
from page_edge import at_page_edge
from xloss._arrays.context import context, read
from xloss._arrays.inspect import namespace
from xloss.core.call import LossCall
from xloss.core.options import Cotangent, Operands, Options, Outputs
from xloss.engines.cpu import engine as cpu
from xloss.engines.cuda import engine as cuda
from xloss_conformance.libraries.base import laid_out

RNG = np.random.default_rng(0)
CLASSES = (5, 130)  # of the kernel of few classes, and of that of many
ROWS = 7
compiled = pytest.mark.skipif(cpu.unavailable() is not None, reason=f"{cpu.unavailable()}")


def given(classes: int, soft: bool = False) -> dict[str, Any]:
    """Arrays that fit: every one that an engine reads."""
    return {
        "x": RNG.standard_normal((ROWS, classes)),
        "targets": RNG.random((ROWS, classes)) if soft else RNG.integers(0, classes, ROWS),
        "class_weight": RNG.random(classes),
        "sample_weight": RNG.random(ROWS),
        "where": np.ones(ROWS, np.bool_),
        "up": RNG.random(ROWS),
        "live": np.asarray(True),
        "maxima": np.ones(ROWS),
        "rests": np.ones(ROWS),
    }


def run(
    engine: Any, arrays: dict[str, Any], classes: int, soft: bool = False, **mixed: float
) -> Any:
    """Hand arrays to an engine, past every check of the public functions."""
    names = ("x", "targets", "class_weight", "sample_weight", "where")
    o = Operands(*(arrays[name] for name in names))
    ignored = None if soft else -100
    options = Options("cross_entropy", indexed=not soft, ignore_index=ignored, **mixed)
    cotangent = Cotangent(arrays["up"], None, arrays["live"])
    saved = arrays["maxima"], arrays["rests"]
    like = np.asarray(o.x) if isinstance(o.x, np.ndarray) else o.x
    cx = context(like, namespace(like))
    outputs = Outputs(rows=True, total=True, grad=True, grad_targets=soft)
    return engine.run(LossCall("", options, cx, o, classes), outputs, cotangent, saved)


# What the error calls each, and what is wrong with it.
CALLED = {
    # The others are measured by the logits: of wrong ones the first that differs may be told of.
    "x": "(logits|targets)",
    "targets": "targets",
    "class_weight": "class weight",
    "sample_weight": "sample_weight",
    "where": "where",
    "up": "cotangent",
    "live": "cotangent",
    "maxima": "saved statistics",
    "rests": "saved statistics",
}
WRONG = {
    "one too few": lambda a: a[:-1] if a.ndim else a[None],
    "one too many": lambda a: np.concatenate([a, a[:1]]) if a.ndim else a[None],
    "a class less": lambda a: a[..., :-1] if a.ndim else a[None],
    "one alone": lambda a: a[:1] if a.ndim else a[None],
    "none": lambda a: a.reshape(-1)[:0],
    "an axis more": lambda a: a[..., None],
    "complex": lambda a: a.astype(np.complex64),
    "a masked array": np.ma.masked_array,
}


@compiled
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", CALLED)
def test_the_host_engine_refuses_what_does_not_fit(name: str, wrong: str, classes: int) -> None:
    """The error names the argument, for labels and for soft targets."""
    for soft in (False, True):
        arrays = given(classes, soft)
        run(cpu, arrays, classes, soft)
        arrays[name] = WRONG[wrong](arrays[name])
        with pytest.raises((TypeError, ValueError), match=rf"^{CALLED[name]}: expected"):
            run(cpu, arrays, classes, soft)


CUDA = [
    *(
        (name, rf"{CALLED[name]}: expected", WRONG[wrong](given(5)[name]))
        for name in CALLED
        for wrong in ("one too few", "a class less", "one alone", "an axis more")
    ),
    # A kernel reads eight bytes a number; an odd address ends the process's use of the GPU.
    ("rests", "saved statistics: expected float64, got float32", np.ones(ROWS, np.float32)),
    ("where", "where: expected bool, got int64", np.ones(ROWS, np.int64)),
    (
        "targets",
        "targets: its memory is not aligned",
        laid_out(np.zeros(ROWS, np.int64), "misaligned"),
    ),
]


def test_the_cuda_engine_refuses_what_does_not_fit() -> None:
    """Nothing is launched, and nothing compiled."""
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    for name, message, array in CUDA:
        arrays = {k: torch.from_numpy(np.asarray(a)) for k, a in {**given(5), name: array}.items()}
        with emulated() as gpu, pytest.raises((TypeError, ValueError), match=f"^{message}"):
            run(cuda, arrays, 5)
        assert not gpu.launches


def at_page_edges() -> None:
    """Compute with arrays that end, or begin, where there is no memory."""
    mixes: tuple[dict[str, float], ...] = ({}, {"label_smoothing": 0.1}, {"z_loss": 0.1})
    mixes += ({"softcap": 5.0, "label_smoothing": 0.1},)
    for classes, soft, begins, dtype, mixed in product(
        (*CLASSES, 4100), (False, True), (False, True), ("f2", "f4", "f8"), mixes
    ):
        arrays = given(classes, soft)
        arrays["x"] = arrays["x"].astype(dtype)
        if dtype != "f8":
            arrays["maxima"] = arrays["maxima"].astype(np.float32)
        arrays = {name: at_page_edge(a, begins) for name, a in arrays.items()}
        run(cpu, arrays, classes, soft, **mixed)


@compiled
def test_nothing_is_read_beside_an_array() -> None:
    """In a process of its own, which ends where a byte too many is read."""
    here = str(Path(__file__).parent)
    script = f"import sys; sys.path.append({here!r}); import test_memory_checks as t"
    said(f"{script}; t.at_page_edges()")


def test_an_array_of_one_element_whose_strides_are_odd() -> None:
    """PyTorch makes no tensor of it: no stride counts where there is one element."""
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    record = np.zeros(1, [("pad", "u1"), ("label", "i8")])
    assert float(xloss.cross_entropy(torch.zeros(1, 3), record["label"])) == pytest.approx(
        np.log(3.0), rel=1e-7
    )


@compiled
@pytest.mark.parametrize("smooth", [0.0, 0.1])
@pytest.mark.parametrize("classes", CLASSES)
def test_labels_written_to_after_they_were_checked(classes: int, smooth: float) -> None:
    """Another thread does so, or anybody between a loss and its gradient: NaN, and no other row."""
    x, labels = RNG.standard_normal((ROWS, classes)), RNG.integers(0, classes, ROWS)
    options = Options("cross_entropy", indexed=True, label_smoothing=smooth)
    call = LossCall("", options, read(context(x, np), clean=True), Operands(x, labels), classes)
    right = cpu.run(call, Outputs(rows=True, grad=True, stats=True))
    others = np.arange(ROWS) != 3
    for bad in (classes, classes + 3, -1, -(10**6), 2**40):
        labels_now = labels.copy()
        labels_now[3] = bad
        now = call.of(Operands(x, labels_now))
        got: Any = cpu.run(now, Outputs(rows=True, grad=True))
        assert (np.isnan(got.rows) == ~others).all()
        for grad in (got.grad, cpu.run(now, Outputs(grad=True), saved=right.stats).grad):
            assert np.isnan(grad[3]).any()
            np.testing.assert_array_equal(grad[others], right.grad[others])  # type: ignore[index]


@pytest.mark.parametrize("name", ["logits", "targets", "weight"])
def test_a_tensor_whose_storage_was_freed(name: str) -> None:
    """FSDP frees a parameter by making its storage empty: the pointer then is nobody's."""
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    x, t, weight = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), torch.ones(3)
    freed = {"logits": x, "targets": t, "weight": weight}[name]
    freed.untyped_storage().resize_(4 if name == "weight" else 0)
    for f in (xloss.cross_entropy, xloss.value_and_grad(xloss.cross_entropy)):
        with pytest.raises(ValueError, match=rf"^{name}: the tensor's storage holds fewer"):
            f(x, t, weight=weight)


def test_a_view_of_less_than_its_storage_is_whole() -> None:
    """A broadcast tensor has fewer numbers than its shape, an offset view begins late."""
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    t = torch.tensor([1, 0, 2, 1])
    for x in (torch.zeros(1, 3).expand(4, 3), torch.zeros(9, 7)[5:, 2:5], torch.zeros(3, 4).T):
        assert float(xloss.cross_entropy(x, t)) == pytest.approx(np.log(3.0), rel=1e-7)
    assert float(xloss.cross_entropy(torch.zeros(0, 3), t[:0])) == 0.0
