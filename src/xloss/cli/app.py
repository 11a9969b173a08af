"""The commands: what they take, and how their result is shown."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .files import FileProblem
from .output import (
    COULD_NOT_RUN,
    INTERRUPTED,
    JUDGED_AND_FAILED,
    Failure,
    fail,
    one_line,
    print_json,
)
from .show import (
    progress_bar,
    show_cases,
    show_evaluation,
    show_kernel,
    show_machine,
    show_warm,
)

app = typer.Typer(
    name="xloss",
    help="Cross-entropy of files, what this machine can run, and which loss is right.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, alone, on stdout.")]
Names = list[str] | None
ARRAY = ".npy, .npz or .safetensors; FILE::NAME picks one of several arrays; a folder of .npy"


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
) -> None:
    """Compute loss, perplexity and accuracy of LOGITS for TARGETS, block by block.

    Either may be a folder of .npy shards, joined along axis 0 in the order of their names (shard-2
    before shard-10): TARGETS has a file of the same name for each, or is one file for all.

    With --scheduler tcp://HOST:PORT each shard, or piece of a large one, is a task of a Dask
    cluster that reads the same paths and has the same xloss; the numbers do not depend on how many
    workers it has, nor on one that dies.
    """
    from .evaluate import evaluate
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


@app.command("conform")
def conform_command(
    context: typer.Context,
    a: Annotated[
        str | None,
        typer.Argument(metavar="A", help="The same as --candidate; with --against, one of two."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="B", help="Where A and B first differ; which is right.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few cases of each family.")] = False,
    candidate: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="package.module:function or path/file.py:function."),
    ] = None,
    convention: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="How the candidate is called.")
    ] = "xloss",
    loss: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the candidate computes.")
    ] = None,
    arrays: Annotated[
        str | None, typer.Option(metavar="LIB", help="Whose arrays the candidate takes.")
    ] = None,
    value_only: Annotated[
        bool, typer.Option("--value-only", help="The candidate is a metric: take no gradient.")
    ] = False,
    dtype: Annotated[Names, typer.Option(help="float32, float64, float16, bfloat16.")] = None,
    peer: Annotated[
        Names, typer.Option(metavar="NAME", help="torch, keras, optax, sklearn, scipy.")
    ] = None,
    backend: Annotated[Names, typer.Option(metavar="NAME", help="xloss on this library.")] = None,
    family: Annotated[Names, typer.Option(metavar="NAME", help="Cases of this family.")] = None,
    case: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Cases of this name, such as 'tail/*'.")
    ] = None,
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help="The cases too that take long, or much memory.")
    ] = False,
    deviations: Annotated[
        str | None, typer.Option(metavar="FILE", help="TOML of failures known and explained.")
    ] = None,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the page of this run.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes; as many as cores.")
    ] = None,
    as_list: Annotated[bool, typer.Option("--list", help="Print the cases, and why.")] = False,
    as_json: Json = False,
) -> int:
    """Judge xloss on this machine, or any loss, by the conformance suite.

    Without --candidate, --peer or --backend it is xloss, wherever it runs here.
    """
    if against is not None:
        if a is None:
            fail("--against: expected two losses, xloss conform A --against B")
        from .against import against as compared

        idle = {
            "--candidate": candidate, "--peer": peer, "--backend": backend, "--case": case,
            "--on-demand": on_demand, "--deviations": deviations, "--html": html,
            "--jobs": jobs, "--list": as_list, "--value-only": value_only,
            "--dtype, more than one,": dtype and dtype[1:],
        }  # fmt: skip
        for name, given in idle.items():
            if given:
                fail(f"{name} says nothing of two losses: not with --against")
        return compared(
            a, against, convention=convention, arrays=arrays, loss=loss,
            dtype=dtype[0] if dtype else "float32", families=family or (), quick=quick,
            as_json=as_json,
        )  # fmt: skip
    if a is not None and candidate is not None:
        fail(f"{a}: one candidate at a time; the other is {candidate}")
    from . import conform

    asked: dict[str, Any] = {
        "quick": quick, "on_demand": on_demand, "families": family or (), "case": case,
        "loss": loss, "dtypes": dtype or (), "backends": backend or (), "peers": peer or (),
        "candidate": candidate or a, "convention": convention, "arrays": arrays,
        "value_only": value_only,
    }  # fmt: skip
    if as_list:
        cases = conform.listed(asked)
        if as_json:
            print_json({"cases": cases})
        else:
            show_cases(cases)
        return 0
    with progress_bar("conform") as progress:
        record = conform.conform(
            asked, jobs=jobs, deviations=deviations, html=html, progress=progress,
            command=str(context.obj),
        )  # fmt: skip
    if as_json:
        print_json(record)
    else:
        conform.show(record)
    return 0 if record["ok"] else JUDGED_AND_FAILED


@app.command("bench")
def bench_command(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Half a minute: the largest peers, three shapes.")
    ] = False,
    op: Annotated[
        Names, typer.Option(metavar="NAME", help="forward, gradient, memory, ...; all but a few.")
    ] = None,
    peer: Annotated[
        Names,
        typer.Option(metavar="NAME", help="torch, torch.compile, optax, keras, sklearn, scipy."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cores to use; all of them.")
    ] = None,
    publish: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Write performance.md, .json and pictures there."),
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="With --publish: of the record there; measure nothing.")
    ] = False,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
    as_json: Json = False,
) -> None:
    """Time xloss and every peer installed, in turns; read their memory; judge xloss's targets."""
    from . import bench

    asked: dict[str, Any] = {
        "quick": quick, "ops": op or (), "peers": peer or (), "threads": threads or 0,
        "tiny": tiny,
    }  # fmt: skip
    if render:
        if publish is None:
            fail("--render: expected --publish FOLDER, whose record is drawn")
        record = bench.render(publish)
    else:
        with progress_bar("bench") as progress:
            record = bench.bench(
                asked, publish=publish, progress=progress, command=str(context.obj)
            )
    if as_json:
        print_json(record)
    else:
        bench.show(record)


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
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(
            list(arguments) or ["--help"], prog_name="xloss", standalone_mode=False,
            obj=shlex.join(["xloss", *arguments]),
        )  # fmt: skip
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
