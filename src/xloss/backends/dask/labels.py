"""The labels of axes in da.blockwise: it aligns the axes of two arrays that have the same label.

All labels are strings, because Dask sorts the labels of a call.
"""

from __future__ import annotations

CLASSES = "classes"
# The class axis of class weights, which are one chunk. Were it labelled CLASSES, each chunk of
# classes would be given the weights of that chunk; it needs them all, as labels index them.
CLASS_WEIGHT = "class weight"
FEATURES = "features"
SLOTS = "slots"  # the places of each row's list of classes
STATISTIC = "statistic"  # the fields of core's RowStats, side by side
SECOND_SUM = "second sum"  # the sums that start from the whole row's statistics, side by side
LOSS_AND_WEIGHT = "loss and weight"  # a row's loss, then its weight
TOKEN = "token"  # a row's loss, then the fields of core's Tokens
# An axis that goes through one task whole, and the one number that says how long it must be.
WHOLE_AXIS = "whole axis"
LENGTH = "length"


def row_labels(number: int) -> tuple[str, ...]:
    """Return the labels of the first axes of an array."""
    return tuple(f"row axis {i}" for i in range(number))
