"""What a rank of test_spread_errors.py does: ranks that disagree, refuse, die or stay away."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any

import numpy as np

import xloss
from spread import GROUP

SECONDS = 3.0  # the timeout of a group that a rank leaves


def home(kind: str, a: Any) -> Any:
    if kind == "mpi":
        return a
    import torch

    return torch.from_numpy(a)


def said(call: Any) -> str:
    """What a call raises, in a line."""
    try:
        value = call()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return f"value {float(value.sum())!r}"


def together(kind: str) -> list[tuple[str, str]]:
    """Return what each call should say, a pattern, and says, while rank 1 differs from the others.

    After each error all are in step again.
    """
    ranks, rank, _ = GROUP
    odd = rank == 1
    z, y = np.zeros((4, 3), np.float32), np.array([0, 1, 2, 5])
    ones, negative = np.ones(3, np.float32), np.array([1, -1, 1], np.float32)
    features, matrix = np.ones((4, 2), np.float32), np.ones((3, 2), np.float32)

    def call(z: Any = z, y: Any = y, **options: Any) -> Any:
        given = {k: home(kind, v) if hasattr(v, "dtype") else v for k, v in options.items()}
        arrays = home(kind, z), home(kind, y)
        return lambda: xloss.vocab_parallel_cross_entropy(*arrays, **{"group": ranks, **given})

    def linear(follow: bool = False, **options: Any) -> Any:
        x, w, t = (home(kind, a) for a in (features, matrix, y))
        if follow:
            x.requires_grad_()
        return lambda: xloss.linear_cross_entropy(x, w, t, group=ranks, **options)

    others = "RuntimeError: group: rank 1 refused its arguments; see its own error"
    integers = "TypeError: targets: expected an integer array of global class indices, got .*"
    options = "label_smoothing, z_loss, softcap, ignore_index, reduction or validate: another"
    calls = {
        "logits_shard: other rows": call(z[:3], y[:3]) if odd else call(),
        "logits_shard: another dtype": call(z.astype(np.float64)) if odd else call(),
        options: call(label_smoothing=0.1 if odd else 0.2),
        "weight, sample_weight, where or normalizer: given otherwise": call(
            weight=ones if odd else None
        ),
        "normalizer: another": call(normalizer=2.0 if odd else 3.0),
        "targets: another largest label": call(y=y[::-1].copy() // 2) if odd else call(),
        "block_rows: another": linear(block_rows=1 if odd else 2),
        "group: another loss": linear() if odd else call(),
    }
    if kind == "gloo":  # NumPy's arrays have no requires_grad
        calls["features: requires_grad is another"] = linear(follow=odd)
    calls = {f"ValueError: {what} on rank 1 than on rank 0": made for what, made in calls.items()}
    calls |= {
        integers if odd else others: call(y=y > 0) if odd else call(),
        r"IndexError: targets: label 9 at position \(3,\) is outside \[0, 9\) for 9 .*": call(
            y=y + 4
        ),
        "ValueError: logits_shard: expected at least one class on some rank": call(z[:, :0]),
        "TypeError: group: expected .* got 'v'": call(group="v"),
        f"value {float(np.float32(np.log(9)))!r}": call(),
    }
    told = [(expected, said(made)) for expected, made in calls.items()]
    made = call(weight=negative if odd else ones, validate=True)
    told += [(r"ValueError: weight: negative at position \(1,\)" if odd else others, said(made))]
    if kind == "gloo":
        # Labels that are not read, and differ: a row of NaN, never another number.
        made = call(z[:2], np.array([0, 4 if odd else 1]), validate=False, reduction="none")
        told += [(r"2\.197224\d* nan", " ".join(map(str, made().tolist())))]
        told += counting(ranks)
    return told


def leaving(when: str) -> tuple[str, float]:
    """Rank 1 sleeps before the call, or dies in its middle: what others are told, and when."""
    import torch
    import torch.distributed as dist

    from xloss.backends.torch import process_group

    ranks = dist.new_group(timeout=timedelta(seconds=SECONDS))
    begun = time.monotonic()
    if GROUP[1] == 1:
        if when == "asleep":
            signal.pause()
        process_group.Ranks.total = lambda *_: os._exit(0)  # dead at the sum
    z, y = torch.zeros(4, 3), torch.tensor([0, 1, 2, 5])
    told = said(lambda: xloss.vocab_parallel_cross_entropy(z, y, group=ranks))
    return told, time.monotonic() - begun


def counting(ranks: Any) -> list[tuple[str, str]]:
    """Every exchange of a forward and a backward pass: what it is, and how many bytes."""
    import torch
    import torch.distributed as dist

    counted: list[str] = []
    for name in [n for n in dir(dist) if n.startswith(("all_", "reduce", "broad", "gather"))]:
        f = getattr(dist, name)

        def seen(*args: Any, name: str = name, f: Any = f, **kwargs: Any) -> Any:
            moved = args[1] if name == "all_gather" else args[0]
            counted.append(f"{name} {moved.numel() * moved.element_size()}")
            return f(*args, **kwargs)

        setattr(dist, name, seen)
    z = torch.zeros(7, 3, requires_grad=True)
    y = torch.zeros(7, dtype=torch.int64)
    value = xloss.vocab_parallel_cross_entropy(z, y, group=ranks)
    forward = ", ".join(counted)
    counted.clear()
    value.backward()
    # A maximum of 4 bytes a row, and four sums of 8; before them 13 numbers of every rank.
    wanted = f"all_gather 104, all_reduce {7 * 4}, all_reduce {7 * 4 * 8}"
    return [(wanted, forward), ("0", str(len(counted)))]
