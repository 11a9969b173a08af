"""The CUDA kernels: compiled for the GPUs they are for, kept on disk, refused without one."""

from unittest.mock import Mock

import pytest

import xloss
from emulated import emulated, inputs
from fresh import said
from xloss.engines.cuda import build, driver, launch_plan

pytestmark = pytest.mark.usefixtures("nvrtc")

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
INT64 = 3  # as `integer_at` of memory.cuh counts the types of labels


def kernel(stored="bfloat16", soft=None, classes=4096, stage=0, adds=False, **options):
    """The constants of one kernel of rows that writes a gradient."""
    labels = 0 if soft else INT64
    given = {name: name in options for name in ("smooth", "cap", "z_loss")}
    asked = launch_plan.Asked(stored, soft, labels, weighed=False, flat=True, grad=True, **given)
    plan = launch_plan.plan(classes, launch_plan.ITEMSIZES[stored], False)
    return launch_plan.constants(plan, asked, stage, adds)


KERNELS = {
    "float64": kernel("float64"),
    "float16, smooth": kernel("float16", smooth=True),
    "soft, smooth, cap": kernel(soft="bfloat16", smooth=True, cap=True),
    "begin of three": kernel(classes=50001, stage=1),
    "middle of three": kernel(classes=50001, stage=2),
    "few rows": kernel("float32", classes=1000, adds=True),
    "sums": launch_plan.sums("float32", INT64, False),
    "sums of float64": launch_plan.sums("float64", 0, True),
}
SUMS = KERNELS["sums"]
EVERYWHERE = ("few rows", "sums")


@pytest.mark.parametrize("name", KERNELS)
def test_every_option_compiles(name):
    for architecture in ARCHITECTURES if name in EVERYWHERE else ["sm_90"]:
        code, messages = build.compile_kernel(KERNELS[name], architecture, ("-v",))
        assert code[:4] == b"\x7fELF"
        assert "sums" not in name or "0 bytes stack frame" in messages


CAPABILITIES = [(75, None), (80, "sm_80"), (86, "sm_86"), (90, "sm_90"), (85, "sm_80"), (999, None)]


@pytest.mark.parametrize(("capability", "compiled_for"), CAPABILITIES)
def test_a_gpu_runs_what_is_compiled_for_it_or_an_earlier_one_of_its_generation(
    capability, compiled_for
):
    assert build.architecture(capability) == compiled_for
    assert (driver.unfit(capability) is None) == (compiled_for is not None)


def test_a_gpu_that_is_too_old_or_too_new_is_refused_with_the_reason():
    assert driver.unfit(75) == "this GPU has compute capability 7.5, which is below 8.0"
    assert "does not know compute capability 99.9" in driver.unfit(999)
    with emulated(75) as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "unfit", lambda capability: f"too old: {capability}")
        z, y = inputs(1, 2)
        xloss.cross_entropy(z, y)
        assert not gpu.launches
        refused = pytest.raises(xloss.EngineUnavailable, match="too old: 75")
        with xloss.use_engine("cuda"), refused:
            xloss.cross_entropy(z, y)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(tmp_path))
    return tmp_path / "cuda"


@pytest.fixture
def compiler(monkeypatch):
    made = Mock(wraps=build.compile_kernel)
    monkeypatch.setattr(build, "compile_kernel", made)
    return made


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_what_was_compiled_is_kept_and_a_damaged_file_compiled_anew(folder, compiler, damage):
    code = build.compiled(SUMS, "sm_90")
    assert build.compiled(SUMS, "sm_90") == code
    assert compiler.call_count == 1
    (kept,) = folder.iterdir()
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(bytes(content) if damage is None else damage)
    for _ in range(2):
        assert build.compiled(SUMS, "sm_90") == code
        assert compiler.call_count == 2


def test_other_constants_architectures_and_sources_are_other_files(folder, compiler, monkeypatch):
    build.compiled(SUMS, "sm_90")
    build.compiled(KERNELS["sums of float64"], "sm_90")
    build.compiled(SUMS, "sm_80")
    monkeypatch.setattr(build, "sources", lambda: b"edited")
    build.compiled(SUMS, "sm_90")
    assert compiler.call_count == len(list(folder.iterdir())) == 4


def test_a_folder_that_cannot_be_written_costs_a_compilation(tmp_path, compiler, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XLOSS_CACHE_DIR", str(blocked))
    assert build.compiled(SUMS, "sm_90") == build.compiled(SUMS, "sm_90")
    assert compiler.call_count == 2


@pytest.mark.parametrize("missing", ["cuda.core", "cuda.bindings"])
def test_without_the_package_it_says_what_to_install(missing):
    call = "xloss.cross_entropy(numpy.zeros((2, 3)), numpy.array([0, 1]))"
    imported = 'assert not [m for m in sys.modules if m == "cuda" or m.startswith("cuda.")]'
    script = f"import sys, numpy, xloss; {call}; {imported}; sys.modules[{missing!r}] = None"
    reason = said(f'{script}; print(xloss.engines()["cuda"])')
    assert reason == 'cuda-core is not installed: pip install "xloss[cuda]"'
