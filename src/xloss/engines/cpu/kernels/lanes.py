"""Loops over a block of rows, one row to a lane: each runs over arrays of LANES numbers.

A loop that LLVM is to vectorise does one thing: two sums, or a sum beside a map, it left scalar.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ..kernel_cache import inline
from .bits import acc, f8, narrow, room, wide
from .functions import DOWN, exp_scaled, log1p, sech2, tanh
from .memory import fetch, in_line, turned

LANES = 256
INF = np.inf
CONTRACT = {"contract"}


@inline()
def table(classes: int, one: Any, value: Any) -> Any:
    """Make an array (classes, LANES) of one value."""
    made = room(classes * LANES, one)
    made[:] = value
    return made.reshape((classes, LANES))


@inline(fastmath=CONTRACT)
def load(xs: Any, at: Any, beside: bool, apart: int, class_step: int, nb: int, out: Any) -> None:
    """Bring a block of rows into lanes; lanes without a row keep what they have.

    The next block is fetched meanwhile: memory is read while this one is computed.
    """
    classes = len(out)
    if beside:
        for c in range(classes):
            for j in range(0, nb, in_line(xs)):
                fetch(xs, at[0] + c * class_step + nb + j)
            copy_in(xs[at[0] + c * class_step : at[0] + c * class_step + nb], out[c])
        return
    in_order = apart > 0 and class_step == 1
    for j in range(0, nb * apart if in_order and apart == classes else 0, in_line(xs)):
        fetch(xs, at[0] + nb * apart + j)
    if in_order and turned(xs, at[0], apart, out, 0, LANES, nb, classes):
        return
    for i in range(nb):
        for c in range(classes):
            out[c, i] = wide(xs[at[i] + c * class_step])


@inline(fastmath=CONTRACT)
def copy_in(source: Any, lane: Any) -> None:
    """Widen one class of rows that lie side by side."""
    for i in range(len(source)):
        lane[i] = wide(source[i])


@inline(fastmath=CONTRACT)
def copy_out(lane: Any, target: Any, like: Any) -> None:
    """Round one class of rows that lie side by side into place."""
    for i in range(len(target)):
        target[i] = narrow(lane[i], like)


@inline(fastmath=CONTRACT)
def store(
    made: Any, gs: Any, at: Any, beside: bool, apart: int, class_step: int, nb: int, like: Any
) -> None:
    """Round a block into its place."""
    classes = len(made)
    if beside:
        for c in range(classes):
            start = at[0] + c * class_step
            copy_out(made[c], gs[start : start + nb], like)
        return
    in_order = apart > 0 and class_step == 1
    if in_order and turned(made, 0, LANES, gs, at[0], apart, classes, nb):
        return
    for i in range(nb):
        for c in range(classes):
            gs[at[i] + c * class_step] = narrow(made[c, i], like)


@inline(fastmath=CONTRACT)
def cap_all(x: Any, cap: Any, out: Any) -> None:
    """Write cap·tanh(x/cap); a masked logit stays masked."""
    for c in range(len(x)):
        for i in range(LANES):
            v = x[c, i]
            out[c, i] = v if v == -INF else cap * tanh(v / cap)


@inline(fastmath=CONTRACT)
def maxima(z: Any, m: Any) -> None:
    """Write each lane's maximum; a NaN wins no comparison, and shows in the exponentials."""
    for i in range(LANES):
        m[i] = -INF
    for c in range(len(z)):
        row = z[c]
        for i in range(LANES):
            m[i] = row[i] if row[i] > m[i] else m[i]


@inline(fastmath=CONTRACT)
def exponentials(z: Any, m: Any, one: Any, e: Any) -> None:
    """Write exp(z - m)·2^64."""
    top = acc(1.0 / DOWN, one)
    for c in range(len(z)):
        row, out = z[c], e[c]
        for i in range(LANES):
            v = exp_scaled(row[i], m[i])
            out[i] = top if row[i] == m[i] else v


def rests(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, rest: Any) -> None:
    """Write Σ exp(z - m) below the maximum, and the number of entries at it, but one.

    z and e have rows beyond the classes, of -inf and 0, up to a multiple of four.
    """
    raise NotImplementedError("compiled code only")


@overload(rests, strict=False, jit_options={"fastmath": CONTRACT, "forceinline": True})
def _rests(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, rest: Any) -> Any:
    def single(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, rest: Any) -> None:
        zero = one - one
        for i in range(LANES):
            ties[i], rest[i] = -one, 0.0
        for k in range(0, len(z), 4):
            for i in range(LANES):
                a, b = z[k, i] == m[i], z[k + 1, i] == m[i]
                c, d = z[k + 2, i] == m[i], z[k + 3, i] == m[i]
                part = (zero if a else e[k, i]) + (zero if b else e[k + 1, i])
                part += (zero if c else e[k + 2, i]) + (zero if d else e[k + 3, i])
                rest[i] += f8(part)
                at_top = (one if a else zero) + (one if b else zero)
                ties[i] += at_top + ((one if c else zero) + (one if d else zero))
        for i in range(LANES):
            rest[i] = rest[i] * DOWN + f8(ties[i])

    def double(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, rest: Any) -> None:
        for i in range(LANES):
            ties[i], lost[i], rest[i] = -1.0, 0.0, 0.0
        for k in range(len(z)):
            for i in range(LANES):
                top = z[k, i] == m[i]
                part, old = 0.0 if top else e[k, i], rest[i]
                new = old + part
                back = new - old
                lost[i] += (old - (new - back)) + (part - back)
                rest[i] = new
                ties[i] += 1.0 if top else 0.0
        for i in range(LANES):
            rest[i] = (rest[i] + lost[i]) * DOWN + ties[i]

    return single if one == types.float32 else double


