"""Arrays spread over devices along axes of type Explicit, the default of jax.make_mesh.

Such an axis refuses slices, gathers and updates whose layout is not clear, among them the halving
that a sum in pairs of floats was made of.
"""

import os
import subprocess
import sys

import pytest

from fresh import PATIENCE
from places import SUPPORT

jax = pytest.importorskip("jax")


@pytest.mark.nightly
def test_every_loss_of_arrays_spread_over_an_explicit_mesh():
    if not hasattr(jax, "set_mesh"):
        pytest.skip("this JAX has no explicit axes")
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    script = SUPPORT / "mesh_jax.py"
    made = subprocess.run(
        [sys.executable, str(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=500 * PATIENCE,
        check=False,
    )
    assert made.stdout == "done\n", made.stdout + made.stderr[-2000:]
