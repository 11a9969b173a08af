"""The types in public signatures: what an array is, and options that have few values.

This module imports nothing but `typing`, so that every other may import it. At run time nothing
asks whether an object is an `Array`: the checks in `losses/_check.py` do that, with an error that
says what came.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias


class Array(Protocol):
    """An array of any library that follows the Python Array API standard.

    Only what the arrays and scalars of NumPy, PyTorch, JAX, CuPy, Dask and array-api-strict all
    have stands here. Their operators return types of their own, for which the standard has no
    name: `Any`. A method that one of them lacks would make a type checker refuse its arrays.
    """

    @property
    def dtype(self) -> Any:
        """The library's own dtype object."""

    @property
    def shape(self) -> Any:
        """The lengths of the axes; Dask's may be NaN, where a length is not known yet."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    def __neg__(self) -> Any: ...

    def __abs__(self) -> Any: ...

    def __add__(self, other: Any, /) -> Any: ...

    def __radd__(self, other: Any, /) -> Any: ...

    def __sub__(self, other: Any, /) -> Any: ...

    def __rsub__(self, other: Any, /) -> Any: ...

    def __mul__(self, other: Any, /) -> Any: ...

    def __rmul__(self, other: Any, /) -> Any: ...

    def __truediv__(self, other: Any, /) -> Any: ...

    def __rtruediv__(self, other: Any, /) -> Any: ...

    def __pow__(self, other: Any, /) -> Any: ...

    def __lt__(self, other: Any, /) -> Any: ...

    def __le__(self, other: Any, /) -> Any: ...

    def __gt__(self, other: Any, /) -> Any: ...

    def __ge__(self, other: Any, /) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...

    def __bool__(self) -> bool: ...

    def __int__(self) -> int: ...

    def __float__(self) -> float: ...


Reduction: TypeAlias = Literal["mean", "sum", "none"]
Validate: TypeAlias = bool | Literal["auto"]
BlockRows: TypeAlias = int | Literal["auto"]
Normalizer: TypeAlias = float | Array  # a number, or an array of no axes
Argnum: TypeAlias = int | str  # which argument of a loss: its position or its name
