"""What CuPy needs, held without a GPU: the functions, their arguments, and no way to the host."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from expected import BINARY, LOSSES, inputs, soft, targets

pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

from emulated import COMPILER, emulated
from spread import Alone
from standin import CALLS, DEVICE, Device, DeviceArray, cupy_namespace

SHAPE = (6, 5)


@pytest.fixture(params=["generic", "cuda"])
def gpu(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Both engines that a GPU has; of the compiled one, the launches."""
    if request.param == "generic":
        # By name: beside a GPU the compiled one would take the stand-in for an array of its own.
        with xloss.use_engine("generic"):
            yield None
        return
    if COMPILER is None:
        pytest.skip("no g++ here, which compiles the kernels for the host")
    with emulated(library="cupy") as made:
        yield made


def options(name: str) -> Iterator[dict[str, Any]]:
    rows = np.arange(1.0, 7.0, dtype=np.float32) / 4
    yield {}
    by_rows = rows if name not in BINARY else rows[:, None]
    yield {"reduction": "none", "where": DeviceArray(by_rows > 0.3)}
    classes = name in ("cross_entropy", "nll_loss", "log_loss", "focal_loss")
    if classes or name == "kl_div":
        yield {"sample_weight": DeviceArray(rows), "normalizer": DeviceArray(np.float32(3.0))}
    if classes:
        weight = DeviceArray(np.arange(5, dtype=np.float32))
        yield {"weight": weight, "label_smoothing": 0.1, "ignore_index": 2}
    if name == "cross_entropy":
        yield {"z_loss": 0.1, "softcap": 5.0, "reduction": "sum"}


def on_host(x: DeviceArray) -> np.ndarray:
    return x._values


def near(got: np.ndarray, want: np.ndarray, gpu: Any) -> None:
    """Compare gradients of one arithmetic, or of two, some ulp of the largest apart."""
    if gpu is None:
        np.testing.assert_array_max_ulp(got, want, 2)
    else:
        np.testing.assert_allclose(got, want, rtol=5e-7, atol=3e-7 * np.abs(want).max())


def moved(given: dict[str, Any]) -> dict[str, Any]:
    return {k: on_host(v) if isinstance(v, DeviceArray) else v for k, v in given.items()}


def kinds(name: str) -> Iterator[np.ndarray]:
    yield targets(name, SHAPE)
    if name in ("cross_entropy", "nll_loss", "log_loss", "focal_loss"):
        yield soft(SHAPE)


@pytest.mark.parametrize(
    ("gpu", "name"),
    [*product(["generic"], LOSSES), ("cuda", "cross_entropy")],
    indirect=["gpu"],
)
def test_losses_stay_on_the_device(name: str, gpu: Any) -> None:
    """A stand-in array whose every way to the host raises gives what NumPy gives."""
    loss = getattr(xloss, name)
    x = inputs(name, SHAPE).astype(np.float32)
    for given in options(name):
        for t in kinds(name):
            t = t.astype(np.float32) if t.dtype.kind == "f" else t
            given = {k: v for k, v in given.items() if k != "ignore_index" or t.dtype.kind == "i"}
            value, grad = xloss.value_and_grad(loss)(DeviceArray(x), DeviceArray(t), **given)
            with xloss.use_engine("generic"):
                want, want_grad = xloss.value_and_grad(loss)(x, t, **moved(given))
            assert value.device == grad.device == DEVICE
            # One arithmetic, but for row counts that the host may take by a short cut.
            np.testing.assert_array_max_ulp(on_host(value), want, 2 if gpu is None else 4)
            near(on_host(grad), want_grad, gpu)
            plain = loss(DeviceArray(x), DeviceArray(t), **given)
            np.testing.assert_array_equal(on_host(plain), on_host(value))
    assert gpu is None or gpu.launches


