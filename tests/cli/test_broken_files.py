"""Files that are no files, and headers of impossible arrays: refused, and never waited for."""

import json
import os
import re
import socket

import numpy as np
import pytest

from cli_runs import refused, saved_rows
from xloss.cli import npy_files as npy_module
from xloss.cli.app import run


@pytest.fixture
def files(tmp_path, monkeypatch):
    """300 rows of 7 classes in the current folder."""
    monkeypatch.chdir(tmp_path)
    return saved_rows(ignored=False)


# ---- Files that are none -------------------------------------------------------------------------


def made_fifo(name):
    os.mkfifo(name)


def made_socket(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)


def made_device(name):
    os.symlink("/dev/zero", name)


def made_loop(name):
    os.symlink(name, name)


KINDS = {
    made_fifo: "is a FIFO, not a file",
    made_socket: "is a socket, not a file",
    made_device: "is a device, not a file",
    made_loop: "Too many levels of symbolic links",
}


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_fifos_sockets_and_devices_are_refused_and_never_waited_for(files, capsys, make, kind):
    name = f"x.{kind}"
    make(name)
    for given in (
        [name, "y.npy"],
        ["z.npy", name],
        ["z.npy", "y.npy", "--weight", name],
        [f"{name}::a", "y.npy"],
    ):
        if kind == "npy" and "::" in given[0]:
            continue
        assert refused(capsys, *given) == f"{name}: {KINDS[make]}"
    if kind == "npy":
        os.mkdir("shards")
        os.rename(name, f"shards/{name}")
        if make is made_loop:
            os.unlink(f"shards/{name}")
            os.symlink(name, f"shards/{name}")
        assert refused(capsys, "shards", "y.npy") == f"shards/{name}: {KINDS[make]}"


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("make", [made_fifo, made_device], ids=lambda make: make.__name__)
def test_other_commands_wait_for_no_file_either(files, capsys, make):
    make("x.toml")
    make("x.html")
    make("x.py")
    for arguments, said in (
        (["--deviations", "x.toml"], "x.toml: is a FIFO or a device, not a file"),
        (["x.py:f"], "x.py: no such file"),
        (["json:dumps", "--convention", "x.py"], "x.py: no such file"),
    ):
        assert run(["conform", *arguments, "--case", "tail/gap 17", "--backend", "numpy"]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"xloss: {said}\n")
    if make is made_fifo:
        assert run(["conform", "--html", "x.html", "--backend", "numpy"]) == 2
        said = "xloss: --html x.html: is a FIFO or a socket, not a file\n"
        assert capsys.readouterr().err == said


def test_an_empty_name(files, capsys):
    for name in ("", "::", "::a"):
        assert refused(capsys, name, "y.npy") == f"{name!r}: expected the name of a file"


def header(shape, descr="'<f4'", version=b"\x01\x00", length=None):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(len(text) + 63 - (len(text) + 10) % 64) + b"\n"
    size = 2 if version == b"\x01\x00" else 4
    return b"\x93NUMPY" + version + (length or len(text)).to_bytes(size, "little") + text


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
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_header_of_impossible_shape(files, capsys, shape, kind):
    if kind == "npy":
        with open("x.npy", "wb") as f:
            f.write(header(shape))
    else:
        zipfile = npy_module.zipfile
        with zipfile.ZipFile("x.npz", "w") as archive:
            archive.writestr("a.npy", header(shape))
    said = refused(capsys, f"x.{kind}", "y.npy")
    assert said.startswith(f"x.{kind}: " if kind == "npy" else "x.npz::a: ")
    assert re.search(SHAPES[shape], said)
    assert "-X dev" not in said


@pytest.mark.parametrize("shape", [[2**62, 4, 0], [1] * 70, [0, 2**63]], ids=len)
def test_a_safetensors_header_of_impossible_shape(files, capsys, shape):
    size = 4 * int(np.prod(shape, dtype=object))
    entry = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    text = json.dumps(entry).encode()
    with open("x.safetensors", "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"\0" * size)
    said = refused(capsys, "x.safetensors", "y.npy")
    assert said.startswith("x.safetensors: broken .safetensors file: ")


def test_a_huge_header_is_not_read(files, capsys):
    with open("x.npy", "wb") as f:
        f.write(header("(3, 5)", version=b"\x02\x00", length=2**32 - 1))
        f.truncate(2**33)  # sparse
    said = refused(capsys, "x.npy", "y.npy")
    assert said == "x.npy: broken .npy header: it is 4,294,967,295 bytes long"
