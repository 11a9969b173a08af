"""Dask: core mapped over chunks along rows and classes, statistics merged, nothing computed."""
