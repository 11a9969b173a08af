"""MPI: the ranks of an mpi4py communicator, for NumPy and, where the MPI reads GPUs, CuPy."""

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
        """Return what every rank has to say."""
        every = np.empty((self.size, len(facts)), np.int64)
        self.comm.Allgather(np.array(facts, np.int64), every)
        return [tuple(row) for row in every.tolist()]

    def maximum(self, x: Array) -> Array:
        """Return the largest over the ranks."""
        return self._reduced(x, MPI.MAX)

    def total(self, x: Array) -> Array:
        """Return the sum over the ranks."""
        return self._reduced(x, MPI.SUM)

    def _reduced(self, x: Array, op: Any) -> Array:
        if isinstance(x, (np.ndarray, np.generic)):
            x = np.ascontiguousarray(x).reshape(x.shape)
        else:
            import cupy

            x = cupy.ascontiguousarray(x)
            # MPI knows no streams: what it sends must be there.
            cupy.cuda.get_current_stream().synchronize()
        self.comm.Allreduce(MPI.IN_PLACE, x, op)
        return x
