"""Arrays in files: slices of each kind come back as stored; whatever is wrong is one clear line."""

import json
import os
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from xloss.cli.array_files import FileProblem, open_array

RNG = np.random.default_rng(11)
ARRAY = RNG.normal(size=(6, 5, 4)).astype(np.float32)
INDEX = (slice(1, 4), slice(0, 5), slice(2, 3))


def saved(folder, kind, array, name="logits"):
    path = folder / f"file{kind}"
    if kind == ".npy":
        np.save(path, array)
    elif kind == ".npz":
        np.savez(path, **{name: array})
    else:
        save_file({name: array}, path)
    return str(path)


KINDS = pytest.mark.parametrize("kind", [".npy", ".npz", ".safetensors"])


@KINDS
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint16"])
def test_slices_come_back_as_stored(tmp_path, kind, dtype):
    array = (ARRAY * 40).astype(np.int64).clip(0).astype(dtype)
    source = open_array(saved(tmp_path, kind, array))
    assert (source.shape, source.dtype) == ((6, 5, 4), dtype)
    for index in (INDEX, (slice(0, 6), slice(0, 5), slice(0, 4)), (slice(2, 2),) * 3):
        block = source.read(index)
        assert block.dtype == dtype
        np.testing.assert_array_equal(block, array[index])
        source.release()


def test_bfloat16_comes_from_safetensors(tmp_path):
    array = ARRAY.astype(ml_dtypes.bfloat16)
    source = open_array(saved(tmp_path, ".safetensors", array))
    assert source.dtype == "bfloat16"
    np.testing.assert_array_equal(source.read(INDEX), array[INDEX])
    with pytest.raises(FileProblem, match=r"bfloat16 is kept by .safetensors, not by .npy"):
        open_array(saved(tmp_path, ".npy", array))


@KINDS
def test_no_axes_and_no_rows(tmp_path, kind):
    block = open_array(saved(tmp_path, kind, np.array(3))).read(())
    assert (block.shape, block) == ((), 3)
    source = open_array(saved(tmp_path, kind, ARRAY[:0]))
    assert source.shape == source.read((slice(0, 0), slice(0, 5), slice(0, 4))).shape == (0, 5, 4)


@pytest.mark.parametrize("array", [np.asfortranarray(ARRAY), ARRAY.astype(">f4")], ids=["F", ">"])
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_memory_order_and_byte_order_change_no_value(tmp_path, kind, array):
    block = open_array(saved(tmp_path, kind, array)).read(INDEX)
    assert block.dtype.isnative
    np.testing.assert_array_equal(block, ARRAY[INDEX])


def test_release_gives_back_the_memory_that_was_read(tmp_path):
    path = tmp_path / "large.npy"
    np.save(path, np.zeros((64, 2**16), np.float32))  # 16 MiB
    source = open_array(str(path))

    def resident():
        with open("/proc/self/smaps", encoding="ascii") as f:
            lines = iter(f.read().splitlines())
        for line in lines:
            if line.endswith("large.npy"):
                return next(int(x.split()[1]) for x in lines if x.startswith("Rss:"))
        return None

    if resident() is None:
        pytest.skip("no /proc/self/smaps here")
    assert resident() == 0
    assert source.read((slice(0, 64), slice(0, 2**16))).sum() == 0
    assert resident() >= 2**14  # kB
    source.release()
    assert resident() == 0


# ---- Which of several arrays ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_one_of_several_is_named(tmp_path, kind):
    path = tmp_path / f"two{kind}"
    arrays = {"a": ARRAY, "model/b::c": ARRAY + 1}
    if kind == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        save_file(arrays, path)
    np.testing.assert_array_equal(open_array(f"{path}::a").read(INDEX), ARRAY[INDEX])
    with pytest.raises(FileProblem, match=r"holds 2 arrays, say which: .*::NAME \(a, model/b::c\)"):
        open_array(str(path))
    with pytest.raises(FileProblem, match="holds no array 'z', but a, model/b::c"):
        open_array(f"{path}::z")


def test_a_npy_file_has_no_names_but_may_have_colons_in_its_own(tmp_path):
    path = tmp_path / "run::7.npy"
    np.save(path, ARRAY)
    assert open_array(str(path)).shape == ARRAY.shape
    with pytest.raises(FileProblem, match="holds one array, which has no name: 'a'"):
        open_array(f"{path}::a")


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_no_array_at_all(tmp_path, kind):
    path = tmp_path / f"none{kind}"
    if kind == ".npz":
        np.savez(path)
    else:
        save_file({}, path)
    with pytest.raises(FileProblem, match=f"none{kind}: holds no array$"):
        open_array(str(path))


# ---- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([1j]),
        np.array(["a"]),
        np.array([(1, 2.0)], dtype="i4,f4"),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
    ids=["complex", "text", "structured", "date"],
)
@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, kind, array):
    with pytest.raises(FileProblem, match=r"has dtype .*, which is not supported"):
        open_array(saved(tmp_path, kind, array))


def npy(shape, data=b"", header=None, version=b"\x01\x00", length=None):
    """Return a .npy file of float32 numbers; the shape is the text that stands in its header."""
    text = header or f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(len(text) + 63 - (len(text) + 10) % 64) + "\n"
    size = (length or len(text)).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode() + data


