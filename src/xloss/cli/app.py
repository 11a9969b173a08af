"""The commands: what they take, and how their result is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .files import FileProblem
from .output import COULD_NOT_RUN, Failure, one_line, print_json

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
    from .show import progress_bar, show_evaluation

    question = Question(
        logits, targets, backend, axis, ignore_index, label_smoothing, weight, worst
    )
    with reported():
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
    from .show import show_machine

    with reported():
        result = machine()
        if as_json:
            print_json(result)
        else:
            show_machine(result)


@contextmanager
def reported() -> Iterator[None]:
    """Turn what keeps a command from running into one line on stderr and exit code 2."""
    try:
        yield
    except (Failure, FileProblem) as problem:
        message = str(problem)
    except MemoryError as error:
        message = f"out of memory: {one_line(error)}"
    except BrokenPipeError:  # the reader of stdout has left: nothing to say, and no one to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(COULD_NOT_RUN) from None
    except (OSError, ImportError) as error:
        message = one_line(error)
    else:
        return
    typer.echo(f"xloss: {message}", err=True)
    raise typer.Exit(COULD_NOT_RUN)


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code."""
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(list(arguments) or ["--help"], prog_name="xloss", standalone_mode=False)
    except typer.Abort:
        return 130
    except Exception as error:
        # A wrong option or argument: typer's own errors say so in one line.
        if not hasattr(error, "format_message"):
            raise
        typer.echo(f"xloss: {error.format_message()} (see xloss --help)", err=True)
        return COULD_NOT_RUN
    return code if isinstance(code, int) else 0
