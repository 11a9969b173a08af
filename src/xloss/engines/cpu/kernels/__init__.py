"""Compiled row arithmetic for the host: what engines/cpu calls, once Numba is there."""
