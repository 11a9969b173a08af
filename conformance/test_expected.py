"""The file of expected answers is the oracle's, whole and unchanged: by night all of it, 40 s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from xloss_conformance import expected
from xloss_conformance.call_subject import same
from xloss_conformance.cases import catalogue
from xloss_conformance.expected import compute, key
from xloss_conformance.model import Case, Expected, Stored
from xloss_conformance.rounding import stored

Asked = dict[str, tuple[Case, Stored]]


@pytest.fixture(scope="module")
def wanted() -> Asked:
    """Every answer that the catalogue wants, by key."""
    found = {}
    for case in catalogue():
        if case.error is None and not case.on_demand:
            for dtype in case.dtypes:
                arguments = stored(case, dtype)
                found[key(case, arguments)] = (case, arguments)
    return found


def parts(answer: Expected) -> list[Any]:
    return [*answer.value, *answer.grad, *(answer.grad_targets or (None, None)), answer.absent]


def differences(filed: dict[str, Expected], wanted: Asked) -> list[str]:
    """Return the cases whose filed answer is not what the oracle says."""
    return [
        case.name
        for token, (case, arguments) in wanted.items()
        if not all(map(same, parts(filed[token]), parts(compute(case, arguments))))
    ]


def test_the_file_answers_every_case_and_no_other(wanted: Asked) -> None:
    assert set(expected._filed()) == set(wanted)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.nightly)])
def test_the_file_says_what_the_oracle_says(wanted: Asked, every: int) -> None:
    some = dict(list(wanted.items())[::every])
    assert differences(expected._filed(), some) == []


def test_the_file_names_what_made_it() -> None:
    with np.load(expected.FILE) as file:
        made = json.loads(file["index"].tobytes())
    assert made["made by"] == "python -m xloss_conformance.expected"
    assert made["mpmath"] == mpmath.__version__
    assert made["digits"] == "80"
    assert expected.FILE.stat().st_size < 2_000_000


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Any:
    expected._filed.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    expected._filed.cache_clear()


def test_a_file_of_another_oracle_is_not_read(unread: pytest.MonkeyPatch) -> None:
    unread.setattr(expected, "_source", lambda: b"another oracle")
    assert expected._filed() == {}


def test_a_missing_file_is_no_answer(unread: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unread.setattr(expected, "FILE", tmp_path / "expected.npz")
    assert expected._filed() == {}


def test_a_rebuilt_file_is_read_back(unread: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unread.setattr(expected, "FILE", tmp_path / "expected.npz")
    few = [case for case in catalogue() if case.family in ("ties", "soft gradient", "empty")]
    count = expected.write(few)
    read = expected._filed()
    assert len(read) == count
    for case in few:
        for dtype in case.dtypes:
            arguments = stored(case, dtype)
            got = read[key(case, arguments)]
            assert all(map(same, parts(got), parts(compute(case, arguments))))
    with np.load(expected.FILE) as file:
        assert json.loads(file["index"].tobytes())["digits"] == "80"
