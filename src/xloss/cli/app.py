"""The commands together, and what becomes of an error that keeps one of them from running."""

from __future__ import annotations

import errno
import logging
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import typer

from .. import __version__
from .command_bench import bench_command
from .command_conform import conform_command
from .command_engines import engines_command
from .command_eval import eval_command
from .output import COULD_NOT_RUN, INTERRUPTED, Failure, give_up, one_line, say

app = typer.Typer(
    name="xloss",
    help="Cross-entropy of files, what this machine can run, and which loss is right.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# What writing to a full, broken or closed stdout fails with.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def _version(asked: bool) -> None:
    if asked:
        print(f"xloss {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_version, help="Print the version."
    ),
) -> None:
    """Take what comes before the command."""


app.command("eval")(eval_command)
app.command("conform")(conform_command)
app.command("bench")(bench_command)
app.command("engines")(engines_command)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; an error is one line on stderr, no traceback."""
    if sys.stdout is None:
        say("stdout is closed: there is nowhere to print to")
        return COULD_NOT_RUN
    # The library logs when it begins to compile; stderr is for what goes wrong.
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
    except (BrokenPipeError, SystemExit) as error:
        # typer raises SystemExit(0) when it has answered a shell that completes a line, and
        # SystemExit(1) when stdout's reader has left.
        return 0 if getattr(error, "code", 1) == 0 else COULD_NOT_RUN
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        say(_message(error))
        return COULD_NOT_RUN
    finally:
        _flush()


def _flush() -> None:
    """Write what is left; if that fails, the command has said so already."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            give_up(stream)


def _message(error: Exception) -> str:
    """Return in one line what went wrong."""
    if isinstance(error, Failure):
        return str(error)
    if hasattr(error, "format_message"):  # typer's error of a wrong option or argument
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "xloss"
        return f"{' '.join(error.format_message().split())} (see {command} --help)"
    if isinstance(error, MemoryError):
        return f"out of memory: {one_line(error)}"
    if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is None:
        return f"stdout: {error.strerror}"  # an error of any other file names the file
    if isinstance(error, OSError):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)} (python -X dev shows where)"
