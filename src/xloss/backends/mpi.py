"""MPI: the ranks of an mpi4py communicator, for NumPy, and for CuPy if the MPI reads GPU memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from .._arrays.inspect import Array


class Ranks:
    """The ranks of an intracommunicator."""

    def __init__(self, comm: Any) -> None:
        if not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"group: expected an intracommunicator, got {type(comm).__name__}")
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()

    def agree(self, facts: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the facts of every rank, in rank order."""
        every = np.empty((self.size, len(facts)), np.int64)
        self.comm.Allgather(np.array(facts, np.int64), every)
        return [tuple(row) for row in every.tolist()]

    def maximum(self, x: Array) -> Array:
        """Return the maximum over the ranks, elementwise."""
        return self._reduced(x, MPI.MAX)

    def total(self, x: Array) -> Array:
        """Return the sum over the ranks, elementwise."""
        return self._reduced(x, MPI.SUM)

    def _reduced(self, x: Array, op: Any) -> Array:
        if isinstance(x, (np.ndarray, np.generic)):
            x = np.ascontiguousarray(x).reshape(x.shape)
        else:
            import cupy

            x = cupy.ascontiguousarray(x)
            # MPI reads the memory at once, and does not wait for the stream that writes it.
            cupy.cuda.get_current_stream().synchronize()
        self.comm.Allreduce(MPI.IN_PLACE, x, op)
        return x
