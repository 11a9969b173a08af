"""The kernel for rows whose classes lie side by side: one row after the other, in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel_cache import inline, kernel
from . import slice_loops as loops
from .algebra import add, label_gradient, moved_gap, row_loss, two_sum, unpack
from .bits import NO_BOUND, f8, i8, narrow, stored, to_compute, u1, widen
from .functions import DOWN, exp_scaled, log1p, scale_of, sech2, tanh
from .slice_loops import INF, SUM_CHUNK
from .strips import LANES, fill_masks, near_sum, strip_maxima, take_remainder

L1_CHUNK = 4096  # numbers: with its buffers a chunk stays in a first-level cache of 32 KB or so
# Bytes from one buffer to the next. Buffers that begin at the same place of their pages would push
# each other out of the cache, whose sets are chosen by the address within a page.
BUFFER_STEP = 8 * L1_CHUNK + 320


@inline()
def chunks_sum(t: Any, zero: Any) -> float:
    """Return Σ t, t: (n,) in the compute dtype; chunk by chunk, and in float64 between chunks."""
    s = 0.0
    for a in range(0, len(t), SUM_CHUNK):
        s += f8(loops.sum_all(t[a : a + SUM_CHUNK], zero))
    return s


@inline()
def fill(out: Any, value: Any, like: Any) -> None:
    """Write one value to all of out: (n,) as stored."""
    for j in range(len(out)):
        out[j] = narrow(value, like)


@kernel
def rows(like: Any, *numbers: Any) -> None:
    """Compute losses, statistics and gradients; see `arguments` for what the numbers are.

    `like` is a scalar of the logits' storage format. Row r of the logits begins at
    (r // inner)·outer_step + (r % inner)·inner_step, and its class step is 1; so does the
    gradient's.

    A label out of range makes its row NaN. Labels are checked before the call, but another thread
    may write to them meanwhile, and the caller may between a loss and its gradient.
    """
    block, at, targets, cotangent, options, out, to = unpack(numbers)
    first, count, classes = block
    one = to_compute(1.0, like)
    zero = one - one
    # ---- the caller's arrays, (count,) where nothing else is said
    logits = stored(at.address, NO_BOUND, like)  # (all rows, classes), as laid out by `at`
    gradient = stored(to.address, NO_BOUND, like)  # the same, as laid out by `to`
    soft = stored(targets.soft, NO_BOUND, one)  # (count, classes)
    class_weight = stored(targets.class_weight, NO_BOUND, one)  # (classes,)
    labels = stored(targets.labels, count, i8(0))
    present = stored(targets.row_present, count, u1(0))
    invalid = stored(targets.label_invalid, count, u1(0))
    sample_weights = stored(targets.sample_weight, count, 0.0)
    label_weights = stored(targets.label_weight, count, 0.0)
    cotangents = stored(cotangent.each, count, 0.0)
    losses, maxima = stored(out.losses, count, one), stored(out.maxima, count, one)
    tail_sums = stored(out.tail_sums, count, 0.0)
    totals = stored(out.totals, 4, 0.0)
    # ---- buffers, (L1_CHUNK,) where nothing else is said
    # They are views by address of one array, for which Numba counts no references.
    memory = np.empty(10 * BUFFER_STEP + 64, np.uint8)
    buffers = (memory.ctypes.data + 63) // 64 * 64
    decoded_chunk = stored(buffers, L1_CHUNK, one)
    capped_chunk = stored(buffers + BUFFER_STEP, L1_CHUNK, one)
    gradient_chunk = stored(buffers + 2 * BUFFER_STEP, L1_CHUNK, one)
    exp_chunk = stored(buffers + 3 * BUFFER_STEP, L1_CHUNK, one)
    weighted_chunk = stored(buffers + 4 * BUFFER_STEP, L1_CHUNK, one)
    ones = stored(buffers + 5 * BUFFER_STEP, L1_CHUNK, one)
    zeros = stored(buffers + 6 * BUFFER_STEP, L1_CHUNK, one)
    each_maximum = stored(buffers + 7 * BUFFER_STEP, L1_CHUNK, one)
    remainder = stored(buffers + 8 * BUFFER_STEP, LANES, one)
    mask = stored(buffers + 9 * BUFFER_STEP, 2 * LANES, one)
    fill_masks(mask, one)
    for j in range(L1_CHUNK):
        ones[j], zeros[j] = one, zero
    eps, z_loss = options.label_smoothing, options.z_loss
    cap, capping = to_compute(options.softcap, one), options.softcap > 0.0
    by_label, weighted = targets.labels != 0, targets.class_weight != 0
    saved = out.stats_saved
    for i in range(count):
        r = first + i
        to_row = (r // to.inner) * to.outer_step + (r % to.inner) * to.inner_step
        if targets.row_present != 0 and present[i] == 0:
            if out.losses != 0:
                losses[i] = zero
            if out.maxima != 0 and not saved:
                maxima[i], tail_sums[i] = zero, 0.0
            if to.address != 0:
                fill(gradient[to_row : to_row + classes], zero, like)
            continue
        from_row = (r // at.inner) * at.outer_step + (r % at.inner) * at.inner_step
        row = logits[from_row : from_row + classes]
        sample_weight = sample_weights[i] if targets.sample_weight != 0 else 1.0
        label_weight = label_weights[i] if targets.label_weight != 0 else 1.0
        nan_row = targets.label_invalid != 0 and invalid[i] != 0
        target_weight = target_sum = 1.0 if by_label else 0.0
        target_gap = possible = possible_weight = possible_gap = 0.0
        # ---- statistics; tail_sum + lost is the sum, and unit·2^-64 turns exponentials to it
        top, tail_sum, lost = to_compute(-INF, one), 0.0, 0.0
        if saved:
            top, tail_sum = maxima[i], tail_sums[i]
        near, unit, scale = scale_of(top, one)
        for a in range(0, 0 if saved else classes, L1_CHUNK):
            n = min(L1_CHUNK, classes - a)
            z = loops.decoded(row[a : a + n], decoded_chunk)
            if capping:
                loops.capped(z, cap, capped_chunk)
                z = capped_chunk[:n]
            take_remainder(z, mask, remainder)
            m = strip_maxima(z, remainder, each_maximum)
            new = m > top or m != m
            if new:
                if a > 0:
                    rise = f8(m) - f8(top)
                    if top > -INF:  # otherwise tail_sum is 0, or NaN where a logit is -NaN
                        tail_sum = (1.0 + (tail_sum + lost)) * (exp_scaled(-rise, 0.0) * DOWN)
                    target_gap = moved_gap(target_gap, target_weight, rise)
                    possible_gap = moved_gap(possible_gap, possible_weight, rise)
                top, lost = m, 0.0
                near, unit, scale = scale_of(m, one)
            if top == -INF:  # masked classes only, or -NaN, which the maximum does not show
                nan_or_not = loops.sum_all(z, zero)
                tail_sum += f8(nan_or_not) if nan_or_not != nan_or_not else 0.0
            else:
                if near:
                    ahead = from_row + a + n
                    part, ties = near_sum(
                        z, remainder, each_maximum, top, scale, zero, logits, ahead
                    )
                else:
                    loops.exponentials(z, near, top, scale, exp_chunk[:n])
                    ties = 0
                    if m == top:
                        loops.drop_maximum(z, top, zero, exp_chunk[:n])
                        ties = loops.count_equal(z, top)
                    part = loops.sum_padded(exp_chunk, n, zero)
                tail_sum += f8(ties) - (1.0 if new else 0.0)
                tail_sum, error = two_sum(tail_sum, part * (unit * DOWN))
                lost += error
            if not by_label:
                t = soft[i * classes + a : i * classes + a + n]
                if weighted:
                    target_sum += chunks_sum(t, zero)
                    loops.multiply(t, class_weight[a : a + n], weighted_chunk)
                    t = weighted_chunk[:n]
                target_weight += chunks_sum(t, zero)
                target_gap += f8(loops.sum_gaps(t, z, top, zero))
            if eps > 0.0:
                w = class_weight[a : a + n] if weighted else ones[:n]
                possible += f8(loops.sum_possible(ones[:n], z, zero))
                possible_weight += f8(loops.sum_possible(w, z, zero))
                possible_gap += f8(loops.sum_possible_gaps(w, z, top, zero))
        tail_sum += lost
        y = labels[i] if by_label else 0
        if y < 0 or y >= classes:  # written to since it was checked
            y, nan_row = 0, True
        at_label = widen(row[y])
        z_label = at_label
        if by_label:
            if capping and at_label != -INF:
                z_label = cap * tanh(at_label / cap)
            target_gap = 0.0 if z_label == top else f8(top) - f8(z_label)
        elif not weighted:
            target_sum = target_weight
        log1p_tail = log1p(tail_sum) if top != -INF else np.nan
        row_weight = sample_weight
        if not nan_row:
            row_weight = sample_weight * (label_weight if by_label else target_weight)
        lse = f8(top) + log1p_tail
        lse = 0.0 if row_weight == 0.0 and lse == lse else lse
        # ---- loss
        if out.losses != 0 or out.totals != 0:
            sums = target_weight, target_sum, target_gap, possible, possible_weight, possible_gap
            weights = label_weight, sample_weight, row_weight
            loss = row_loss(log1p_tail, lse, sums, weights, by_label, options)
            loss = np.nan if nan_row else loss
            if out.losses != 0:
                losses[i] = to_compute(loss, one)
            if out.totals != 0:
                add(totals, 0, loss)
                add(totals, 2, row_weight)
        if out.maxima != 0 and not saved:
            maxima[i], tail_sums[i] = top, tail_sum
        if to.address == 0:
            continue
        # ---- gradient
        row_gradient = gradient[to_row : to_row + classes]
        if cotangent.no_row_counts:
            fill(row_gradient, zero, like)
            continue
        row_cotangent = cotangents[i] if cotangent.each != 0 else cotangent.same
        row_cotangent = np.nan if nan_row else row_cotangent
        b = row_cotangent * sample_weight
        zc = 2.0 * z_loss * row_cotangent * row_weight * lse if z_loss > 0.0 else 0.0
        exp_sum = 1.0 + tail_sum if top != -INF else np.nan
        inv = 1.0 / exp_sum
        uniform = eps * target_sum / possible if eps > 0.0 else 0.0
        plain = by_label and eps == 0.0
        factor = (b * label_weight + zc) / exp_sum
        tiny = abs(factor) < 2.0**-60  # times 2^-64 it would be subnormal
        for a in range(0, classes, L1_CHUNK):
            n = min(L1_CHUNK, classes - a)
            x = loops.decoded(row[a : a + n], decoded_chunk)
            z = x
            if capping:
                loops.capped(x, cap, capped_chunk)
                z = capped_chunk[:n]
            g = loops.written(row_gradient[a : a + n], gradient_chunk)
            if plain and (tiny or not near):
                down = to_compute(DOWN if tiny else factor * DOWN, one)
                loops.far_softmax(z, top, down, to_compute(factor if tiny else 1.0, one), one, g)
            elif plain:
                loops.near_softmax(z, scale, to_compute(factor * (unit * DOWN), one), g)
            else:
                t = zeros[:n]
                if not by_label:
                    t = soft[i * classes + a : i * classes + a + n]
                    if weighted:
                        loops.multiply(t, class_weight[a : a + n], weighted_chunk)
                        t = weighted_chunk[:n]
                w, e = class_weight[a : a + n] if weighted else ones[:n], exp_chunk[:n]
                loops.exponentials(z, near, top, scale, e)
                units = unit * DOWN, unit * DOWN / exp_sum, tail_sum, inv
                weight = label_weight if by_label else target_weight
                shares = 1.0 - eps, weight, uniform, possible_weight, b, zc
                loops.mixed_gradient(z, e, t, w, top, units, shares, one, g)
            if capping:
                loops.times_cap_slope(x, cap, g)
            loops.encode(g, row_gradient[a : a + n], like)
        if by_label:
            unmasked = (f8(class_weight[y]) if weighted else 1.0) if z_label != -INF else 0.0
            own = uniform * unmasked
            of_label = 1.0 - eps, label_weight, own, uniform * possible_weight
            v = label_gradient(target_gap, tail_sum, inv, of_label, b, zc)
            if capping:
                v *= f8(sech2(at_label / cap))
            row_gradient[y] = narrow(to_compute(v, one), like)
    memory[0] = 0  # without a use here Numba frees it after the last use of its address
