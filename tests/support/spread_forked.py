"""Ranks of gloo, forked from one process that has imported what their script imports.

    python spread_forked.py FOLDER RANKS SCRIPT ARGUMENT...

Importing PyTorch takes longer than what most ranks do. What rank 0 prints is in FOLDER/out-0 and
FOLDER/err-0; the exit codes of all are printed, a line each.
"""

import importlib
import os
import runpy
import sys
import traceback
from pathlib import Path

import torch

import xloss
import xloss.backends.torch.process_group  # imports PyTorch's compiler, a second of every rank


def child(folder: str, rank: int, script: Path, *arguments: str) -> None:
    """Be that rank, to the end."""
    code = 1
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{name}-{rank}", os.O_WRONLY | os.O_CREAT), number)
        os.environ["SPREAD_RANK"] = str(rank)
        sys.argv[1:] = arguments
        runpy.run_path(str(script), run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(folder: str, ranks: str, name: str, *arguments: str) -> None:
    """Fork the ranks, and wait for them."""
    script = Path(__file__).parent / name
    importlib.import_module(script.stem)
    xloss.entropy(torch.zeros(1, 2))  # the first call imports the rest, and starts no thread
    os.environ["SPREAD_SIZE"] = ranks
    children = []
    for rank in range(int(ranks)):
        children.append(os.fork())
        if children[-1] == 0:
            child(folder, rank, script, *arguments)
    for one in children:
        print(os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
