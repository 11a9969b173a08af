"""What is shipped: the package's contents and promises, read off its metadata and a built wheel."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from hatchling.builders.wheel import WheelBuilder

from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        yield archive


def test_the_wheel_holds_both_packages_and_nothing_else(wheel):
    files = {n for n in wheel.namelist() if not n.startswith("xloss-0.1.0.dist-info/")}
    assert {"xloss/__init__.py", "xloss_conformance/__init__.py"} <= files
    assert {"xloss/py.typed", "xloss_conformance/py.typed"} <= files
    assert {name.split("/")[0] for name in files} == {"xloss", "xloss_conformance"}
    assert [name for name in files if "speed" in name or "benchmark" in name] == []


def test_the_wheel_holds_every_file_of_the_sources(wheel):
    packages = (ROOT / "src" / "xloss", ROOT / "conformance" / "xloss_conformance")
    sources = {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(wheel.namelist())


def test_every_folder_of_the_sources_is_a_package():
    for package in (ROOT / "src" / "xloss", ROOT / "conformance" / "xloss_conformance"):
        for path in package.rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_the_wheel_s_metadata(wheel):
    metadata = wheel.read("xloss-0.1.0.dist-info/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "# xloss\n" in metadata
    assert "xloss-0.1.0.dist-info/licenses/LICENSE" in wheel.namelist()
    scripts = wheel.read("xloss-0.1.0.dist-info/entry_points.txt").decode()
    assert scripts.strip() == "[console_scripts]\nxloss = xloss.cli:main"


def test_two_dependencies():
    assert names(PROJECT["dependencies"]) == {"numpy", "array-api-compat"}
    assert len(PROJECT["dependencies"]) == 2
    assert "numpy>=2.1" in PROJECT["dependencies"]


def test_the_extras():
    contents = {extra: names(requirements) for extra, requirements in EXTRAS.items()}
    pinned = contents.pop("test")
    assert "tensorflow-cpu" in contents.pop("test-tensorflow")
    assert contents == {
        "torch": {"torch"},
        "jax": {"jax"},
        "tensorflow": {"tensorflow"},
        "dask": {"dask"},
        "distributed": {"dask", "distributed"},
        "mpi": {"mpi4py"},
        "cupy": {"cupy-cuda13x"},
        "fast": {"numba"},
        "cuda": {"cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc"},
        "keras": {"keras"},
        "transformers": {"transformers", "accelerate"},
        "sklearn": {"scikit-learn"},
        "cli": {"typer", "rich", "safetensors", "ml_dtypes"},
        "conformance": {"mpmath", "rich", "typer", "ml_dtypes"},
        "all": {"xloss"},
    }
    for extra in (
        "torch",
        "jax",
        "dask",
        "distributed",
        "mpi",
        "cupy",
        "fast",
        "keras",
        "transformers",
        "sklearn",
        "cli",
        "conformance",
    ):
        assert contents[extra] <= pinned, f"the tests do not install what {extra} needs"


def test_all_is_everything_that_needs_no_gpu():
    (everything,) = EXTRAS["all"]
    chosen = set(re.fullmatch(r"xloss\[(.*)\]", everything)[1].split(","))
    # TensorFlow is as large as all of these together, and wants older versions of what they share.
    apart = {"tensorflow", "test-tensorflow"}
    assert chosen == set(EXTRAS) - {"all", "test", "cupy", "cuda"} - apart


def test_the_test_environment_is_pinned():
    assert "torch==2.13.0" in EXTRAS["test"]
    for requirement in EXTRAS["test"] + EXTRAS["test-tensorflow"]:
        assert re.search(r"==\d[\d.]*(;|$)", requirement), requirement


def test_libraries_for_a_gpu_are_not_asked_for_where_they_do_not_exist():
    assert all(r.endswith("; sys_platform != 'darwin'") for r in EXTRAS["cupy"])
    assert all(r.endswith("; sys_platform == 'linux'") for r in EXTRAS["cuda"])


def test_importing_xloss_imports_nothing_optional():
    script = "import json, sys; import xloss; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stdout))
    assert "numpy" in loaded
    tops = {name.partition(".")[0] for name in loaded}
    unwanted = {
        "array_api_strict",
        "cupy",
        "dask",
        "jax",
        "keras",
        "ml_dtypes",
        "numba",
        "rich",
        "safetensors",
        "scipy",
        "torch",
        "typer",
        "xloss_conformance",
    }
    assert not tops & unwanted
    assert "array_api_compat.numpy" not in loaded  # costs twice what all of xloss may


def test_readme_begins_with_two_lines_that_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    lines = block[1].splitlines()
    assert len(lines) == 2
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install") for line in lines)
    assert '".[cli,conformance]"' in lines[0]
    assert lines[0].endswith(" && .venv/bin/xloss conform --quick")
    assert '".[test]"' in lines[1]
    assert "pytest" in lines[1]
