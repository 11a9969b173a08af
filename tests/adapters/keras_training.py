"""xloss's Keras losses beside Keras' own, in a model that trains: test_keras.py runs these tests.

They hold on the backend that KERAS_BACKEND names. Expected are values of Keras, and closed forms.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import losses as theirs

from xloss.adapters import keras as ours

# Keras' own: its variables and torch's tensors have no `copy` in `__array__`, as NumPy 2 asks.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras"
)

BACKEND = keras.backend.backend()
ULP = 2.0**-23  # of float32, at 1
ROWS, FEATURES, CLASSES = 60, 4, 3
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, CLASSES, size=ROWS)
CENTRES = RNG.normal(size=(CLASSES, FEATURES)) * 2
POINTS = (CENTRES[LABELS] + RNG.normal(size=(ROWS, FEATURES)) * 0.5).astype(np.float32)
ONEHOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
SOFT = RNG.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)
SOME = np.where(np.arange(ROWS) % 4 == 0, -100, LABELS)
BITS = (LABELS == 1).astype(np.float32)
WEIGHT = np.linspace(0.0, 2.0, ROWS, dtype=np.float32)
RAW: dict[str, Any] = {"from_logits": True}
BY_WEIGHT = {**RAW, "reduction": "mean_with_sample_weight"}

LABELLED = ("CrossEntropy", "SparseCategoricalCrossentropy")
CLASSES_GIVEN = ("CrossEntropy", "CategoricalCrossentropy")
BINARY, FOCAL = (
    ("BinaryCrossEntropy", "BinaryCrossentropy"),
    ("Focal", "CategoricalFocalCrossentropy"),
)
COLUMN, SMOOTH = LABELS[:, None], {**RAW, "label_smoothing": 0.1}
IGNORE, ALPHA = {"ignore_class": -100}, {"alpha": [0.2, 0.5, 1.0]}
# xloss's loss and Keras' own, options, targets, weights, and what activates the last layer.
KINDS: dict[str, tuple[tuple[str, str], dict[str, Any], Any, Any, str | None]] = {
    "labels (N,)": (LABELLED, RAW, LABELS, None, None),
    "labels (N, 1)": (LABELLED, RAW, COLUMN, WEIGHT, None),
    "one-hot": (CLASSES_GIVEN, SMOOTH, ONEHOT, WEIGHT, None),
    "ignoring": (LABELLED, {**RAW, **IGNORE}, SOME, None, None),
    "ignoring, by weight": (LABELLED, {**BY_WEIGHT, **IGNORE}, SOME[:, None], WEIGHT, None),
    "probabilities": (LABELLED, {}, LABELS, WEIGHT, "softmax"),
    "soft probabilities": (CLASSES_GIVEN, {}, SOFT, None, "softmax"),
    "binary": (BINARY, RAW, BITS, WEIGHT, None),
    "binary probabilities": (BINARY, {"label_smoothing": 0.2}, BITS[:, None], None, "sigmoid"),
    "many bits": (BINARY, RAW, ONEHOT, WEIGHT, None),
    "focal": (FOCAL, {**RAW, "gamma": 1.5}, ONEHOT, WEIGHT, None),
    "focal, alpha a class": (FOCAL, ALPHA, ONEHOT, None, "softmax"),
    "divergence": (("KLDivergence", "KLDivergence"), {}, SOFT, WEIGHT, "softmax"),
}
# JAX compiles each for a second: it has labels, probabilities and bits.
COMPILED = ("labels (N,)", "ignoring, by weight", "soft probabilities", "binary probabilities")


def model_of(outputs: int, loss: Any, **last: Any) -> Any:
    """Make the same small model every time."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    hidden = [layers.Dense(8, "relu")] if last else []
    made = keras.Sequential([layers.Input((FEATURES,)), *hidden, layers.Dense(outputs, **last)])
    made.compile(optimizer=keras.optimizers.SGD(0.3 if last else 0.1), loss=loss)
    return made


