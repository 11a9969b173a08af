"""The GPUs that the driver shows, found without making a context on them."""

from __future__ import annotations

from .driver import missing


def gpus() -> list[str]:
    """Return each GPU's name and compute capability, where kernels can run at all."""
    if missing() is not None:
        return []
    from cuda.bindings import driver

    attribute = driver.CUdevice_attribute
    major = attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    minor = attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
    found = []
    for number in range(driver.cuDeviceGetCount()[1]):
        device = driver.cuDeviceGet(number)[1]
        name = driver.cuDeviceGetName(128, device)[1].split(b"\0")[0].decode()
        first, second = (driver.cuDeviceGetAttribute(a, device)[1] for a in (major, minor))
        found.append(f"cuda:{number} {name}, compute capability {first}.{second}")
    return found
