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


def together(kind: str) -> dict[str, str]:
    """One rank differs from the others; after each error all are in step again."""
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

    calls = {
        "rows": call(z[:3], y[:3]) if odd else call(),
        "dtype": call(z.astype(np.float64)) if odd else call(),
        "option": call(label_smoothing=0.1 if odd else 0.2),
        "weight": call(weight=ones if odd else None),
        "normalizer": call(normalizer=2.0 if odd else 3.0),
        "labels": call(y=y[::-1].copy() // 2) if odd else call(),
        "refused": call(y=y > 0) if odd else call(),
        "negative": call(weight=negative if odd else ones, validate=True),
        "bad label": call(y=y + 4),
        "no class": call(z[:, :0]),
        "group": call(group="v"),
        "blocks": linear(block_rows=1 if odd else 2),
        "another loss": linear() if odd else call(),
    }
    if kind == "gloo":
        calls["features"] = linear(follow=odd)
    told = {name: said(made) for name, made in (*calls.items(), ("well", call()))}
    if kind == "gloo":
        # Labels that are not read, and differ: a row of NaN, never another number.
        made = call(z[:2], np.array([0, 4 if odd else 1]), validate=False, reduction="none")
        told["unseen"] = " ".join(map(str, made().tolist()))
        told.update(counting(ranks))
    return told


def leaving(kind: str, when: str) -> tuple[str, float]:
    """Rank 1 dies, or sleeps, before the call or in its middle: what others are told, and when."""
    z, y = home(kind, np.zeros((4, 3), np.float32)), home(kind, np.array([0, 1, 2, 5]))
    ranks, rank, _ = GROUP
    if kind == "gloo":
        import torch.distributed as dist

        ranks = dist.new_group(timeout=timedelta(seconds=SECONDS))
    begun = time.monotonic()
    if rank == 1:
        if when == "asleep":
            signal.pause()
        if when == "dead":
            os._exit(0)
        from xloss.backends.torch import process_group

        process_group.Ranks.total = lambda *_: os._exit(0)  # dead at the sum
    told = said(lambda: xloss.vocab_parallel_cross_entropy(z, y, group=ranks))
    return told, time.monotonic() - begun


def counting(ranks: Any) -> dict[str, str]:
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
    told = {"forward": ", ".join(counted)}
    counted.clear()
    value.backward()
    return {**told, "backward": str(len(counted))}
