"""A two-layer network on handwritten digits in plain NumPy, trained by xloss's gradient.

    python examples/digits_network.py [--epochs 200] [--data examples/data]

NumPy has no autodiff: `value_and_grad` gives the gradient to the logits, and four lines carry it
through the two layers. At the end the network is sure of most of the 360 held-out images, and that
is where other losses return 0: the script writes the float32 logits for

    xloss eval examples/data/digits_network_logits.npy examples/data/digits_labels.npy --backend all

It needs scikit-learn, whose digits it reads by `digits.py` beside it.
"""

import argparse
from pathlib import Path

import numpy as np
from digits import digits, write

from xloss import cross_entropy, value_and_grad

HIDDEN, BATCH, RATE, MOMENTUM = 128, 32, 0.1, 0.9
loss_and_gradient = value_and_grad(cross_entropy)


def forward(parameters, images):
    """Return the hidden layer and the logits."""
    first, first_bias, second, second_bias = parameters
    hidden = np.maximum(images @ first + first_bias, 0)
    return hidden, hidden @ second + second_bias


def gradients(parameters, images, labels):
    """Return the gradient of the mean loss to each parameter."""
    hidden, logits = forward(parameters, images)
    _, by_logits = loss_and_gradient(logits, labels)
    by_hidden = (by_logits @ parameters[2].T) * (hidden > 0)
    return images.T @ by_hidden, by_hidden.sum(0), hidden.T @ by_logits, by_logits.sum(0)


def train(images, labels, epochs):
    """Run stochastic gradient descent with momentum; return the parameters."""
    rng = np.random.default_rng(0)
    sizes = ((64, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,))
    parameters = [rng.normal(0, 0.1, size).astype(np.float32) for size in sizes]
    velocities = [np.zeros_like(p) for p in parameters]
    for epoch in range(epochs):
        order = rng.permutation(len(labels))
        for start in range(0, len(labels), BATCH):
            batch = order[start : start + BATCH]
            steps = gradients(parameters, images[batch], labels[batch])
            for parameter, velocity, step in zip(parameters, velocities, steps, strict=True):
                velocity *= MOMENTUM
                velocity -= RATE * step
                parameter += velocity
        if epoch % max(1, epochs // 10) == 0:
            mean = cross_entropy(forward(parameters, images)[1], labels)
            print(f"epoch {epoch:3}: training loss {mean:.3g}")
    return parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args()
    images, labels, held_out, held_labels = digits()
    parameters = train(images.astype(np.float32), labels, options.epochs)
    logits = forward(parameters, held_out.astype(np.float32))[1]
    write(logits, held_labels, options.data, "digits_network")


if __name__ == "__main__":
    main()
