"""Breakages of the CUDA engine: kernels, which run on the host, and their launches."""

from breakages import Breakage
from breakages_rules import b

ROWS, GROUPS, MEMORY = (f"engines/device/{name}.cuh" for name in ("rows", "groups", "memory"))
DIVIDED = "accuracy::rows_as_a_gpu_divides_them[float32]"
CERTAIN = "cuda_extremes::a_certain_row_loses_nothing_whatever_it_weighs[-inf-5]"

CUDA: list[Breakage] = [
    b("cuda: what float64's sums lose is kept", GROUPS,
      "lost += error == error ? error : 0.0;", "",
      "cuda_parts::a_row_of_float64_has_the_same_bits_in_another_layout"),
    b("cuda: what lanes lost is added up too", GROUPS,
      "if constexpr (EXACT) s[n].lost += shuffle_xor<WIDTH>(s[n].lost, o);", "",
      "cuda_parts::a_row_of_float64_has_the_same_bits_in_another_layout"),
    b("cuda: one lane owns the maximum", GROUPS, "if (!owner) sum +=", "sum +=", DIVIDED),
    b("cuda: beside a certain class there is nothing", ROWS,
      "far = rest < FEW;", "far = false;", CERTAIN),
    b("cuda: masked classes have nothing of a huge upstream", "engines/device/settle.cuh",
      "fabs(factor) > 1073741824.0", "fabs(factor) > INF", CERTAIN),
    b("cuda: rows begin anywhere", MEMORY,
      "v = joined(v, b, off);", "v = joined(v, b, 0);", DIVIDED),
    b("cuda: and so do their gradients", MEMORY,
      "store_16(to, joined(before, v, 16 - off));", "store_16(to, v);", DIVIDED),
    b("cuda: the second launch merges what every block left", ROWS,
      "p = lane < PARTS ? left[lane].piece", "p = lane < 1 ? left[lane].piece",
      "cuda_parts::one_launch_or_three[float32-8203-labels]"),
    b("cuda: and the third what they added up", ROWS,
      "lane < PARTS ? left[lane].sums[n]", "lane < 1 ? left[lane].sums[n]",
      "cuda_parts::one_launch_or_three[float32-8203-smoothed]"),
    b("cuda: a label beyond int64 is bad", "engines/device/facts.cuh",
      "(u64)y >= (u64)c.classes", "y >= c.classes",
      "rules_targets::the_unsigned_twin_of_minus_100_is_bad_and_not_ignored[emulated-uint64]"),
    b("cuda: a backward starts from its forward's statistics", "backends/torch.py",
      "ctx.weight, stats, False", "ctx.weight, None, False",
      "cuda_engine::autograd_takes_its_forward_s_statistics[options0-mean]"),
    b("cuda: nothing is read by the host", "engines/cuda.py",
      "    return got, weight, made.stats\n",
      "    return got + 0 * float(got), weight, made.stats\n",
      "cuda_engine::nothing_is_read_by_the_host"),
    b("cuda: offsets have 64 bits", "engines/device/memory.cuh",
      "(outer * p.outer_step + (row - outer * p.inner) * p.inner_step)",
      "((outer * p.outer_step + (row - outer * p.inner) * p.inner_step) & 0x7fffffff)",
      "cuda_engine::offsets_of_more_than_31_bits"),
    b("cuda: a GPU that no kernel can be compiled for is refused", "engines/cuda.py",
      "return unavailable() or driver.unfit(home.capability(home.index(o.x)))",
      "return unavailable()",
      "cuda_build::a_gpu_that_is_too_old_or_too_new_is_refused_with_the_reason"),
    b("cuda: torch.compile keeps it whole", "backends/torch_op.py",
      "and o.x.device.type == DEVICE", "and o.x.device.type != DEVICE",
      "torch_op::the_compiler_keeps_it_whole[plain-False]"),
    b("cuda: a launch goes to the arrays' GPU", "engines/device/driver.py",
      "failed = int(unknown) or int(current) != index", "failed = 0",
      "cuda_driver::a_launch_goes_to_the_arrays_gpu[0]"),
    Breakage("cuda: its budget is the compiled engines'",
             "conformance/xloss_conformance/subjects.py",
             ', "cuda": "cuda", "cupy": "cuda"}', "}",
             "conformance/test_emulated.py::"
             "test_where_there_is_a_gpu_the_stricter_budget_holds"),
]  # fmt: skip
