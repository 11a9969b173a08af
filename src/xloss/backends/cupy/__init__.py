"""CuPy: what its own libraries of NVIDIA's offer beyond the standard."""
