"""What the compiler made of the plain CUDA kernels: registers, stack, and instructions a logit.

Copy speed leaves a multiprocessor about 16 issue slots for each bfloat16 logit that is read, 32
where its gradient is written too, and twice that for float32. Who spends more is bound by them.
"""

import re
import subprocess
import sysconfig
from functools import cache
from itertools import chain, product
from pathlib import Path

import pytest

from nightly import core
from xloss.engines.cuda import build, launch_plan, pixel_plan

pytestmark = pytest.mark.usefixtures("nvrtc")


@cache
def disassembler() -> str:
    name = "nvidia/cu13/bin/nvdisasm"
    folders = [sysconfig.get_path("purelib"), *Path(build.__file__).parents]
    import cuda.bindings

    folders += Path(cuda.bindings.__file__).parents
    found = [Path(f) / name for f in folders if (Path(f) / name).exists()]
    if not found:
        pytest.skip("pip install nvidia-cuda-nvdisasm")
    return str(found[0])


@cache
def compiled(classes, stored, grad, architecture="sm_90"):
    """The launches of plain rows (labels of int64, no options): plans, codes, what was said."""
    plan = launch_plan.plan(classes, launch_plan.ITEMSIZES[stored], False)
    asked = launch_plan.Asked(stored, None, 3, False, True, False, False, False, grad)
    found = []
    for step in launch_plan.steps(plan, asked, int(architecture[3:]), False):
        given = launch_plan.constants(step.plan, asked, step.stage)
        found.append((step.plan, *build.compile_kernel(given, architecture, ("-v",))))
    return found


@cache
def compiled_pixels(classes, stored, grad, architecture="sm_90", each=None):
    """The same of the one launch of pixels."""
    asked = launch_plan.Asked(stored, None, 3, False, False, False, False, False, grad)
    p = pixel_plan.pixel_plan(classes, asked)
    each = each or 4 // launch_plan.ITEMSIZES[stored]
    own = ("PIXELS", each), ("IN_REGISTERS", pixel_plan.held(classes, asked))
    given = *launch_plan.constants(p, asked, 0, True), *own
    return p, *build.compile_kernel(given, architecture, ("-v",))


def registers(said):
    return int(re.findall(r"Used (\d+) registers", said)[0])


