"""The engine compiled for NVIDIA GPUs: launch plans, the driver, and the kernels in CUDA C++."""
