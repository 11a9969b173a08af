"""What a rank of test_spread.py does: the rules of the dense loss, beside the dense loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

import xloss
from spread import GROUP, part
from xloss.core import linear as cutting

CLASSES, WIDTH = 264, 5
Spread = Callable[..., Any]


def drawn(dtype: str) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    z = np.round(rng.standard_normal((3, 4, CLASSES)) * 4096) / 1024
    z[0, 0] = -np.inf  # no possible class
    z[0, 1, 5] = np.nan
    z[0, 2, [3, 70]] = np.inf
    z[1, 0, : CLASSES // 2] = -np.inf
    y = rng.integers(0, CLASSES, (3, 4))
    y[1, 1] = -100
    y[0, 2], y[1, 0] = 70, CLASSES - 1
    weight = rng.integers(0, 9, CLASSES) / 8
    weight[0] = 0.375  # where a bad label is read, for want of its own
    return {
        "z": z.astype(dtype),
        "y": y,
        "weight": weight.astype(dtype),
        "sample": (rng.integers(0, 3, (3, 4)) / 2).astype(dtype),
        "where": rng.random((3, 4)) > 0.3,
        "features": rng.standard_normal((3, 4, WIDTH)).astype(dtype),
        "matrix": rng.standard_normal((CLASSES, WIDTH)).astype(dtype),
        "bias": rng.standard_normal(CLASSES).astype(dtype),
    }


def calls(d: dict[str, Any]) -> Iterator[tuple[str, Any, Any, dict[str, Any]]]:
    """Yield a name, logits, labels and options, the class weights whole."""
    clean = np.where(np.isfinite(d["z"]), d["z"], 0.5).astype(d["z"].dtype)
    for name, z in (("clean", clean), ("infinite", d["z"])):
        for how in ("mean", "sum", "none"):
            yield f"{name} {how}", z, d["y"], {"reduction": how}
        weights = {"weight": d["weight"], "sample_weight": d["sample"]}
        yield f"{name} weighted", z, d["y"], weights
        yield f"{name} where", z, d["y"], {"where": d["where"], "weight": d["weight"]}
        yield f"{name} broadcast", z, d["y"], {"where": d["where"][:, :1], "z_loss": 0.125}
        mixed = {**weights, "label_smoothing": 0.1, "z_loss": 0.125, "softcap": 8.0}
        yield f"{name} all", z, d["y"], mixed
        yield f"{name} all, sum", z, d["y"], {**mixed, "reduction": "sum"}
        yield f"{name} z and weight", z, d["y"], {"z_loss": 0.125, "weight": d["weight"]}
    yield "normalizer", clean, d["y"], {"normalizer": 3.5}
    yield "nothing counts", d["z"], d["y"], {"where": np.zeros((3, 4), bool)}
    yield "weighs nothing", clean, d["y"], {"weight": np.zeros_like(d["weight"])}
    yield "ignored is None", clean, np.abs(d["y"]), {"ignore_index": None}
    bad = d["y"].copy()
    bad[2, 2] = CLASSES
    yield "bad label", clean, bad, {"validate": False, "reduction": "none"}
    yield "bad label, weighted", clean, bad, {"validate": False, "weight": d["weight"]}
    yield "no rows", clean[:0], d["y"][:0], {}
    yield "one row", clean[0, 0], d["y"][0, 0], {"z_loss": 0.125}
    yield "far classes", np.asfortranarray(clean), d["y"].astype(np.int16), {}


def close(got: Any, want: Any, ulp: float, name: str) -> None:
    """Equal but for `ulp` of the largest entry; NaN, infinities and zeros in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, (name, got.dtype, want.dtype)
    assert got.shape == want.shape, (name, got.shape, want.shape)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=name)
    allowed = ulp * np.finfo(want.dtype).eps * np.max(np.abs(want[finite]), initial=0)
    off = np.max(np.abs(got[finite] - want[finite]), initial=0)
    assert off <= allowed, (name, off / (allowed or 1) * ulp)


# JAX compiles each; of no rows XLA itself refuses to, inside shard_map.
FEW = {
    "infinite none",
    "infinite weighted",
    "clean all",
    "nothing counts",
    "weighs nothing",
    "bad label, weighted",
    "one row",
}


def check(
    spread: Spread, dense: Spread, held: slice, dtype: str, some: Collection[str] = ()
) -> None:
    d = drawn(dtype)
    for name, z, y, options in calls(d):
        if some and name not in some:
            continue
        value, grad = spread(xloss.vocab_parallel_cross_entropy, (z, y), options, ())
        want, whole = dense(xloss.cross_entropy, (z, y), options, ())
        ulp = 4 + options.get("softcap", 0.0)
        close(value, want, ulp, f"{dtype} {name}: value")
        close(grad[0], whole[0][..., held], ulp, f"{dtype} {name}: gradient")
    arrays = d["features"], d["matrix"], d["y"]
    given: list[dict[str, Any]] = [
        {"reduction": "none", "block_rows": 5},
        {"class_weight": d["weight"], "label_smoothing": 0.1, "block_rows": 7, "softcap": 8.0},
        {"bias": d["bias"], "z_loss": 0.125},  # blocks by the largest slice
        {"where": d["where"], "reduction": "sum", "block_rows": 1},
    ]
    for options in given[: 2 if some else None]:
        names: tuple[Any, ...] = (0, 1, "bias") if "bias" in options else (0, 1)
        value, grads = spread(xloss.linear_cross_entropy, arrays, options, names)
        want, wholes = dense(xloss.linear_cross_entropy, arrays, options, names)
        name = f"{dtype} linear {[*options]}"
        close(value, want, 8, f"{name}: value")  # the products round too
        # A feature's gradient is a sum over all classes, which the ranks' sums cut in pieces.
        close(grads[0], wholes[0], 8 * WIDTH, f"{name}: features")
        for g, w in zip(grads[1:], wholes[1:], strict=True):
            close(g, w[held], 8 * WIDTH, name)


