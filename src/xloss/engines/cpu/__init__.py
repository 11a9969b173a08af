"""The engine compiled for the host by Numba, and what it stands on: kernels, their cache, threads."""
