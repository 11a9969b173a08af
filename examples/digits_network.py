"""A two-layer network on handwritten digits in plain NumPy, trained by xloss's gradient.

    python examples/digits_network.py [--epochs 200] [--data examples/data]

NumPy has no autodiff: `value_and_grad` gives the gradient to the logits, and four lines carry it
through the two layers. At the end the network is sure of most of the 360 held-out images, and that
is where other losses return 0: the script writes the float32 logits for

    xloss eval examples/data/digits_network_logits.npy examples/data/digits_labels.npy --backend all

It needs scikit-learn, whose digits it reads.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

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
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    held_out = np.arange(len(labels)) % 5 == 0
    parameters = train(images[~held_out], labels[~held_out], options.epochs)
    logits = forward(parameters, images[held_out])[1]
    rows = cross_entropy(logits, labels[held_out], reduction="none")
    options.data.mkdir(parents=True, exist_ok=True)
    np.save(options.data / "digits_network_logits.npy", logits)
    right = np.mean(logits.argmax(axis=1) == labels[held_out])
    print(
        f"held out: {len(rows)} images, loss {rows.mean():.4f}, {right:.1%} right; "
        f"the smallest loss of an image is {rows.min():.2g}"
    )


if __name__ == "__main__":
    main()
