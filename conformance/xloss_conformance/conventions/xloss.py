"""f(logits, targets, **options of xloss's loss of that name), on NumPy arrays or others."""

from __future__ import annotations

from .base import Convention

CONVENTION = Convention()
