"""tests/rules/README.md: every rule names tests, which exist and are in the default run."""

import ast
import re

import pytest

from places import ROOT

FOLDER = ROOT / "tests" / "rules"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
RULES = dict(re.findall(r"^\| (?!rule |claim |---)(.+?) \| (.+) \|$", PAGE, re.M))


def nightly(nodes):
    return any(ast.unparse(node).rstrip("]").endswith("mark.nightly") for node in nodes)


def held_by(cell):
    """Yield what is wrong with the tests that a cell names."""
    named = re.findall(r"`([^`]+)`", cell)
    if not named:
        yield "no test"
    for name in named:
        path, _, test = name.partition("::")
        if not (FOLDER / path).exists():
            yield f"no file {path}"
            continue
        body = ast.parse((FOLDER / path).read_text(encoding="utf-8")).body
        found = [f for f in body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
        marks = [n for n in body if isinstance(n, ast.Assign) and "pytestmark" in ast.unparse(n)]
        kept = [f for f in found if not nightly([*marks, *f.decorator_list])]
        if test and test not in {f.name for f in found}:
            yield f"no test {name}"
        elif test not in {"", *(f.name for f in kept)} or not kept:
            yield f"{name} is nightly"


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_held_by_tests_of_the_default_run(rule):
    assert list(held_by(RULES[rule])) == []


def test_the_page_has_the_rules_of_the_design():
    assert len(RULES) > 60
