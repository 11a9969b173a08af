"""Rows spread over several devices of JAX's on the host stay there, compiled engine or not."""

import pytest

import xloss
from fresh import said
from places import SUPPORT

jax = pytest.importorskip("jax")
REASON = xloss.engines()["cpu"]


@pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
def test_rows_spread_over_four_devices():
    if not hasattr(jax, "set_mesh"):
        pytest.skip("this JAX has no explicit axes")
    script = (SUPPORT / "ffi_devices.py").read_text(encoding="utf-8")
    assert said(script, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}) == "held"
