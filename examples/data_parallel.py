"""Data-parallel training with gradient accumulation that equals training on the whole batch.

    python examples/data_parallel.py [--steps 60] [--ranks 2] [--micro-batches 4]
                                     [--out examples/data-parallel.png]

A small network learns to predict the next character in the paragraphs of LICENSE from the three
characters before it. A batch is 24 paragraphs of 15 to 160 characters. The network is trained three
times, from the same start and with the same SGD:

    whole          one process, the batch at once: the loss is the mean over all its characters
    normalizer     ranks x micro-batches: each loss is a share of the mean over the whole batch
    mean of means  ranks x micro-batches: each loss is its own mean, and these are averaged

The second way equals the first up to rounding, and this program prints by how many roundings they
differ. The third way is the usual one, and it minimises another loss: a character in a micro-batch
with few characters counts for more than one in a micro-batch with many.

The ranks are processes under torch's DistributedDataParallel with gloo. matplotlib draws curves.
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
PARAGRAPHS, LENGTH = 24, 160  # paragraphs in a batch; characters in a paragraph, at most
BEFORE = 3  # how many characters the network sees
CHARACTERS = 128  # ASCII
RATE = 0.5  # the learning rate
PADDING = -100  # cross_entropy's ignore_index
DTYPES = ("float32", "float64")

# ---- Three ways to the gradient of a batch -------------------------------------------------------


def whole(model, parts):
    """Take the mean over the whole batch in one process."""
    ((before, character),) = parts
    loss = cross_entropy(model(before), character)
    loss.backward()
    return loss.detach()


def normalizer(model, parts):
    """Take each micro-batch's share of the loss of the whole batch."""
    ranks = distributed.get_world_size()
    count = sum(effective_count(character) for _, character in parts)  # all micro-batches here
    distributed.all_reduce(count)  # those of the other ranks are added
    # DDP divides the sum of the ranks' gradients by the number of ranks, but the sum is wanted. So
    # each rank's loss must be `ranks` times its share: the denominator is divided by `ranks`.
    return accumulated(model, parts, lambda z, t: cross_entropy(z, t, normalizer=count / ranks))


def mean_of_means(model, parts):
    """Average the means of the micro-batches, which is wrong unless all have the same size."""
    return accumulated(model, parts, lambda z, t: cross_entropy(z, t) / len(parts))


def accumulated(model, parts, loss):
    """Add up the gradients; DDP exchanges them once, in the backward pass of the last part."""
    total = 0.0
    for i, (before, character) in enumerate(parts, 1):
        with model.no_sync() if i < len(parts) else nullcontext():
            share = loss(model(before), character)
            share.backward()
        total += share.detach()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()  # the mean over ranks, as DDP takes of gradients


WAYS = {"whole": whole, "normalizer": normalizer, "mean of means": mean_of_means}

# ---- What is learned -----------------------------------------------------------------------------


def batches(steps):
    """Yield the random paragraphs of each step, as arrays of characters: the same on each rank."""
    text = (HERE.parent / "LICENSE").read_text(encoding="ascii")
    paragraphs = [" ".join(p.split())[:LENGTH] for p in re.split(r"\n\s*\n", text)]
    paragraphs = [np.frombuffer(p.encode(), np.uint8).astype(np.int64) for p in paragraphs]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.choice(len(paragraphs), PARAGRAPHS, replace=False)
        # Sorted by length, as data loaders do so that little padding is computed.
        yield sorted((paragraphs[i] for i in chosen), key=len)


def padded(paragraphs):
    """Return the characters before each character, and the character or PADDING."""
    rows = max(len(paragraphs), 1)  # a micro-batch without paragraphs is one row of padding
    length = max(map(len, paragraphs), default=1)
    text = np.zeros((rows, BEFORE + length), np.int64)
    character = np.full((rows, length), PADDING)
    for i, paragraph in enumerate(paragraphs):
        text[i, BEFORE : BEFORE + len(paragraph)] = paragraph
        character[i, : len(paragraph)] = paragraph
    before = np.lib.stride_tricks.sliding_window_view(text[:, :-1], BEFORE, axis=1)
    return torch.tensor(before), torch.tensor(character)


def micro_batches(paragraphs, number):
    """Divide the paragraphs evenly: the sizes differ by one at most."""
    bounds = [i * len(paragraphs) // number for i in range(number + 1)]
    return [padded(paragraphs[a:b]) for a, b in pairwise(bounds)]


def train(way, dtype, steps, rank=0, ranks=1, micro=1):
    """Train; return the loss and the gradient of every step."""
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
    """Run both ways as one rank; rank 0 writes what came out."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # every rank is here
    store, patience = (Path(folder) / "store").as_uri(), timedelta(seconds=60)
    distributed.init_process_group("gloo", store, patience, ranks, rank)
    ways = product(("normalizer", "mean of means"), DTYPES)
    runs = {key: train(*key, steps, rank, ranks, micro) for key in ways}
    if rank == 0:
        (Path(folder) / "runs").write_bytes(pickle.dumps(runs))
    distributed.destroy_process_group()
    os._exit(0)  # gloo's threads sometimes abort a process that exits normally


def run(ranks, micro, steps):
    """Train in every way and dtype; return the losses and gradients of every step."""
    runs = {("whole", dtype): train("whole", dtype, steps) for dtype in DTYPES}
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (ranks, micro, steps, folder), nprocs=ranks)
        return runs | pickle.loads((Path(folder) / "runs").read_bytes())


# ---- How far apart -------------------------------------------------------------------------------


def apart(runs, way, dtype):
    """Return the relative difference from "whole" of each loss and each gradient (2-norms)."""
    (loss, gradient), (loss_, gradient_) = runs["whole", dtype], runs[way, dtype]
    norm = np.linalg.norm
    return abs(loss_ - loss) / loss, norm(gradient_ - gradient, axis=1) / norm(gradient, axis=1)


def report(runs):
    print("largest difference from the whole batch: first gradient, any gradient, any loss")
    for way, dtype in runs:
        if way != "whole":
            loss, gradient = (each / np.finfo(dtype).eps for each in apart(runs, way, dtype))
            far = f"{gradient[0]:.3g}, {gradient.max():.3g}, {loss.max():.3g} eps"
            print(f"{way:<14} {dtype:<8} {runs[way, dtype][0][-1]:<10.6f} {far}")


def draw(runs, path, title):
    from matplotlib.figure import Figure  # not pyplot, which may look for a display

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for way, style in (("whole", "C0-"), ("normalizer", "C1--"), ("mean of means", "C3-")):
        losses = runs[way, "float32"][0]
        axes.plot(1 + np.arange(len(losses)), losses, style, label=f"{way}, float32")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.legend()
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
