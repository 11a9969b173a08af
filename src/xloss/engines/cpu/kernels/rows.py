"""The kernel for rows whose classes lie side by side: one row after the other, in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernel_cache import inline, kernel
from .algebra import add, row_loss, shifted, two_sum
from .bits import EVER, acc, f8, i8, narrow, stored, u1, wide
from .functions import DOWN, exp_scaled, is_near, log1p, near_of, reference, sech2, tanh
from .slice_loops import (
    INF,
    PART,
    capped,
    count_equal,
    decoded,
    drop_top,
    encode,
    exponentials,
    far_softmax,
    mixed_gradient,
    multiply,
    near_softmax,
    slope_times,
    sum_all,
    sum_gaps,
    sum_padded,
    sum_possible,
    sum_possible_gaps,
    written,
)
from .strips import LANES, fill_masks, largest_each, near_sum, take_rest

L1_CHUNK = 4096  # numbers: with its buffers a piece stays in a first cache of 32 KB or a second
GAP = 8 * L1_CHUNK + 320  # bytes between buffers; at equal places in their pages they would collide


@inline()
def parts_sum(t: Any, zero: Any) -> float:
    """Return Σ t, in float64 between the parts."""
    s = 0.0
    for a in range(0, len(t), PART):
        s += f8(sum_all(t[a : a + PART], zero))
    return s


@inline()
def fill(out: Any, value: Any, like: Any) -> None:
    """Write one value all over."""
    for j in range(len(out)):
        out[j] = narrow(value, like)


@kernel()
def rows(
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

    Row r = first + i of x begins at (r // inner)·outer_step + (r % inner)·inner_step, its classes
    lie side by side (both class steps are 1), stored as `like`; of g likewise. What follows begins
    with row `first`. soft: (count, classes), class_weight: (classes,), losses, maxima: (count,),
    in the arithmetic's dtype. labels: (count,) int64; keep, bad: (count,) bool; scales,
    label_weights, ups, rests: (count,) float64. totals: Σ losses and Σ weights, each with what
    rounding lost. saved: maxima and rests are given. A label out of range makes its row NaN: labels
    were checked, but another thread may write to them, or anybody between a loss and its gradient.
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
    sums = stored(totals, 4, 0.0)
    # Views by address: Numba counts no references to them, and they lie apart by more than a page.
    memory = np.empty(10 * GAP + 64, np.uint8)
    free = (memory.ctypes.data + 63) // 64 * 64
    raw, logits = stored(free, L1_CHUNK, one), stored(free + GAP, L1_CHUNK, one)
    made, exps = stored(free + 2 * GAP, L1_CHUNK, one), stored(free + 3 * GAP, L1_CHUNK, one)
    product = stored(free + 4 * GAP, L1_CHUNK, one)
    ones, zeros = stored(free + 5 * GAP, L1_CHUNK, one), stored(free + 6 * GAP, L1_CHUNK, one)
    tops, left = stored(free + 7 * GAP, L1_CHUNK, one), stored(free + 8 * GAP, LANES, one)
    mask = stored(free + 9 * GAP, 2 * LANES, one)
    fill_masks(mask, one)
    for j in range(L1_CHUNK):
        ones[j], zeros[j] = one, zero
    by_label, weighted = labels != 0, class_weight != 0
    c4 = acc(cap, one)
    for i in range(count):
        r = first + i
        to_row = (r // g_inner) * g_outer_step + (r % g_inner) * g_inner_step
        if keep != 0 and kept[i] == 0:
            if losses != 0:
                loss_of[i] = zero
            if maxima != 0 and not saved:
                max_of[i], rest_of[i] = zero, 0.0
            if g != 0:
                fill(gs[to_row : to_row + classes], zero, like)
            continue
        from_row = (r // inner) * outer_step + (r % inner) * inner_step
        row = xs[from_row : from_row + classes]
        scale = scale_of[i] if scales != 0 else 1.0
        wy = weight_of[i] if label_weights != 0 else 1.0
        wrong_label = bad != 0 and wrong[i] != 0
        mass = total = 1.0 if by_label else 0.0
        dot = number = share = share_dot = 0.0
        top, rest, near, unit = acc(-INF, one), 0.0, False, 1.0
        low, bias = near_of(0, one)
        lost = 0.0
        if saved:
            top, rest = max_of[i], rest_of[i]
            near = is_near(top)
            if near:
                at_k, unit = reference(f8(top))
                low, bias = near_of(at_k, one)
        for a in range(0, 0 if saved else classes, L1_CHUNK):
            n = min(L1_CHUNK, classes - a)
            z = decoded(row[a : a + n], raw)
            if cap > 0.0:
                capped(z, c4, logits)
                z = logits[:n]
            take_rest(z, mask, left)
            m = largest_each(z, left, tops)
            new = m > top or m != m
            if new:
                if a > 0:
                    rise = f8(m) - f8(top)
                    if top > -INF:  # else rest is 0, or a NaN of negative sign
                        rest = (1.0 + (rest + lost)) * (exp_scaled(-rise, 0.0) * DOWN)
                    dot, share_dot = shifted(dot, mass, rise), shifted(share_dot, share, rise)
                top, lost, near, unit = m, 0.0, is_near(m), 1.0
                if near:
                    at_k, unit = reference(f8(m))
                    low, bias = near_of(at_k, one)
            if top == -INF:
                bottom = sum_all(z, zero)
                rest += f8(bottom) if bottom != bottom else 0.0
            else:
                if near:
                    ahead = from_row + a + n
                    part, ties = near_sum(z, left, tops, top, low, bias, zero, xs, ahead)
                else:
                    exponentials(z, near, top, low, bias, made[:n])
                    ties = 0
                    if m == top:
                        drop_top(z, top, zero, made[:n])
                        ties = count_equal(z, top)
                    part = sum_padded(made, n, zero)
                rest += f8(ties) - (1.0 if new else 0.0)
                rest, error = two_sum(rest, part * (unit * DOWN))
                lost += error
            if not by_label:
                t = targets[i * classes + a : i * classes + a + n]
                if weighted:
                    total += parts_sum(t, zero)
                    multiply(t, weights[a : a + n], product)
                    t = product[:n]
                mass += parts_sum(t, zero)
                dot += f8(sum_gaps(t, z, top, zero))
            if eps > 0.0:
                w = weights[a : a + n] if weighted else ones[:n]
                number += f8(sum_possible(ones[:n], z, zero))
                share += f8(sum_possible(w, z, zero))
                share_dot += f8(sum_possible_gaps(w, z, top, zero))
        rest += lost
        y = label[i] if by_label else 0
        if y < 0 or y >= classes:  # written to since it was checked
            y, wrong_label = 0, True
        at = wide(row[y])
        zy = at
        if by_label:
            if cap > 0.0 and at != -INF:
                zy = c4 * tanh(at / c4)
            dot = 0.0 if zy == top else f8(top) - f8(zy)
        elif not weighted:
            total = mass
        rise = log1p(rest) if top != -INF else np.nan
        weight = scale if wrong_label else scale * (wy if by_label else mass)
        lse = f8(top) + rise
        lse = 0.0 if weight == 0.0 and lse == lse else lse
        if losses != 0 or totals != 0:
            loss = row_loss(
                rise,
                lse,
                mass,
                total,
                dot,
                number,
                share,
                share_dot,
                by_label,
                wy,
                scale,
                weight,
                eps,
                z_loss,
            )
            loss = np.nan if wrong_label else loss
            if losses != 0:
                loss_of[i] = acc(loss, one)
            if totals != 0:
                add(sums, 0, loss)
                add(sums, 2, weight)
        if maxima != 0 and not saved:
            max_of[i], rest_of[i] = top, rest
        if g == 0:
            continue
        out = gs[to_row : to_row + classes]
        if dead:
            fill(out, zero, like)
            continue
        upstream = up_of[i] if ups != 0 else cotangent
        upstream = np.nan if wrong_label else upstream
        b = upstream * scale
        zc = 2.0 * z_loss * upstream * weight * lse if z_loss > 0.0 else 0.0
        whole = 1.0 + rest if top != -INF else np.nan
        inv = 1.0 / whole
        c = eps * total / number if eps > 0.0 else 0.0
        plain = by_label and eps == 0.0
        factor = (b * wy + zc) / whole
        tiny = abs(factor) < 2.0**-60  # scaled down it would be subnormal
        for a in range(0, classes, L1_CHUNK):
            n = min(L1_CHUNK, classes - a)
            x_piece = decoded(row[a : a + n], raw)
            z = x_piece
            if cap > 0.0:
                capped(x_piece, c4, logits)
                z = logits[:n]
            to = written(out[a : a + n], made)
            if plain and (tiny or not near):
                down = acc(DOWN if tiny else factor * DOWN, one)
                far_softmax(z, top, down, acc(factor if tiny else 1.0, one), one, to)
            elif plain:
                near_softmax(z, low, bias, acc(factor * (unit * DOWN), one), to)
            else:
                t = zeros[:n]
                if not by_label:
                    t = targets[i * classes + a : i * classes + a + n]
                    if weighted:
                        multiply(t, weights[a : a + n], product)
                        t = product[:n]
                e = exps[:n]
                exponentials(z, near, top, low, bias, e)
                mixed_gradient(
                    z,
                    e,
                    t,
                    weights[a : a + n] if weighted else ones[:n],
                    top,
                    acc(unit * DOWN, one),
                    acc(unit * DOWN / whole, one),
                    acc(rest, one),
                    acc(inv, one),
                    acc(b, one),
                    acc(zc, one),
                    acc(1.0 - eps, one),
                    acc(wy if by_label else mass, one),
                    acc(c, one),
                    acc(share, one),
                    one,
                    to,
                )
            if cap > 0.0:
                slope_times(x_piece, c4, to)
            encode(to, out[a : a + n], like)
        if by_label:
            e = exp_scaled(-dot, 0.0) * DOWN
            q = rest * inv if dot == 0.0 else (1.0 + (rest - e)) * inv
            p = e * inv
            wj = f8(weights[y]) if weighted else 1.0
            mine = c * (wj if zy != -INF else 0.0)
            v = (p * (c * share - mine) - ((1.0 - eps) * wy + mine) * q) * b
            v += 0.0 if p == 0.0 else zc * p
            if cap > 0.0:
                v *= f8(sech2(at / c4))
            out[y] = narrow(acc(v, one), like)
    memory[0] = 0  # it lives until here
