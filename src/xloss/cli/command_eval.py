"""`xloss eval`: what it takes, and how its result is shown."""

from __future__ import annotations

from dataclasses import fields
from math import isnan
from pathlib import Path

import typer

from .array_libraries import ALL, SUPPORTED
from .loss_choices import CHOICES
from .output import JUDGED_AND_FAILED, say
from .terminal import Json, progress_bar, show, show_evaluation

FILE = (
    ".npy, .npz, .safetensors or .csv; FILE::NAME picks one of several arrays or columns; "
    "or a folder of .npy files"
)


def eval_command(
    context: typer.Context,
    logits: str = typer.Argument(
        ..., metavar="LOGITS", help=f"Floating array of logits, or of what --loss reads: {FILE}."
    ),
    targets: str = typer.Argument(
        ...,
        metavar="TARGETS",
        help="Integer labels, (N,) or (N, 1), or probabilities of the shape of LOGITS.",
    ),
    loss: str = typer.Option(
        "cross_entropy",
        metavar="NAME",
        autocompletion=lambda: list(CHOICES),
        help=f"Which loss to compute: {', '.join(CHOICES)}. log_loss and binary_cross_entropy "
        "read probabilities, nll_loss and kl_div log-probabilities, the others logits. The "
        "binary losses and sigmoid_focal_loss judge every element of the file.",
    ),
    shift: bool = typer.Option(
        False,
        "--shift",
        help="Causal language models: judge the logits of position t with the label of "
        "position t + 1 of the same sequence. LOGITS (batch, time, classes), TARGETS (batch, "
        "time); the last position of each sequence is left out.",
    ),
    backend: str = typer.Option(
        "numpy",
        metavar="NAME",
        autocompletion=lambda: [*SUPPORTED, ALL],
        help=f"The array library that computes: {', '.join(SUPPORTED)}; or {ALL}: every one "
        "that is installed, beside each other and beside the losses of other libraries.",
    ),
    axis: int | None = typer.Option(
        None, help="The class axis of LOGITS; without this option the last, -1."
    ),
    ignore_index: int | None = typer.Option(
        None, help="Rows with this label are left out; without this option -100."
    ),
    label_smoothing: float | None = typer.Option(
        None, metavar="SHARE", help="Share of each target, 0 to 1, that is spread over all classes."
    ),
    weight: str | None = typer.Option(
        None, metavar="FILE", help="An array with a weight for each class."
    ),
    eps: float | None = typer.Option(
        None,
        help="Clip probabilities into [eps, 1 - eps] first. Without this option a target on a "
        "probability of 0 makes the loss infinite.",
    ),
    gamma: float | None = typer.Option(
        None, help="Exponent of the focal losses; without this option 2."
    ),
    alpha: float | None = typer.Option(
        None, help="Weight, 0 to 1, of the positive elements in sigmoid_focal_loss."
    ),
    worst: int = typer.Option(
        5, min=0, metavar="N", help="Show the N rows that have the largest loss."
    ),
    scheduler: str | None = typer.Option(
        None,
        metavar="ADDRESS",
        help="Compute on the workers of this Dask cluster, which read the same paths.",
    ),
    as_json: Json = False,
) -> int:
    """Compute loss, perplexity and accuracy of LOGITS for TARGETS, block by block.

    Either may be a folder of .npy shards, joined along axis 0 in the order of their names (shard-2
    before shard-10). TARGETS then has a file of the same name for each shard of LOGITS, or is one
    file for all of them.

    With --scheduler tcp://HOST:PORT each shard, or a part of a large one, is a task of a Dask
    cluster whose workers read the same paths and have the same version of xloss. The numbers are
    the same however many workers there are, and also if one of them dies.

    Exits with 1 if the loss is NaN.
    """
    from .evaluate import evaluate, reason_for_nan
    from .request import Request, refuse_idle

    # The request has the names of the parameters above.
    request = Request(**{f.name: context.params[f.name] for f in fields(Request)})
    refuse_idle(request)
    with progress_bar(Path(logits).name) as progress:
        result = evaluate(request, progress)
    show(result, as_json, show_evaluation)
    if "hint" in result:
        say(result["hint"])
    if isnan(result["loss"]):
        say(f"{logits}: the loss is NaN: {reason_for_nan(result['findings'])}")
        return JUDGED_AND_FAILED
    return 0
