"""Shell completion: commands, options, and the values of --backend and --loss."""

import os

import pytest

from cli_runs import here, process


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xloss e", ["eval", "engines"]),
        ("xloss eval --label", ["--label-smoothing"]),
        ("xloss eval --backend t", ["torch", "tensorflow"]),
        ("xloss eval --loss bin", ["binary_cross_entropy_with_logits", "binary_cross_entropy"]),
    ],
)
def test_bash_is_offered_what_fits(capfd, monkeypatch, line, offered):
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    monkeypatch.setenv("_XLOSS_COMPLETE", "complete_bash")
    ran = here(capfd)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == offered


def test_the_script_for_the_shell_is_printed():
    # Typer looks for a shell among the parents of the process, where a test may have none.
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ran = process("--show-completion", "bash", env=named)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_XLOSS_COMPLETE=complete_bash" in ran.stdout
