"""The mathematics: takes an array namespace, names no library."""
