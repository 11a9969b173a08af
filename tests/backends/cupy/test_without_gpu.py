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

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def of_a_loss(name: str) -> Iterator[Call]:
    """Yield calls of a loss and its gradient, in arrays of NumPy."""
    shape, rows = (6, 5), np.arange(1.0, 7.0, dtype=np.float32) / 4
    classes = name in ("cross_entropy", "nll_loss", "log_loss", "focal_loss")
    by_rows = rows if name not in BINARY else rows[:, None]
    options: list[dict[str, Any]] = [{}, {"reduction": "none", "where": by_rows > 0.3}]
    if classes or name == "kl_div":
        options.append({"sample_weight": rows, "normalizer": np.float32(3.0)})
    if classes:
        weight = np.arange(5, dtype=np.float32)
        options.append({"weight": weight, "label_smoothing": 0.1, "ignore_index": 2})
    if name == "cross_entropy":
        options.append({"z_loss": 0.1, "softcap": 5.0, "reduction": "sum"})
    loss = xloss.value_and_grad(getattr(xloss, name))
    for given in options:
        yield loss, (inputs(name, shape), targets(name, shape)), given
        if classes:
            soft_options = {k: v for k, v in given.items() if k != "ignore_index"}
            yield loss, (inputs(name, shape), soft(shape)), soft_options


def around() -> Iterator[Call]:
    """Yield calls of a linear layer, of ranks and of what stands around a loss."""
    x, y = inputs("cross_entropy", (6, 5)), np.array([0, 4, -100, 1, 0, 3])
    rng = np.random.default_rng(0)
    features, matrix = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    features[2] = np.nan
    linear = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
    for given in ({}, {"label_smoothing": 0.1, "softcap": 5.0, "reduction": "none"}):
        options = {"bias": np.arange(5, dtype=np.float32), "block_rows": 4, **given}
        yield linear, (features, matrix, y), options
    ranks = xloss.value_and_grad(xloss.vocab_parallel_cross_entropy)
    for _, (z, t), given in of_a_loss("cross_entropy"):
        if t.dtype.kind == "i":
            yield ranks, (z, t), {**given, "group": ...}
    for op in (xloss.logsumexp, xloss.softmax, xloss.log_softmax, xloss.entropy):
        yield op, (x,), {}
    yield xloss.one_hot, (abs(y) % 5, 5), {}
    yield xloss.effective_count, (abs(y) % 5,), {"ignore_index": 0}
    yield xloss.l2_penalty, (x,), {"strength": 2.0}
    yield xloss.smooth_labels, (abs(x), 0.1), {}


ALL = {name: of_a_loss(name) for name in LOSSES} | {"around": around()}
CALLED = {name: list(calls) for name, calls in ALL.items()}


def flat(made: Any) -> list[Any]:
    return [b for a in made for b in flat(a)] if isinstance(made, tuple) else [made]


def single(a: Any) -> Any:
    """Return an array in float32, if it has floating numbers."""
    return a.astype(np.float32) if getattr(a, "dtype", None) == np.float64 else a


@pytest.mark.parametrize(
    ("engine", "name"),
    [*product(["generic"], CALLED), ("cuda", "cross_entropy"), ("cuda", "around")],
)
def test_calls_stay_on_the_device(engine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in array whose every way to the host raises gives what NumPy gives.

    By both engines of a GPU. Of ranks what each computes beside its exchanges, which need MPI.
    """
    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Alone())
    if engine == "cuda" and COMPILER is None:
        pytest.skip("no g++ here, which compiles the kernels for the host")
    # By name: beside a GPU the compiled one would take the stand-in for an array of its own.
    home = emulated(library="cupy") if engine == "cuda" else xloss.use_engine("generic")
    with home as gpu:
        for function, args, options in CALLED[name]:
            arrays, named = [single(a) for a in args], {k: single(v) for k, v in options.items()}
            with xloss.use_engine("generic"):
                wanted = flat(function(*arrays, **named))
            arrays = [DeviceArray(a) if hasattr(a, "dtype") else a for a in arrays]
            named = {k: DeviceArray(v) if hasattr(v, "dtype") else v for k, v in named.items()}
            for got, want in zip(flat(function(*arrays, **named)), wanted, strict=True):
                assert got.device == DEVICE
                host = got._values
                if engine == "generic" and len(args) != 3:
                    # One arithmetic, but for row counts that the host may take by a short cut.
                    np.testing.assert_array_max_ulp(host, want.astype(host.dtype), 2)
                else:
                    most = 3e-7 * np.abs(want).max()
                    np.testing.assert_allclose(host, want, rtol=5e-7, atol=most)
        assert engine == "generic" or gpu.launches


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


def test_cupy_takes_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function core called exists in array_api_compat.cupy and takes those arguments."""
    for name in CALLED:
        test_calls_stay_on_the_device("generic", name, monkeypatch)
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
