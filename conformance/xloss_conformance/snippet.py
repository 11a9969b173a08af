"""Python to copy: what makes a case's arguments, and what calls xloss on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .linear_packing import LINEAR
from .model import FLOATING, Array, Case
from .token_rows import TOKENS
from .top_k import TOP_K

SMALL = 64  # entries that a literal may have
FIRST = 8  # entries of a larger result that are printed
DIGITS = {"float32": 9, "float16": 5, "bfloat16": 4}  # that tell its numbers apart


def setup(case: Case) -> str:
    """Return lines that make x, targets, upstream and the options that are arrays, each by name.

    They are NumPy arrays, floats in float64: rounding them to its dtype is up to the caller.
    """
    named = arrays(case) | dict(case.instead)
    lines = ["import numpy as np"]
    if case.tile == 1 and all(np.size(v) <= SMALL for v in named.values()):
        return "\n".join([*lines, *(f"{k} = {literal(v)}" for k, v in named.items())])
    lines += ["from xloss_conformance.cases import case", "", f"found = case({case.name!r})"]
    lines += [f"{k} = {_kept(k, case)}" for k in named]
    return "\n".join(lines)


def _kept(name: str, case: Case) -> str:
    if name not in ("x", "targets"):
        return f"found.{name}" if name == "upstream" else f'found.options["{name}"]'
    if case.tile == 1:
        return f"found.{name}"
    return f"np.broadcast_to(found.{name}, ({case.tile}, *found.{name}.shape))"


def arrays(case: Case) -> dict[str, Array]:
    """Return the arguments of a case that are arrays, by name."""
    named = {"x": case.x}
    if case.targets is not None:
        named["targets"] = case.targets
    for name, value in case.instead.items():
        named.pop(name, None)
        if isinstance(value, np.ndarray):
            named[name] = value
    named |= {k: v for k, v in case.options.items() if isinstance(v, np.ndarray)}
    if not one(case.upstream) and not case.value_only:
        named["upstream"] = np.asarray(case.upstream, np.float64)
    return named


def one(upstream: Any) -> bool:
    """Whether an upstream gradient changes nothing."""
    return isinstance(upstream, float) and upstream == 1.0


def floats(case: Case) -> list[str]:
    """Return the names of those of them that are rounded to the dtype of x."""
    return [
        k
        for k, v in arrays(case).items()
        if (k in ("x", *FLOATING) or (k == "targets" and v.dtype.kind == "f"))
        and k not in case.instead
    ]


def keywords(case: Case) -> str:
    """Return the options as they stand in a call, each with a comma before it."""
    return "".join(
        f", {k}={k if isinstance(v, np.ndarray) else literal(v)}" for k, v in case.options.items()
    )


def literal(value: Any) -> str:
    """Return an expression that makes the value, bit for bit."""
    if not isinstance(value, np.ndarray):
        return _number(value) if isinstance(value, float) else repr(value)
    if value.dtype.kind == "f":
        body = np.array2string(
            value,
            separator=", ",
            threshold=10**6,
            max_line_width=96,
            formatter={"float_kind": lambda v: _number(float(v))},
        )
    else:
        body = np.array2string(value, separator=", ", threshold=10**6, max_line_width=96)
    if not value.size:
        return f"np.zeros({value.shape}, np.{_type(value)})"
    return f"np.array({body}, np.{_type(value)})"


def _type(value: Array) -> str:
    return "bool" if value.dtype.kind == "b" else value.dtype.name


def _number(value: float) -> str:
    if np.isfinite(value):
        return repr(value)
    return "np.nan" if np.isnan(value) else f"{'-' if value < 0 else ''}np.inf"


def inputs(case: Case) -> str:
    """Return the arguments for the eye: large arrays by shape and range."""
    named: dict[str, Any] = {**arrays(case), **dict(case.options)}
    return "\n".join(f"{k} = {_shown(v)}" for k, v in named.items())


def _shown(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    if value.size <= SMALL:
        return str(np.array2string(value, separator=", ", max_line_width=96, precision=17))
    finite = value[np.isfinite(value)] if value.dtype.kind == "f" else value
    span = f", from {finite.min()} to {finite.max()}" if finite.size else ""
    return f"{value.dtype} of shape {value.shape}{span}"


# What imports each library; how its array is made of a NumPy array; how that is read back.
IMPORTS = {
    "strict": ["import array_api_strict as xp"],
    "torch": ["import torch"],
    "cuda": ["import torch"],
    "jax": ["import jax", "import jax.numpy as jnp"],
    "tensorflow": ["import tensorflow as tf"],
    "dask": ["import dask.array as da"],
    "cupy": ["import cupy"],
}
MADE = {
    "strict": "xp.asarray({})",
    "torch": "torch.asarray({})",
    "cuda": 'torch.asarray({}, device="cuda")',
    "jax": "jnp.asarray({})",
    "tensorflow": "tf.constant({})",
    "dask": "da.from_array({}, chunks={chunks})",
    "cupy": "cupy.asarray({})",
}
READ = {
    "strict": "np.from_dlpack({})",
    "torch": "{}.detach().cpu().double()",
    "cuda": "{}.detach().cpu().double()",
    "cupy": "cupy.asnumpy({})",
}


def library_imports(library: str, dtype: str) -> list[str]:
    """Return the lines that import a library for arrays of a dtype."""
    lines = list(IMPORTS.get(library, []))
    if dtype == "bfloat16" and library not in ("torch", "cuda"):
        lines.append("import ml_dtypes")
    if library == "jax" and dtype == "float64":
        lines.append('jax.config.update("jax_enable_x64", True)')
    return lines


def as_arrays(case: Case, library: str, dtype: str) -> list[str]:
    """Return lines that turn what `setup` made into one library's arrays, rounded to a dtype."""
    lines = []
    torch = library in ("torch", "cuda")
    rounded = floats(case)
    for name, given in arrays(case).items():
        to = dtype if name in rounded else ""
        if library == "jax" and dtype != "float64" and given.dtype in (np.int64, np.uint64):
            to = "int32"  # as the suite hands labels to a JAX without 64 bits
        if name == "upstream":
            to = "float64" if dtype == "float64" else "float32"
        kind = "ml_dtypes.bfloat16" if to == "bfloat16" else f"np.{to}"
        made = f"{name}.astype({kind})" if to and not (torch and to == "bfloat16") else name
        if name == "x" and case.layout != "C":
            lines.append("from xloss_conformance.libraries import array_library")
            made = f'array_library("{library}").array({made}, "{case.layout}")'
        else:
            cut = tuple(max(3, -(-n // 5)) for n in given.shape)  # as the suite cuts it
            made = MADE.get(library, "{}").format(made, chunks=3 if set(cut) <= {3} else cut)
        made += ".bfloat16()" if torch and to == "bfloat16" else ""
        if made != name:
            lines.append(f"{name} = {made}")
    return lines


def shown(case: Case, library: str, name: str) -> str:
    """Return the line that prints a result; of a large case, its first entries."""
    read = READ.get(library, "np.asarray({}, np.float64)").format(name)
    first = "" if case.x.size <= SMALL and case.tile == 1 else f".reshape(-1)[:{FIRST}]"
    return f"print({read}{first}.tolist())"


def text(case: Case, values: Array | None, dtype: str) -> str:
    """Return what that line prints, to as many digits as the dtype tells apart."""
    if values is None:
        return ""
    if case.x.size > SMALL or case.tile > 1:
        values = values.reshape(-1)[:FIRST]

    def nested(entries: object) -> str:
        if isinstance(entries, list):
            return f"[{', '.join(map(nested, entries))}]"
        return f"{entries:.{DIGITS.get(dtype, 17)}g}"

    return nested(values.tolist())


def xloss_call(case: Case, library: str, dtype: str, engine: str, gradient: str) -> list[str]:
    """Return the lines that call xloss on a library's arrays and print what comes of it."""
    of_packed = {LINEAR: "linear_packing", TOP_K: "top_k"}
    own = (of_packed | dict.fromkeys(TOKENS, "token_rows")).get(case.loss)
    loss = case.loss if own else f"xloss.{case.loss}"
    if own == "token_rows" and gradient == "closed form":
        case = replace(case, value_only=True)
    arguments = ("x" if case.targets is None else "x, targets") + keywords(case)
    leaves = "x, targets" if case.to_targets else "x"
    grads = "gradient, to_targets" if case.to_targets else "gradient"
    upstream = "upstream" if "upstream" in arrays(case) else ""
    body = [f"value = {loss}({arguments})"]
    if case.value_only or case.error is not None:
        grads = ""
    elif gradient == "autograd":
        body = [f"{leaf}.requires_grad_()" for leaf in leaves.split(", ")] + body
        up = upstream or "torch.ones_like(value)"
        body.append(f"{grads}, = torch.autograd.grad(value, [{leaves}], {up}.expand(value.shape))")
    elif gradient == "jax.vjp":
        body = [
            f"value, back = jax.vjp(lambda {leaves}: {loss}({arguments}), {leaves})",
            f"up = jnp.asarray({upstream or 1.0}, value.dtype)",
            f"{grads}, = back(jnp.broadcast_to(up, value.shape))",
        ]
    elif gradient == "GradientTape":
        body = [
            "with tf.GradientTape() as tape:",
            f"    tape.watch([{leaves}])",
            f"    {body[0]}",
            f"up = tf.broadcast_to(tf.cast({upstream or 1.0}, value.dtype), value.shape)",
            f"{grads}, = tape.gradient(value, [{leaves}], up)",
        ]
    else:
        argnums = ", (0, 1)" if case.to_targets else ""
        names = f"({grads})" if case.to_targets else grads
        up = ", cotangent=upstream" if upstream else ""
        body = [f"value, {names} = xloss.value_and_grad({loss}{argnums})({arguments}{up})"]
    if engine:
        body = [f'with xloss.use_engine("{engine}"):', *(f"    {line}" for line in body)]
    results = ["value", *filter(None, grads.split(", "))]
    return [
        *library_imports(library, dtype),
        "import xloss",
        *([f"from xloss_conformance.{own} import {case.loss}"] if own else []),
        "",
        *as_arrays(case, library, dtype),
        *body,
        *(shown(case, library, name) for name in results),
    ]
