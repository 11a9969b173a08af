"""The kernel for few classes, or classes that lie apart: LANES rows at once, one to a lane.

A block of rows is brought into an array (classes, LANES), so that every loop runs over rows and a
row's bits depend on nothing beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel_cache import inline, kernel
from . import lanes
from .algebra import add, fused_label_gradient, row_loss, unpack
from .bits import NO_BOUND, empty, f8, i8, stored, to_compute, u1
from .lanes import INF, LANES
from .slice_loops import capped, times_cap_slope


@inline()
def locate(r: int, n: int, layout: Any, starts: Any) -> tuple[bool, int]:
    """Write where rows r to r + n - 1 begin to starts: (LANES,) int64.

    Return whether the rows of each class lie side by side, and how far apart each row begins from
    the next: 0 where that differs.
    """
    inner, inner_step = layout.inner, layout.inner_step
    within = r % inner + n <= inner
    start = (r // inner) * layout.outer_step + (r % inner) * inner_step
    for i in range(n if within else 0):
        starts[i] = start + i * inner_step
    if not within:
        for i in range(n):
            starts[i] = ((r + i) // inner) * layout.outer_step + ((r + i) % inner) * inner_step
    return within and inner_step == 1 and layout.class_step != 1, inner_step if within else 0


@kernel
def columns(like: Any, *numbers: Any) -> None:
    """Compute losses, statistics and gradients; see `arguments` for what the numbers are.

    As `rows` does, but classes may lie apart. Statistics of an earlier call are not read: the
    exponentials are computed again in any case.
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
    eps, z_loss, capping = options.label_smoothing, options.z_loss, options.softcap > 0.0
    by_label, weighted, smooth = targets.labels != 0, targets.class_weight != 0, eps > 0.0
    any_absent, any_invalid = targets.row_present != 0, targets.label_invalid != 0
    unweighted = targets.label_weight == 0 and targets.sample_weight == 0
    plain = by_label and not smooth and z_loss == 0.0 and unweighted
    # ---- a block's numbers, (classes, LANES), with rows up to whole fours for `tail_sums_of`
    fours = (classes + 3) // 4 * 4
    all_z, all_e = lanes.table(fours, one, to_compute(-INF, one)), lanes.table(fours, one, zero)
    z, e = all_z[:classes], all_e[:classes]
    x = lanes.table(classes if capping else 1, one, zero)  # before the cap
    a = lanes.table(classes if smooth or not by_label else 1, one, zero)  # weighted soft targets
    w = empty(classes, one)
    for c in range(classes):
        w[c] = class_weight[c] if weighted else one
    # ---- a block's numbers, (LANES,)
    m, ties = empty(LANES, one), empty(LANES, one)
    factors, mixed = lanes.table(2, one, zero), lanes.table(7, one, zero)
    tail_sum, log1p_tail, inv = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    loss, lost = np.empty(LANES), np.empty(LANES)
    target_gap, row_weight, lse = np.zeros(LANES), np.ones(LANES), np.zeros(LANES)
    target_weight, target_sum = np.ones(LANES), np.ones(LANES)
    sample_weight, label_weight = np.ones(LANES), np.ones(LANES)
    possible, possible_weight, possible_gap = np.ones(LANES), np.zeros(LANES), np.zeros(LANES)
    row_cotangent, b, zc = np.empty(LANES), np.empty(LANES), np.zeros(LANES)
    uniform, own, all_uniform = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    factor, at_label, z_label = np.empty(LANES), np.empty(LANES), np.zeros(LANES)
    row_starts, gradient_starts = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    cap, keep = to_compute(options.softcap, one), to_compute(1.0 - eps, one)
    for start in range(0, count, LANES):
        n = min(LANES, count - start)
        r = first + start
        order = locate(r, n, at, row_starts)
        lanes.load(logits, row_starts, order, at.class_step, n, x if capping else z)
        for c in range(classes if capping else 0):
            capped(x[c], cap, z[c])
        lanes.maxima_of(z, m)
        lanes.exponentials(z, m, one, e)
        lanes.tail_sums_of(all_z, m, one, all_e, ties, lost, tail_sum)
        lanes.logarithms(m, tail_sum, log1p_tail, inv)
        # ---- the target's part of the statistics
        if by_label:
            block_labels = labels[start : start + n]
            for i in range(len(block_labels)):
                y = block_labels[i]
                z_label[i] = z[y, i] if 0 <= y < classes else np.nan
            for i in range(LANES):
                target_gap[i] = 0.0 if z_label[i] == f8(m[i]) else f8(m[i]) - z_label[i]
        else:
            for i in range(n):
                t = soft[(start + i) * classes : (start + i + 1) * classes]
                target_sum[i] = 0.0
                for c in range(classes):
                    a[c, i] = t[c] * w[c]
                    target_sum[i] += f8(t[c])
            lanes.target_sums(z, a, m, one, target_weight, target_gap)
        if smooth:
            lanes.uniform_sums(z, w, m, one, possible, possible_weight, possible_gap)
        if targets.sample_weight != 0:
            sample_weight[:n] = sample_weights[start : start + n]
        if targets.label_weight != 0:
            label_weight[:n] = label_weights[start : start + n]
        for i in range(LANES):
            row_weight[i] = sample_weight[i] * (label_weight[i] if by_label else target_weight[i])
        for i in range(n if any_invalid else 0):
            row_weight[i] = sample_weight[i] if invalid[start + i] != 0 else row_weight[i]
        # ---- losses
        if plain:
            for i in range(LANES):
                loss[i] = log1p_tail[i] + target_gap[i]
        else:
            for i in range(LANES):
                v = f8(m[i]) + log1p_tail[i]
                lse[i] = 0.0 if row_weight[i] == 0.0 and v == v else v
                of_target = target_weight[i], target_sum[i], target_gap[i]
                uniforms = possible[i], possible_weight[i], possible_gap[i]
                weights = label_weight[i], sample_weight[i], row_weight[i]
                sums = of_target + uniforms
                loss[i] = row_loss(log1p_tail[i], lse[i], sums, weights, by_label, options)
        for i in range(n if any_invalid else 0):
            loss[i] = np.nan if invalid[start + i] != 0 else loss[i]
        for i in range(n if any_absent else 0):
            if present[start + i] == 0:
                loss[i] = row_weight[i] = 0.0
        if out.losses != 0:
            block_losses = losses[start : start + n]
            for i in range(len(block_losses)):
                block_losses[i] = to_compute(loss[i], one)
        if out.maxima != 0 and not out.stats_saved:
            maxima[start : start + n] = m[:n]
            tail_sums[start : start + n] = tail_sum[:n]
        if out.totals != 0:
            add(totals, 0, lanes.sum_lanes(loss[:n]))
            add(totals, 2, lanes.sum_lanes(row_weight[:n]))
        if to.address == 0:
            continue
        # ---- gradient, written over the exponentials
        for i in range(LANES):
            row_cotangent[i] = cotangent.same
        if cotangent.each != 0:
            row_cotangent[:n] = cotangents[start : start + n]
        for i in range(n if any_invalid else 0):
            row_cotangent[i] = np.nan if invalid[start + i] != 0 else row_cotangent[i]
        for i in range(LANES):
            b[i] = row_cotangent[i] * sample_weight[i]
            zc[i] = (
                2.0 * z_loss * row_cotangent[i] * row_weight[i] * lse[i] if z_loss > 0.0 else 0.0
            )
            # The difference is 0, or NaN in a row with no possible class, and so is its gradient.
            factor[i] = (b[i] * label_weight[i] + zc[i]) / (1.0 + tail_sum[i]) + (inv[i] - inv[i])
        if smooth:
            for i in range(LANES):
                uniform[i] = eps * target_sum[i] / possible[i]
                all_uniform[i] = uniform[i] * possible_weight[i]
        if by_label:
            for i in range(n if smooth else 0):
                y = labels[start + i]
                unmasked = 0 <= y < classes and z[y, i] != -INF
                own[i] = uniform[i] * f8(w[y]) if unmasked else 0.0
            for i in range(LANES):
                shares = 1.0 - eps, label_weight[i], own[i], all_uniform[i]
                at_label[i] = fused_label_gradient(
                    target_gap[i], tail_sum[i], inv[i], shares, b[i], zc[i]
                )
        if smooth or not by_label:
            for i in range(LANES):
                mixed[0, i], mixed[1, i] = to_compute(tail_sum[i], one), to_compute(inv[i], one)
                mixed[2, i], mixed[3, i] = to_compute(b[i], one), to_compute(zc[i], one)
                mixed[4, i] = to_compute(label_weight[i] if by_label else target_weight[i], one)
                mixed[5, i] = to_compute(uniform[i], one)
                mixed[6, i] = to_compute(possible_weight[i], one)
            lanes.mixed_lanes(z, a, w, m, mixed, keep, one, e)
        else:
            lanes.softmax_lanes(e, factor, factors[0], factors[1], one)
        if by_label:
            for i in range(n):
                y = labels[start + i]
                e[y if 0 <= y < classes else 0, i] = to_compute(at_label[i], one)
        for c in range(classes if capping else 0):
            times_cap_slope(x[c], cap, e[c])
        for i in range(n if cotangent.no_row_counts or any_absent else 0):
            if cotangent.no_row_counts or present[start + i] == 0:
                for c in range(classes):
                    e[c, i] = zero
        order = locate(r, n, to, gradient_starts)
        lanes.store(e, gradient, gradient_starts, order, to.class_step, n, like)
