"""Trains a small Keras model with xloss losses, as docs/names.md shows, and with Keras' own.

    KERAS_BACKEND=torch python -W error tests/keras_training.py

prints a JSON object: for each kind of target what the tests compare.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import names_table

DOCUMENT = Path(__file__).parents[1] / "docs" / "names.md"
ROWS, FEATURES, CLASSES = 60, 4, 3


def data() -> tuple[Any, Any]:
    """Return points around one centre a class, and their classes."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, CLASSES, size=ROWS)
    centres = rng.normal(size=(CLASSES, FEATURES)) * 2
    points = centres[labels] + rng.normal(size=(ROWS, FEATURES)) * 0.5
    return points.astype(np.float32), labels


def train(keras: Any, loss: Any, x: Any, y: Any, weight: Any) -> dict[str, Any]:
    """Take one step on the whole batch, then train; from the same seed every time."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((FEATURES,)), layers.Dense(8, activation="relu"), layers.Dense(CLASSES)]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.3), loss=loss)
    first = float(model.train_on_batch(x, y, sample_weight=weight))
    stepped = np.concatenate([np.ravel(w) for w in model.get_weights()])
    history = model.fit(x, y, sample_weight=weight, epochs=8, batch_size=ROWS, verbose=0)
    return {
        "first": first,
        "stepped": stepped.tolist(),
        "losses": [float(v) for v in history.history["loss"]],
    }


def main() -> None:
    """Train with every pair of losses."""
    # Keras' own: its variables and torch's tensors have no `copy` in `__array__`, as NumPy 2 asks.
    warnings.filterwarnings(
        "ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning, r"keras\."
    )
    import keras

    shown: dict[str, Any] = {}
    exec(names_table.code_blocks(DOCUMENT.read_text(encoding="utf-8"))[1], shown)
    x, labels = data()
    onehot = np.eye(CLASSES, dtype=np.float32)[labels]
    some = np.where(np.arange(ROWS) % 4 == 0, -100, labels)
    weight = np.linspace(0.0, 2.0, ROWS, dtype=np.float32)
    sparse = keras.losses.SparseCategoricalCrossentropy
    dense = keras.losses.CategoricalCrossentropy(from_logits=True)
    kinds = {
        "sparse": (shown["sparse_loss"], sparse(from_logits=True), labels, None),
        "one-hot, weighted": (shown["one_hot_loss"], dense, onehot, weight),
        "ignoring, a column": (
            shown["ignoring_loss"],
            sparse(from_logits=True, ignore_class=-100),
            some[:, None],
            None,
        ),
    }
    result = {
        kind: {
            "xloss": train(keras, ours, x, y, sample_weight),
            "keras": train(keras, theirs, x, y, sample_weight),
        }
        for kind, (ours, theirs, y, sample_weight) in kinds.items()
    }
    print(json.dumps({"backend": keras.backend.backend(), "kinds": result}))


if __name__ == "__main__":
    main()
