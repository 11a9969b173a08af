"""The floating formats: significant bits, and the exponent of the largest number."""

FORMATS = {"float16": (11, 15), "bfloat16": (8, 127), "float32": (24, 127), "float64": (53, 1023)}


def accumulated(dtype: str) -> str:
    """Return the dtype of the loss: float32 at least."""
    return "float64" if dtype == "float64" else "float32"
