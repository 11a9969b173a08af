"""What an array is: its library's namespace, its dtype by the standard's name, its device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np

Array: TypeAlias = Any  # the libraries' array types have no common base
Namespace: TypeAlias = Any

# dtypes by the standard's names: the bits of a float, the bounds of an integer
FLOATS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}

# Where neither a library nor array-api-compat has a namespace of the standard, a backend has one.
# The top-level package of a class -> a function that returns the namespace of an object, or None.
OWN_NAMESPACES: dict[str, Callable[[Any], Namespace | None]] = {}

_namespaces: dict[type, Namespace] = {}
_names: dict[Any, str] = {}

# Stored when xloss is imported or first sees an array of a type, so that code which torch.compile
# traces does not read sys.modules: it guards on the whole dictionary, and recompiles or fails when
# an import adds to it.
_torch: Any = sys.modules.get("torch")


def torch_module() -> Any:
    """Return PyTorch, or None where it has not been imported."""
    return sys.modules.get("torch") if _torch is None else _torch


def compiling() -> bool:
    """Tell whether torch.compile is tracing the code that calls this."""
    torch = torch_module()
    return torch is not None and bool(torch.compiler.is_compiling())


Function = TypeVar("Function", bound=Callable[..., Any])


def as_written(function: Function) -> Function:
    """Mark a function so that TensorFlow's AutoGraph runs it, and all that it calls, unconverted.

    tf.function rewrites the source of the functions that are called inside it, to turn branches on
    data into graphs. xloss has no such branches, and some of its Python cannot be rewritten. The
    public functions are not marked: AutoGraph converts their lines, which call marked functions.
    TensorFlow's decorator for it, tf.autograph.experimental.do_not_convert, sets this attribute
    too, but needs TensorFlow when xloss is imported.
    """
    function.autograph_info__ = {}  # type: ignore[attr-defined]
    return function


@as_written
def namespace(x: Array) -> Namespace:
    """Find the Array API namespace of an array, or None for anything else."""
    kind = type(x)
    if kind is np.ndarray:
        return np
    if compiling():  # torch.compile would trace again whenever a cache that it read has changed
        return _find(x)
    found = _namespaces.get(kind)
    if found is None:
        found = _find(x)
        if found is not None:
            _namespaces[kind] = found
            globals()["_torch"] = sys.modules.get("torch")
    return found


def _find(x: Array) -> Namespace | None:
    if isinstance(x, (np.ndarray, np.generic)):
        return None if is_odd(x) else np
    if isinstance(x, (bool, int, float, complex, str, bytes, list, tuple, dict)):
        return None
    torch = torch_module()
    if torch is not None and isinstance(x, torch.Tensor):
        # Not array_namespace, whose lru_cache torch.compile warns of.
        import array_api_compat.torch as xp

        found: Namespace = xp
    elif package(x) in OWN_NAMESPACES:
        found = OWN_NAMESPACES[package(x)](x)
    else:
        import array_api_compat  # an import of 40 ms, which users of NumPy alone need not wait for

        if not array_api_compat.is_array_api_obj(x):
            return None
        found = array_api_compat.array_namespace(x)
    return found


def package(x: Any) -> str:
    """Return the name in OWN_NAMESPACES from whose package an object's class is derived, or ""."""
    kinds = (kind.__module__.partition(".")[0] for kind in type(x).__mro__)
    return next((name for name in kinds if name in OWN_NAMESPACES), "")


def is_odd(x: Array) -> bool:
    """Tell whether an array is masked or a matrix: converted, it would lose its mask or shape."""
    # A plain array is neither, and of that sys.modules is not read while torch.compile traces.
    if type(x) is np.ndarray or not isinstance(x, np.ndarray):
        return False
    masked = sys.modules.get("numpy.ma")  # to read np.ma would import it, which costs a whole call
    return isinstance(x, np.matrix) or (masked is not None and isinstance(x, masked.MaskedArray))


_libraries: dict[str, str] = {}


def library(xp: Namespace) -> str:
    """Name the library of a namespace: "torch" for array_api_compat.torch too."""
    if xp is np:
        return "numpy"
    if compiling():
        return "torch"
    name = str(getattr(xp, "__name__", type(xp).__name__))
    found = _libraries.get(name)
    if found is None:
        parts = name.split(".")
        found = parts[{"array_api_compat": 1, "xloss": 2}.get(parts[0], 0)]
        _libraries[name] = found
    return found


