"""The capability table: every claim is a rule that tests hold, and a page prints the table."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

from libraries import library
from places import ROOT, TESTS
from xloss.capabilities import FEATURES, SUPPORT, Support, matrix
from xloss_conformance.xloss_subjects import of

# As the tests call it, and the suite.
NAMES = {"array_api_strict": "strict"}


def test_every_claim_is_a_rule_and_no_rule_is_stale() -> None:
    """In tests/rules/README.md, whose rules are held by tests: see test_rules_are_held.py."""
    page = (TESTS / "rules" / "README.md").read_text(encoding="utf-8")
    section = page.partition("\n## What is claimed of each library\n")[2].partition("\n## ")[0]
    rules = re.findall(r"^\| (.+): (.+?) \|", section, re.M)
    everywhere = {feature for place, feature in rules if place == "every library"}
    claimed = {(s.library, f) for s in SUPPORT for f in s.features}
    assert {f for _, f in claimed} == set(FEATURES)
    assert {c for c in claimed if c[1] not in everywhere} == {
        r for r in rules if r[0] != "every library"
    }


@pytest.mark.parametrize("support", SUPPORT, ids=lambda s: s.library)
def test_the_suite_judges_what_is_claimed(support: Support) -> None:
    """Every dtype of every library that is here; and a bad label raises where that is said."""
    name = NAMES.get(support.library, support.library)
    assert {subject.dtype for subject in of(name)} == set(support.dtypes)
    if "cpu" in support.devices and find_spec(support.library):
        assert library(name).reads == ("label error" in support.features)


def test_the_page_on_installing_prints_the_table() -> None:
    """Between its markers, word for word."""
    text = (ROOT / "docs" / "install.md").read_text()
    found = re.search(r"<!-- support matrix -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found
    assert found[1].strip() == matrix()
