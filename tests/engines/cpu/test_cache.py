"""Kernels on disk: found again, never the wrong one; and what goes wrong there does not matter."""

import ast
import shutil
import struct
from pathlib import Path

import pytest

from fresh import KERNEL
from xloss.engines.cpu import kernel_folder

pytest.importorskip("numba")

RIGHT = "[1.0, 4.0, 7.0, 10.0]"
SHOW = KERNEL + "\nprint(computed(), *came_from_disk())\n"


@pytest.fixture(scope="module")
def once(tmp_path_factory, forked):
    """Compile the kernel once; tests take copies."""
    cache = tmp_path_factory.mktemp("once")
    assert forked(SHOW, env={"XLOSS_CACHE_DIR": str(cache)}) == f"{RIGHT} 0 1"
    return cache


@pytest.fixture
def warm(env, once):
    """A cache that holds the kernel of SHOW."""
    shutil.copytree(once, env["XLOSS_CACHE_DIR"])
    return env


def files(env):
    return sorted(Path(env["XLOSS_CACHE_DIR"]).rglob("*.kernel"))


def everything(env):
    return [p for p in Path(env["XLOSS_CACHE_DIR"]).rglob("*") if p.is_file()]


def test_the_next_process_loads_what_this_one_compiled(warm, forked):
    assert len(files(warm)) == 1
    assert forked(SHOW, env=warm) == f"{RIGHT} 1 0"
    assert everything(warm) == files(warm)


def test_an_edit_of_any_file_that_is_compiled_is_another_stamp(tmp_path, monkeypatch):
    """The stamp names the folder of the kernels."""
    package = tmp_path / "engines" / "cpu"
    shutil.copytree(Path(kernel_folder.__file__).parents[1], package.parent)
    stamps = [kernel_folder.stamp()]
    monkeypatch.setattr(kernel_folder, "__file__", str(package / "kernel_folder.py"))
    own = ("kernel_cache.py", "kept_objects.py", "arguments.py")
    for name in ("engine.py", *own, "../row_layout.py", "kernels/new.py", "kernels/bits.py"):
        (package / name).write_text("FOUR = 4\n")
        stamps.append(kernel_folder.stamp())
    assert stamps[0] == stamps[1]  # the engine calls kernels, and is none
    assert len(set(stamps)) == 7


def test_kernels_are_compiled_from_files_of_the_stamp():
    """An import from elsewhere would be an edit that the stamp does not see."""
    folder = Path(kernel_folder.__file__).parent / "kernels"
    names = {
        node.module or node.names[0].name
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level > 1
    }
    assert names == {"arguments", "kernel_cache", "row_layout"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b.replace(struct.pack("<d", 3.0), struct.pack("<d", 5.0)),
        lambda b: __import__("hashlib").sha256(b"not pickled").digest() + b"not pickled",
    ],
    ids=["empty", "a changed constant", "no pickle"],
)
def test_a_damaged_file_is_compiled_anew(warm, damage, forked):
    (kept,) = files(warm)
    good = kept.read_bytes()
    assert damage(good) != good
    kept.write_bytes(damage(good))
    assert forked(SHOW, env=warm) == f"{RIGHT} 0 1"
    assert len(kept.read_bytes()) > len(good) // 2
    assert forked(SHOW, env=warm) == f"{RIGHT} 1 0"


@pytest.mark.parametrize("place", [".", "deeper"])
def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path, place, forked):
    (tmp_path / "cache").write_text("a file")
    env = {"XLOSS_CACHE_DIR": str(tmp_path / "cache" / place)}
    assert forked(SHOW, env=env) == f"{RIGHT} 0 1"


def test_many_processes_at_once_keep_what_each_can_load(env, forked):
    script = """
dtypes, codes = [np.float64, np.float32, np.int64], []

def all_of_them(turn=0):
    for dtype in dtypes[turn:] + dtypes[:turn]:
        assert computed(dtype=dtype) == [1, 4, 7, 10], dtype

def process(turn):
    codes.append(in_a_child(lambda: all_of_them(turn)))

processes = [threading.Thread(target=process, args=(turn,)) for turn in range(3)]
for each in processes:
    each.start()
for each in processes:
    each.join()
all_of_them()
print(codes, *came_from_disk())
"""
    assert forked(KERNEL + script, env=env) == "[0, 0, 0] 3 0"
    assert len(everything(env)) == 3
