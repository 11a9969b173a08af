"""The kernel for few classes, or classes that lie apart: LANES rows at once, one to a lane.

A block of rows is brought into an array (classes, LANES), so that every loop runs over rows and a
row's bits depend on nothing beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel_cache import inline, kernel
from .algebra import add, row_loss
from .bits import EVER, acc, f8, i8, room, stored, u1
from .lanes import (
    INF,
    LANES,
    cap_all,
    exponentials,
    label_gradient,
    load,
    logarithms,
    mixed_lanes,
    slope_all,
    soft_sums,
    softmax_lanes,
    store,
    table,
    total_of,
    uniform_sums,
)
from .lanes import maxima as largest_lanes
from .lanes import rests as rests_of


@inline()
def places(
    r: int, nb: int, inner: int, outer_step: int, inner_step: int, class_step: int, at: Any
) -> tuple[bool, int]:
    """Write where rows begin; say whether they lie side by side, or how far apart each from next.

    0: by no one step.
    """
    within = r % inner + nb <= inner
    start = (r // inner) * outer_step + (r % inner) * inner_step
    for i in range(nb if within else 0):
        at[i] = start + i * inner_step
    if not within:
        for i in range(nb):
            at[i] = ((r + i) // inner) * outer_step + ((r + i) % inner) * inner_step
    return within and inner_step == 1 and class_step != 1, inner_step if within else 0


@kernel()
def columns(
    like: Any,
    first: int,
    count: int,
    classes: int,
    x: int,
    inner: int,
    outer_step: int,
    inner_step: int,
    class_step: int,
    soft: int,
    class_weight: int,
    labels: int,
    keep: int,
    bad: int,
    scales: int,
    label_weights: int,
    ups: int,
    cotangent: float,
    dead: bool,
    eps: float,
    z_loss: float,
    cap: float,
    saved: bool,
    losses: int,
    totals: int,
    maxima: int,
    rests: int,
    g: int,
    g_inner: int,
    g_outer_step: int,
    g_inner_step: int,
    g_class_step: int,
) -> None:
    """Losses, statistics and gradients of `count` rows; an address of 0: not given, not wanted.

    The arguments of `rows`, but that classes lie class_step and g_class_step apart. What was saved
    of an earlier pass is not read: the exponentials are needed again in any case.
    """
    one = acc(1.0, like)
    zero = one - one
    xs, gs = stored(x, EVER, like), stored(g, EVER, like)
    targets, weights = stored(soft, EVER, one), stored(class_weight, EVER, one)
    label = stored(labels, count, i8(0))
    kept, wrong = stored(keep, count, u1(0)), stored(bad, count, u1(0))
    scale_of, weight_of = stored(scales, count, 0.0), stored(label_weights, count, 0.0)
    up_of, rest_of = stored(ups, count, 0.0), stored(rests, count, 0.0)
    loss_of, max_of = stored(losses, count, one), stored(maxima, count, one)
    totals_of = stored(totals, 4, 0.0)
    by_label, weighted, capping = labels != 0, class_weight != 0, cap > 0.0
    soft_rows, smooth = not by_label, eps > 0.0
    plain = by_label and not smooth and z_loss == 0.0 and label_weights == 0 and scales == 0
    fours = (classes + 3) // 4 * 4
    all_z, all_e = table(fours, one, acc(-INF, one)), table(fours, one, zero)
    z, e = all_z[:classes], all_e[:classes]
    x_raw = table(classes if capping else 1, one, zero)
    a = table(classes if smooth or soft_rows else 1, one, zero)
    w = room(classes, one)
    for c in range(classes):
        w[c] = weights[c] if weighted else one
    m, ties = room(LANES, one), room(LANES, one)
    factors, mixed = table(2, one, zero), table(7, one, zero)
    rest, rise, inv, loss = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    lost = np.empty(LANES)
    dot, weight, lse = np.zeros(LANES), np.ones(LANES), np.zeros(LANES)
    mass, total, scale, wy = np.ones(LANES), np.ones(LANES), np.ones(LANES), np.ones(LANES)
    number, share, share_dot = np.ones(LANES), np.zeros(LANES), np.zeros(LANES)
    upstream, b, zc = np.empty(LANES), np.empty(LANES), np.zeros(LANES)
    uniform, mine, shares = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    factor, at_label, z_label = np.empty(LANES), np.empty(LANES), np.zeros(LANES)
    at, g_at = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    c4, kept_share = acc(cap, one), acc(1.0 - eps, one)
    for start in range(0, count, LANES):
        nb = min(LANES, count - start)
        r = first + start
        beside, apart = places(r, nb, inner, outer_step, inner_step, class_step, at)
        load(xs, at, beside, apart, class_step, nb, x_raw if capping else z)
        if capping:
            cap_all(x_raw, c4, z)
        largest_lanes(z, m)
        exponentials(z, m, one, e)
        rests_of(all_z, m, one, all_e, ties, lost, rest)
        logarithms(m, rest, rise, inv)
        # ---- the target's part of the statistics
        if by_label:
            mine_of = label[start : start + nb]
            for i in range(len(mine_of)):
                y = mine_of[i]
                z_label[i] = z[y, i] if 0 <= y < classes else np.nan
            for i in range(LANES):
                dot[i] = 0.0 if z_label[i] == f8(m[i]) else f8(m[i]) - z_label[i]
        else:
            for i in range(nb):
                t = targets[(start + i) * classes : (start + i + 1) * classes]
                total[i] = 0.0
                for c in range(classes):
                    a[c, i] = t[c] * w[c]
                    total[i] += f8(t[c])
            soft_sums(z, a, m, one, mass, dot)
        if smooth:
            uniform_sums(z, w, m, one, number, share, share_dot)
        if scales != 0:
            scale[:nb] = scale_of[start : start + nb]
        if label_weights != 0:
            wy[:nb] = weight_of[start : start + nb]
        for i in range(LANES):
            weight[i] = scale[i] * (wy[i] if by_label else mass[i])
        for i in range(nb if bad != 0 else 0):
            weight[i] = scale[i] if wrong[start + i] != 0 else weight[i]
        # ---- losses
        if plain:
            for i in range(LANES):
                loss[i] = rise[i] + dot[i]
        else:
            for i in range(LANES):
                v = f8(m[i]) + rise[i]
                lse[i] = 0.0 if weight[i] == 0.0 and v == v else v
                loss[i] = row_loss(
                    rise[i],
                    lse[i],
                    mass[i],
                    total[i],
                    dot[i],
                    number[i],
                    share[i],
                    share_dot[i],
                    by_label,
                    wy[i],
                    scale[i],
                    weight[i],
                    eps,
                    z_loss,
                )
        for i in range(nb if bad != 0 else 0):
            loss[i] = np.nan if wrong[start + i] != 0 else loss[i]
        for i in range(nb if keep != 0 else 0):
            if kept[start + i] == 0:
                loss[i] = weight[i] = 0.0
        if losses != 0:
            out = loss_of[start : start + nb]
            for i in range(len(out)):
                out[i] = acc(loss[i], one)
        if maxima != 0 and not saved:
            max_of[start : start + nb] = m[:nb]
            rest_of[start : start + nb] = rest[:nb]
        if totals != 0:
            add(totals_of, 0, total_of(loss[:nb]))
            add(totals_of, 2, total_of(weight[:nb]))
        if g == 0:
            continue
        # ---- gradient, in place of the exponentials
        for i in range(LANES):
            upstream[i] = cotangent
        if ups != 0:
            upstream[:nb] = up_of[start : start + nb]
        for i in range(nb if bad != 0 else 0):
            upstream[i] = np.nan if wrong[start + i] != 0 else upstream[i]
        for i in range(LANES):
            b[i] = upstream[i] * scale[i]
            zc[i] = 2.0 * z_loss * upstream[i] * weight[i] * lse[i] if z_loss > 0.0 else 0.0
            factor[i] = (b[i] * wy[i] + zc[i]) / (1.0 + rest[i]) + (inv[i] - inv[i])
        if smooth:
            for i in range(LANES):
                uniform[i] = eps * total[i] / number[i]
                shares[i] = uniform[i] * share[i]
        if by_label:
            for i in range(nb if smooth else 0):
                y = label[start + i]
                there = 0 <= y < classes and z[y, i] != -INF
                mine[i] = uniform[i] * f8(w[y]) if there else 0.0
            label_gradient(dot, rest, inv, b, zc, wy, 1.0 - eps, mine, shares, at_label)
        if smooth or soft_rows:
            for i in range(LANES):
                mixed[0, i], mixed[1, i] = acc(rest[i], one), acc(inv[i], one)
                mixed[2, i], mixed[3, i] = acc(b[i], one), acc(zc[i], one)
                mixed[4, i] = acc(wy[i] if by_label else mass[i], one)
                mixed[5, i], mixed[6, i] = acc(uniform[i], one), acc(share[i], one)
            mixed_lanes(z, a, w, m, mixed, kept_share, one, e)
        else:
            softmax_lanes(e, factor, factors[0], factors[1], one)
        if by_label:
            for i in range(nb):
                y = label[start + i]
                e[y if 0 <= y < classes else 0, i] = acc(at_label[i], one)
        if capping:
            slope_all(x_raw, c4, e)
        for i in range(nb if dead or keep != 0 else 0):
            if dead or kept[start + i] == 0:
                for c in range(classes):
                    e[c, i] = zero
        beside, apart = places(r, nb, g_inner, g_outer_step, g_inner_step, g_class_step, g_at)
        store(e, gs, g_at, beside, apart, g_class_step, nb, like)
