"""The place from which conventions of users import `Differs`; `xloss_conformance.Differs` is it."""

from .model import Differs

__all__ = ["Differs"]
