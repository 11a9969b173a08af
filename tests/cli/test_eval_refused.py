"""xloss eval: what is refused, in one line and with exit code 2."""

import re
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from cli_runs import answer, here, process, refused
from xloss.cli import run_task as task_module
from xloss.cli.app import run

# ---- What is refused -----------------------------------------------------------------------------


def test_a_refusal_is_one_line_and_exit_code_2(files, capfd):
    missing = ["eval", "z.npy", "none.npy"]
    alike = [here(capfd, *given) for given in (missing, ["eval", "z.npy"], ["nonsense"])]
    for ran in (process(*missing), *alike):
        assert (ran.returncode, ran.stdout) == (2, "")
        assert re.fullmatch(r"xloss: [^\n]+\n", ran.stderr)


REFUSED = {
    "missing": (["none.npy", "y.npy"], "none.npy: No such file"),
    "integer logits": (["y.npy", "y.npy"], r"y.npy: expected floating logits, got int64 of shape"),
    "too few labels": (["z.npy", "few.npy"], r"few.npy: expected labels of shape \(300,\), that"),
    "other axis": (["z.npy", "seven.npy"], "did you mean --axis 0"),
    "no such axis": (["z.npy", "y.npy", "--axis", 2], r"z.npy: has no axis 2: its shape is \(300,"),
    "bad label": (["z.npy", "bad.npy"], r"bad.npy: label 7 of row 299 is not in \[0, 7\) and not"),
    "no class": (["none-classes.npy", "y.npy"], "expected at least one class"),
    "wrong weight": (["z.npy", "y.npy", "--weight", "few.npy"], r"weight: expected shape \(7,\)"),
    "no weight": (["z.npy", "y.npy", "--weight", "w.npy"], "w.npy: No such file"),
    "smoothing": (["z.npy", "y.npy", "--label-smoothing", 2], "label_smoothing: expected a number"),
    "soft ignored": (["z.npy", "z.npy", "--ignore-index", 3], "ignore_index: 3 has no meaning"),
    "backend": (["z.npy", "y.npy", "--backend", "numpyy"], "--backend numpyy: expected one of"),
    "worst": (["z.npy", "y.npy", "--worst", "-1"], "Invalid value for '--worst'"),
    "no number": (["z.npy", "y.npy", "--axis", "one"], "Invalid value for '--axis'"),
    "no such option": (["z.npy", "y.npy", "--fast"], "No such option: --fast"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_do_not_fit_are_refused(files, capsys, case):
    _, labels = files
    np.save("few.npy", labels[:9])
    np.save("seven.npy", np.arange(7))
    np.save("bad.npy", np.append(labels[1:], 7))
    np.save("none-classes.npy", np.zeros((300, 0)))
    arguments, message = REFUSED[case]
    assert re.search(message, refused(capsys, *arguments))


@pytest.mark.parametrize("name", ["torch", "jax", "cupy"])
def test_a_backend_that_is_not_installed(files, capsys, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    said = refused(capsys, "z.npy", "y.npy", "--backend", name)
    assert said == f'--backend {name}: {name} is not installed: pip install "xloss[{name}]"'


@pytest.mark.parametrize(("name", "command"), [("typer", "eval"), ("rich", "conform")])
def test_without_the_extra_the_command_says_what_to_install(name, command):
    ran = process(command, "a", "b", before=f"import sys; sys.modules[{name!r}] = None")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f'xloss: the command line needs {name}: pip install "xloss[cli]"\n'


@pytest.mark.parametrize("name", ["safetensors", "ml_dtypes"])
def test_without_safetensors_npy_still_works(files, capsys, monkeypatch, name):
    save_file({"z": files[0]}, "z.safetensors")
    monkeypatch.setitem(sys.modules, name, None)
    assert answer(capsys, "z.npy", "y.npy")["rows"] == 300
    said = refused(capsys, "z.safetensors", "y.npy")
    assert said == f'z.safetensors: needs {name}: pip install "xloss[cli]"'


def test_an_unexpected_exception_is_one_line(files, capsys, monkeypatch):
    def broken(call):
        raise RuntimeError("CUDA error:\nunspecified launch failure")

    monkeypatch.setattr(task_module, "measure", broken)
    said = refused(capsys, "z.npy", "y.npy")
    assert said.startswith("RuntimeError: CUDA error: unspecified launch failure")


def test_ctrl_c(files, capsys, monkeypatch):
    def interrupted(call):
        raise KeyboardInterrupt

    monkeypatch.setattr(task_module, "measure", interrupted)
    assert run(["eval", "z.npy", "y.npy"]) == 130
