"""A step of training on two logical devices of the host, under MirroredStrategy.

Its import prints a word for each way in which the replicas' sum was found to be the loss of the
whole batch. It needs a process of its own: logical devices are made before TensorFlow first runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import xloss

host = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(host, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
x, w = rng.normal(size=(6, 3)), rng.normal(size=(3, 4))
y = np.array([0, 1, -100, 3, 2, 1])
counted = float(np.count_nonzero(y != -100))

loss, slopes_of_logits = xloss.value_and_grad(xloss.cross_entropy)(x @ w, y)
gradient = x.T @ slopes_of_logits

with strategy.scope():
    weight = tf.Variable(w)


def step(x: Any, y: Any) -> tuple[Any, Any]:
    with tf.GradientTape() as tape:
        value = xloss.cross_entropy(x @ weight, y, normalizer=counted)
    slope = tape.gradient(value, weight)
    return value, tf.distribute.get_replica_context().all_reduce("sum", slope)


def distributed(x: Any, y: Any) -> tuple[Any, Any]:
    value, slope = strategy.run(step, (x, y))
    return strategy.reduce("sum", value, None), strategy.experimental_local_results(slope)


batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
(batch,) = strategy.experimental_distribute_dataset(batches)
for word, run in (("eager", distributed), ("graph", tf.function(distributed))):
    value, slopes = run(*batch)
    assert len(slopes) == 2
    np.testing.assert_allclose(value, loss, rtol=1e-14)
    for slope in slopes:
        np.testing.assert_allclose(slope, gradient, rtol=1e-13)
    print(word)
with pytest.raises(TypeError, match=r"^logits: .* each replica's own, inside the strategy's run$"):
    xloss.cross_entropy(*batch)
print("refused")
