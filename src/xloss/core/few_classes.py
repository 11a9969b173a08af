"""Targets that name a few classes of each row: none of their arrays has all classes of a row.

A slot is one of the K places of a row's list. A slot whose index is the ignored label is empty. A
class may stand in several slots: its target is the sum of theirs. "zero" gives every other class
the target 0, "uniform" spreads what the list lacks to 1 evenly over them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, compiling
from .options import Operands, Options


class Spread(NamedTuple):
    """The part of a row's targets that is spread evenly, and what it adds up to; (*rows) each."""

    each: Array  # the target of each other class that is possible; 0 where there is none
    placed: Array  # the sum of these
    weight: Array  # Σ w over those classes
    mask: Array  # (*rows, classes), the other classes that are possible


class FewTargets(NamedTuple):
    """The listed targets of a block, (*rows, K) where nothing else is said.

    None stands for the usual case: no class is listed twice, no slot empty, every weight 1.
    """

    indices: Array  # safe: of an empty or invalid slot 0
    probs: Array  # in the sums' dtype, 0 in an empty slot
    of_class: Array  # the sum of the targets of all slots with this slot's class
    first: Array | None  # True in the first slot with this slot's class, be it empty or not
    filled: Array | None  # False in an empty slot
    listed: Array | None  # True where a slot that is not empty has this slot's class
    class_weight: Array | None  # of the slot's class, in the sums' dtype
    rest: Array | None  # (*rows), what "uniform" spreads over the other classes; None: nothing
    other_weight: Array | float  # (*rows), the mean class weight of the other classes
    spread_ahead: Spread | None = None  # of these rows' logits, where it is known already


def prepare(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    class_weight: Array | None,
    safe: tuple[Array, Array | None, Array | None],
) -> tuple[FewTargets, Array | None, Array | None, Array]:
    """Return the targets, which rows are not ignored and which invalid, and what each row weighs.

    safe: of the indices, by `safe_labels`. A row is ignored if each of its slots is.
    """
    xp = cx.xp
    indices, filled, invalid = safe
    assert o.targets is not None
    probs = cx.cast(cx.cast(o.targets, cx.compute_dtype), cx.sum_dtype)
    present = None
    if filled is not None:
        if cx.inplace_ok and cx.on_host and bool(xp.all(filled)):
            filled = None
        else:
            present = xp.any(filled, axis=-1)
            probs = xp.where(filled, probs, 0.0)
    if invalid is not None:
        invalid = xp.any(invalid, axis=-1)
    of_class, first, listed = _by_class(indices, probs, filled, cx)
    weight = None
    if class_weight is not None:
        weight = cx.cast(cx.take(class_weight, indices), cx.sum_dtype)
    rest, other_weight = None, 1.0
    row_weight = _dot(probs, weight, cx)
    if options.rest == "uniform":
        total = cx.sum_last(probs)
        new = _new(first, listed)
        one = xp.ones_like(probs)
        others = classes - cx.sum_last(one if new is None else xp.where(new, one, 0.0))
        rest = xp.where((total < 1) & (others > 0), 1.0 - total, 0.0)
        if weight is not None and class_weight is not None:
            of_listed = weight if new is None else xp.where(new, weight, 0.0)
            of_others = cx.sum_last(class_weight) - cx.sum_last(of_listed)
            other_weight = of_others / xp.where(others > 0, others, 1.0)
        row_weight = row_weight + rest * other_weight
    few = FewTargets(indices, probs, of_class, first, filled, listed, weight, rest, other_weight)
    return few, present, invalid, row_weight


