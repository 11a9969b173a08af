"""Arrays spread over devices along axes of type Explicit, the default of jax.make_mesh.

Such an axis refuses slices, gathers and updates whose layout is not clear, among them the halving
that a sum in pairs of floats was made of.
"""

import pytest

from fresh import python
from places import SUPPORT

jax = pytest.importorskip("jax")


@pytest.mark.nightly
def test_every_loss_of_arrays_spread_over_an_explicit_mesh():
    if not hasattr(jax, "set_mesh"):
        pytest.skip("this JAX has no explicit axes")
    script = (SUPPORT / "mesh_jax.py").read_text(encoding="utf-8")
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    made = python(script, env=env, timeout=500)
    assert made.stdout == "done\n", made.stdout + made.stderr[-2000:]
