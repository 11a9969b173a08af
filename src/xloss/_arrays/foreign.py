"""Array-likes that xloss does not compute on, and what a user can pass in their place."""

from __future__ import annotations

from typing import Any, NamedTuple

from .inspect import Array, Namespace, dtype_name, is_odd, library, namespace, torch_module

STANDARD = "2024.12"  # the version of the Array API standard that xloss is written against
# Recognised by class. Arrays of these libraries look like arrays of the standard, and would only
# fail later, in an operation that their wrapper does not support.
_WRAPPERS = {
    "xarray": "{}.data",
    "pint": "{}.magnitude",
    "sparse": "{}.todense()",
    "ndonnx": "{}.unwrap_numpy()",
    "mlx": "numpy.asarray({})",
}
# Methods by which other classes return a plain array: data frames, sparse matrices, tensors.
_CONVERSIONS = ("to_dask_array", "toarray", "todense", "to_dense", "to_numpy", "numpy")
# array_api_compat, or a namespace of our own, adds what these lack of the standard, so that no
# version is asked for.
_COMPLETED = {"numpy", "torch", "jax", "cupy", "dask", "tensorflow"}
# TensorFlow's classes whose values are not one dense tensor.
_TENSORFLOW = {
    "RaggedTensor": "{}.to_tensor(), with where= for what is padding",
    "SparseTensor": "tensorflow.sparse.to_dense({})",
    "IndexedSlices": "tensorflow.convert_to_tensor({})",
    "PerReplica": "each replica's own, inside the strategy's run",
}


class Foreign(NamedTuple):
    """What an argument is, and what to pass instead of it."""

    what: str
    instead: str


def described(x: Any) -> str:
    """Describe an argument for an error message: an array's dtype and shape, else the type."""
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"{type(x).__name__} of dtype {dtype_name(x.dtype)} and shape {tuple(x.shape)}"
    return f"{type(x).__name__}"


def foreign(name: str, x: Any, xp: Namespace | None) -> Foreign | None:
    """Describe an argument that cannot be computed on; return None for one that can."""
    if xp is None:
        return _unknown(name, x)
    lib = library(xp)
    if lib == "torch":
        return _tensor(name, x)
    if lib == "dask":
        return _chunks(name, x)
    return None if lib in _COMPLETED else _other(name, x, xp)


def _tensor(name: str, x: Array) -> Foreign | None:
    """Describe a nested or sparse tensor, which most operations do not take."""
    if x.is_nested:
        padded = f"torch.nested.to_padded_tensor({name}, 0.0), with where= for what is padding"
        return Foreign("a nested tensor", padded)
    if x.layout is not torch_module().strided:
        return Foreign(f"a tensor of layout {x.layout}", f"{name}.to_dense()")
    return None


def _chunks(name: str, x: Array) -> Foreign | None:
    """Describe a Dask array of chunks that cannot be computed on, by Dask's empty sample of one."""
    meta = getattr(x, "_meta", None)
    if is_odd(meta):
        return Foreign("a Dask array of masked arrays", f"dask.array.ma.filled({name}, value)")
    found = None if meta is None else foreign("block", meta, namespace(meta))
    if found is None:
        return None
    way = f"{name}.map_blocks(lambda block: {found.instead})"
    return Foreign(f"a Dask array of chunks that are each {found.what}", way)


def _other(name: str, x: Array, xp: Namespace) -> Foreign | None:
    """Describe an array of a wrapper, or of a library that follows an older standard."""
    found = _wrapper(name, x)
    version = str(getattr(xp, "__array_api_version__", "none"))
    if found is None and not (version[:4].isdigit() and version >= STANDARD):
        what = f"an array of {library(xp)}, which follows version {version} of the standard"
        return Foreign(what, f"an array of a library that follows {STANDARD} or a later one")
    return found


def _wrapper(name: str, x: Any) -> Foreign | None:
    """Describe an array of one of the libraries in _WRAPPERS, or of a class made from one."""
    for kind in type(x).__mro__:
        top = kind.__module__.partition(".")[0]
        if top == "tensorflow" and kind.__name__ in _TENSORFLOW:
            return Foreign(f"TensorFlow's {kind.__name__}", _TENSORFLOW[kind.__name__].format(name))
        if top in _WRAPPERS:
            return Foreign(f"{top}.{type(x).__name__}", _WRAPPERS[top].format(name))
    return None


def _unknown(name: str, x: Any) -> Foreign:
    """Describe an argument that belongs to no array library."""
    found = _wrapper(name, x)
    if found is not None:
        return found
    what = described(x)
    if hasattr(type(x), "filled") and is_odd(x):
        return Foreign(what, f"{name}.filled(value), with where= for what is masked")
    if isinstance(x, (list, tuple)) or is_odd(x):
        return Foreign(what, f"numpy.asarray({name})")
    for way in _CONVERSIONS:
        if hasattr(type(x), way):
            lengths = "lengths=True" if way == "to_dask_array" else ""
            return Foreign(what, f"{name}.{way}({lengths})")
    return Foreign(what, "an array of an Array API library")
