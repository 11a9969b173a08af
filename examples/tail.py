"""Draw what a confident row costs: the error of each loss against the lead of the true class.

    python examples/tail.py [--out docs/tail.svg]

Rows of two float32 logits, 0 and the lead; the exact loss is log1p(exp(-lead)). It needs
matplotlib, SciPy, PyTorch and optax.
"""

import argparse
from pathlib import Path

import numpy as np
import optax
import torch
from scipy.special import log_softmax

import xloss

LEADS = np.arange(0, 30.25, 0.25, dtype=np.float32)


def of_torch(z, y):
    return torch.nn.functional.cross_entropy(
        torch.tensor(z), torch.tensor(y), reduction="none"
    ).numpy()


def of_scipy(z, y):
    return -np.take_along_axis(log_softmax(z, axis=-1), y[:, None], -1)[:, 0]


PEERS = {
    "PyTorch": of_torch,
    "optax": optax.softmax_cross_entropy_with_integer_labels,
    "SciPy": of_scipy,
}


def errors(loss):
    """Return the relative error of a loss at each lead, at least half a rounding."""
    logits = np.stack([np.zeros_like(LEADS), LEADS], axis=-1)
    exact = np.log1p(np.exp(-LEADS.astype(np.float64)))
    computed = np.asarray(loss(logits, np.ones(len(LEADS), np.int64)), np.float64)
    return np.maximum(abs(computed - exact) / exact, np.finfo(np.float32).eps / 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).parents[1]
    parser.add_argument("--out", type=Path, default=here / "docs" / "tail.svg")
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "xloss", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    for (name, loss), style in zip(PEERS.items(), ("-", "-", "--"), strict=True):
        axes.plot(LEADS, errors(loss), label=name, linewidth=1.2, linestyle=style)
    own = errors(lambda z, y: xloss.cross_entropy(z, y, reduction="none"))
    axes.plot(LEADS, own, label="xloss", linewidth=2, color="black")
    axes.set(
        yscale="log",
        ylim=(3e-8, 3),
        xlabel="how far the true logit is ahead of the others",
        ylabel="relative error of the loss",
        title="From a lead of 17 on, other float32 losses are exactly 0",
    )
    axes.legend(loc="center right")
    figure.savefig(options.out, metadata={"Date": None})
    print(f"drawn into {options.out}; the largest error of xloss: {own.max():.2g}")


if __name__ == "__main__":
    main()
