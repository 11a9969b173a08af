"""xloss conform where few packages are installed: what is left out, and what is said of it."""

import os

from cli_runs import process

ONE = ("--case", "tail/gap 17")


# ---- Where little is installed -------------------------------------------------------------------

LIBRARIES = ("torch", "jax", "dask", "cupy", "array_api_strict", "mpmath", "scipy", "ml_dtypes")


def blocked(folder, names):
    """Return an environment in which nobody, workers included, can import some packages."""
    (folder / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "own = PathFinder.find_spec\n"
        "def find_spec(name, path=None, target=None):\n"
        f"    return None if name.partition('.')[0] in {names!r} else own(name, path, target)\n"
        "PathFinder.find_spec = find_spec\n"
    )
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]  # a source tree's own
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_only_numpy_is_enough(folder):
    ran = process("conform", "--quick", env=blocked(folder, LIBRARIES))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "PASS  xloss 0.1.0 on numpy: all" in ran.stdout
    told = ran.stdout.partition("Not on this machine\n")[2]
    assert '  torch: torch is not installed: pip install "xloss[torch]"\n' in told
    assert '  jax: jax is not installed: pip install "xloss[jax]"\n' in told
    assert "  strict: array_api_strict is not installed: pip install array-api-strict\n" in told
