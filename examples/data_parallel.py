"""Data-parallel training with gradient accumulation whose loss and gradients are the whole batch's.

    python examples/data_parallel.py [--steps 60] [--ranks 2] [--micro-batches 4]
                                     [--out examples/data-parallel.png]

A small network learns to tell the next character of the paragraphs of LICENSE, from the three
before it. A batch is 24 paragraphs of 15 to 160 characters. It is trained three times from the same
start by the same SGD:

    whole          one process, the batch in one go: the mean over all its characters
    normalizer     ranks x micro-batches, each loss a share of the mean over the whole batch
    mean of means  ranks x micro-batches, each loss its own mean, and then the mean of those

The second is the first but for rounding, and this prints by how many roundings. The third is the
usual way, and another loss: a character counts for more the fewer there are around it.

The ranks are processes under torch's DistributedDataParallel and gloo. matplotlib draws.
"""

import argparse
import os
import pickle
import re
import sys
import tempfile
from contextlib import nullcontext
from datetime import timedelta
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from xloss import cross_entropy, effective_count

HERE = Path(__file__).resolve().parent
PARAGRAPHS, LENGTH = 24, 160  # of a batch; of a paragraph at most
BEFORE = 3  # characters that the network sees
CHARACTERS = 128  # ASCII
RATE = 0.5  # of SGD
PADDING = -100  # cross_entropy's ignore_index
DTYPES = ("float32", "float64")

# ---- Three ways to the gradient of a batch -------------------------------------------------------


def whole(model, parts):
    """One process, the batch in one go."""
    ((before, character),) = parts
    loss = cross_entropy(model(before), character)
    loss.backward()
    return loss.detach()


def normalizer(model, parts):
    """Each micro-batch's share of the loss of the whole batch."""
    ranks = distributed.get_world_size()
    count = sum(effective_count(character) for _, character in parts)  # of all micro-batches ...
    distributed.all_reduce(count)  # ... of all ranks
    # DDP divides the sum of the ranks' gradients by their number. Wanted is the sum: so each rank's
    # loss has to be `ranks` times its share, and the denominator that many times smaller.
    return accumulated(model, parts, lambda z, t: cross_entropy(z, t, normalizer=count / ranks))


def mean_of_means(model, parts):
    """Each micro-batch's own mean, averaged: wrong unless all are of one size."""
    return accumulated(model, parts, lambda z, t: cross_entropy(z, t) / len(parts))


def accumulated(model, parts, loss):
    """The gradients added up, and exchanged once: in the last micro-batch's backward pass."""
    total = 0.0
    for i, (before, character) in enumerate(parts, 1):
        with model.no_sync() if i < len(parts) else nullcontext():
            share = loss(model(before), character)
            share.backward()
        total += share.detach()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()  # the mean over the ranks, as DDP's of gradients


WAYS = {"whole": whole, "normalizer": normalizer, "mean of means": mean_of_means}

# ---- What is learned -----------------------------------------------------------------------------


def batches(steps):
    """The same random paragraphs for everyone, a list of arrays of characters each step."""
    text = (HERE.parent / "LICENSE").read_text(encoding="ascii")
    paragraphs = [" ".join(p.split())[:LENGTH] for p in re.split(r"\n\s*\n", text)]
    paragraphs = [np.frombuffer(p.encode(), np.uint8).astype(np.int64) for p in paragraphs]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.choice(len(paragraphs), PARAGRAPHS, replace=False)
        # By length, as any loader does that does not want to compute padding.
        yield sorted((paragraphs[i] for i in chosen), key=len)


def padded(paragraphs):
    """The characters before each character, and itself; PADDING after the end of a paragraph."""
    rows = max(len(paragraphs), 1)  # a micro-batch that got none is all padding
    length = max(map(len, paragraphs), default=1)
    text = np.zeros((rows, BEFORE + length), np.int64)
    character = np.full((rows, length), PADDING)
    for i, paragraph in enumerate(paragraphs):
        text[i, BEFORE : BEFORE + len(paragraph)] = paragraph
        character[i, : len(paragraph)] = paragraph
    before = np.lib.stride_tricks.sliding_window_view(text[:, :-1], BEFORE, axis=1)
    return torch.tensor(before), torch.tensor(character)


