"""The CUDA kernels: compiled for the GPUs they are for, kept on disk, refused without one."""

import re
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

import xloss
from emulated import emulated
from xloss.engines.cuda import build, driver, launch_plan
from xloss.engines.cuda import engine as cuda

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="pip install 'xloss[cuda]'")
pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
try:
    nvrtc.nvrtcVersion()
except Exception as error:
    pytest.skip(f"{error}: pip install 'xloss[cuda]' brings it", allow_module_level=True)

ARCHITECTURES = (80, 90, 100)
INT64 = 3  # as `integer_at` of memory.cuh counts the types of labels
WIDTHS = [(8, True), (4096, False), (4096, True), (262144, True)]


def kernel(classes=4096, stored="bfloat16", stage=0, adds=False, **options):
    """The constants of one kernel of rows."""
    given = {
        "soft": None,
        "labels": 0 if options.get("soft") else INT64,
        "weighed": False,
        "flat": True,
        "smooth": False,
        "cap": False,
        "z_loss": False,
        "grad": True,
        **options,
    }
    asked = launch_plan.Asked(stored=stored, **given)
    return launch_plan.constants(
        launch_plan.plan(classes, launch_plan.ITEMSIZES[stored], False), asked, stage, adds
    )


@pytest.mark.parametrize("capability", ARCHITECTURES)
@pytest.mark.parametrize(
    ("classes", "grad"), [(8, True), (4096, False), (4096, True), (262144, True)]
)
def test_it_compiles_for_every_architecture_with_few_spills(classes, grad, capability):
    asked = launch_plan.Asked("bfloat16", None, INT64, False, True, False, False, False, grad)
    for step in launch_plan.steps(launch_plan.plan(classes, 2, False), asked, capability, False):
        made_of = launch_plan.constants(step.plan, asked, step.stage)
        given = dict(made_of)
        code, said = build.compile_kernel(made_of, f"sm_{capability}", ("-v",))
        assert code[:4] == b"\x7fELF"
        registers = int(re.findall(r"Used (\d+) registers", said)[0])
        spilled = int(re.findall(r"(\d+) bytes spill stores", said)[0])
        # 1,024 threads to a multiprocessor, or one block of those that hold much.
        blocks = 1 if given["VECTORS"] > 4 else 1024 // given["THREADS"]
        assert registers * given["THREADS"] * blocks <= 65536
        # At most what a thread holds of its row, while float64 settles the row.
        assert spilled <= (0 if given["VECTORS"] > 4 else 16 * given["VECTORS"]), said


@pytest.mark.parametrize(
    "options",
    [
        {"stored": "float64"},
        {"stored": "float16", "smooth": True},
        {"cap": True},
        {"soft": "float32"},
        {"soft": "bfloat16", "smooth": True, "cap": True},
        {"classes": 50001, "stage": 1},
        {"classes": 50001, "stage": 2},
    ],
    ids=str,
)
def test_every_option_compiles(options):
    assert build.compile_kernel(kernel(**options), "sm_90")[0][:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("capability", "compiled_for"),
    [
        (75, None),
        (80, "sm_80"),
        (86, "sm_86"),
        (89, "sm_89"),
        (90, "sm_90"),
        (85, "sm_80"),
        (999, None),
    ],
)
def test_a_gpu_runs_what_is_compiled_for_it_or_an_earlier_one_of_its_generation(
    capability, compiled_for
):
    assert build.architecture(capability) == compiled_for
    assert (driver.unfit(capability) is None) == (compiled_for is not None)


def test_a_gpu_that_is_too_old_or_too_new_is_refused_with_the_reason():
    assert driver.unfit(75) == "this GPU has compute capability 7.5, which is below 8.0"
    assert "does not know compute capability 99.9" in driver.unfit(999)
    torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    z, y = torch.zeros(1, 2), torch.tensor([0])
    with emulated(75) as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "unfit", lambda capability: f"too old: {capability}")
        xloss.cross_entropy(z, y)
        assert not gpu.launches
        refused = pytest.raises(xloss.EngineUnavailable, match="too old: 75")
        with xloss.use_engine("cuda"), refused:
            xloss.cross_entropy(z, y)


