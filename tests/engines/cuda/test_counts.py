"""What the compiler made of the plain CUDA kernels: registers, stack, and instructions a logit.

Copy speed leaves a multiprocessor about 16 issue slots for each bfloat16 logit that is read, 32
where its gradient is written too, and twice that for float32. Who spends more is bound by them.
"""

import re
import subprocess
import sysconfig
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from nightly import core
from xloss.engines.cuda import build, launch_plan

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="pip install 'xloss[cuda]'")
pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
try:
    nvrtc.nvrtcVersion()
except Exception as error:
    pytest.skip(f"{error}: pip install 'xloss[cuda]' brings it", allow_module_level=True)


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
    """A plain kernel: labels of int64, whole rows, no options; and what the compiler said."""
    p = launch_plan.plan(classes, launch_plan.ITEMSIZES[stored], False)
    asked = launch_plan.Asked(stored, None, 3, False, True, False, False, False, grad)
    return p, *build.compile_kernel(launch_plan.constants(p, asked), architecture, ("-v",))


def loops(code, tmp_path):
    """The bodies of all loops of a kernel: what is executed each time but for seldom branches."""
    path = tmp_path / "kernel.cubin"
    path.write_bytes(code)
    said = subprocess.run(
        [disassembler(), "-c", str(path)], check=True, capture_output=True, text=True
    ).stdout
    lines, at = [], {}
    for line in said.splitlines():
        label = re.match(r"(\.L_\w+):", line.strip())
        code_line = re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;", line)
        if label:
            at[label[1]] = len(lines)
        elif code_line:
            lines.append(code_line[1])
    for i, line in enumerate(lines):
        to = re.search(r"BRA.*`\((\.L_\w+)\)", line)
        if to and at.get(to[1], i + 1) <= i:
            yield executed(lines, at, at[to[1]], i)


def executed(lines, at, first, last):
    """Leave out what a branch goes round that compares each class with the maximum."""
    body, i = [], first
    while i <= last:
        body.append(lines[i])
        to = re.search(r"^@.*BRA.*`\((\.L_\w+)\)", lines[i])
        end = at[to[1]] if to else i
        round_it = lines[i + 1 : end] if i < end <= last else []
        seldom = count(round_it, "FSETP") >= 4 and not count(round_it, "LDS.128")
        i = end if seldom else i + 1
    return body


def count(body, word):
    return sum(word in line for line in body)


SIXTEEN = ["bfloat16", "float16"]
WIDTHS = (1024, 4096, 16384, 32768, 131072, 262144)


PLAIN = core(
    product(WIDTHS, [*SIXTEEN, "float32"]),
    lambda classes, stored: stored == "bfloat16" or classes in (4096, 131072),
)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("classes", "stored"), PLAIN)
def test_plain_kernels_need_no_stack_and_few_registers(classes, stored, grad):
    p, _, said = compiled(classes, stored, grad)
    assert "0 bytes stack frame, 0 bytes spill stores" in said, said
    registers = int(re.findall(r"Used (\d+) registers", said)[0])
    # Blocks that fit a multiprocessor by its shared memory (1 KB a block is the system's) must fit
    # by registers: the more blocks, the more loads are under way while others compute.
    by_memory = 228 * 1024 // (p.shared + 2048)
    assert registers * p.threads * by_memory <= 65536, (registers, by_memory)
    assert registers <= 64


@pytest.mark.parametrize("stored", SIXTEEN)
def test_a_16_bit_logit_takes_few_instructions(stored, tmp_path):
    _, code, _ = compiled(4096, stored, True)
    found = list(loops(code, tmp_path))
    # Each reads four vectors of eight logits at a time.
    largest = min(len(b) for b in found if count(b, "MNMX") >= 8 and not count(b, "EX2"))
    sums = min(len(b) for b in found if count(b, "EX2") == 32 and count(b, "MNMX") >= 16)
    slopes = min(len(b) for b in found if count(b, "EX2") == 32 and count(b, "STG") == 4)
    assert largest / 32 <= 0.7
    assert sums / 32 <= 8.5
    assert slopes / 32 <= 5.2
    assert not any(count(b, "DADD") + count(b, "DFMA") for b in found if count(b, "EX2") == 32)


def test_a_float32_logit_takes_few_instructions(tmp_path):
    _, code, _ = compiled(4096, "float32", True)
    found = list(loops(code, tmp_path))
    largest = min(len(b) for b in found if count(b, "FMNMX") >= 16 and count(b, "FFMA") == 0)
    sums = [b for b in found if count(b, "LDS.128") == 4 and count(b, "FFMA") >= 96]
    assert largest / 16 <= 1.7
    assert min(len(b) for b in sums if not count(b, "STG")) / 16 <= 15
    assert min(len(b) for b in sums if count(b, "STG") == 4) / 16 <= 15