def micro_batches(paragraphs, number):
    """As many paragraphs in each, but for one."""
    bounds = [i * len(paragraphs) // number for i in range(number + 1)]
    return [padded(paragraphs[a:b]) for a, b in pairwise(bounds)]


def train(way, dtype, steps, rank=0, ranks=1, micro=1):
    """The loss and the gradient of every step."""
    torch.manual_seed(0)
    layers = nn.Embedding(CHARACTERS, 16), nn.Flatten(2), nn.Linear(16 * BEFORE, 64), nn.Tanh()
    model = nn.Sequential(*layers, nn.Linear(64, CHARACTERS)).to(getattr(torch, dtype))
    if way != "whole":
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    losses, gradients = [], []
    for paragraphs in batches(steps):
        mine = micro_batches(paragraphs, ranks * micro)[rank * micro : (rank + 1) * micro]
        optimizer.zero_grad()
        losses.append(float(WAYS[way](model, mine)))
        gradients.append(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]))
        optimizer.step()
    return np.array(losses), np.array(gradients)


def work(rank, ranks, micro, steps, folder):
    """What one of the processes does."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine
    store, patience = (Path(folder) / "store").as_uri(), timedelta(seconds=60)
    distributed.init_process_group("gloo", store, patience, ranks, rank)
    ways = product(("normalizer", "mean of means"), DTYPES)
    runs = {key: train(*key, steps, rank, ranks, micro) for key in ways}
    if rank == 0:
        (Path(folder) / "runs").write_bytes(pickle.dumps(runs))
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads abort, rarely, a process that ends by itself


def run(ranks, micro, steps):
    """Losses and gradients of every step, by way and dtype."""
    runs = {("whole", dtype): train("whole", dtype, steps) for dtype in DTYPES}
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (ranks, micro, steps, folder), nprocs=ranks)
        return runs | pickle.loads((Path(folder) / "runs").read_bytes())


# ---- How far apart -------------------------------------------------------------------------------


def apart(runs, way, dtype):
    """The relative difference from the whole of each step's loss, and of its gradient (2-norms)."""
    (loss, gradient), (loss_, gradient_) = runs["whole", dtype], runs[way, dtype]
    norm = np.linalg.norm
    return abs(loss_ - loss) / loss, norm(gradient_ - gradient, axis=1) / norm(gradient, axis=1)


def report(runs):
    print("farthest from the whole batch in: the first gradient, any gradient, any loss")
    for way, dtype in runs:
        if way != "whole":
            loss, gradient = (each / np.finfo(dtype).eps for each in apart(runs, way, dtype))
            far = f"{gradient[0]:.3g}, {gradient.max():.3g}, {loss.max():.3g} eps"
            print(f"{way:<14} {dtype:<8} {runs[way, dtype][0][-1]:<10.6f} {far}")


def draw(runs, path, title):
    from matplotlib.figure import Figure  # without pyplot: no display is asked for

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    left, *right = figure.subplots(1, 3)
    steps = 1 + np.arange(len(runs["whole", "float32"][0]))
    for way, style in (("whole", "C0-"), ("normalizer", "C1--"), ("mean of means", "C3-")):
        left.plot(steps, runs[way, "float32"][0], style, label=f"{way}, float32")
    left.set(title=title, xlabel="step", ylabel="loss")
    left.legend(fontsize=7)
    drawn = {
        ("mean of means", "float32"): "C3.-",
        ("normalizer", "float32"): "C1.-",
        ("normalizer", "float64"): "C2.-",
    }
    for i, axes in enumerate(right):
        for (way, dtype), style in drawn.items():
            far, eps = apart(runs, way, dtype)[i], np.finfo(dtype).eps
            far = np.where(far > 0, far, np.nan)  # equal to the last bit: no point on a log axis
            axes.semilogy(steps, far, style, label=f"{way}, {dtype}", linewidth=1)
            if way == "normalizer":
                axes.axhline(eps, color="grey", linestyle=":", linewidth=1)
                axes.annotate(f"eps of {dtype}", (1, eps / 6), fontsize=7)
        title = ("loss", "gradient")[i] + ": relative difference from the whole"
        axes.set(title=title, xlabel="step", ylim=(1e-17, 10))
        axes.legend(fontsize=7, loc=(0.6, 0.3))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"curves drawn into {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="of SGD")
    parser.add_argument("--ranks", type=int, default=2, help="processes")
    parser.add_argument("--micro-batches", type=int, default=4, help="of a rank in each step")
    parser.add_argument("--out", type=Path, default=HERE / "data-parallel.png", help="the picture")
    options = parser.parse_args()
    report(runs := run(options.ranks, options.micro_batches, options.steps))
    draw(runs, options.out, f"{options.ranks} ranks x {options.micro_batches} micro-batches")


if __name__ == "__main__":
    main()