def runs(code, tmp_path):
    """The runs of instructions between which a kernel may branch."""
    path = tmp_path / "kernel.cubin"
    path.write_bytes(code)
    command = [disassembler(), "-c", str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = [[]]
    for label, line in re.findall(r"^(\.L_\w+):|^\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", said, re.M):
        if not label:
            found[-1].append(line)
        if label or "BRA" in line:
            found.append([])
    return found


def count(body, word):
    return sum(word in line for line in body)


SIXTEEN = ["bfloat16", "float16"]
WIDTHS = (1024, 4096, 16384, 32768, 131072, 262144)


PLAIN = core(
    product(WIDTHS, [*SIXTEEN, "float32"]),
    lambda classes, stored: stored == "bfloat16" or classes in (4096, 131072),
)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("classes", "grad"), [(8, True), (4096, False), (4096, True), (262144, True)]
)
def test_it_compiles_for_every_architecture_with_few_spills(classes, grad, architecture):
    for plan, code, said in compiled(classes, "bfloat16", grad, architecture):
        assert code[:4] == b"\x7fELF"
        spilled = int(re.findall(r"(\d+) bytes spill stores", said)[0])
        # 1,024 threads to a multiprocessor, or one block of those that hold much.
        blocks = 1 if plan.vectors > 4 else 1024 // plan.threads
        assert registers(said) * plan.threads * blocks <= 65536
        # At most what a thread holds of its row, while float64 settles the row.
        assert spilled <= (0 if plan.vectors > 4 else 16 * plan.vectors), said


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("classes", "stored"), PLAIN)
def test_plain_kernels_need_no_stack_and_few_registers(classes, stored, grad):
    p, _, said = compiled(classes, stored, grad)[0]
    assert "0 bytes stack frame, 0 bytes spill stores" in said, said
    # Blocks that fit a multiprocessor by its shared memory, up to 1,024 threads, must fit by
    # registers: the more blocks, the more loads are under way while others compute.
    by_memory = launch_plan.ROOM // (p.shared + launch_plan.TAKEN)
    assert registers(said) * p.threads * min(by_memory, 1024 // p.threads) <= 65536, said
    assert registers(said) <= 80


@pytest.mark.parametrize("stored", SIXTEEN)
def test_a_16_bit_logit_takes_few_instructions(stored, tmp_path):
    """Copy speed leaves 14 slots of a multiprocessor for each logit, 28 with the gradient."""
    _, code, _ = compiled(4096, stored, True)[0]
    found = runs(code, tmp_path)
    # Each reads four vectors of eight logits at a time, the first one sixteen.
    largest = min(len(b) for b in found if count(b, "MNMX") >= 32 and not count(b, "EX2"))
    slopes = min(len(b) for b in found if count(b, "EX2") == 32 and count(b, "STG") == 4)
    assert largest / 128 <= 0.7
    assert slopes / 32 <= 5.2
    # The sums, but for what seldom compares each class with the maximum: a branch goes round it.
    at = [i for i, b in enumerate(found) if count(b, "EX2") >= 8 and count(b, "MNMX") >= 4]
    sums = [b for b in found[at[0] : at[-1] + 1] if count(b, "FSETP") < 4]
    logits = sum(count(b, "EX2") for b in sums)
    assert logits >= 32
    assert sum(map(len, sums)) / logits <= 9.2
    assert not any(count(b, "DADD") + count(b, "DFMA") for b in sums)


def test_a_float32_logit_takes_few_instructions(tmp_path):
    _, code, _ = compiled(4096, "float32", True)[0]
    found = runs(code, tmp_path)
    largest = min(len(b) for b in found if count(b, "FMNMX") >= 64 and not count(b, "FFMA"))
    whole = [b for b in found if count(b, "LDS.128") == 4 and count(b, "FFMA") >= 96]
    assert largest / 64 <= 1.7
    assert min(len(b) for b in whole if not count(b, "STG")) / 16 <= 16
    assert min(len(b) for b in whole if count(b, "STG") == 4) / 16 <= 15


PIXELS = core(
    product(("sm_80", "sm_90", "sm_100"), (3, 21, 150), [*SIXTEEN, "float32"], (None, 1)),
    lambda architecture, classes, stored, each: (
        architecture == "sm_90" and classes == 21 and stored != "float16" and each is None
    ),
)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("architecture", "classes", "stored", "each"), PIXELS)
def test_pixels_need_no_stack(architecture, classes, stored, each, grad):
    p, _, said = compiled_pixels(classes, stored, grad, architecture, each)
    assert "0 bytes stack frame, 0 bytes spill stores" in said, said
    # Enough threads that what some load covers the time that others compute.
    assert 65536 // (registers(said) * p.threads) * p.threads >= (384 if classes == 21 else 256)


@pytest.mark.parametrize(("stored", "each"), [("bfloat16", 18), ("float32", 28)])
def test_a_logit_of_a_pixel_takes_few_instructions(stored, each, tmp_path):
    """From the first load of a class to the block's barrier, seldom branches included.

    80% of copy speed leaves 20 for each bfloat16 logit, of which a row's beginning and its sum take
    two, and 40 for a float32 one.
    """
    _, code, _ = compiled_pixels(21, stored, False)
    lines = list(chain.from_iterable(runs(code, tmp_path)))
    begin = next(i for i, line in enumerate(lines) if "LDG.E.CONSTANT" in line)
    end = next(i for i, line in enumerate(lines) if "BAR.RED" in line)
    body = lines[begin:end]
    assert count(body, "LDG.E.CONSTANT") >= 20
    assert len(body) / (21 * 4 // launch_plan.ITEMSIZES[stored]) <= each
