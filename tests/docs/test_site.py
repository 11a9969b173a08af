"""The documentation site: every public name is in the reference. `nox -s docs` builds it in CI."""

import re

import pytest

import xloss
import xloss_conformance
from places import ROOT

REFERENCE = {
    name
    for path in (ROOT / "docs" / "reference").glob("*.md")
    for name in re.findall(r"^::: ([\w.]+)$", path.read_text(encoding="utf-8"), re.M)
}


@pytest.mark.parametrize("package", [xloss, xloss_conformance], ids=lambda p: p.__name__)
def test_the_reference_has_every_public_name_and_no_other(package):
    listed = {n.rpartition(".")[2] for n in REFERENCE if n.startswith(f"{package.__name__}.")}
    adapters = {path.stem for path in (ROOT / "src" / "xloss" / "adapters").glob("[a-z]*.py")}
    if package is xloss:
        assert {n for n in REFERENCE if n.startswith("xloss.adapters.")} == {
            f"xloss.adapters.{name}" for name in adapters
        }
        listed -= adapters
    assert listed == set(package.__all__)


@pytest.mark.parametrize("file", ["CONTRIBUTING.md", "SECURITY.md", "docs/design.md"])
def test_a_path_that_is_named_is_there(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:src|tests|conformance|docs|\.ci)/[\w./]*)`", text)
    assert paths or file == "SECURITY.md"
    for path in paths:
        assert (ROOT / path).exists(), path
