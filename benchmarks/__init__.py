"""Benchmarks: xloss and its peers, timed in turns, on the host and on a GPU. Not shipped.

`python -m benchmarks --help` says how to run them; CONTRIBUTING.md, what each command writes.
"""