@inline(fastmath=CONTRACT)
def logarithms(m: Any, rest: Any, rise: Any, inv: Any) -> None:
    """Write log1p(rest) and 1/(1+rest); NaN for a row with no possible class."""
    for i in range(LANES):
        dead = m[i] == -INF
        rise[i] = np.nan if dead else log1p(rest[i])
        inv[i] = np.nan if dead else 1.0 / (1.0 + rest[i])


@inline(fastmath=CONTRACT)
def softmax_lanes(e: Any, factor: Any, first: Any, second: Any, one: Any) -> None:
    """Multiply e·2^64 by a factor a lane, in two steps where one would be subnormal."""
    zero = one - one
    for i in range(LANES):
        tiny = abs(factor[i]) < 2.0**-60
        first[i] = acc(DOWN if tiny else factor[i] * DOWN, one)
        second[i] = acc(factor[i] if tiny else 1.0, one)
    for c in range(len(e)):
        for i in range(LANES):
            absent = (e[c, i] == zero) & (first[i] == first[i])
            e[c, i] = zero if absent else (e[c, i] * first[i]) * second[i]


@inline(fastmath=CONTRACT)
def mixed_lanes(
    z: Any, a: Any, w: Any, m: Any, coefficients: Any, keep: Any, one: Any, e: Any
) -> None:
    """Write the gradient of a mixture over e; coefficients: rest, inv, b, zc, rem, c, shares."""
    zero, down = one - one, acc(DOWN, one)
    rest, inv, b, zc = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    rem, uniform, shares = coefficients[4], coefficients[5], coefficients[6]
    for c in range(len(e)):
        wc = w[c]
        for i in range(LANES):
            top = z[c, i] == m[i]
            v = e[c, i] * down
            p = inv[i] if top else v * inv[i]
            q = rest[i] * inv[i] if top else (one + (rest[i] - v)) * inv[i]
            share = zero if z[c, i] == -INF else wc
            mine = keep * a[c, i] + uniform[i] * share
            others = keep * (rem[i] - a[c, i]) + uniform[i] * (shares[i] - share)
            g = (p * others - mine * q) * b[i]
            e[c, i] = g + (zero if p == zero else zc[i] * p)


@inline(fastmath=CONTRACT)
def slope_all(x: Any, cap: Any, e: Any) -> None:
    """Multiply by the slope of the cap."""
    for c in range(len(x)):
        for i in range(LANES):
            e[c, i] *= sech2(x[c, i] / cap)


@inline(fastmath=CONTRACT)
def soft_sums(z: Any, a: Any, m: Any, one: Any, mass: Any, dot: Any) -> None:
    """Write Σ a and Σ a (m - z); a term of weight 0 is absent."""
    zero = one - one
    for i in range(LANES):
        mass[i], dot[i] = 0.0, 0.0
    for c in range(len(z)):
        row, share = z[c], a[c]
        for i in range(LANES):
            mass[i] += f8(share[i])
        for i in range(LANES):
            gone = (share[i] == zero) | (row[i] == m[i])
            dot[i] += f8(zero if gone else share[i] * (m[i] - row[i]))


@inline(fastmath=CONTRACT)
def uniform_sums(z: Any, w: Any, m: Any, one: Any, number: Any, share: Any, share_dot: Any) -> None:
    """Write the number of possible classes, Σ w and Σ w (m - z) over them."""
    zero = one - one
    for i in range(LANES):
        number[i], share[i], share_dot[i] = 0.0, 0.0, 0.0
    for c in range(len(z)):
        row, wc = z[c], w[c]
        for i in range(LANES):
            number[i] += 0.0 if row[i] == -INF else 1.0
        for i in range(LANES):
            share[i] += 0.0 if row[i] == -INF else f8(wc)
        for i in range(LANES):
            gone = (row[i] == -INF) | (row[i] == m[i]) | (wc == zero)
            share_dot[i] += f8(zero if gone else wc * (m[i] - row[i]))


@inline(fastmath=CONTRACT)
def label_gradient(
    dot: Any,
    rest: Any,
    inv: Any,
    b: Any,
    zc: Any,
    wy: Any,
    keep: float,
    mine: Any,
    shares: Any,
    out: Any,
) -> None:
    """Write the gradient at the label; `mine` is the label's part of the uniform `shares`."""
    for i in range(LANES):
        e = exp_scaled(-dot[i], 0.0) * DOWN
        p = e * inv[i]
        q = (rest[i] if dot[i] == 0.0 else 1.0 + (rest[i] - e)) * inv[i]
        v = (p * (shares[i] - mine[i]) - (keep * wy[i] + mine[i]) * q) * b[i]
        out[i] = v + (0.0 if p == 0.0 else zc[i] * p)


@inline(fastmath={"contract", "reassoc", "nsz"})
def total_of(v: Any) -> float:
    """Return Σ v."""
    s = 0.0
    for i in range(len(v)):
        s += v[i]
    return s
