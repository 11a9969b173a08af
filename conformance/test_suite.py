"""Running in worker processes: the same report, light to send, and what becomes of a broken one."""

from __future__ import annotations

import json
import math
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xloss_conformance.answers import answers
from xloss_conformance.candidates import load
from xloss_conformance.cases import case, catalogue
from xloss_conformance.formats import accumulated
from xloss_conformance.libraries import LIBRARIES, array_library
from xloss_conformance.model import RULES, LoadError, Missing, Source, Subject, Verdict
from xloss_conformance.report.record import plain, record
from xloss_conformance.result import Report
from xloss_conformance.run import run
from xloss_conformance.selection import Plan, cases, sources
from xloss_conformance.snippet import SMALL, setup, text
from xloss_conformance.workers import WorkerFailed, sent
from xloss_conformance.xloss_subjects import AUTODIFF, DTYPES_OF, Xloss, known, of, present

TAIL = [case for case in catalogue() if case.family == "tail" and case.quick]
OWN = [Xloss("numpy", "float32"), Xloss("numpy", "float64")]
CANDIDATES = """
import os
import numpy as np

def textbook(logits, targets):
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(p[np.arange(len(targets)), targets]).mean()

def nan(logits, targets):
    return np.float32("nan")

def dies(logits, targets):
    os.kill(os.getpid(), 9)

def leaves(logits, targets):
    os._exit(3)

def prints(logits, targets):
    print("a line of its own")
    return textbook(logits, targets)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(CANDIDATES)
    return path


def candidate(file: Path, name: str) -> Source:
    return Source("mine", partial(load, f"{file}:{name}"), required=True)


def compared(report: Report) -> list[Any]:
    return [
        (v.case.name, v.subject, v.status, v.value_ulp, v.grad_ulp, v.got, v.want, v.call)
        for v in report.verdicts
    ]


# ---- Processes -----------------------------------------------------------------------------------


def test_processes_give_the_same_report_in_the_same_order() -> None:
    chosen = [c for c in catalogue() if c.family in ("tail", "errors") and c.quick]
    subjects = [*OWN, Xloss("numpy", "float16")]
    told: list[tuple[int, int]] = []
    there = run(subjects, chosen, jobs=2, progress=lambda done, total: told.append((done, total)))
    assert compared(there) == compared(run(subjects, chosen))
    assert [s.name for s in there.subjects] == [s.name for s in subjects]
    assert there.ok
    assert told[-1] == (len(chosen) * 3,) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_verdict_is_light_to_send() -> None:
    large = max(catalogue(), key=_size)
    found = [*answers(Source("numpy", partial(present, OWN[0])), [large])]
    assert isinstance(found[1], Verdict)
    assert found[1].status == "pass"
    assert len(pickle.dumps(sent(found[1]))) < 10_000


def _size(of: Any) -> int:
    return 0 if of.on_demand or "float32" not in of.dtypes or of.layout != "C" else of.x.size


@pytest.mark.parametrize(("name", "how"), [("dies", "SIGKILL"), ("leaves", "exit code 3")])
def test_a_worker_that_dies_is_named_with_what_it_ran(file: Path, name: str, how: str) -> None:
    expected = f"running {file}:{name} float32 on {TAIL[0].name} died: {how}"
    with pytest.raises(WorkerFailed, match=re.escape(expected)):
        run([*OWN, candidate(file, name)], TAIL, jobs=2)


def test_what_cannot_be_loaded_is_said_as_it_is(file: Path) -> None:
    with pytest.raises(LoadError, match=r"mine.py has no nope; it has textbook, nan, dies"):
        run([candidate(file, "nope")], TAIL, jobs=1)


def test_a_missing_library_is_told_unless_it_was_asked_for() -> None:
    make = partial(_absent, "nolib: not installed: pip install nolib")
    report = run([OWN[0], Source("nolib", make), Source("nolib", make)], TAIL)
    assert report.missing == ["nolib: not installed: pip install nolib"]
    assert len(report.verdicts) == len(TAIL)
    assert report.ok
    with pytest.raises(Missing, match="nolib: not installed"):
        run([Source("nolib", make, required=True)], TAIL)


def _absent(why: str) -> Subject:
    raise Missing(why)


def test_what_a_candidate_prints_stays_off_stdout(file: Path) -> None:
    script = (
        "from functools import partial\n"
        "from xloss_conformance.candidates import load\n"
        "from xloss_conformance.cases import case\n"
        "from xloss_conformance.model import Source\n"
        "from xloss_conformance.run import run\n"
        "if __name__ == '__main__':\n"
        f"    make = partial(load, {str(file) + ':prints'!r})\n"
        "    print(len(run([Source('', make)], [case('tail/gap 5')], jobs=1).verdicts))\n"
    )
    main = file.with_name("main.py")
    main.write_text(script)
    ran = subprocess.run([sys.executable, main], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"
    assert "a line of its own" in ran.stderr


# ---- What is run ---------------------------------------------------------------------------------


def test_what_is_said_of_libraries_is_what_they_are() -> None:
    """The table of dtypes and of autodiff is for those who must not import the library."""
    seen = set()
    for subject in (s for name in ("numpy", "strict", "torch", "jax", "dask") for s in of(name)):
        here = array_library(subject.library)
        assert AUTODIFF.get(subject.library, "") == here.gradients
        seen.add((subject.library, subject.dtype))
    for library in {library for library, _ in seen}:
        mine = {dtype for name, dtype in seen if name == library}
        assert mine == set(array_library(library).dtypes)
        assert mine == set(DTYPES_OF.get(library, mine))
    assert set(known()) >= {s.name for s in OWN}


def test_a_plan_imports_no_array_library() -> None:
    script = (
        "import sys; from xloss_conformance.selection import Plan, cases, sources\n"
        "sources(Plan(peers=('optax',), backends=('jax', 'torch', 'dask')))\n"
        "cases(Plan(quick=True))\n"
        "print({'torch', 'jax', 'dask', 'optax', 'mpmath', 'scipy', 'array_api_strict'}"
        " & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_without_a_name_everything_runs_that_is_here() -> None:
    libraries = {source.library for source in sources(Plan())}
    assert libraries == set(LIBRARIES)
    assert {source.library for source in sources(Plan(quick=True))} == {"numpy", "strict", "torch"}
    assert {source.library for source in sources(Plan(peers=("optax",)))} == {"optax"}
    assert not any(source.required for source in sources(Plan()))
    assert all(source.required for source in sources(Plan(backends=("cupy",))))
    assert all(case.quick for case in cases(Plan(quick=True)))
    assert not any(case.on_demand for case in cases(Plan()))
    assert {case.loss for case in cases(Plan(candidate="a:b"))} == {"cross_entropy"}


# ---- The record ----------------------------------------------------------------------------------

KEYS = [
    "schema",
    "xloss",
    "date",
    "mode",
    "command",
    "machine",
    "versions",
    "seconds",
    "subjects",
    "missing",
    "families",
    "rules",
    "cases",
    "cells",
    "deviations",
    "summary",
    "ok",
]


def test_a_record_has_its_keys_and_is_strict_json(file: Path) -> None:
    made = record(run([*OWN, candidate(file, "nan")], TAIL))
    assert list(made) == KEYS
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again == made
    assert list(made["machine"]) == ["python", "platform", "processor", "cores"]
    assert made["rules"] == RULES
    assert made["families"] == [{"name": "tail", "cases": len(TAIL)}]
    assert made["summary"] == {"pass": 10, "fail": 5, "declared": 0, "refused": 0}
    assert made["versions"]["numpy"] == np.__version__
    assert not made["ok"]
    subject = made["subjects"][0]
    assert list(subject) == [
        "name",
        "kind",
        "library",
        "engine",
        "device",
        "dtype",
        "gradient",
        "version",
    ]
    assert [s["kind"] for s in made["subjects"]] == ["xloss", "xloss", "candidate"]
    assert list(made["cases"][0]) == [
        "name",
        "family",
        "label",
        "loss",
        "reason",
        "see",
        "gap",
        "quick",
        "inputs",
        "setup",
    ]
    cell = made["cells"][-1]
    assert list(cell) == [
        "case",
        "subject",
        "status",
        "value_ulp",
        "grad_ulp",
        "note",
        "findings",
        "got",
        "want",
        "call",
    ]
    assert list(cell["findings"][0]) == ["rule", "detail", "ulp", "at", "got", "want"]
    assert cell["got"] == {"value": "nan"}
    assert (cell["value_ulp"], cell["findings"][0]["got"]) == ("inf", "nan")


def test_numbers_that_are_not_finite_are_spelled_out() -> None:
    got = plain({"a": [math.nan, (math.inf, -math.inf)], "b": 1.5})
    assert got == {"a": ["nan", ["inf", "-inf"]], "b": 1.5}


# ---- Snippets ------------------------------------------------------------------------------------

SAMPLE = [
    (Xloss("numpy", "float32"), "tail/gap 17"),
    (Xloss("numpy", "bfloat16"), "masks/index"),
    (Xloss("strict", "float64"), "tail/gap 40"),
    (Xloss("torch", "float32", "autograd"), "soft gradient/mean"),
    (Xloss("torch", "float32", engine="generic"), "layouts/strided"),
    (Xloss("jax", "float32", "jax.vjp"), "upstream/rows"),
    (Xloss("dask", "float32"), "ties/masked"),
    (Xloss("numpy", "float32"), "errors/targets a list"),
]


@pytest.mark.parametrize(("subject", "name"), SAMPLE, ids=str)
def test_a_snippet_prints_what_the_record_has(subject: Xloss, name: str) -> None:
    made = record(run([subject], [case(name)]))
    cell = made["cells"][0]
    assert cell["status"] == "pass"
    script = f"{made['cases'][0]['setup']}\n{cell['call']}\n"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if "error" in cell["got"]:
        assert ran.stderr.splitlines()[-1] == cell["got"]["error"]
        return
    assert ran.returncode == 0, ran.stderr
    for line, (what, got) in zip(ran.stdout.splitlines(), cell["got"].items(), strict=True):
        assert (
            _rounded(line, accumulated(subject.dtype) if what == "value" else subject.dtype) == got
        )


def _rounded(line: str, dtype: str) -> str:
    """Return a printed result to as many digits as the record has."""
    numbers = np.asarray(eval(line, {"nan": math.nan, "inf": math.inf}), np.float64)
    return text(TAIL[0], numbers, dtype)


def test_what_makes_the_arguments_makes_them_bit_for_bit() -> None:
    for each in catalogue():
        if each.on_demand:
            continue
        names: dict[str, Any] = {}
        exec(setup(each), names)
        for name in ("x", "targets"):
            wanted = each.instead.get(name, getattr(each, name))
            if each.tile > 1 or wanted is None:
                continue
            if isinstance(wanted, np.ndarray):
                assert names[name].dtype == wanted.dtype, each.name
            np.testing.assert_array_equal(names[name], wanted, each.name)
        for name, value in each.options.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(names[name], value, each.name)


def test_large_arrays_are_named_not_printed() -> None:
    for each in catalogue():
        if each.x.size > SMALL:
            assert len(setup(each)) < 500, each.name
            assert "import case" in setup(each)


def test_the_literals_hold_minus_zero_and_infinities() -> None:
    odd = replace(TAIL[0], x=np.array([[-0.0, math.inf, -math.inf, math.nan, 0.1]]))
    names: dict[str, Any] = {}
    exec(setup(odd), names)
    assert names["x"].tobytes() == odd.x.tobytes()
