"""Calls, trains and saves Keras losses of `xloss.adapters.keras` beside Keras' own.

    KERAS_BACKEND=torch python -W error tests/support/keras_training.py FOLDER

prints a JSON object: for each kind of target what the tests compare. FOLDER is written to.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

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
LOGITS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
# JAX compiles each kind of target for a second: it has labels, probabilities and bits.
COMPILED = ("labels (N,)", "ignoring, by weight", "soft probabilities", "binary probabilities")


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True)).astype(np.float32)


def kinds(keras: Any, ours: Any) -> dict[str, tuple[Any, ...]]:
    """Return xloss's loss, Keras' own, targets, weights, and what activates the last layer."""
    theirs = keras.losses
    dense, sparse = theirs.CategoricalCrossentropy, theirs.SparseCategoricalCrossentropy
    binary = theirs.BinaryCrossentropy
    logits: dict[str, Any] = {"from_logits": True}
    by_weight = {**logits, "reduction": "mean_with_sample_weight"}
    return {
        "labels (N,)": (ours.CrossEntropy(**logits), sparse(**logits), LABELS, None, None),
        "labels (N, 1)": (
            ours.CrossEntropy(**logits),
            sparse(**logits),
            LABELS[:, None],
            WEIGHT,
            None,
        ),
        "one-hot": (
            ours.CrossEntropy(**logits, label_smoothing=0.1),
            dense(**logits, label_smoothing=0.1),
            ONEHOT,
            WEIGHT,
            None,
        ),
        "ignoring": (
            ours.CrossEntropy(**logits, ignore_class=-100),
            sparse(**logits, ignore_class=-100),
            SOME,
            None,
            None,
        ),
        "ignoring, by weight": (
            ours.CrossEntropy(**by_weight, ignore_class=-100),
            sparse(**by_weight, ignore_class=-100),
            SOME[:, None],
            WEIGHT,
            None,
        ),
        "probabilities": (ours.CrossEntropy(), sparse(), LABELS, WEIGHT, "softmax"),
        "soft probabilities": (ours.CrossEntropy(), dense(), SOFT, None, "softmax"),
        "binary": (ours.BinaryCrossEntropy(**logits), binary(**logits), BITS, WEIGHT, None),
        "binary probabilities": (
            ours.BinaryCrossEntropy(label_smoothing=0.2),
            binary(label_smoothing=0.2),
            BITS[:, None],
            None,
            "sigmoid",
        ),
        "many bits": (ours.BinaryCrossEntropy(**logits), binary(**logits), ONEHOT, WEIGHT, None),
        "focal": (
            ours.Focal(**logits, gamma=1.5),
            theirs.CategoricalFocalCrossentropy(**logits, gamma=1.5),
            ONEHOT,
            WEIGHT,
            None,
        ),
        "focal, alpha a class": (
            ours.Focal(alpha=[0.2, 0.5, 1.0]),
            theirs.CategoricalFocalCrossentropy(alpha=[0.2, 0.5, 1.0]),
            ONEHOT,
            None,
            "softmax",
        ),
        "divergence": (ours.KLDivergence(), theirs.KLDivergence(), SOFT, WEIGHT, "softmax"),
    }


def outputs(kind: str) -> int:
    return 1 if kind in ("binary", "binary probabilities") else CLASSES


def called(kind: str, loss: Any, y: Any, weight: Any, activation: Any) -> float:
    """Call a loss by hand."""
    z = LOGITS[:, : outputs(kind)]
    if activation == "softmax":
        z = softmax(z)
    elif activation == "sigmoid":
        z = 1 / (1 + np.exp(-z))
    return float(loss(y, z, sample_weight=weight))


def model_of(keras: Any, kind: str, loss: Any, activation: Any) -> Any:
    """Make the same small model every time."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    last = layers.Dense(outputs(kind), activation=activation, dtype="float32")
    model = keras.Sequential([layers.Input((FEATURES,)), layers.Dense(8, "relu"), last])
    model.compile(optimizer=keras.optimizers.SGD(0.3), loss=loss)
    return model


def train(keras: Any, kind: str, loss: Any, y: Any, weight: Any, activation: Any) -> Any:
    """Take one step on the whole batch, then train; from the same seed every time."""
    model = model_of(keras, kind, loss, activation)
    options = {"sample_weight": weight, "batch_size": ROWS, "shuffle": False, "verbose": 0}
    losses = model.fit(POINTS, y, epochs=1, **options).history["loss"]
    stepped = np.concatenate([np.ravel(w) for w in model.get_weights()])
    losses += model.fit(POINTS, y, epochs=7, **options).history["loss"]
    return {
        "called": called(kind, loss, y, weight, activation),
        "stepped": stepped.tolist(),
        "losses": [float(v) for v in losses],
    }


