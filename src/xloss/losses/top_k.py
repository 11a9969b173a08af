"""Targets that name a few classes of each row, as a teacher's top K are published."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from .._arrays.inspect import compiling
from .._typing import Array


@dataclass(frozen=True, eq=False)
class TopKTargets:
    r"""Soft targets of K classes a row, for distillation: the other classes are never written out.

    The target of class j in a row is ::

        t_j = sum_k probabilities_k [indices_k = j]      for a class in the list
        t_j = 0                                          for any other, with rest="zero"
        t_j = (1 - sum_k probabilities_k) / others       for any other, with rest="uniform"

    where ``others`` is the number of classes of the row that are possible (logit > -inf) and not
    in the list. The loss and its gradients are those of the same soft targets written out for all
    classes, at the price of K numbers a row.

    Parameters
    ----------
    indices : integer array of shape (*rows, K)
        The classes of each row, in any order and of any integer dtype. A class that is listed
        twice has the sum of both. An index that is ``ignore_index`` marks an empty slot, whatever
        its probability is; a row of empty slots alone is absent. Any other index outside
        [0, classes) is an error as a bad label is.
    probabilities : floating array of shape (*rows, K)
        What each class has. They need not add up to 1. Gradients go to them, as to soft targets.
    rest : {"zero", "uniform"}, default "zero"
        What the other classes have: nothing, or what is left to 1 spread evenly over them. Where
        the list adds up to 1 or more, or where there is no other class, nothing is left.

    Returns
    -------
    TopKTargets
        A record of the three. It checks nothing: the loss that takes it does.

    Raises
    ------
    TypeError, ValueError, IndexError
        From the loss. The message names the array.

    See Also
    --------
    cross_entropy, linear_cross_entropy, CrossEntropyLoss : take it as targets.

    Notes
    -----
    ``argnums=1`` or ``"targets"`` of :func:`value_and_grad` is the gradient to the probabilities;
    with rest="uniform" it counts what a probability that rises takes from the rest. The row weight
    of a mean knows no logits: the rest counts in it with the mean class weight of all classes that
    are not in the list, masked ones among them. Where the class axis is not the last one of the
    logits, K stands in its place. For JAX the record is a pytree with ``rest`` as a constant, so
    that it passes through ``jit``, ``vmap`` and ``grad``. PyTorch's transformations take the two
    tensors, and a function of them makes the record.

    The compiled engines take a list by the kernels for labels and K numbers a row. What is spread
    evenly, by rest="uniform" or smoothing, costs a further pass in blocks of rows; beside a
    softcap, and for 16-bit logits, the generic engine computes all of it. Losses of classes that
    are spread over ranks take no list.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from xloss import TopKTargets, cross_entropy
    >>> logits = np.array([[2.0, 1.0, 0.0, -1.0]])
    >>> teacher = TopKTargets(np.array([[0, 1]]), np.array([[0.7, 0.2]]), rest="uniform")
    >>> f"{cross_entropy(logits, teacher):.6f}"
    '0.890190'
    >>> f"{cross_entropy(logits, np.array([[0.7, 0.2, 0.05, 0.05]])):.6f}"
    '0.890190'
    """

    indices: Array
    probabilities: Array
    rest: Literal["zero", "uniform"] = "zero"

    def __post_init__(self) -> None:
        """Make the record known to JAX, if that is there, before one of its functions takes it."""
        if not compiling() and "jax" in sys.modules:
            from ..backends.jax import pytrees

            pytrees.register(TopKTargets, ("indices", "probabilities"), ("rest",))
