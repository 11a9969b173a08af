"""Pickles, and files that are no files: refused in one line, never unpickled, never waited for."""

import os
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest

from cli_runs import refusal, refused
from xloss.cli.array_files import FileProblem, open_array


@pytest.fixture(autouse=True)
def rows(folder):
    """Logits and labels in the current folder."""
    np.save("z.npy", np.zeros((2, 3)))
    np.save("y.npy", np.zeros(2, int))


class Canary:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_nothing_is_ever_unpickled(kind):
    path = f"file{kind}"
    (np.save if kind == ".npy" else np.savez)(path, np.array([Canary(), None], dtype=object))
    with pytest.raises(FileProblem, match="holds Python objects, and files are never unpickled"):
        open_array(path)
    Path(f"bare{kind}").write_bytes(pickle.dumps(Canary()))
    with pytest.raises(FileProblem, match=r"is no .npy or .npz file"):
        open_array(f"bare{kind}")
    assert not Path("unpickled").exists()


@pytest.mark.parametrize("kind", [".pt", ".pth", ".ckpt", ".pkl", ".PT"])
def test_a_pickle_is_refused_with_how_to_convert_it(capsys, kind):
    name = f"logits{kind}"
    Path(name).write_bytes(pickle.dumps(Canary()))
    Path("shards").mkdir()
    Path(f"shards/{name}").write_bytes(pickle.dumps(Canary()))
    for where, *arguments in (
        (name, name, "z.npy"),
        (name, f"{name}::x", "z.npy"),
        (name, "z.npy", name),
        (f"shards/{name}", "shards", "z.npy"),
    ):
        said = refused(capsys, *arguments)
        assert said.startswith(f"{where}: a {kind.lower()} file is a pickle, which can run any cod")
        assert 'safetensors.torch.save_file({"x": tensor.contiguous()}, "x.safetensors")' in said
        assert 'numpy.save("x.npy", tensor.numpy())' in said
    assert not Path("unpickled").exists()


def test_missing_and_unreadable_files(capsys):
    Path("folder.npy").mkdir()
    for name, said in (("none.npy", "No such file or directory"), ("folder.npy", "Is a directory")):
        with pytest.raises(FileProblem, match=f"^{name}: {said}"):
            open_array(name)
    for name in ("", "::", "::a"):
        assert refused(capsys, name, "y.npy") == f"{name!r}: expected the name of a file"


# ---- Files that are none -------------------------------------------------------------------------


def a_socket(name):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)


NONE = {
    "a FIFO, not a file": lambda name: os.mkfifo(name),
    "a socket, not a file": a_socket,
    "a device, not a file": lambda name: os.symlink("/dev/zero", name),
    "Too many levels of symbolic links": lambda name: os.symlink(name, name),
}


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("what", NONE)
@pytest.mark.parametrize("kind", [".npy", ".npz", ".safetensors"])
def test_fifos_sockets_and_devices_are_refused_and_never_waited_for(capsys, what, kind):
    name, said = f"x{kind}", what if what.startswith("Too") else f"is {what}"
    NONE[what](name)
    for given in ([name, "y.npy"], ["z.npy", name], ["z.npy", "y.npy", "--weight", name]):
        assert refused(capsys, *given) == f"{name}: {said}"
    if kind == ".npy":
        os.mkdir("shards")
        os.chdir("shards")
        NONE[what](name)
        os.chdir("..")
        assert refused(capsys, "shards", "y.npy") == f"shards/{name}: {said}"
    else:
        assert refused(capsys, f"{name}::a", "y.npy") == f"{name}: {said}"


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs")
@pytest.mark.parametrize("what", ["a FIFO, not a file", "a device, not a file"])
def test_other_commands_wait_for_no_file_either(capsys, what):
    for name in ("x.toml", "x.html", "x.py"):
        NONE[what](name)
    for arguments, said in (
        (["--deviations", "x.toml"], "x.toml: is a FIFO or a device, not a file"),
        (["x.py:f"], "x.py: no such file"),
        (["json:dumps", "--convention", "x.py"], "x.py: no such file"),
    ):
        given = (*arguments, "--case", "tail/gap 17", "--backend", "numpy")
        assert refusal(capsys, "conform", *given) == said
    if "FIFO" in what:
        said = "--html x.html: is a FIFO or a socket, not a file"
        assert refusal(capsys, "conform", "--html", "x.html", "--backend", "numpy") == said
