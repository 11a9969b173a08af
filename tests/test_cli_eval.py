"""xloss eval and xloss engines: what is printed where, exit codes, how little memory it takes."""

import json
import math
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from xloss import cross_entropy, diagnose, engines, evaluation
from xloss.cli import inputs as inputs_module
from xloss.cli import run_task as task_module
from xloss.cli.app import run

DATA = Path(__file__).parents[1] / "examples" / "data"
KEYS = [
    "schema",
    "loss",
    "perplexity",
    "accuracy",
    "rows",
    "counted",
    "ignored",
    "worst",
    "dtype",
    "shape",
    "function",
    "shift",
    "backend",
    "engine",
    "seconds",
]
RNG = np.random.default_rng(5)


def xloss(*arguments, before="", **options):
    """Run the command in a process of its own; `before` is Python that runs first."""
    command = [sys.executable, "-W", "error", "-m", "xloss.cli"]
    if before:
        command[3:] = ["-c", f"{before}; from xloss.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


@pytest.fixture
def files(tmp_path, monkeypatch):
    """300 rows of 7 classes, every tenth of them ignored, in the current folder."""
    monkeypatch.chdir(tmp_path)
    logits = RNG.normal(scale=3, size=(300, 7)).astype(np.float32)
    labels = RNG.integers(0, 7, 300)
    labels[::10] = -100
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    return logits, labels


def answer(capsys, *arguments, nan=False):
    """Run the command here, and return its JSON; a NaN loss is told of on stderr."""
    assert run(["eval", *map(str, arguments), "--json"]) == nan
    out, err = capsys.readouterr()
    assert re.fullmatch(r"xloss: [^\n]+: the loss is NaN: [^\n]+\n" if nan else "", err)
    return json.loads(out, parse_constant=pytest.fail)


def refused(capsys, *arguments):
    """Run the command here, which must refuse; return its line."""
    assert run(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"xloss: [^\n]+\n", err)
    return err[7:-1]


# ---- What is printed -----------------------------------------------------------------------------


def test_json_is_alone_on_stdout(files):
    logits, labels = files
    ran = xloss("eval", "z.npy", "y.npy", "--json", "--worst", 2)
    assert (ran.returncode, ran.stderr) == (0, "")
    got = json.loads(ran.stdout)
    assert list(got) == KEYS
    assert got["schema"] == 1
    assert got["loss"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-7)
    assert got["perplexity"] == math.exp(got["loss"])
    kept = labels >= 0
    assert got["accuracy"] == np.mean(logits.argmax(axis=1)[kept] == labels[kept])
    assert (got["rows"], got["counted"], got["ignored"]) == (300, 270, 30)
    assert (got["dtype"], got["shape"]) == ("float32", [300, 7])
    engine = "cpu" if engines()["cpu"] is None else "generic"
    assert (got["backend"], got["engine"]) == ("numpy", engine)
    assert 0 < got["seconds"] < 60
    rows = cross_entropy(logits, labels, reduction="none")
    first = int(rows.argmax())
    assert got["worst"][0] == {
        "row": first,
        "label": labels[first],
        "predicted": logits[first].argmax(),
        "loss": float(rows[first]),
    }
    assert len(got["worst"]) == 2


def test_the_first_line_of_the_readme():
    script = Path(sysconfig.get_path("scripts")) / "xloss"
    # From a source tree nothing is installed: what the script does, without it.
    begins = [script] if script.exists() else [sys.executable, "-m", "xloss.cli"]
    ran = subprocess.run(
        [*begins, "eval", DATA / "digits_logits.npy", DATA / "digits_labels.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    said = dict(line.split(None, 1) for line in ran.stdout.splitlines()[:6])
    assert said["loss"].startswith("0.28379")
    assert said["accuracy"] == "94.17%"
    assert said["rows"] == "360: 360 counted, 0 ignored"
    worst = ran.stdout.partition("worst rows\n")[2].splitlines()
    assert worst[0].split() == ["row", "label", "predicted", "loss"]
    assert worst[1].split()[:3] == ["332", "4", "8"]
    assert len(worst) == 6


def test_the_progress_bar_is_for_a_terminal_on_stderr(files):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "xloss.cli", "eval", "z.npy", "y.npy", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert list(json.loads(out)) == KEYS
    assert b"z.npy" in drawn


def test_a_reader_that_leaves_is_no_failure_to_talk_about(files):
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [sys.executable, "-m", "xloss.cli", "eval", "z.npy", "y.npy"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert ran.stderr == b""
    assert ran.returncode == 2


# ---- Blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7 * 13, 7 * 300, 10**9])
def test_blocks_do_not_show(files, capsys, monkeypatch, block):
    expected = answer(capsys, "z.npy", "y.npy", "--worst", 40)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    got = answer(capsys, "z.npy", "y.npy", "--worst", 40)
    for key in set(KEYS) - {"seconds"}:
        assert got[key] == expected[key], key


@pytest.mark.parametrize("block", [1, 60, 1000, 10**9])
@pytest.mark.parametrize(("shape", "axis"), [((4, 7, 9, 5), 1), ((7, 20), 0), ((3, 1, 11, 7), -1)])
def test_any_class_axis_in_blocks(files, capsys, monkeypatch, shape, axis, block):
    logits = RNG.normal(size=shape).astype(np.float32)
    rows = tuple(np.delete(shape, axis))
    labels = RNG.integers(0, 7, rows)
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    got = answer(capsys, "z.npy", "y.npy", "--axis", axis, "--worst", 3)
    losses = cross_entropy(logits, labels, axis=axis, reduction="none")
    assert got["loss"] == pytest.approx(losses.mean(dtype=np.float64), rel=1e-12)
    assert got["rows"] == losses.size
    order = np.argsort(-losses.reshape(-1), kind="stable")[:3]
    for row, at in zip(got["worst"], order, strict=True):
        position = tuple(map(int, np.unravel_index(at, rows)))
        assert row["row"] == (position[0] if len(rows) == 1 else list(position))
        assert row["loss"] == losses[position]
        assert row["label"] == labels[position]


def test_pieces_cover_every_row_once():
    for rows in [(), (0,), (5,), (3, 0, 2), (2, 3, 4), (1, 1, 9), (7, 2)]:
        for limit in (1, 2, 5, 6, 24, 100):
            seen = np.zeros(rows, dtype=int)
            for piece in inputs_module.row_blocks(rows, limit):
                assert seen[piece].size <= limit
                seen[piece] += 1
            assert (seen == 1).all()


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_a_large_file_takes_the_memory_of_a_block(tmp_path, kind):
    # The file is sparse: it takes no room on the disk either.
    def peak(rows):
        path = tmp_path / f"{rows}.{kind}"
        with path.open("wb") as f:
            if kind == "npy":
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 2**16)}
                np.lib.format.write_array_header_1_0(f, header)
            else:
                entry = {"dtype": "F32", "shape": [rows, 2**16], "data_offsets": [0, rows * 2**18]}
                header = json.dumps({"z": entry}).encode()
                f.write(len(header).to_bytes(8, "little") + header)
            f.truncate(f.tell() + rows * 2**18)
        np.save(tmp_path / "y.npy", np.zeros(rows, np.int16))
        tell = (
            "import atexit, pathlib, re, sys; atexit.register(lambda: sys.stderr.write("
            "re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]))"
        )
        ran = xloss("eval", path, tmp_path / "y.npy", "--json", "--worst", 0, before=tell)
        assert json.loads(ran.stdout)["loss"] == pytest.approx(math.log(2**16))
        return int(ran.stderr)  # kB

    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc/self/status here")
    assert peak(1024) - peak(64) < 40_000  # 256 MiB of logits; 16 MiB are read at a time


# ---- Options -------------------------------------------------------------------------------------


def test_options_reach_the_loss(files, capsys):
    logits, labels = files
    weight = RNG.uniform(size=7)
    np.savez("w.npz", w=weight)
    np.save("y.npy", np.where(labels < 0, 255, labels).astype(np.uint8))
    got = answer(
        capsys,
        "z.npy",
        "y.npy",
        "--ignore-index",
        255,
        "--label-smoothing",
        0.2,
        "--weight",
        "w.npz::w",
        "--worst",
        0,
    )
    expected = cross_entropy(logits, labels, weight=weight, label_smoothing=0.2)
    assert got["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert got["worst"] == []


def test_soft_targets(files, capsys):
    logits, _ = files
    soft = RNG.dirichlet(np.ones(7), 300)
    save_file({"z": logits.T.copy(), "t": soft.T.copy()}, "both.safetensors")
    got = answer(capsys, "both.safetensors::z", "both.safetensors::t", "--axis", 0)
    assert got["loss"] == pytest.approx(float(cross_entropy(logits, soft)), rel=1e-6)
    assert got["accuracy"] == np.mean(logits.argmax(axis=1) == soft.argmax(axis=1))
    assert got["worst"][0]["label"] == soft[got["worst"][0]["row"]].argmax()


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_backends_agree(files, capsys, backend):
    logits, _ = files
    save_file({"z": logits.astype(ml_dtypes.bfloat16)}, "z.safetensors")
    np.save("z64.npy", logits.astype(np.float64) + 1e-9)
    for name, rel in (("z.npy", 2e-7), ("z.safetensors", 2e-7), ("z64.npy", 1e-15)):
        expected = answer(capsys, name, "y.npy")
        ran = xloss("eval", name, "y.npy", "--json", "--backend", backend)
        assert ran.stderr == ""
        got = json.loads(ran.stdout)
        assert got["backend"] == backend
        assert got["loss"] == pytest.approx(expected["loss"], rel=rel)
        assert got["dtype"] == expected["dtype"]
        assert [r["row"] for r in got["worst"]] == [r["row"] for r in expected["worst"]]


@pytest.mark.parametrize("block", [2, 4, 8, 100])
def test_worst_rows_in_order(files, capsys, monkeypatch, block):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", block)
    logits = np.zeros((9, 2))
    logits[:, 1] = [1, 5, np.nan, 5, -np.inf, 2, np.nan, 9, 0]
    labels = np.array([0, 0, 0, 0, 1, 0, 0, -100, 0])
    np.save("z.npy", logits)
    np.save("y.npy", labels)
    got = answer(capsys, "z.npy", "y.npy", "--worst", 20, nan=True)["worst"]
    # NaN before +inf; of equal rows the earlier first; an ignored row never.
    assert [r["row"] for r in got] == [2, 6, 4, 1, 3, 5, 0, 8]
    assert [r["loss"] for r in got[:3]] == ["nan", "nan", "inf"]
    assert [r["predicted"] for r in got[2:6]] == [0, 1, 1, 1]
    for limit in range(8):
        some = answer(capsys, "z.npy", "y.npy", "--worst", limit, nan=True)["worst"]
        assert some == got[:limit]


# ---- Losses that are not finite, and none at all -------------------------------------------------


def test_findings_say_why_a_loss_is_not_finite(files, capsys, monkeypatch):
    logits, labels = files
    logits[123, 2] = np.nan
    logits[[7, 251], labels[[7, 251]]] = -np.inf
    np.save("z.npy", logits)
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 60)
    got = answer(capsys, "z.npy", "y.npy", nan=True)
    assert list(got) == [*KEYS, "findings"]
    assert (got["loss"], got["perplexity"]) == ("nan", "nan")
    findings = {f["rule"]: f for f in got["findings"]}
    assert findings["masked_target"]["positions"] == [[7], [251]]
    assert findings["nan_logit"]["positions"] == [[123]]
    expected = {f.rule: (f.count, f.explanation) for f in diagnose(logits, labels).findings}
    assert {f["rule"]: (f["count"], f["explanation"]) for f in got["findings"]} == expected
    assert run(["eval", "z.npy", "y.npy"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("xloss: z.npy: the loss is NaN: masked_target: 2 rows (7, 251): the ")
    assert "; nan_logit: 1 row (123): a logit is NaN: so is the loss\n" in err
    assert err.count("\n") == 1
    assert "loss        nan\n" in out
    assert "masked_target: 2 rows (7, 251)\n    the target" in out


def test_infinity_is_spelled_out(files, capsys):
    np.save("z.npy", np.array([[0.0, 1.7e308], [0.0, 1.7e308]]))
    np.save("y.npy", np.array([0, 0]))
    got = answer(capsys, "z.npy", "y.npy")
    assert (got["loss"], got["perplexity"]) == ("inf", "inf")
    assert [f["rule"] for f in got["findings"]] == ["overflow"]


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_counted(files, capsys, rows):
    np.save("z.npy", np.zeros((rows, 2)))
    np.save("y.npy", np.full(rows, -100))
    got = answer(capsys, "z.npy", "y.npy")
    assert (got["loss"], got["accuracy"], got["worst"]) == (0.0, "nan", [])
    assert (got["counted"], got["ignored"]) == (0, rows)


# ---- What is refused -----------------------------------------------------------------------------


def test_a_refusal_is_one_line_and_exit_code_2(files):
    for arguments in (["eval", "z.npy", "none.npy"], ["eval", "z.npy"], ["nonsense"]):
        ran = xloss(*arguments)
        assert ran.returncode == 2
        assert ran.stdout == ""
        assert re.fullmatch(r"xloss: [^\n]+\n", ran.stderr)


REFUSED = {
    "missing": (["none.npy", "y.npy"], "none.npy: No such file"),
    "integer logits": (["y.npy", "y.npy"], r"y.npy: expected floating logits, got int64 of shape"),
    "float labels": (["z.npy", "float.npy"], "float.npy: expected integer labels, or probab"),
    "too few labels": (["z.npy", "few.npy"], r"few.npy: expected labels of shape \(300,\), that"),
    "other axis": (["z.npy", "seven.npy"], "did you mean --axis 0"),
    "no such axis": (["z.npy", "y.npy", "--axis", 2], r"z.npy: has no axis 2: its shape is \(300,"),
    "bad label": (["z.npy", "bad.npy"], r"bad.npy: label 7 of row 299 is not in \[0, 7\) and not"),
    "unsigned": (["z.npy", "byte.npy"], r"byte.npy: label 156 of row 0 is not in \[0, 7\)"),
    "no class": (["none-classes.npy", "y.npy"], "expected at least one class"),
    "wrong weight": (["z.npy", "y.npy", "--weight", "few.npy"], r"weight: expected shape \(7,\)"),
    "no weight": (["z.npy", "y.npy", "--weight", "w.npy"], "w.npy: No such file"),
    "smoothing": (["z.npy", "y.npy", "--label-smoothing", 2], "label_smoothing: expected a number"),
    "soft ignored": (["z.npy", "z.npy", "--ignore-index", 3], "ignore_index: 3 has no meaning"),
    "backend": (["z.npy", "y.npy", "--backend", "numpyy"], "--backend numpyy: expected one of"),
    "worst": (["z.npy", "y.npy", "--worst", "-1"], "Invalid value for '--worst'"),
    "no number": (["z.npy", "y.npy", "--axis", "one"], "Invalid value for '--axis'"),
    "no such option": (["z.npy", "y.npy", "--fast"], "No such option: --fast"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(files, capsys, case):
    _, labels = files
    np.save("float.npy", labels.astype(float))
    np.save("few.npy", labels[:9])
    np.save("seven.npy", np.arange(7))
    np.save("bad.npy", np.append(labels[1:], 7))
    np.save("byte.npy", labels.astype(np.uint8))  # -100 is 156 there, and is not ignored
    np.save("none-classes.npy", np.zeros((300, 0)))
    arguments, message = REFUSED[case]
    assert re.search(message, refused(capsys, "eval", *arguments))


def test_a_bad_label_is_named_by_its_place_in_the_whole(files, capsys, monkeypatch):
    monkeypatch.setattr(task_module, "BLOCK_LOGITS", 7 * 3)
    logits, labels = files
    labels = labels.reshape(10, 30)
    labels[8, 29] = -7
    np.save("z.npy", logits.reshape(10, 30, 7))
    np.save("y.npy", labels)
    assert "label -7 of row [8, 29] is not in [0, 7)" in refused(capsys, "eval", "z.npy", "y.npy")


@pytest.mark.parametrize("name", ["torch", "jax", "cupy"])
def test_a_backend_that_is_not_installed(files, name):
    hide = f"import sys; sys.modules[{name!r}] = None"
    ran = xloss("eval", "z.npy", "y.npy", "--backend", name, before=hide)
    assert (ran.returncode, ran.stdout) == (2, "")
    expected = f'xloss: --backend {name}: {name} is not installed: pip install "xloss[{name}]"\n'
    assert ran.stderr == expected


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_without_the_extra_the_command_says_what_to_install(files, name):
    hide = f"import sys; sys.modules[{name!r}] = None"
    for arguments in (["eval", "z.npy", "y.npy"], []):
        ran = xloss(*arguments, before=hide)
        assert (ran.returncode, ran.stdout) == (2, "")
        message = f'xloss: the command line needs {name}: pip install "xloss[cli]"\n'
        assert ran.stderr == message


def test_without_safetensors_npy_still_works(files, capsys):
    save_file({"z": files[0]}, "z.safetensors")
    hide = "import sys; sys.modules['safetensors'] = sys.modules['ml_dtypes'] = None"
    assert xloss("eval", "z.npy", "y.npy", before=hide).returncode == 0
    ran = xloss("eval", "z.safetensors", "y.npy", before=hide)
    assert ran.returncode == 2
    assert 'pip install "xloss[cli]"' in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_what_nobody_foresaw_is_one_line_too(files, capsys, monkeypatch):
    def broken(call):
        raise RuntimeError("CUDA error:\nunspecified launch failure")

    monkeypatch.setattr(task_module, "measure", broken)
    said = refused(capsys, "eval", "z.npy", "y.npy")
    assert said.startswith("RuntimeError: CUDA error: unspecified launch failure")


def test_ctrl_c(files, capsys, monkeypatch):
    def interrupted(call):
        raise KeyboardInterrupt

    monkeypatch.setattr(task_module, "measure", interrupted)
    assert run(["eval", "z.npy", "y.npy"]) == 130


# ---- Help, and what the machine can run ----------------------------------------------------------


def test_help(capsys):
    for arguments in ([], ["--help"], ["eval", "--help"], ["engines", "--help"]):
        assert run(arguments) == 0
        out, err = capsys.readouterr()
        assert "Usage: xloss" in out
        assert err == ""


def test_engines_tells_what_is_here_and_what_installs_the_rest():
    ran = xloss("engines", "--json", before="import sys; sys.modules['dask'] = None")
    assert ran.returncode == 0, ran.stderr
    got = json.loads(ran.stdout)
    assert list(got) == ["schema", "xloss", "backends", "engines"]
    backends = {b["name"]: b for b in got["backends"]}
    assert next(iter(backends)) == "numpy"
    assert backends["numpy"]["version"] == np.__version__
    assert backends["torch"]["devices"][0] == "cpu"
    assert backends["jax"]["available"]
    dask = backends["dask"]
    assert (dask["available"], dask["reason"]) == (False, "not installed")
    assert dask["install"] == 'pip install "xloss[dask]"'
    assert got["engines"][0] == {
        "name": "generic",
        "available": True,
        "reason": None,
        "devices": [],
    }
    for engine in got["engines"]:
        assert engine["available"] == (engine["reason"] is None)


def test_engines_for_the_eye(capsys):
    assert run(["engines"]) == 0
    out, err = capsys.readouterr()
    assert re.search(rf"^  numpy +{re.escape(np.__version__)} +cpu$", out, re.MULTILINE)
    assert re.search(r"^  generic +- +ready$", out, re.MULTILINE)
    assert err == ""


def test_the_measured_rows_are_those_of_the_evaluation(files):
    logits, labels = files
    record = evaluation.Evaluation().update(logits, labels).result()
    ran = xloss("eval", "z.npy", "y.npy", "--json")
    assert json.loads(ran.stdout)["loss"] == record.loss
