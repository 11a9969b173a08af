"""Shell completion: commands, options, and the values of --backend and --loss."""

import os

import pytest

from cli_runs import process


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xloss e", ["eval", "engines"]),
        ("xloss eval --label", ["--label-smoothing"]),
        ("xloss eval --backend t", ["torch", "tensorflow"]),
        ("xloss eval --loss bin", ["binary_cross_entropy_with_logits", "binary_cross_entropy"]),
    ],
)
def test_bash_is_offered_what_fits(line, offered):
    words = str(len(line.split()) - 1)
    ran = process(
        env={
            **os.environ,
            "COMP_WORDS": line,
            "COMP_CWORD": words,
            "_XLOSS_COMPLETE": "complete_bash",
        }
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == offered


def test_the_script_for_the_shell_is_printed():
    ran = process("--show-completion", "bash")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_XLOSS_COMPLETE=complete_bash" in ran.stdout
