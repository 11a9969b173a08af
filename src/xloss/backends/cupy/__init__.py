"""CuPy: the eager backend, with what NVIDIA's libraries offer beyond the standard."""