def _by_class(
    indices: Array, probs: Array, filled: Array | None, cx: Context
) -> tuple[Array, Array | None, Array | None]:
    """Return `of_class`, `first` and `listed` of the slots."""
    xp, k = cx.xp, indices.shape[-1]
    if k == 1:
        return probs, None, filled
    if cx.inplace_ok and cx.on_host:
        ordered = xp.sort(indices, axis=-1)
        if not bool(xp.any(ordered[..., 1:] == ordered[..., :-1])):
            return probs, None, filled
    if cx.fuses_sums or compiling():  # a compiler adds up K·K terms a row without storing them
        same = indices[..., :, None] == indices[..., None, :]
        of_class = xp.sum(xp.where(same, probs[..., None, :], 0.0), axis=-1)
        number = cx.arange(k)
        first = ~xp.any(same & (number[:, None] > number[None, :]), axis=-1)
        listed = None if filled is None else xp.any(same & filled[..., None, :], axis=-1)
        return of_class, first, listed
    of_class, listed = xp.zeros_like(probs), filled
    firsts = []
    for j in range(k):
        same = indices == indices[..., j : j + 1]
        of_class = of_class + xp.where(same, probs[..., j : j + 1], 0.0)
        if listed is not None and filled is not None:
            listed = listed | (same & filled[..., j : j + 1])
        before = same[..., :j] if j else same[..., :1] & False
        firsts.append(~xp.any(before, axis=-1))
    return of_class, xp.stack(firsts, axis=-1), listed


def _new(first: Array | None, listed: Array | None) -> Array | None:
    """Mark one slot of each listed class; None where every slot has a class of its own."""
    return listed if first is None else first if listed is None else first & listed


def _dot(a: Array, weight: Array | None, cx: Context) -> Array:
    """Return Σ weight·a along the last axis; a term of weight 0 is absent."""
    return cx.sum_last(a if weight is None else cx.xp.where(weight == 0, 0.0, a * weight))


def spread(z: Array, few: FewTargets, class_weight: Array | None, cx: Context) -> Spread | None:
    """Spread the rest over the possible classes that are not listed; z: (*rows, classes)."""
    if few.rest is None or few.spread_ahead is not None:
        return few.spread_ahead
    xp = cx.xp
    possible = z != -xp.inf
    stays = xp.zeros_like(few.indices) != 0
    if few.listed is not None:
        stays = ~few.listed & cx.gather_many(possible, few.indices)
    mask = cx.scatter_many(possible, few.indices, stays)
    count = cx.sum_last(cx.cast(mask, cx.compute_dtype))
    weight = count
    if class_weight is not None:
        weight = cx.sum_last(xp.where(mask, class_weight, 0.0))
    any_other = count > 0
    placed = xp.where(any_other, few.rest, 0.0)
    return Spread(placed / xp.where(any_other, count, 1.0), placed, weight, mask)


def entry_gaps(z: Array, maxima: Array, few: FewTargets, cx: Context) -> Array:
    """Return m - z at the slots, (*rows, K), in the sums' dtype; z: (*rows, classes)."""
    return gaps_at(cx.gather_many(z, few.indices), maxima, cx)


def gaps_at(at_slots: Array, maxima: Array, cx: Context) -> Array:
    """Return m - z, and 0 where z = m even if both are infinite; at_slots: (*rows, K)."""
    m = cx.cast(maxima, cx.sum_dtype)[..., None]
    z = cx.cast(at_slots, cx.sum_dtype)
    return cx.xp.where(z == m, 0.0, m - z)


def listed_sums(gap: Array, few: FewTargets, cx: Context) -> tuple[Array, Array, Array]:
    """Return Σ w t, Σ t and Σ w t (m - z) over the slots; gap: (*rows, K)."""
    w = few.class_weight
    a = few.probs if w is None else few.probs * w
    weight = cx.sum_last(a)
    total = weight if w is None else cx.sum_last(few.probs)
    return weight, total, cx.sum_last(cx.xp.where(a == 0, 0.0, a * gap))


def target_sums(
    z: Array, maxima: Array, few: FewTargets, class_weight: Array | None, gap: Any, cx: Context
) -> tuple[Array, Array, Array]:
    """Return Σ w t, Σ t and Σ w t (m - z) of whole rows.

    z is (*rows, classes); gap() returns m - z of all classes, which only a spread rest needs.
    """
    xp = cx.xp
    weight, total, weighted_gap = listed_sums(entry_gaps(z, maxima, few, cx), few, cx)
    rest = spread(z, few, class_weight, cx)
    if rest is None:
        return weight, total, weighted_gap
    counted, terms = rest.mask, gap()
    if class_weight is not None:
        counted, terms = counted & (class_weight != 0), class_weight * terms
    gaps = cx.sum_last(xp.where(counted, terms, 0.0))
    weight = weight + rest.each * rest.weight
    return (
        weight,
        total + rest.placed,
        weighted_gap + xp.where(rest.each == 0, 0.0, rest.each * gaps),
    )