@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_a_kernel_of_few_rows_compiles(capability):
    made_of = kernel(1000, "float32", adds=True)
    assert build.compile_kernel(made_of, f"sm_{capability}")[0][:4] == b"\x7fELF"


def test_sums_compile():
    for acc, capability in product(("float32", "float64"), ARCHITECTURES):
        assert build.compile_kernel(launch_plan.sums(acc), f"sm_{capability}")[0][:4] == b"\x7fELF"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(tmp_path))
    return tmp_path / "cuda"


@pytest.fixture
def count(monkeypatch):
    """How many compilations there have been."""
    made = []
    compile_kernel = build.compile_kernel

    def counted(*args):
        made.append(args)
        return compile_kernel(*args)

    monkeypatch.setattr(build, "compile_kernel", counted)
    return made


SUMS = launch_plan.sums("float32")


@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_counts_of_labels_compile(capability):
    for kind in (0, INT64):
        code, said = build.compile_kernel(
            launch_plan.sums("float32", kind), f"sm_{capability}", ("-v",)
        )
        assert code[:4] == b"\x7fELF"
        assert "0 bytes stack frame" in said


def test_what_was_compiled_is_kept(folder, count):
    code = build.compiled(SUMS, "sm_90")
    assert build.compiled(SUMS, "sm_90") == code
    assert len(count) == 1
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("other", [(launch_plan.sums("float64"), "sm_90"), (SUMS, "sm_80")])
def test_other_constants_and_architectures_are_other_files(folder, count, other):
    build.compiled(SUMS, "sm_90")
    build.compiled(*other)
    assert len(count) == len(list(folder.iterdir())) == 2


def test_another_source_is_another_file(folder, count, monkeypatch):
    build.compiled(SUMS, "sm_90")
    monkeypatch.setattr(build, "sources", lambda: b"edited")
    build.compiled(SUMS, "sm_90")
    assert len(count) == len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_compiled_anew(folder, count, damage):
    code = build.compiled(SUMS, "sm_90")
    (kept,) = folder.iterdir()
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(bytes(content) if damage is None else damage)
    assert build.compiled(SUMS, "sm_90") == code
    assert len(count) == 2
    assert build.compiled(SUMS, "sm_90") == code
    assert len(count) == 2


def test_a_folder_that_cannot_be_written_costs_a_compilation(tmp_path, count, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(blocked))
    assert build.compiled(SUMS, "sm_90") == build.compiled(SUMS, "sm_90")
    assert len(count) == 2


def test_an_error_of_the_compiler_is_shown():
    with pytest.raises(Exception, match="error"):
        build.compile_kernel((("SUMS", 1), ("STORED", 17)), "sm_90")


@pytest.mark.skipif(xloss.engines()["cuda"] is None, reason="a GPU is here, and none is missing")
def test_without_a_gpu_it_says_so():
    reason = xloss.engines()["cuda"]
    assert reason == driver.missing() == cuda.unavailable()
    with (
        xloss.use_engine("cuda"),
        pytest.raises(xloss.EngineUnavailable, match=re.escape(reason)),
    ):
        xloss.cross_entropy(np.zeros((1, 2)), np.array([0]))


@pytest.mark.parametrize("missing", ["cuda.core", "cuda.bindings"])
def test_without_the_package_it_says_what_to_install(missing):
    script = f"""
import sys
sys.modules[{missing!r}] = None
import xloss
assert xloss.engines()["cuda"] == 'cuda-core is not installed: pip install "xloss[cuda]"'
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_engine_imports_nothing_of_nvidia_s():
    script = """
import sys, xloss, numpy
xloss.cross_entropy(numpy.zeros((2, 3)), numpy.array([0, 1]))
assert not any(m == "cuda" or m.startswith("cuda.") for m in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
