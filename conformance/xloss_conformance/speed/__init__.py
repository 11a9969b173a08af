"""Benchmarks: xloss and the peers of the conformance suite, timed in the same run."""
