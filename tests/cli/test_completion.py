"""Shell completion: commands, options, and the values of --backend and --loss."""

import pytest

from cli_runs import here


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
