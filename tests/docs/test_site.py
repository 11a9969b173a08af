"""The documentation site: every public name is in the reference, and the build has no warning."""

import re
from importlib.util import find_spec

import pytest

import xloss
import xloss_conformance
from fresh import ran
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


def test_the_site_is_built_without_a_warning(tmp_path):
    """`nox -s docs` does this in CI; here it needs what the `docs` extra brings."""
    if not (find_spec("mkdocs") and find_spec("material") and find_spec("mkdocstrings")):
        pytest.skip("mkdocs-material and mkdocstrings are not installed; the `docs` extra has them")
    ran("-m", "mkdocs", "build", "--strict", "-d", str(tmp_path), cwd=ROOT)
    losses = (tmp_path / "reference" / "losses" / "index.html").read_text(encoding="utf-8")
    assert 'id="xloss.cross_entropy"' in losses
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)', losses)
    assert [url for url in fetched if "xloss.github.io" not in url] == []
