"""Rows spread over several devices of JAX's on the host stay there, compiled engine or not."""

import os
import subprocess
import sys

import pytest

import xloss
from fresh import PATIENCE
from places import SUPPORT

jax = pytest.importorskip("jax")
REASON = xloss.engines()["cpu"]


@pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
def test_rows_spread_over_four_devices():
    if not hasattr(jax, "set_mesh"):
        pytest.skip("this JAX has no explicit axes")
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    script = SUPPORT / "ffi_devices.py"
    made = subprocess.run(
        [sys.executable, str(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=500 * PATIENCE,
        check=False,
    )
    assert made.stdout == "held\n", made.stdout + made.stderr[-3000:]
