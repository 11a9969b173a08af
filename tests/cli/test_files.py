"""Arrays in files: slices of each kind come back as stored; whatever is wrong is one clear line."""

import json
import os
import pickle
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from xloss.cli.array_files import FileProblem, open_array, read_whole

RNG = np.random.default_rng(11)
ARRAY = RNG.normal(size=(6, 5, 4)).astype(np.float32)
ARRAYS = {
    "no axes": np.array(3),
    "no rows": ARRAY[:0],
    "columns first": np.asfortranarray(ARRAY),
    "big-endian": ARRAY.astype(">f4"),
    "bfloat16": ARRAY.astype(ml_dtypes.bfloat16),
}
for dtype in ("float16", "float64", "bool", "int64", "uint16"):
    ARRAYS[dtype] = (ARRAY * 40).astype(np.int64).clip(0).astype(dtype)
KINDS = pytest.mark.parametrize("kind", [".npy", ".npz", ".safetensors"])


def saved(kind, name="file", **arrays):
    path = f"{name}{kind}"
    if kind == ".npy":
        np.save(path, *arrays.values())
    elif kind == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        native = {n: a.astype(a.dtype.newbyteorder("=")) for n, a in arrays.items()}
        save_file({n: a.copy(order="C") for n, a in native.items()}, path)
    return path


@KINDS
@pytest.mark.parametrize("name", ARRAYS)
def test_slices_come_back_as_stored(kind, name):
    array = ARRAYS[name]
    if name == "bfloat16" and kind != ".safetensors":
        with pytest.raises(FileProblem, match=r"bfloat16 is kept by .safetensors, not by .npy"):
            open_array(saved(kind, x=array))
        return
    source = open_array(saved(kind, x=array))
    assert (source.shape, source.dtype) == (array.shape, array.dtype.name)
    for start, stop in ((0, 9), (1, 3), (2, 2)):
        index = tuple(slice(min(start, n), min(stop, n)) for n in array.shape)
        block = source.read(index)
        assert block.dtype.name == array.dtype.name
        assert block.dtype.isnative
        np.testing.assert_array_equal(block, array[index])


CSV = {  # text, a column, and what stands there
    "signs and spaces": (" +3 \n-1\n", "", [3, -1]),
    "a header alone": ("y\n", "", []),
    "one of several": ("id,y\n7,3\n8,1\n", "::y", [3, 1]),
    "by number": ("7,3\n8,1\n", "::1", [3, 1]),
    "beside text": ('text, y \n"a ""b"",\n7",3\nc,1\n', "::y", [3, 1]),
    "of a spreadsheet": ('\xef\xbb\xbf"y","caf\xe9"\n"3","na\xefve"\n"1",""\n\n\n', "::y", [3, 1]),
    "a float": ("3\n1.5\n", "", [3.0, 1.5]),
    "not a number": ("3\nnan\n", "", [3.0, np.nan]),
    "several columns": ("a,b\n.25,.75\n1,0\n", "", [[0.25, 0.75], [1, 0]]),
}


@pytest.mark.parametrize("case", CSV)
def test_columns_of_csv_files(case):
    text, column, expected = CSV[case]
    expected = np.asarray(expected, dtype=None if expected else int)
    for end in ("\n", "\r\n", "\r"):  # the last is of old Macs; the text may be in any encoding
        Path("x.csv").write_bytes(text.replace("\n", end).encode("latin-1"))
        got = read_whole(f"x.csv{column}")
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_one_of_several_is_named(kind):
    path = saved(kind, **{"a": ARRAY, "model/b::c": ARRAY + 1})
    np.testing.assert_array_equal(read_whole(f"{path}::a"), ARRAY)
    with pytest.raises(FileProblem, match=r"say which array, .*::NAME; it holds a, model/b::c$"):
        open_array(path)
    with pytest.raises(FileProblem, match="holds no array 'z'; it holds a, model/b::c"):
        open_array(f"{path}::z")


def test_a_npy_file_has_no_names_but_may_have_colons_in_its_own():
    path = saved(".npy", "run::7", x=ARRAY)
    assert open_array(path).shape == ARRAY.shape
    with pytest.raises(FileProblem, match="holds one array, which has no name: 'a'"):
        open_array(f"{path}::a")