class SlotParts(NamedTuple):
    """The softmax at the slots, (*rows, K) each, in the sums' dtype."""

    p: Array
    q: Array  # 1 - p


def slot_parts(gap: Array, maxima: Array, tail_sum: Array, cx: Context) -> SlotParts:
    """Return the softmax at the slots from row statistics; gap: m - z there."""
    xp = cx.xp
    inv = xp.where(maxima == -xp.inf, xp.nan, 1.0 / (1.0 + tail_sum))[..., None]
    e = xp.exp(-gap)
    q = xp.where(gap == 0, tail_sum[..., None], 1.0 + (tail_sum[..., None] - e)) * inv
    return SlotParts(e * inv, q)


def entries(
    at: SlotParts, a: Array, total: Array, b: Any, slope: Array | None, cx: Context
) -> Array:
    """Return b (p (A - a) - a (1 - p)) + slope p at the slots, (*rows, K); `total` is A.

    b is a number or (*rows), slope (*rows), the derivative to log-sum-exp, or None.
    """
    made = at.p * (total[..., None] - a) - a * at.q
    made = made * (b if isinstance(b, float) or b.ndim == 0 else b[..., None])
    return made if slope is None else made + cx.xp.where(at.p == 0, 0.0, slope[..., None] * at.p)


class Levels(NamedTuple):
    """The weighted, smoothed targets a of a row, by what makes them."""

    total: Array  # A = Σ a, (*rows), in the sums' dtype
    at_slots: Array  # a of the class of each slot, (*rows, K), likewise
    even: Array | None  # what a possible class that is not listed has before its weight, (*rows)


def levels(
    z: Array, few: FewTargets, class_weight: Array | None, options: Options, cx: Context
) -> Levels:
    """Return the weighted, smoothed targets of whole rows; z: (*rows, classes)."""
    xp = cx.xp
    eps = options.label_smoothing
    kept = 1.0 - eps
    total = kept * _dot(few.probs, few.class_weight, cx)
    rest = spread(z, few, class_weight, cx)
    at_slots = own = kept * few.of_class
    even = None
    if rest is not None:
        total = total + kept * rest.each * rest.weight
        even = kept * rest.each
        if few.listed is not None:
            at_slots = xp.where(few.listed, own, even[..., None])
    if eps > 0:
        possible = z != -xp.inf
        t = cx.sum_last(few.probs)
        t = t if rest is None else t + rest.placed
        count = cx.sum_last(cx.cast(possible, cx.compute_dtype))
        weight = count
        if class_weight is not None:
            weight = cx.sum_last(xp.where(possible, class_weight, 0.0))
        share = eps * t / count
        total = total + share * weight
        even = share if even is None else even + share
        at_slots = at_slots + share[..., None]
    if even is not None:
        # A masked class has no part of what is spread evenly.
        at_slots = xp.where(cx.gather_many(z, few.indices) == -xp.inf, own, at_slots)
    if few.class_weight is not None:
        at_slots = at_slots * few.class_weight
    return Levels(total, at_slots, even)


def gradient(
    z: Array, p: Array, q: Array, found: Levels, class_weight: Array | None, cx: Context
) -> Array:
    """Return p_j (A - a_j) - a_j (1 - p_j) of all classes as if none was listed.

    z, p and q = 1 - p are (*rows, classes). Its values at the listed classes are to be replaced by
    `entries`, as the last step, so that a compiler can replace them in the result itself.
    """
    xp = cx.xp
    total = cx.cast(found.total, cx.compute_dtype)[..., None]
    if found.even is None:
        return p * total
    even = cx.cast(found.even, cx.compute_dtype)[..., None]
    a = xp.where(z == -xp.inf, 0.0, even if class_weight is None else class_weight * even)
    return p * (total - a) - a * q
