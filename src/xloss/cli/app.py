"""The commands: what they take, and how their result is shown."""

from __future__ import annotations

import errno
import logging
import shlex
import sys
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from .judging import conform_command
from .options import Json
from .output import (
    COULD_NOT_RUN,
    INTERRUPTED,
    JUDGED_AND_FAILED,
    Failure,
    give_up,
    one_line,
    print_json,
    say,
)
from .show import progress_bar, show_evaluation, show_kernel, show_machine, show_warm
from .timing import bench_command

app = typer.Typer(
    name="xloss",
    help="Cross-entropy of files, what this machine can run, and which loss is right.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
ARRAY = ".npy, .npz or .safetensors; FILE::NAME picks one of several arrays; a folder of .npy"


def _version(asked: bool) -> None:
    if asked:
        print(f"xloss {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    """Take what comes before the command."""


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
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Compute on this Dask cluster, which has the files."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compute loss, perplexity and accuracy of LOGITS for TARGETS, block by block.

    Either may be a folder of .npy shards, joined along axis 0 in the order of their names (shard-2
    before shard-10): TARGETS has a file of the same name for each, or is one file for all.

    With --scheduler tcp://HOST:PORT each shard, or piece of a large one, is a task of a Dask
    cluster that reads the same paths and has the same xloss; the numbers do not depend on how many
    workers it has, nor on one that dies.

    Exits with 1 where the loss is NaN.
    """
    from .evaluate import evaluate, why
    from .shards import Question

    question = Question(
        logits, targets, backend, axis, ignore_index, label_smoothing, weight, worst, scheduler
    )
    with progress_bar(Path(logits).name) as progress:
        result = evaluate(question, progress)
    if as_json:
        print_json(result)
    else:
        show_evaluation(result)
    for hint in result.get("hints", ()):
        say(hint)
    if isnan(result["loss"]):
        say(f"{logits}: the loss is NaN: {why(result['findings'])}")
        return JUDGED_AND_FAILED
    return 0


app.command("conform")(conform_command)
app.command("bench")(bench_command)


@app.command("engines")
def engines_command(
    warm: Annotated[
        bool,
        typer.Option("--warm", help="Compile ahead, for the CPU and the GPU that is here."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the array libraries, devices and engines found here, and what installs the rest."""
    from .machine import compile_ahead, machine

    if warm:
        compiled = compile_ahead(None if as_json else show_kernel)
        if as_json:
            print_json(compiled)
        else:
            show_warm(compiled)
        return
    result = machine()
    if as_json:
        print_json(result)
    else:
        show_machine(result)


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code; what keeps it from running is one line on stderr."""
    if sys.stdout is None:
        say("stdout is closed: there is nowhere to print to")
        return COULD_NOT_RUN
    # What is compiled is told of by a progress bar, if at all: stderr is for what goes wrong.
    logging.getLogger("xloss").setLevel(logging.ERROR)
    try:
        command: Any = typer.main.get_command(app)
        code = command.main(
            list(arguments) or ["--help"],
            prog_name="xloss",
            standalone_mode=False,
            obj=shlex.join(["xloss", *arguments]),
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # typer exits so: the reader of stdout has left
        give_up(sys.stdout)
        return COULD_NOT_RUN
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        say(_said(error))
        return COULD_NOT_RUN
    finally:
        _flush()


def _flush() -> None:
    """Write what is left; a disk that is full has been told of once, which is enough."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            give_up(stream)


def _said(error: Exception) -> str:
    """Return in one line what went wrong."""
    if isinstance(error, Failure):
        return str(error)
    if hasattr(error, "format_message"):  # a wrong option or argument: typer's own error
        return f"{' '.join(error.format_message().split())} (see xloss --help)"
    if isinstance(error, MemoryError):
        return f"out of memory: {one_line(error)}"
    if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
        return f"stdout: {error.strerror}"  # whoever writes a file names it
    if isinstance(error, OSError):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)} (python -X dev shows where)"
