"""What is shipped: the package's contents and promises, read off its metadata and a built wheel."""

import re
import sys
import tomllib
import zipfile
from itertools import chain

from hatchling.builders.wheel import WheelBuilder

import xloss
from fresh import said
from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8")


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_the_wheel_holds_every_file_of_both_packages_and_nothing_else(tmp_path):
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        held = {n for n in archive.namelist() if not n.startswith("xloss-0.1.0.dist-info/")}
        assert "xloss-0.1.0.dist-info/licenses/LICENSE" in archive.namelist()
    packages = (ROOT / "src" / "xloss", ROOT / "conformance" / "xloss_conformance")
    sources = {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"xloss/py.typed", "xloss_conformance/py.typed"} <= sources <= held
    assert {name.split("/")[0] for name in held} == {"xloss", "xloss_conformance"}


def test_two_dependencies():
    assert names(PROJECT["dependencies"]) == {"numpy", "array-api-compat"}
    assert "numpy>=2.1" in PROJECT["dependencies"]


def test_all_is_everything_that_needs_no_gpu():
    (everything,) = EXTRAS["all"]
    chosen = set(re.fullmatch(r"xloss\[(.*)\]", everything)[1].split(","))
    # TensorFlow is as large as all of these together, and wants older versions of what they share.
    ours = {"all", "test", "test-tensorflow", "lint", "docs", "mutation"}
    assert chosen == set(EXTRAS) - ours - {"tensorflow", "cupy", "cuda"}
    assert EXTRAS["test"][0] == "xloss[all,cuda,cupy]", "the tests need what the extras bring"


def test_an_extra_has_lower_bounds_and_pins_nothing():
    """Else nobody could install xloss[...] beside another project."""
    for requirement in chain(PROJECT["dependencies"], *EXTRAS.values()):
        if not requirement.startswith("xloss["):
            assert re.search(r">=\d", requirement), requirement
            assert "==" not in requirement.partition(";")[0], requirement


def test_the_test_environment_is_pinned():
    pinned = [line for line in CONSTRAINTS.splitlines() if not line.startswith("#")]
    for line in pinned:
        assert re.fullmatch(r"[\w.-]+==\d[\d.]*", line), line
    needed = names(PROJECT["dependencies"]).union(*map(names, EXTRAS.values())) - {"xloss"}
    assert {"torch", "tensorflow"} <= needed
    needed.remove("tensorflow")  # tensorflow-cpu takes its place in the tests
    assert needed <= names(pinned)


def test_libraries_for_a_gpu_are_not_asked_for_where_they_do_not_exist():
    assert all(r.endswith("; sys_platform != 'darwin'") for r in EXTRAS["cupy"])
    assert all(r.endswith("; sys_platform == 'linux'") for r in EXTRAS["cuda"])


def test_importing_xloss_imports_nothing_optional():
    script = "import sys; b = set(sys.modules); import xloss; print(*(set(sys.modules) - b))"
    loaded = set(said(f"import warnings; warnings.simplefilter('error'); {script}").split())
    tops = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert {"xloss", "numpy"} <= tops <= {"xloss", "numpy", "array_api_compat"}
    assert "array_api_compat.numpy" not in loaded  # costs twice what all of xloss may


def test_the_version_is_that_of_the_package():
    assert xloss.__version__ == PROJECT["version"]