@pytest.mark.parametrize("kind", COMPILED if BACKEND == "jax" else KINDS)
def test_losses_and_steps_are_those_of_keras_own(kind: str) -> None:
    """Of gradient descent the weights show the whole gradient."""
    (mine, other), options, y, weight, activation = KINDS[kind]
    outputs = 1 if kind in ("binary", "binary probabilities") else CLASSES
    found = []
    for loss in (getattr(ours, mine)(**options), getattr(theirs, other)(**options)):
        model = model_of(outputs, loss, activation=activation, dtype="float32")
        how = {"sample_weight": weight, "batch_size": ROWS, "shuffle": False, "verbose": 0}
        losses = model.fit(POINTS, y, epochs=1, **how).history["loss"]
        stepped = np.concatenate([np.ravel(w) for w in model.get_weights()])
        losses += model.fit(POINTS, y, epochs=2, **how).history["loss"]
        found.append((losses, stepped))
    (losses, stepped), (wanted, wanted_step) = found
    assert wanted[0] > 0.02
    assert abs(losses[0] - wanted[0]) <= 2 * ULP * max(1.0, wanted[0])
    assert np.abs(stepped - wanted_step).max() <= ULP * max(1.0, np.abs(wanted_step).max())
    # Rounding differs, and grows from step to step, but not by much in 3 of them.
    np.testing.assert_allclose(losses, wanted, rtol=1e-6)
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("dtype", ["float16", *(["bfloat16"] if BACKEND != "jax" else [])])
def test_mixed_precision(dtype: str) -> None:
    """The last layer's activations too have 16 bits: the loss is computed in float32."""
    found = []
    keras.mixed_precision.set_dtype_policy(f"mixed_{dtype}")
    try:
        for loss in (ours.CrossEntropy(**RAW), theirs.SparseCategoricalCrossentropy(**RAW)):
            model = model_of(CLASSES, loss)
            history = model.fit(POINTS, LABELS, epochs=3, batch_size=ROWS, verbose=0)
            found.append(history.history["loss"])
            assert keras.backend.standardize_dtype(model(POINTS[:1]).dtype) == dtype
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    losses, wanted = found
    assert losses[-1] < losses[0]
    # A gradient may round to the neighbour of its 16-bit value: the first loss sees none.
    assert losses[0] == pytest.approx(wanted[0], rel=2 * ULP)
    np.testing.assert_allclose(losses, wanted, rtol=2e-3)


@pytest.mark.parametrize(
    "loss",
    [
        ours.CrossEntropy(True, 0.1, -1, z_loss=0.5, softcap=9.0, reduction="sum", name="mine"),
        ours.BinaryCrossEntropy(label_smoothing=0.25, axis=0),
        ours.Focal(alpha=[0.25, 1.0, 2.0], gamma=1.0, from_logits=True),
        ours.Focal(alpha=np.array([0.25, 1.0, 2.0]), from_logits=True),
        ours.KLDivergence(name="mine"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_saved_model_has_its_loss_with_its_options(tmp_path: Path, loss: Any) -> None:
    path = str(tmp_path / "model.keras")
    model_of(CLASSES, loss).save(path)
    loaded = keras.saving.load_model(path).loss
    for other in (loaded, theirs.deserialize(theirs.serialize(loss))):
        assert type(other) is type(loss)
        for part in ("name", "reduction", "options"):
            assert getattr(other, part) == getattr(loss, part)


LOG2, TAIL = math.log(2), math.log1p(math.exp(-20))
CONFIDENT, FLAT = np.array([[20.0, 0.0]], np.float32), np.zeros((1, 2), np.float32)
HALVES, SURE = np.full((1, 2), 0.5, np.float32), np.array([[1.0, 0.0]], np.float32)
ZERO, TRIPLE = np.array([0]), np.array([[3.0, 1.0]])


@pytest.mark.parametrize(
    ("expected", "loss", "y", "x", "weight"),
    [
        (TAIL, ours.CrossEntropy(**RAW), ZERO, CONFIDENT, None),
        (TAIL, ours.BinaryCrossEntropy(**RAW), ZERO * 0.0, -CONFIDENT[:, :1], None),
        (TAIL, ours.CrossEntropy(**RAW, axis=1), ZERO[None], CONFIDENT[:, :, None], None),
        (LOG2 / 2, ours.Focal(1, 1.0, **RAW), ZERO, FLAT, None),
        (-math.log(0.75), ours.CrossEntropy(), ZERO, TRIPLE, None),
        (-0.25 * math.log(0.75), ours.Focal(1, 1.0), ZERO, TRIPLE, None),
        (LOG2 + LOG2**2, ours.CrossEntropy(**RAW, z_loss=1.0), ZERO, FLAT, None),
        (LOG2 / 2, ours.Focal(np.float32(1), 1.0, **RAW), ZERO, FLAT, None),
        (LOG2, ours.KLDivergence(), SURE, HALVES, None),
        (LOG2, ours.KLDivergence(), [[1.0, 0.0]], [[0.5, 0.5]], None),
        (LOG2, ours.BinaryCrossEntropy(), [0, 1], [0.5, 0.5], None),
        (LOG2, ours.CrossEntropy(**RAW), [1], [[0.0, 0.0]], None),
        (2 * LOG2, ours.BinaryCrossEntropy(), BITS[:2], HALVES[0], np.array([1.0, 3.0])),
    ],
)
def test_what_is_not_keras_is_the_closed_form(
    expected: float, loss: Any, y: Any, x: Any, weight: Any
) -> None:
    got = float(loss(y, x, sample_weight=weight))
    assert got == pytest.approx(expected, rel=4 * ULP, abs=0)


def test_wrong_uses_are_named() -> None:
    with pytest.raises(ValueError, match=r"^y_pred: has one class along axis -1"):
        ours.CrossEntropy()(LABELS[:2], np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match=r"^dtype: Keras has rounded the labels to bfloat16"):
        ours.CrossEntropy(True, dtype="bfloat16")(np.array([257, 2]), np.zeros((2, 300)))
    with pytest.raises(ValueError, match=r"^z_loss, softcap: are of logits"):
        ours.CrossEntropy(softcap=3.0)