# ---- What is refused -----------------------------------------------------------------------------


class Canary:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("kind", [".npy", ".npz"])
@pytest.mark.parametrize("unfit", [1j, "a", np.datetime64("2020-01-01"), (1, 2.0), Canary()])
def test_arrays_of_anything_but_numbers_are_refused(kind, unfit):
    dtype = "i4,f4" if isinstance(unfit, tuple) else None
    with pytest.raises(FileProblem, match=f"(?i)^file{kind}: (expected an array of f|.*object)"):
        open_array(saved(kind, x=np.array([unfit], dtype)))
    assert not Path("unpickled").exists()


def npy(shape, data=b"", header=None):
    """Return a .npy file of float32 numbers; the shape is the text that stands in its header."""
    text = header or f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(len(text) + 63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def safetensors(dtype, shape, size):
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * min(size, 1000)


UNREADABLE = {  # a file, and the column of a .csv file -> what it holds
    "short.npy": npy("(3, 4)", b"\0" * 47),
    "code.npy": npy("", header="__import__('os').mkdir('x')"),
    "float.npy": npy("(2.0, 5)"),
    "bool.npy": npy("(True, 5)", b"\0" * 20),
    "axes.npy": npy(f"({'1, ' * 70})", b"\0" * 4),
    "long.npy": npy("", header=" " * 20_000),
    "huge.npy": npy(f"({2**62}, 4, 0)"),
    "cut.npz": b"PK\x03\x04 and so on",
    "text.safetensors": b"0.5 0.5 0.5 0.5\n",
    "huge.safetensors": safetensors("F32", [2**62, 4, 0], 0),
    "axes.safetensors": safetensors("F32", [1] * 70, 4),
}
REFUSED = {name: (content, "cannot be read: ") for name, content in UNREADABLE.items()} | {
    "empty.npy": (b"", "is empty"),
    "text.npy": (b"0.5 0.5\n", "is no .npy file"),
    "pickle.npz": (pickle.dumps(Canary()), "is no .npz file"),
    "f8.safetensors": (safetensors("F8_E4M3", [2], 2), "expected an array of .*, got F8_E4M3"),
    "logits.txt": (b"0.5 0.5\n", "expected a .npy, .npz, .safetensors or .csv file"),
    "text.csv": (b"1\n2\nx\n", r"could not convert string 'x' to float64 at row 2, column 1$"),
    "texts.csv": (b"a,b\n1,x\n", r"could not convert .*; pick one column by texts.csv::NAME$"),
    "long.csv": (b"1" * 200_000, r"cannot be read: field larger than field limit"),
    "short.csv": (b"1,2\n1\n", "the number of columns changed from 2 to 1 at row 2"),
    "none.csv::y": (b"a,b\n1,2\n", "holds no column 'y'; it holds a, b$"),
    "escape.csv": (b"y\n\x1b[31m\n", r"could not convert string '\\x1b\[31m' to float64 at row 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_one_clear_line(name):
    content, message = REFUSED[name]
    file = name.partition("::")[0]
    Path(file).write_bytes(content)
    with pytest.raises(FileProblem, match=f"^{re.escape(file)}: {message}") as caught:
        open_array(name)
    assert "\n" not in str(caught.value)
    assert os.listdir() == [file]


@pytest.mark.parametrize("kind", [".npy", ".safetensors"])
def test_a_file_that_becomes_shorter_while_it_is_read(kind):
    """The process would be killed by SIGBUS."""
    path = saved(kind, x=np.zeros((64, 4096)))
    source = open_array(path)
    os.truncate(path, 5000)
    with pytest.raises(FileProblem, match=f"^file{kind}: (cannot be read|has become shorter)"):
        source.read((slice(0, 64), slice(0, 4096)))


@KINDS
def test_a_truncated_file_is_refused(kind):
    path = Path(saved(kind, x=ARRAY))
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(FileProblem):
            read_whole(str(path))


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("name", ["x.npy", "x.npz::a", "x.safetensors", "x.csv", "/dev/zero"])
def test_a_fifo_is_refused_and_never_waited_for(name):
    file = name.partition("::")[0]
    if name[0] != "/":
        os.mkfifo(file)
    with pytest.raises(FileProblem, match=f"^{file}: is a FIFO, a socket or a device, not a file"):
        open_array(name)
