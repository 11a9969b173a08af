"""Arrays in files: slices of each kind come back as stored; whatever is wrong is one clear line."""

import json
import os
import pickle
import re
import socket
import zipfile
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
for dtype in ("float16", "float64", "int8", "int64", "uint16"):
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
        source.release()


CSV = {  # text, a column, and what stands there
    "one column": ("3\n1\n", "", [3, 1]),
    "no end of the last line": ("3\n1", "", [3, 1]),
    "signs and spaces": (" +3 \n-1\n", "", [3, -1]),
    "a header": ("y\n3\n1\n", "", [3, 1]),
    "a header alone": ("y\n", "", []),
    "the column of the header": ("y\n3\n1\n", "::y", [3, 1]),
    "one of several": ("id,y\n7,3\n8,1\n", "::y", [3, 1]),
    "by number": ("7,3\n8,1\n", "::1", [3, 1]),
    "beside text": ('text, y \n"a ""b"",\n7",3\nc,1\n', "::y", [3, 1]),
    "of a spreadsheet": ('\xef\xbb\xbf"y","caf\xe9"\n"3","na\xefve"\n"1",""\n\n\n', "::y", [3, 1]),
    "a float": ("3\n1.0\n", "", [3.0, 1.0]),
    "several columns": (".25,.75\n1,0\n", "", [[0.25, 0.75], [1, 0]]),
    "several columns with names": ("a,b\n.25,.75\n1,0\n", "", [[0.25, 0.75], [1, 0]]),
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


# ---- Which of several arrays ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_one_of_several_is_named(kind):
    path = saved(kind, **{"a": ARRAY, "model/b::c": ARRAY + 1})
    np.testing.assert_array_equal(read_whole(f"{path}::a"), ARRAY)
    with pytest.raises(FileProblem, match=r"holds 2 arrays, say which: .*::NAME \(a, model/b::c\)"):
        open_array(path)
    with pytest.raises(FileProblem, match="holds no array 'z', but a, model/b::c"):
        open_array(f"{path}::z")
    with pytest.raises(FileProblem, match=f"none{kind}: holds no array$"):
        open_array(saved(kind, "none"))


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


UNFIT = {  # which .npy and .npz files may hold
    "complex": (np.array([1j]), "has dtype complex128, which is not supported"),
    "text": (np.array(["a"]), "has dtype <U1, which is not supported"),
    "structured": (np.array([(1, 2.0)], dtype="i4,f4"), "has dtype .*, which is not supported"),
    "date": (np.array(["2020-01-01"], dtype="M8[D]"), "has dtype .*, which is not supported"),
    "objects": (np.array([Canary()]), "holds Python objects, and files are never unpickled"),
}


@pytest.mark.parametrize("kind", [".npy", ".npz"])
@pytest.mark.parametrize("name", UNFIT)
def test_arrays_of_anything_but_numbers_are_refused(kind, name):
    array, said = UNFIT[name]
    with pytest.raises(FileProblem, match=said):
        open_array(saved(kind, x=array))
    assert not Path("unpickled").exists()


def npy(shape, data=b"", header=None, version=b"\x01\x00", length=None):
    """Return a .npy file of float32 numbers; the shape is the text that stands in its header."""
    text = header or f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(len(text) + 63 - (len(text) + 10) % 64) + "\n"
    size = (length or len(text)).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode() + data


def safetensors(dtype, shape, size):
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * min(size, 1000)


REFUSED = {  # a file, and the column of a .csv file -> what it holds, and what is said
    "empty.npy": (b"", "is empty"),
    "text.npy": (b"0.5 0.5\n", "is no .npy or .npz file"),
    "pickle.npz": (pickle.dumps(Canary()), "is no .npy or .npz file"),
    "short.npy": (npy("(3, 4)", b"\0" * 47), "truncated: 47 of 48 bytes of float32 data"),
    "endless.npy": (npy("(99999999999, 99999999999)"), "truncated: 0 of 39,999,999,"),
    "product.npy": (npy("(10**6, 10**6)"), "broken .npy header"),
    "code.npy": (npy("", header="__import__('os').mkdir('x')"), "broken .npy header"),
    "cut.npy": (npy("(3, 4)")[:50], "broken .npy header"),
    "version.npy": (npy("(3,)", version=b"\x09\x00"), "broken .npy header"),
    "list.npy": (npy("[3, 5]"), "broken .npy header"),
    "integer.npy": (npy("5"), "broken .npy header"),
    "float.npy": (npy("(2.0, 5)"), "broken .npy header"),
    "bool.npy": (npy("(True, 5)"), r"broken .npy header: shape \(True, 5\)"),
    "negative.npy": (npy("(-3, 5)"), r"broken .npy header: shape \(-3, 5\)"),
    "axes.npy": (
        npy(f"({'1, ' * 70})"),
        "broken .npy header: 70 axes, and an array has at most 64",
    ),
    "2^63.npy": (npy(f"({2**63},)"), "truncated: 0 of"),
    "huge.npy": (npy(f"({2**62}, 4, 0)"), "broken .npy header: .*no array is so large"),
    "huge2.npy": (npy(f"(0, {2**63})"), "broken .npy header: .*no array is so large"),
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
    "text.csv": (b"1\n2\nx\n", "line 3: expected a number, got 'x'$"),
    "missing.csv": (b"y,n\n1,2\n,2\n", "line 3: column 'y': expected a number, got ''; pick one c"),
    "blank.csv": (b"y\n1\n\n2\n", "line 3: is blank, and rows follow"),
    "short.csv": (b"1,2\n1\n", "line 2: expected 2 columns, got 1"),
    "none.csv::y": (b"a,b\n1,2\n", "holds no column 'y', but a, b"),
    "twice.csv::y": (b"y,y\n1,2\n", "2 columns are named 'y'"),
    "underscore.csv": (b"1\n1_0\n", "line 2: expected a number, got '1_0'"),
    "script.csv": ("1\n\u0663\n".encode(), "line 2: expected a number, got '\u0663'"),
    "large.csv": (b"1\n%d\n" % 2**63, "line 2: expected a number, got '9223372036854775808'"),
    "quote.csv": (b'1\n"2\n', "line 2: unexpected end of data"),
    "semicolons.csv": (b"a;b\n1;2\n", "line 2: expected a number, got '1;2'"),
    "empty.csv": (b"", "is empty"),
    "lines.csv": (b"\n\n", "holds no row"),
    "escape.csv": (b"a,\x1b\n1,\x1b[31m\n", r"line 2: column '\\x1b': .*got '\\x1b\[31m'; pick"),
    "quoted.csv::y": (b't,y\n"a\nb",1\nc,d\n', "line 4: column 'y': expected a number, got 'd'"),
    "endless.csv": (b"1" * (2**20 + 5), "line 1: is longer than 1,048,576 characters"),
    "utf16.csv": ("1\n2\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
    "other.csv": (npy("()", b"\0" * 4), "is a .npy file, not a .csv file"),
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


def test_a_huge_header_is_not_read():
    with open("x.npy", "wb") as f:
        f.write(npy("(3, 5)", version=b"\x02\x00", length=2**32 - 1))
        f.truncate(2**33)  # sparse
    with pytest.raises(FileProblem, match=r"x.npy: broken .npy header: it is 4,294,967,295 bytes"):
        open_array("x.npy")


def test_a_file_that_becomes_shorter_while_it_is_read():
    """The process would be killed by SIGBUS."""
    path = saved(".npy", x=np.zeros((64, 4096)))
    source = open_array(path)
    os.truncate(path, 5000)
    with pytest.raises(FileProblem, match=r"file.npy: has become shorter while it was read"):
        source.read((slice(0, 64), slice(0, 4096)))


@KINDS
def test_damage_is_a_file_problem_or_harmless(kind):
    path = Path(saved(kind, x=ARRAY))
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


def test_members_that_are_broken_or_no_arrays():
    np.savez("broken.npz", x=ARRAY)
    content = bytearray(Path("broken.npz").read_bytes())
    content[400] ^= 1
    Path("broken.npz").write_bytes(content)
    with pytest.raises(FileProblem, match=r"broken .npz file: .*CRC"):
        open_array("broken.npz")
    with zipfile.ZipFile("mixed.npz", "w") as archive:
        archive.writestr("notes.txt", "not an array")
        archive.write(saved(".npy", x=ARRAY), "a.npy")
        archive.writestr("b.npy", npy("(-3, 5)"))
    assert open_array("mixed.npz::a").shape == ARRAY.shape
    with pytest.raises(FileProblem, match=r"mixed.npz::b: broken .npy header: shape"):
        open_array("mixed.npz::b")


def a_socket(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)


NOT_A_FILE = "is a FIFO, a socket or a device, not a file"
NO_FILES = {
    "FIFO": (lambda name: os.mkfifo(name), NOT_A_FILE),
    "socket": (a_socket, NOT_A_FILE),
    "device": (lambda name: os.symlink("/dev/zero", name), NOT_A_FILE),
    "circle": (lambda name: os.symlink(name, name), "Too many levels of symbolic links"),
    "folder": (os.mkdir, "Is a directory"),
    "nothing": (lambda name: None, "No such file or directory"),
}


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.npz::a", "x.safetensors", "x.csv"])
def test_what_is_no_file_is_refused_and_never_waited_for(kind, name):
    made, said = NO_FILES[kind]
    file = name.partition("::")[0]
    made(file)
    with pytest.raises(FileProblem, match=f"^{file}: {said}$"):
        open_array(name)
