"""Arrays of any library: the only room that imports array-api-compat."""