def safetensors(dtype, shape, size):
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * min(size, 1000)


REFUSED = {
    "empty.npy": (b"", "is empty"),
    "text.npy": (b"0.5 0.5\n", "is no .npy or .npz file"),
    "short.npy": (npy("(3, 4)", b"\0" * 47), "truncated: 47 of 48 bytes of float32 data"),
    "product.npy": (npy("(10**6, 10**6)"), "broken .npy header"),
    "endless.npy": (npy("(99999999999, 99999999999)"), "truncated: 0 of 39,999,999,"),
    "code.npy": (npy("", header="__import__('os').mkdir('x')"), "broken .npy header"),
    "cut.npy": (npy("(3, 4)")[:50], "broken .npy header"),
    "version.npy": (npy("(3,)", version=b"\x09\x00"), "broken .npy header"),
    "other.npy": (b"PK\x03\x04 and so on", "is a .npz file"),
    "other.npz": (npy("()", b"\0" * 4), "is a .npy file"),
    "cut.npz": (b"PK\x03\x04 and so on", "broken .npz file"),
    "other.safetensors": (npy("()", b"\0" * 4), "is a .npy file, not a .safetensors"),
    "text.safetensors": (b"0.5 0.5 0.5 0.5\n", "broken .safetensors file"),
    "f8.safetensors": (safetensors("F8_E4M3", [2], 2), "a has dtype F8_E4M3, which is not supp"),
    "huge.safetensors": (safetensors("F32", [2**62, 4, 0], 0), "broken .safetensors file: "),
    "axes.safetensors": (safetensors("F32", [1] * 70, 4), "broken .safetensors file: "),
    "2^63.safetensors": (safetensors("F32", [0, 2**63], 0), "broken .safetensors file: "),
    "logits.txt": (b"0.5 0.5\n", "expected a .npy, .npz, .safetensors or .csv file"),
    "logits": (b"0.5 0.5\n", "expected a .npy, .npz, .safetensors or .csv file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_one_clear_line(folder, name):
    content, message = REFUSED[name]
    Path(name).write_bytes(content)
    with pytest.raises(FileProblem, match=message) as caught:
        open_array(name)
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert os.listdir() == [name]


SHAPES = {
    "(4611686018427387904, 4, 0)": "no array is so large",
    "(True, 5)": r"shape \(True, 5\)",
    f"({'1, ' * 70})": "70 axes, and an array has at most 64",
    "(-3, 5)": r"shape \(-3, 5\)",
    "(2.0, 5)": "broken .npy header",
    "[3, 5]": "broken .npy header",
    "5": "broken .npy header",
    "(9223372036854775808,)": "truncated: 0 of",
    "(0, 9223372036854775808)": "no array is so large",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_header_of_impossible_shape(shape):
    Path("x.npy").write_bytes(npy(shape))
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("a.npy", npy(shape))
    for name, begins in (("x.npy", "x.npy: "), ("x.npz", "x.npz::a: ")):
        with pytest.raises(FileProblem, match=SHAPES[shape]) as caught:
            open_array(name)
        assert str(caught.value).startswith(begins)


def test_a_huge_header_is_not_read():
    with open("x.npy", "wb") as f:
        f.write(npy("(3, 5)", version=b"\x02\x00", length=2**32 - 1))
        f.truncate(2**33)  # sparse
    with pytest.raises(FileProblem, match=r"x.npy: broken .npy header: it is 4,294,967,295 bytes"):
        open_array("x.npy")


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path):
    """The process would be killed by SIGBUS."""
    path = saved(tmp_path, ".npy", np.zeros((64, 4096)))
    source = open_array(path)
    os.truncate(path, 5000)
    with pytest.raises(FileProblem, match=r"file.npy: has become shorter while it was read"):
        source.read((slice(0, 64), slice(0, 4096)))


@KINDS
def test_damage_is_a_file_problem_or_harmless(tmp_path, kind):
    path = Path(saved(tmp_path, kind, ARRAY))
    whole = path.read_bytes()
    refused = 0
    for trial in range(300):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[RNG.integers(len(whole)) :]
        else:
            for at in RNG.integers(0, min(len(whole), 300 if trial % 3 == 1 else 10**9), 4):
                damaged[at] = RNG.integers(256)
        path.write_bytes(damaged)
        try:
            source = open_array(str(path))
            source.read(tuple(slice(0, 1) for _ in source.shape))
        except FileProblem:
            refused += 1
    assert refused > 100


def test_members_that_are_broken_or_no_arrays(tmp_path):
    path = Path(saved(tmp_path, ".npz", ARRAY))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=r"broken .npz file: .*CRC"):
        open_array(str(path))
    mixed = tmp_path / "mixed.npz"
    with zipfile.ZipFile(mixed, "w") as archive:
        archive.writestr("notes.txt", "not an array")
        archive.write(saved(tmp_path, ".npy", ARRAY), "a.npy")
        archive.writestr("b.npy", "not an array")
    assert open_array(f"{mixed}::a").shape == ARRAY.shape
    with pytest.raises(FileProblem, match=r"mixed.npz::b: broken .npy header"):
        open_array(f"{mixed}::b")