def cut(options: dict[str, Any], held: slice) -> dict[str, Any]:
    keys = ("weight", "class_weight", "bias")
    return {k: v[held] if k in keys else v for k, v in options.items()}


def slices(loss: Any, arrays: tuple[Any, ...], held: slice) -> tuple[Any, ...]:
    """The arguments of a rank: its classes of the logits, or of the matrix."""
    if loss is xloss.linear_cross_entropy:
        return arrays[0], arrays[1][held], arrays[2]
    return arrays[0][..., held], arrays[1]


def closed(loss: Any, arrays: Any, options: Any, names: Any, **group: Any) -> Any:
    value, grads = xloss.value_and_grad(loss, names or (0,))(*arrays, **options, **group)
    return value, grads


def on_mpi() -> None:
    ranks, rank, size = GROUP
    held = part(size, rank, CLASSES)

    def spread(loss: Any, arrays: Any, options: Any, names: Any) -> Any:
        given = cut(options, held)
        value, grads = closed(loss, slices(loss, arrays, held), given, names, group=ranks)
        alone = loss(*slices(loss, arrays, held), group=ranks, **given)
        np.testing.assert_array_equal(alone, value)
        return value, grads

    for dtype in ("float32", "float64"):
        check(spread, closed, held, dtype)


def on_gloo() -> None:
    import torch

    ranks, rank, size = GROUP
    held = part(size, rank, CLASSES)

    def spread(loss: Any, arrays: Any, options: Any, names: Any) -> Any:
        given = {
            k: torch.from_numpy(np.ascontiguousarray(v)) if hasattr(v, "dtype") else v
            for k, v in cut(options, held).items()
        }
        own = [torch.tensor(np.asarray(a)) for a in slices(loss, arrays, held)]
        own = [a.requires_grad_() if a.is_floating_point() else a for a in own]
        if "bias" in given:
            given["bias"].requires_grad_()
        value = loss(*own, group=ranks, **given)
        value.sum().backward()
        followed = [a for a in (*own, given.get("bias")) if a is not None and a.requires_grad]
        return value.detach().numpy(), [a.grad.numpy() for a in followed]

    for dtype in ("float32", "float64"):
        check(spread, closed, held, dtype)


def on_jax() -> None:
    import jax
    from jax.sharding import AxisType, PartitionSpec

    jax.config.update("jax_enable_x64", True)
    number = len(jax.devices())
    mesh = jax.make_mesh((number,), ("v",), axis_types=(AxisType.Auto,))
    whole, first = PartitionSpec(), PartitionSpec("v")

    def spread(loss: Any, arrays: Any, options: Any, names: Any) -> Any:
        linear = loss is xloss.linear_cross_entropy
        last = PartitionSpec(*(None,) * (arrays[0].ndim - 1), "v")
        specs = [whole, first, whole] if linear else [last, whole]
        keys = [k for k, v in options.items() if hasattr(v, "dtype")]
        fixed = {k: v for k, v in options.items() if k not in keys}
        specs += [first if k in ("weight", "class_weight", "bias") else whole for k in keys]
        count = len(arrays)

        def one(*given: Any) -> Any:
            more = dict(zip(keys, given[count:], strict=True))
            return loss(*given[:count], group="v", **more, **fixed)

        every = jax.shard_map(one, mesh=mesh, in_specs=tuple(specs), out_specs=whole)
        given = [np.asarray(a) for a in (*arrays, *(options[k] for k in keys))]
        which = [0, 1] if linear else [0]
        which += [count + keys.index("bias")] if "bias" in keys else []

        def total(*some: Any) -> Any:
            full = list(given)
            for i, a in zip(which, some, strict=True):
                full[i] = a
            return every(*full)

        followed = [jax.numpy.asarray(given[i]) for i in which]
        value, back = jax.vjp(jax.jit(total), *followed)
        return value, back(jax.numpy.ones_like(value))

    def dense(loss: Any, arrays: Any, options: Any, names: Any) -> Any:
        return closed(loss, arrays, options, names)

    check(spread, dense, slice(0, CLASSES), "float64", FEW)


def hold_rules(kind: str) -> None:
    # Some rows a block, and for the smaller slices fewer blocks: ranks must cut alike.
    cutting.LOGITS_BUDGET_BYTES = 4 * CLASSES * 5
    {"mpi": on_mpi, "gloo": on_gloo, "jax": on_jax}[kind]()
