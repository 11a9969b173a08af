"""Breakages of the compiled engine; the kernels that a patch touches are compiled anew."""

from breakages import Breakage

HOST = "src/xloss/engines/host/"
ENGINE = "tests/test_cpu_engine.py::"
FUNCTIONS = "tests/test_cpu_functions.py::"

COMPILED: list[Breakage] = [
    Breakage(
        "cpu engine: the subtraction's rounding is made up for",
        HOST + "functions.py",
        "            error = (z - (d - b)) - (m + b)\n            low = d < _LOW4\n",
        "            error = f4(0)\n            low = d < _LOW4\n",
        FUNCTIONS + "test_exp_below_a_maximum[3.3-float32]",
    ),
    Breakage(
        "cpu engine: the polynomial's coefficients",
        HOST + "functions.py",
        "0.008363203145563602",
        "0.008463203145563602",
        FUNCTIONS + "test_exp_without_a_difference[3.3]",
    ),
    Breakage(
        "cpu engine: float16 rounds ties to even",
        HOST + "bits.py",
        "i4(0xFFF) + ((b >> i4(13)) & i4(1))",
        "i4(0x1000)",
        FUNCTIONS + "test_rounding_to_16_bits",
    ),
    Breakage(
        "cpu engine: a sum about a maximum shifts when the maximum rises",
        HOST + "rows.py",
        "rest = (1.0 + (rest + lost)) * (exp_scaled(-rise, 0.0) * DOWN)",
        "rest = 1.0 + (rest + lost)",
        ENGINE + "test_the_maximum_may_come_last_and_twice",
    ),
    Breakage(
        "cpu engine: the maximum is in no sum that keeps the tail",
        HOST + "rows.py",
        "                        drop_top(z, top, zero, made[:n])\n",
        "",
        ENGINE + "test_far_from_zero_and_on_no_grid[300-129.0]",
    ),
    Breakage(
        "cpu engine: nor where exponentials are summed strip by strip",
        HOST + "strips.py",
        "        s += zero if z[j] == top else exp_near(z[j], low, bias)\n",
        "        s += exp_near(z[j], low, bias)\n",
        ENGINE + "test_far_from_zero_and_on_no_grid[300-0.0]",
    ),
    Breakage(
        "cpu engine: what is left beyond whole lanes is in the sum",
        HOST + "strips.py",
        "out[j] = -INF if gone[j] != 0.0 else window[j]",
        "out[j] = -INF",
        ENGINE + "test_every_number_of_classes[plain-130-index]",
    ),
    Breakage(
        "cpu engine: the last tile reaches the last column",
        HOST + "memory.py",
        "c = min(k, width - TILE)",
        "c = min(k, width - TILE) // TILE * TILE",
        ENGINE + "test_rows_turned_in_tiles[10-9]",
    ),
    Breakage(
        "cpu engine: a NaN of negative sign before every possible class is seen",
        HOST + "rows.py",
        "                    if top > -INF:  # else rest is 0, or a NaN of negative sign\n",
        "                    rest = 0.0\n                    if top > -INF:\n",
        ENGINE + "test_a_negative_nan_among_masked_classes_alone_is_seen",
    ),
    Breakage(
        "cpu engine: a tiny upstream is not lost",
        HOST + "rows.py",
        "tiny = abs(factor) < 2.0**-60",
        "tiny = False",
        ENGINE + "test_an_upstream_of_any_size[1e-30-300]",
    ),
    Breakage(
        "cpu engine: without z-loss its term is absent, lse infinite or not",
        HOST + "rows.py",
        "weight * lse if z_loss > 0.0 else 0.0",
        "weight * lse",
        ENGINE + "test_every_number_of_classes[masked-130-index]",
    ),
    Breakage(
        "cpu engine: a block of lanes may run over into the next image",
        HOST + "columns.py",
        "    within = r % inner + nb <= inner\n",
        "    within = True\n",
        ENGINE + "test_segmentation[shape0]",
    ),
    Breakage(
        "cpu engine: each piece of a call has its own place",
        "src/xloss/engines/cpu.py",
        '["data"][0]) + first * a.itemsize',
        '["data"][0])',
        ENGINE + "test_more_rows_than_a_piece",
    ),
    Breakage(
        "cpu engine: labels that are read as they lie are the piece's",
        "src/xloss/engines/cpu.py",
        "self.labels + 8 * first",
        "self.labels",
        ENGINE + "test_more_rows_than_a_piece",
    ),
    Breakage(
        "cpu engine: a negated view's memory does not hold its values",
        "src/xloss/engines/places.py",
        " and not a.is_neg()",
        "",
        ENGINE + "test_a_negated_view_is_not_read_from_memory",
    ),
]
