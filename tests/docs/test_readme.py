"""The README's Python blocks run, one after the other, as a reader would type them."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

from places import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_blocks_run() -> None:
    """Every block but those that name what they need and this machine has not."""
    for library in ("torch", "jax", "dask"):
        if not find_spec(library):
            pytest.skip(f"{library} is not installed; the test extra brings it")
    names: dict[str, object] = {}
    ran = 0
    for block in BLOCKS:
        if block.startswith("# needs"):
            continue
        exec(compile(block, "README.md", "exec"), names)
        ran += 1
    assert ran >= 4
    rows = names["xloss"].cross_entropy(names["logits"], names["labels"], reduction="none")
    assert f"{rows[1]:.2e}" == "5.02e-08"  # the figure of the table
    whole = names["xloss"].cross_entropy(names["logits"], names["labels"])
    assert names["total"] == pytest.approx(whole, rel=2e-7)  # of the micro-batches


def test_links_lead_somewhere() -> None:
    """Each relative link names a file of the repository."""
    root = ROOT
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target


def test_every_public_name_is_told() -> None:
    """What __all__ offers, the README names."""
    import xloss

    quiet = {"EngineUnavailable", "capabilities", "engines", "use_engine"}
    for name in set(xloss.__all__) - quiet:
        assert f"`{name}`" in README, name