def mixed(keras: Any, ours: Any, dtype: str) -> dict[str, Any]:
    """Train with 16-bit activations, the last layer's too: the loss is computed in float32."""
    result = {}
    keras.mixed_precision.set_dtype_policy(f"mixed_{dtype}")
    layers = keras.layers
    for who, loss in (
        ("xloss", ours.CrossEntropy(from_logits=True)),
        ("keras", keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    ):
        keras.utils.set_random_seed(7)
        model = keras.Sequential([layers.Input((FEATURES,)), layers.Dense(CLASSES)])
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
        history = model.fit(POINTS, LABELS, epochs=3, batch_size=ROWS, verbose=0)
        result[who] = [float(v) for v in history.history["loss"]]
        result["output"] = keras.backend.standardize_dtype(model(POINTS[:1]).dtype)
    keras.mixed_precision.set_dtype_policy("float32")
    return result


def same(loss: Any, other: Any) -> bool:
    """Tell whether a loss has come back as it was."""
    parts = ("name", "reduction", "options")
    return type(other) is type(loss) and all(
        getattr(other, part) == getattr(loss, part) for part in parts
    )


def saved(keras: Any, ours: Any, folder: Path) -> list[bool]:
    """Save and load a model with each loss; the loss that comes back has the same configuration."""
    found = []
    for loss in (
        ours.CrossEntropy(True, 0.1, -1, z_loss=0.5, softcap=9.0, reduction="sum", name="mine"),
        ours.BinaryCrossEntropy(label_smoothing=0.25, axis=0),
        ours.Focal(alpha=[0.25, 1.0, 2.0], gamma=1.0, from_logits=True),
        ours.KLDivergence(from_logits=True),
    ):
        path = str(folder / f"{type(loss).__name__}.keras")
        model_of(keras, "", loss, None).save(path)
        loaded = keras.saving.load_model(path).loss
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        found += [same(loss, loaded), same(loss, again)]
    return found


def errors(keras: Any, ours: Any) -> dict[str, str]:
    """Return what each wrong use says."""
    wide = np.zeros((2, 300), np.float32)
    uses = {
        "one class": lambda: ours.CrossEntropy()(LABELS[:2], np.zeros((2, 1), np.float32)),
        "rounded labels": lambda: ours.CrossEntropy(True, dtype="bfloat16")(
            np.array([257, 2]), wide
        ),
        "softcap": lambda: ours.CrossEntropy(softcap=3.0),
    }
    found = {}
    for name, use in uses.items():
        try:
            found[name] = f"no error, but {use()}"
        except ValueError as error:
            found[name] = str(error)
    return found


def special(keras: Any, ours: Any) -> dict[str, float]:
    """Return single numbers that the tests know."""
    tail = np.array([[20.0, 0.0]], np.float32)
    flat = np.zeros((1, 2), np.float32)
    halves, sure = np.full((1, 2), 0.5, np.float32), np.array([[1.0, 0.0]], np.float32)
    logits = {"from_logits": True}
    return {
        "tail": float(ours.CrossEntropy(**logits)(np.array([0]), tail)),
        "binary tail": float(ours.BinaryCrossEntropy(**logits)(np.array([0.0]), -tail[:, :1])),
        "focal of labels": float(ours.Focal(1, 1.0, **logits)(np.array([0]), flat)),
        "focal of a column": float(ours.Focal(1, 1.0, **logits)(np.array([[0]]), flat)),
        "smoothed label": float(
            ours.CrossEntropy(label_smoothing=0.5)(np.array([0]), sure * 0.5 + 0.25)
        ),
        "unnormalised": float(ours.CrossEntropy()(np.array([0]), np.array([[3.0, 1.0]]))),
        "focal, unnormalised": float(ours.Focal(1, 1.0)(np.array([0]), np.array([[3.0, 1.0]]))),
        "z": float(ours.CrossEntropy(**logits, z_loss=1.0)(np.array([0]), flat)),
        "divergence": float(ours.KLDivergence()(sure, halves)),
        "divergence of logits": float(ours.KLDivergence(**logits)(sure, flat)),
        "bits without a class axis": float(
            ours.BinaryCrossEntropy()(BITS[:2], halves[0], sample_weight=np.array([1.0, 3.0]))
        ),
        "axis": float(
            ours.CrossEntropy(**logits, axis=1)(np.zeros((1, 1, 3)), tail[:, :, None] + [0, 0, 0])
        ),
    }


def refusal() -> str | None:
    """Return why xloss takes none of the backend's tensors, or None."""
    import keras

    import xloss

    try:
        xloss.cross_entropy(keras.ops.zeros((1, 2)), keras.ops.zeros((1,), dtype="int32"))
    except TypeError as error:
        return str(error)
    return None


def main(folder: str) -> None:
    """Do all of it, on the backend that KERAS_BACKEND names."""
    # Keras' own: its variables and torch's tensors have no `copy` in `__array__`, as NumPy 2 asks.
    warnings.filterwarnings(
        "ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning, r"keras\."
    )
    if refused := refusal():
        print(json.dumps({"refused": refused}))
        return
    import keras

    import xloss.adapters.keras as ours

    backend = keras.backend.backend()
    result = {
        kind: {who: train(keras, kind, loss, *rest) for who, loss in (("xloss", a), ("keras", b))}
        for kind, (a, b, *rest) in kinds(keras, ours).items()
        if backend != "jax" or kind in COMPILED
    }
    whole = {
        "backend": backend,
        "kinds": result,
        "mixed": {dtype: mixed(keras, ours, dtype) for dtype in ("float16", "bfloat16")},
        "saved": saved(keras, ours, Path(folder)),
        "errors": errors(keras, ours),
        "special": special(keras, ours),
    }
    print(json.dumps(whole))


if __name__ == "__main__":
    main(sys.argv[1])