def dtype_name(dtype: Any) -> str:
    """Name a dtype as the standard does: "float32", "int64", "bfloat16"."""
    if type(dtype).__module__ == "torch":  # no cache is read or written while torch.compile traces
        return str(dtype).rsplit(".", 1)[-1]
    key = (type(dtype), dtype)  # strict dtypes warn when compared with NumPy's
    name = _names.get(key)
    if name is None:
        name = getattr(dtype, "name", None) or str(dtype).rsplit(".", 1)[-1]
        _names[key] = name
    return name


def is_real_float(dtype: Any) -> bool:
    """Tell whether a dtype is float16, bfloat16, float32 or float64."""
    return dtype_name(dtype) in FLOATS


def is_integer(dtype: Any) -> bool:
    """Tell whether a dtype is a signed or unsigned integer of 8 to 64 bits."""
    return dtype_name(dtype) in INTEGERS


def device(x: Array) -> Any:
    """Return the array's device; None for tracers without one and arrays on several devices."""
    if type(x) is np.ndarray:
        return "cpu"
    found = getattr(x, "device", None)
    # For an array on several devices JAX returns its sharding, which no other array is placed by.
    if hasattr(found, "is_fully_replicated"):
        return None
    # TensorFlow's is a string, ".../device:CPU:0", and empty for a tensor that is not yet placed.
    return found.rpartition("device:")[2] or None if type(found) is str else found


def on_host(lib: str, dev: Any) -> bool:
    """Tell whether values on this device can be read without a transfer."""
    if lib == "torch":
        return bool(dev.type == "cpu")
    if lib == "tensorflow":
        return str(dev).startswith("CPU")
    return lib == "numpy" or (lib == "array_api_strict" and "CPU_DEVICE" in str(dev))


def is_traced(x: Array, lib: str) -> bool:
    """Tell whether the array stands for values that do not exist yet, or not in its memory."""
    if lib in ("jax", "dask"):
        return True
    if lib == "tensorflow":
        tf = sys.modules["tensorflow"]
        return not tf.executing_eagerly() or bool(tf.is_symbolic_tensor(x))
    if lib != "torch":
        return False
    torch = torch_module()
    if torch.compiler.is_compiling() or x.device.type == "meta" or is_wrapper(x) or spread(x):
        return True
    # No public predicate tells functorch's wrappers. make_fx, and the exporters built on it, record
    # operations on plain tensors: a value that Python read would be recorded as a constant.
    return bool(
        torch._C._functorch.is_functorch_wrapped_tensor(x)
        or torch._is_functional_tensor(x)
        or (
            torch._C._len_torch_dispatch_stack()
            and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)
        )
    )


def is_wrapper(x: Array) -> bool:
    """Tell whether a tensor's class defines what every operation on it does.

    The values of such a tensor may be anywhere: in tensors that it holds, on other ranks, nowhere.
    """
    plain: Any = torch_module().Tensor
    return type(x).__torch_dispatch__ is not plain.__torch_dispatch__


def has_memory(x: Array) -> bool:
    """Tell whether a kernel may read a tensor's values at its address, unseen by PyTorch.

    The memory of a wrapper, a sparse tensor, a negated view and the zeros that autograd makes does
    not hold the values. Inside a transformation of torch.func even a plain tensor is passed on
    wrapped, and a dispatch mode has to see every operation.
    """
    torch = torch_module()
    plain = type(x) is torch.Tensor or type(x) is torch.nn.Parameter
    return bool(
        plain
        and x.layout is torch.strided
        and not x.is_neg()
        and not x._is_zerotensor()
        and not torch._C._len_torch_dispatch_stack()
        and not in_torch_func()
    )


def in_torch_func() -> bool:
    """Tell whether torch.func is at work: what it maps over may stand beside plain logits."""
    return torch_module()._C._functorch.peek_interpreter_stack() is not None


def spread(x: Array) -> bool:
    """Tell whether a tensor is PyTorch's DTensor, whose values are spread over ranks."""
    return type(x).__name__ == "DTensor"


def gathered(x: Array) -> Array:
    """Return the full tensor of a DTensor, and anything else as it is."""
    return x.full_tensor() if spread(x) else x


def is_tracer(x: Array, lib: str) -> bool:
    """Tell whether the array's values cannot be read even by a transfer, for a trace hides them."""
    if lib == "jax":
        return isinstance(x, sys.modules["jax"].core.Tracer)
    return lib in ("torch", "tensorflow") and is_traced(x, lib)


def is_symbol(x: Any) -> bool:
    """Tell whether x is a number that PyTorch does not have while it traces."""
    torch = torch_module()
    return torch is not None and isinstance(x, (torch.SymInt, torch.SymFloat))


def readable(x: Array, xp: Namespace) -> bool:
    """Tell whether an array is a concrete host array, whose values are read at no cost."""
    lib = library(xp)
    return lib == "numpy" or (on_host(lib, device(x)) and not is_traced(x, lib))
