"""The run on a GPU: `python -m benchmarks gpu`, rehearsed on the host with `--tiny`."""
