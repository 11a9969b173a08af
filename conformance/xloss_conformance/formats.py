"""The floating formats: significant bits, and the exponent of the largest number."""

FORMATS = {"float16": (11, 15), "bfloat16": (8, 127), "float32": (24, 127), "float64": (53, 1023)}