def test_linear_cross_entropy_stays_on_the_device(gpu: Any) -> None:
    """Value and gradients to features, weight and bias, a block of rows at a time."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 3), (5, 3)))
    b, y = np.arange(5, dtype=np.float32), np.array([0, 4, -100, 1, 0, 3])
    x[2] = np.nan
    f = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
    for given in ({}, {"label_smoothing": 0.1, "softcap": 5.0, "reduction": "none"}):
        arrays = [DeviceArray(a) for a in (x, w, y)]
        value, grads = f(*arrays, bias=DeviceArray(b), block_rows=4, **given)
        with xloss.use_engine("generic"):
            want, want_grads = f(x, w, y, bias=b, block_rows=4, **given)
        np.testing.assert_array_max_ulp(on_host(value), want, 4)
        for g, wanted in zip(grads, want_grads, strict=True):
            assert g.device == DEVICE
            np.testing.assert_allclose(on_host(g), wanted, atol=1e-6)
    assert gpu is None or gpu.launches


def test_ranks_stay_on_the_device(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rank computes beside its exchanges, which need MPI and a GPU."""
    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Alone())
    x, y = inputs("cross_entropy", SHAPE).astype(np.float32), np.array([0, 4, 2, 1, 0, 3])
    f = xloss.value_and_grad(xloss.vocab_parallel_cross_entropy)
    for given in options("cross_entropy"):
        value, grad = f(DeviceArray(x), DeviceArray(y), group=..., **given)
        with xloss.use_engine("generic"):
            want, want_grad = f(x, y, group=..., **moved(given))
        assert value.device == grad.device == DEVICE
        np.testing.assert_array_max_ulp(on_host(value), want, 2 if gpu is None else 4)
        near(on_host(grad), want_grad, gpu)
    assert gpu is None or gpu.launches


def test_ops_stay_on_the_device() -> None:
    """The same for what stands around a loss."""
    x = inputs("cross_entropy", SHAPE).astype(np.float32)
    y = np.array([0, 4, 2, 1, 0, 3])
    for op in (xloss.logsumexp, xloss.softmax, xloss.log_softmax, xloss.entropy):
        np.testing.assert_array_max_ulp(on_host(op(DeviceArray(x))), op(x), 2)
    np.testing.assert_array_equal(on_host(xloss.one_hot(DeviceArray(y), 5)), np.eye(5)[y])
    assert on_host(xloss.effective_count(DeviceArray(y), ignore_index=0)) == 4
    assert on_host(xloss.l2_penalty(DeviceArray(x), strength=2.0)) == xloss.l2_penalty(
        x, strength=2.0
    )
    smooth = xloss.smooth_labels(DeviceArray(np.abs(x)), 0.1)
    np.testing.assert_array_equal(on_host(smooth), xloss.smooth_labels(np.abs(x), 0.1))


def test_the_stand_in_refuses() -> None:
    """The checks above can fail."""
    x = DeviceArray(np.ones(2))
    for way in (bool, float, int, np.asarray, list):
        with pytest.raises(AssertionError, match="brought to the host"):
            way(x)


def test_the_stand_in_grants_no_more_than_cupy() -> None:
    """Read from CuPy's own classes: what is unhashable there is so here, and no name is added."""
    import cupy

    assert cupy.cuda.Device.__hash__ is Device.__hash__ is None
    assert cupy.ndarray.__hash__ is DeviceArray.__hash__ is None
    for mine, real in ((Device(0), cupy.cuda.Device), (DeviceArray(np.ones(2)), cupy.ndarray)):
        own = {n for n in dir(mine) if not n.startswith("_") or n in vars(type(mine))}
        # `__array_namespace__` stands for array_api_compat's own look at CuPy's class.
        added = own - set(dir(real)) - {"_values", "_refuse", "__array_namespace__"}
        assert added <= {"__dict__", "__weakref__", "__module__"}, f"{real}: {added}"
    one, other = (DeviceArray(np.ones(2)).device for _ in range(2))
    assert one == other
    assert one is not other  # CuPy makes a new object at each look


def test_cupy_takes_every_call() -> None:
    """Each function core called exists in array_api_compat.cupy and takes those arguments."""
    with xloss.use_engine("generic"):
        for name in LOSSES:
            test_losses_stay_on_the_device(name, None)
        test_ops_stay_on_the_device()
        test_linear_cross_entropy_stays_on_the_device(None)
    assert {"max", "sum", "exp", "log1p", "where"} <= CALLS.keys()
    bound = 0
    for name, calls in CALLS.items():
        function = getattr(cupy_namespace, name)
        for args, kwargs in calls:
            if isinstance(function, cupy_namespace.ufunc):
                assert not kwargs, f"{name}: {kwargs}"
                assert len(args) == function.nin, f"{name}: {len(args)} arguments"
            else:
                inspect.signature(function).bind(*args, **kwargs)
                bound += 1
    assert bound > 100
