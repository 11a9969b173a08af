"""When the compiled engine is not called from JAX: silently, or said where it was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from xloss import EngineUnavailable, value_and_grad
from xloss.engines.cpu import engine as cpu

jax = pytest.importorskip("jax")
jnp = jax.numpy
export = pytest.importorskip("jax.export")

REASON = xloss.engines()["cpu"]
engine = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
X = np.array([[1, 2, 4], [0, 0, -1]], np.float32)
Y = np.array([0, 1], np.int32)
TARGET = "xloss_rows_2"


def asked(x: Any, y: Any, **options: Any) -> Any:
    with xloss.use_engine("cpu"):
        return xloss.cross_entropy(x, y, **options)


@engine
def test_it_is_called_unless_the_generic_engine_is_asked_for():
    def generic(x: Any, y: Any) -> Any:
        with xloss.use_engine("generic"):
            return xloss.cross_entropy(x, y)

    assert f"@{TARGET}" in jax.jit(xloss.cross_entropy).lower(X, Y).as_text()
    assert f"@{TARGET}" in jax.jit(xloss.linear_cross_entropy).lower(X, X, Y).as_text()
    for function in (generic, jax.grad(generic), jax.vmap(generic)):
        assert TARGET not in jax.jit(function).lower(X, Y).as_text()


@engine
def test_an_exported_program_and_another_device_have_the_formula():
    """It runs in processes, and on devices, where the engine is not."""
    made = export.export(jax.jit(jax.value_and_grad(xloss.cross_entropy)))(X, Y)
    assert TARGET not in made.mlir_module()
    for got, want in zip(made.call(X, Y), value_and_grad(xloss.cross_entropy)(X, Y), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    both = export.export(jax.jit(xloss.cross_entropy), platforms=("cpu", "cuda"))(X, Y)
    assert TARGET not in both.mlir_module()
    with pytest.raises(EngineUnavailable, match=r"^engine 'cpu' .*: an exported program"):
        export.export(jax.jit(asked))(X, Y)
    lowered = jax.jit(xloss.cross_entropy).trace(X, Y).lower(lowering_platforms=("tpu",))
    assert TARGET not in lowered.as_text()
    with pytest.raises(EngineUnavailable, match="this program is not for the CPU"):
        jax.jit(asked).trace(X, Y).lower(lowering_platforms=("tpu",))


@engine
def test_another_loss_is_refused_where_it_is_asked_for():
    refused = pytest.raises(EngineUnavailable, match="only cross_entropy is compiled")
    with xloss.use_engine("cpu"), refused:
        xloss.focal_loss(jnp.asarray(X), jnp.asarray(Y))
    mesh = jax.make_mesh((1,), ("v",), axis_types=(jax.sharding.AxisType.Auto,))
    part = jax.sharding.PartitionSpec(None, "v")

    def spread(x: Any) -> Any:
        with xloss.use_engine("cpu"):
            return xloss.vocab_parallel_cross_entropy(x, Y, group="v")

    call = jax.shard_map(spread, mesh=mesh, in_specs=part, out_specs=jax.sharding.PartitionSpec())
    with pytest.raises(EngineUnavailable, match="the classes are spread over devices"):
        jax.jit(call)(X)


def test_numba_is_missing(monkeypatch):
    """Silently the formula; by name, the sentence that says what to install."""
    monkeypatch.setattr(cpu, "_load", lambda: "Numba is not installed: pip install it")
    jax.clear_caches()  # of programs that call the engine
    text = jax.jit(lambda x, y: xloss.cross_entropy(x, y)).lower(X, Y).as_text()
    jax.clear_caches()
    assert TARGET not in text
    with pytest.raises(EngineUnavailable, match="Numba is not installed"):
        asked(jnp.asarray(X), jnp.asarray(Y))


@engine
def test_another_version_of_xla_s_interface(monkeypatch):
    """Core's formula is computed; asked for by name, XLA's own words are in the error."""
    from xloss.engines.cpu import xla_ffi

    def refused(*_: Any, **__: Any) -> None:
        raise ValueError("the API version is incompatible")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refused)
    monkeypatch.setattr(xla_ffi, "unavailable", xla_ffi.unavailable.__wrapped__)
    assert TARGET not in jax.jit(lambda x, y: xloss.cross_entropy(x, y)).lower(X, Y).as_text()
    reason = "XLA does not take the handler: the API version is incompatible"
    with pytest.raises(EngineUnavailable, match=f"^engine 'cpu' cannot take this call: {reason}"):
        jax.jit(lambda x, y: asked(x, y))(X, Y)


@engine
def test_arrays_other_than_the_program_said_are_an_error():
    """No address is read; the process goes on."""
    from xloss.backends.jax.ffi import Form
    from xloss.core.options import Options, Outputs
    from xloss.engines.cpu import xla_ffi

    assert xla_ffi.unavailable() is None
    form = Form(Options("cross_entropy"), *[False] * 5, Outputs(rows=True))
    rows, short = (jax.ShapeDtypeStruct((n,), np.float32) for n in (2, 1))
    p = np.full((2, 3), 0.25, np.float32)
    kept = xla_ffi.options(form, X, False, ("logits", "soft", "losses"), (X, p, rows))
    wrong: list[tuple[Any, tuple[Any, ...], Any]] = [
        *((made, (X, p), kept) for made in (short, (rows, rows))),
        *((rows, (X, t), kept) for t in (p[:1], p.astype(np.float16))),
        *((rows, given, kept) for given in ((X.astype(np.float16), p), (X,))),
        *((rows, (X, p), o) for o in (kept[:3], 3)),
    ]
    for result, arrays, options in wrong:
        call = jax.jit(lambda *a, r=result, o=options: jax.ffi.ffi_call(TARGET, r)(*a, options=o))
        with pytest.raises(Exception, match="xloss: the compiled row kernels got other arrays"):
            jax.block_until_ready(call(*arrays))
    good = jax.jit(lambda x, p: jax.ffi.ffi_call(TARGET, rows)(x, p, options=kept))
    np.testing.assert_array_equal(good(X, p), xloss.cross_entropy(X, p, reduction="none"))


@engine
@pytest.mark.parametrize(("threads", "function"), [(2, "KERNELS"), (1, "KERNELS"), (1, "ALLOCATE")])
def test_a_kernel_that_fails_is_an_error_of_the_call(threads, function):
    """One with a status other than 0, on several threads and on one, or no memory for a call."""
    import numba

    from xloss.engines.cpu.kernels import xla_call
    from xloss.engines.cpu.kernels import xla_layout as at

    x, y = np.zeros((30_000, 12), np.float32), np.zeros(30_000, np.int32)
    call = jax.jit(lambda x, y: xloss.cross_entropy(x, y, reduction="none"))
    want, number = np.asarray(call(x, y)), numba.types.int64
    failing = numba.cfunc(number(number))(lambda n: int(function == "KERNELS"))
    kept = xla_call.TABLE.copy()
    xla_call.TABLE[at.THREADS] = threads
    xla_call.TABLE[getattr(at, function)] = failing.address
    try:
        with pytest.raises(Exception, match="no memory for the buffers"):
            call(x, y).block_until_ready()
    finally:
        xla_call.TABLE[:] = kept
    np.testing.assert_array_equal(call(x, y), want)
