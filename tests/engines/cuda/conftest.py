"""What the tests of the CUDA engine share."""

import pytest


@pytest.fixture(scope="session")
def nvrtc() -> None:
    """NVIDIA's run-time compiler, which needs no GPU."""
    found = pytest.importorskip("cuda.bindings.nvrtc", reason="pip install 'xloss[cuda]'")
    pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
    try:
        found.nvrtcVersion()
    except Exception as error:
        pytest.skip(f"{error}: pip install 'xloss[cuda]' brings it")
