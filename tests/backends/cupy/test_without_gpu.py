"""What CuPy needs, held without a GPU: the functions, their arguments, and no way to the host.

The array that stands in for CuPy's sees to it in every test that uses it: those of the rules, the
suite's quick cases, and here the compiled engine on its memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from expected import close, expected, inputs, labels, soft

pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

from emulated import COMPILER, emulated
from spread import Alone
from standin import DEVICE, NAMESPACE, Device, DeviceArray, transfers

ROWS, CLASSES = 6, 5
X, T = inputs("cross_entropy", (ROWS, CLASSES)), soft((ROWS, CLASSES))
Y = np.where(np.arange(ROWS) == 2, -100, labels(ROWS, CLASSES))
OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight": np.arange(1.0, CLASSES + 1), "label_smoothing": 0.125},
    {"sample_weight": np.arange(1.0, ROWS + 1), "z_loss": 0.25, "softcap": 5.0},
]


def there(a: Any) -> Any:
    """An array on the device, what is floating in float32."""
    if not isinstance(a, np.ndarray):
        return a
    return DeviceArray(a.astype(np.float32) if a.dtype.kind == "f" else a)


@pytest.mark.skipif(COMPILER is None, reason="no g++ here, which compiles the kernels for the host")
def test_calls_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled engine's, of whole rows and of a rank's classes, whose exchanges need MPI."""
    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Alone())
    ranks = xloss.vocab_parallel_cross_entropy
    for options in OPTIONS:
        given = {name: there(a) for name, a in options.items()}
        for loss, t in ((xloss.cross_entropy, Y), (xloss.cross_entropy, T), (ranks, Y)):
            want = expected("cross_entropy", X, t, **options)
            group = {"group": "alone"} if loss is ranks else {}
            with emulated(library="cupy") as gpu:
                value, grad = xloss.value_and_grad(loss)(there(X), there(t), **given, **group)
            assert value.device == grad.device == DEVICE
            # No kernel computes classes in parts under smoothing or a softcap.
            assert gpu.launches or (loss is ranks and options)
            close(value._values, want.value, within=12)
            close(grad._values, want.grad, within=32, scale=np.abs(want.grad).max())


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_numbers_of_rows_come_and_the_logits_of_rows_that_are_explained(kind):
    rows, classes = 64, 33
    x = inputs("cross_entropy", (rows, classes))
    t = soft((rows, classes)) if kind == "soft" else labels(rows, classes)
    on_device = [there(x), there(t)]
    with xloss.use_engine("generic"):  # beside a GPU the compiled one would take the stand-in
        with transfers() as sizes:
            result = xloss.Evaluation().update(*on_device).result()
        close(np.float32(result.loss), expected("cross_entropy", x, t).value)
        assert sizes == [3 * rows]
        with transfers() as sizes:
            assert not xloss.diagnose(*on_device).findings
        assert max(sizes) == 3 * rows
        on_device[0][3, 2], on_device[0][7] = np.nan, -np.inf
        with transfers() as sizes:
            report = xloss.diagnose(*on_device)
    found = {f.rule: f.positions for f in report.findings}
    assert found == {"nan_logit": ((3,),), "no_possible_class": ((7,),)}
    # Three numbers a row; its label, or whether its targets are odd; the logits of two rows, and
    # of soft targets those.
    rest = [2 * classes] * (2 if kind == "soft" else 1)
    assert sorted(sizes) == sorted([3 * rows, rows, *rest])


def test_the_stand_in_refuses() -> None:
    """The checks of all tests that use it can fail."""
    x = DeviceArray(np.ones(2))
    for way in (bool, float, int, np.asarray, list):
        with pytest.raises(AssertionError, match="brought to the host"):
            way(x)
    with pytest.raises(AttributeError, match=r"array_api_compat\.cupy has no "):
        NAMESPACE.trapezoid_of_nothing(x)
    with pytest.raises(TypeError, match="unexpected keyword argument 'along'"):
        NAMESPACE.sum(x, along=0)
    with pytest.raises(AssertionError, match="exp takes 1"):
        NAMESPACE.exp(x, x)


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
