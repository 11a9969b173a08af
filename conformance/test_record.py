"""A run as a record, and the lines of Python in it that show a case again."""

from __future__ import annotations

import json
import math
import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest

from xloss_conformance.candidates import Candidate
from xloss_conformance.cases import case, catalogue
from xloss_conformance.conventions import convention
from xloss_conformance.formats import accumulated
from xloss_conformance.report.record import record
from xloss_conformance.run import run
from xloss_conformance.snippet import SMALL, setup, text
from xloss_conformance.xloss_subjects import Xloss

TAIL = [case for case in catalogue() if case.family == "tail" and case.quick]
OWN = [Xloss("numpy", "float32"), Xloss("numpy", "float64")]


# ---- The record ----------------------------------------------------------------------------------

KEYS = {
    "": "schema xloss date mode command machine versions seconds subjects missing families rules "
    "cases cells deviations summary ok",
    "machine": "python platform processor cores",
    "subject": "name kind library engine device dtype gradient version",
    "case": "name family label loss reason see gap quick setup",
    "cell": "case subject status value_ulp grad_ulp value_share grad_share note "
    "findings got want call",
    "finding": "rule detail ulp at got want",
}


def nan(logits: Any, targets: Any) -> Any:
    return np.float32("nan")


def test_a_record_has_its_keys_and_is_strict_json() -> None:
    made = record(run([*OWN, Candidate("mine", nan, convention("xloss"))], TAIL))
    cell = made["cells"][-1]
    told = {"": made, "machine": made["machine"], "subject": made["subjects"][0]}
    told |= {"case": made["cases"][0], "cell": cell, "finding": cell["findings"][0]}
    assert {of: " ".join(keys) for of, keys in told.items()} == KEYS
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again == made
    assert made["families"] == [{"name": "tail", "cases": len(TAIL)}]
    assert made["summary"] == {"pass": 10, "fail": 5, "declared": 0, "refused": 0}
    assert not made["ok"]
    assert [s["kind"] for s in made["subjects"]] == ["xloss", "xloss", "candidate"]
    # Numbers that are not finite are spelled out.
    assert cell["got"] == {"value": "nan"}
    assert (cell["value_ulp"], cell["findings"][0]["got"]) == ("inf", "nan")


# ---- Snippets ------------------------------------------------------------------------------------

SAMPLE = [
    (Xloss("numpy", "float32"), "tail/gap 17"),
    (Xloss("numpy", "bfloat16"), "masks/index"),
    (Xloss("torch", "float32", "autograd"), "soft gradient/mean"),
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
    if "error" in cell["got"]:
        with pytest.raises(TypeError) as caught:
            exec(script, {})
        assert f"TypeError: {caught.value}" == cell["got"]["error"]
        return
    with redirect_stdout(StringIO()) as printed:  # here, where the libraries are imported
        exec(script, {})
    lines = dict(re.findall("^(value|gradient|targets gradient) (.*)$", printed.getvalue(), re.M))
    dtypes = {"value": accumulated(subject.dtype)}
    rounded = {k: _rounded(v, dtypes.get(k, subject.dtype)) for k, v in lines.items()}
    assert rounded == cell["got"]


def _rounded(line: str, dtype: str) -> str:
    """Return a printed result to as many digits as the record has."""
    numbers = np.asarray(eval(line, {"nan": math.nan, "inf": math.inf}), np.float64)
    return text(TAIL[0], numbers, dtype)


ODD = replace(TAIL[0], x=np.array([[-0.0, math.inf, -math.inf, math.nan, 0.1]]))


def test_what_makes_the_arguments_makes_them_bit_for_bit() -> None:
    for each in (ODD, *catalogue()):
        if each.on_demand or each.tile > 1:
            continue
        names: dict[str, Any] = {}
        exec(setup(each), names)
        given = {"x": each.x, "targets": each.targets, **each.options, **each.instead}
        for name, wanted in given.items():
            if isinstance(wanted, np.ndarray):
                assert names[name].dtype == wanted.dtype, each.name
                assert names[name].tobytes() == wanted.tobytes(), each.name
        if each.x.size > SMALL:  # it is named, and not printed
            assert len(setup(each)) < 500, each.name
