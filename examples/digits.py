"""Softmax regression on handwritten digits, trained by the same xloss call on every array library.

    python examples/digits.py [--steps 300] [--data examples/data]

The model is one matrix and one bias; the loss is the mean cross-entropy of 1,437 images plus an L2
penalty on the matrix. Each array library trains it from the same start, by plain gradient descent,
in float64 and in float32: once with the gradient that xloss computes in closed form and, where the
library has autodiff, once with the library's own. All loss curves agree up to rounding, and this
program prints by how many roundings they differ.

At the end it writes the float32 logits of the 360 held-out images and their labels, for

    xloss eval examples/data/digits_logits.npy examples/data/digits_labels.npy

It needs scikit-learn. Of torch, jax, array_api_strict and cupy, those that are installed take part.
"""

import argparse
import importlib
from functools import partial
from pathlib import Path

import numpy as np

from xloss import cross_entropy, l2_penalty, value_and_grad

STRENGTH = 1e-3  # the factor of the L2 penalty
RATE = 0.5  # the learning rate

# ---- What is learned: the same lines for every library ------------------------------------------


def objective(images, labels, matrix, bias):
    """Return the L2-regularised loss: mean cross-entropy + STRENGTH/2 * |matrix|^2."""
    return cross_entropy(images @ matrix + bias, labels) + l2_penalty(matrix, strength=STRENGTH)


def closed_form(xp, images, labels):
    """Return the loss and its gradient without autodiff, from xloss's gradient to the logits."""

    def loss_and_gradient(matrix, bias):
        loss, by_logits = value_and_grad(cross_entropy)(images @ matrix + bias, labels)
        penalty, by_matrix = value_and_grad(l2_penalty)(matrix, strength=STRENGTH)
        return loss + penalty, images.T @ by_logits + by_matrix, xp.sum(by_logits, axis=0)

    return loss_and_gradient


def train(loss_and_gradient, matrix, bias, steps):
    """Run gradient descent; return the loss before each step, the matrix and the bias."""
    curve = []
    for _ in range(steps):
        loss, by_matrix, by_bias = loss_and_gradient(matrix, bias)
        curve.append(float(loss))
        matrix = matrix - RATE * by_matrix
        bias = bias - RATE * by_bias
    return np.array(curve), matrix, bias


# ---- What differs from library to library: how autodiff is asked for ----------------------------


def torch_autodiff(loss):
    import torch

    differentiated = torch.func.grad_and_value(loss, argnums=(0, 1))

    def loss_and_gradient(*parameters):
        gradients, value = differentiated(*parameters)
        return value, *gradients

    return loss_and_gradient


def jax_autodiff(loss):
    import jax

    differentiated = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def loss_and_gradient(*parameters):
        value, gradients = differentiated(*parameters)
        return value, *gradients

    return loss_and_gradient


AUTODIFF = {"torch": torch_autodiff, "jax": jax_autodiff}


def libraries():
    """Yield the array libraries found here with their names; NumPy comes first."""
    for name in ("numpy", "torch", "jax", "array_api_strict", "cupy"):
        try:
            xp = importlib.import_module("jax.numpy" if name == "jax" else name)
            if name == "jax":
                importlib.import_module("jax").config.update("jax_enable_x64", True)
            if name == "cupy":
                xp.cuda.runtime.getDeviceCount()  # fails without a GPU
        except Exception as reason:
            print(f"{name} takes no part: {' '.join(str(reason).split())}")
            continue
        yield name, xp


# ---- The experiment ------------------------------------------------------------------------------


def digits():
    """Return images of 8 x 8 grey values in [0, 1] and their digits; every fifth is held out."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    held_out = np.arange(len(labels)) % 5 == 0
    images = images / 16
    return images[~held_out], labels[~held_out], images[held_out], labels[held_out]


def run(steps):
    """Train on every library; return the curves, and NumPy's float32 parameters."""
    images, labels, _, _ = digits()
    curves, learned = {}, None
    for name, xp in libraries():
        for dtype in ("float64", "float32"):
            x = xp.asarray(images.astype(dtype))
            y = xp.asarray(labels)
            ways = {"value_and_grad": closed_form(xp, x, y)}
            if name in AUTODIFF:
                ways["autodiff"] = AUTODIFF[name](partial(objective, x, y))
            for way, loss_and_gradient in ways.items():
                start = xp.asarray(np.zeros((64, 10), dtype)), xp.asarray(np.zeros(10, dtype))
                curve, matrix, bias = train(loss_and_gradient, *start, steps)
                curves[name, way, dtype] = curve
                if (name, dtype) == ("numpy", "float32"):
                    learned = matrix, bias
    return curves, learned


def roundings(curves, name, way, dtype):
    """Return the distance of a curve from NumPy's at each step, in eps of the dtype."""
    reference = curves["numpy", "value_and_grad", dtype]
    return np.abs(curves[name, way, dtype] - reference) / (np.finfo(dtype).eps * reference)


def report(curves):
    print(f"\n{'library':<17} {'gradient':<15} {'dtype':<8} {'last loss':<19} farthest from NumPy")
    for name, way, dtype in curves:
        last = curves[name, way, dtype][-1]
        apart = roundings(curves, name, way, dtype).max()
        digits = 16 if dtype == "float64" else 8
        print(f"{name:<17} {way:<15} {dtype:<8} {last:<19.{digits}g} {apart:.1f} eps")


def write(logits, labels, folder, name="digits"):
    """Write the logits of the held-out images, and their labels; print their loss and accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}_logits.npy", logits)
    np.save(folder / "digits_labels.npy", labels)
    right = np.mean(logits.argmax(axis=1) == labels)
    print(
        f"held out: {len(labels)} images, loss {cross_entropy(logits, labels):.4f}, {right:.1%} "
        f"right; logits and labels written to {folder}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of gradient descent")
    data = Path(__file__).parent / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of the logits")
    options = parser.parse_args()
    curves, (matrix, bias) = run(options.steps)
    report(curves)
    _, _, images, labels = digits()
    write(images.astype("float32") @ matrix + bias, labels, options.data)


if __name__ == "__main__":
    main()
