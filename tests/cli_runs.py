"""Runs of `xloss eval` in the test's own process, and what they answer or refuse."""

import json
import re

import pytest

from xloss.cli.app import run


def answer(capsys, *arguments, code=0, hint=None):
    """Return the JSON of a run; stderr may only hold the line of a NaN loss (code 1) or `hint`."""
    assert run(["eval", *map(str, arguments), "--json"]) == code
    out, err = capsys.readouterr()
    if code:
        assert re.fullmatch(r"xloss: [^\n]+: the loss is NaN: [^\n]+\n", err), err
    elif hint is None:
        assert err == ""
    else:
        assert re.fullmatch(f"xloss: (?:{hint})\n", err), err
    got = json.loads(out, parse_constant=pytest.fail)
    assert got.pop("seconds") > 0
    return got


def refused(capsys, *arguments):
    """Return the one line in which a run refuses."""
    assert run(["eval", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"xloss: [^\n]+\n", err), err
    return err[7:-1]
