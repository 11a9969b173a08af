"""The commands: what they take, and how their result is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .files import FileProblem
from .output import COULD_NOT_RUN, INTERRUPTED, Failure, one_line, print_json
from .show import progress_bar, show_evaluation, show_machine

app = typer.Typer(
    name="xloss",
    help="Cross-entropy of files, and what this machine can run.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, alone, on stdout.")]
ARRAY = ".npy, .npz or .safetensors; FILE::NAME picks one of several arrays"


@app.command("eval")
def eval_command(
    logits: Annotated[str, typer.Argument(metavar="LOGITS", help=f"Floating array: {ARRAY}.")],
    targets: Annotated[
        str, typer.Argument(metavar="TARGETS", help="Labels (integers), or probabilities.")
    ],
    backend: Annotated[
        str, typer.Option(help="The array library: numpy, torch, jax or cupy.")
    ] = "numpy",
    axis: Annotated[int, typer.Option(help="The class axis of the logits.")] = -1,
    ignore_index: Annotated[int, typer.Option(help="The label of rows to leave out.")] = -100,
    label_smoothing: Annotated[float, typer.Option(help="Share of a target spread out.")] = 0.0,
    weight: Annotated[
        str | None, typer.Option(metavar="FILE", help="A weight for each class.")
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of the worst rows to show.")
    ] = 5,
    as_json: Json = False,
) -> None:
    """Compute loss, perplexity and accuracy of LOGITS for TARGETS, block by block."""
    from .evaluate import Question, evaluate

    question = Question(
        logits, targets, backend, axis, ignore_index, label_smoothing, weight, worst
    )
    with progress_bar(Path(logits).name) as progress:
        result = evaluate(question, progress)
    if as_json:
        print_json(result)
    else:
        show_evaluation(result)


@app.command("engines")
def engines_command(as_json: Json = False) -> None:
    """Print the array libraries, devices and engines found here, and what installs the rest."""
    from .machine import machine

    result = machine()
    if as_json:
        print_json(result)
    else:
        show_machine(result)


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code; what keeps it from running is one line on stderr."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(list(arguments) or ["--help"], prog_name="xloss", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # typer exits so: the reader of stdout has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_RUN
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        typer.echo(f"xloss: {_said(error)}", err=True)
        return COULD_NOT_RUN


def _said(error: Exception) -> str:
    """Return in one line what went wrong."""
    if isinstance(error, Failure | FileProblem):
        return str(error)
    if hasattr(error, "format_message"):  # a wrong option or argument: typer's own error
        return f"{error.format_message()} (see xloss --help)"
    if isinstance(error, MemoryError):
        return f"out of memory: {one_line(error)}"
    if isinstance(error, OSError):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)} (python -X dev shows where)"
