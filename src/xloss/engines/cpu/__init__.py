"""The engine compiled for the host by Numba: its kernels, their cache on disk, its threads."""
