"""The one table: backend x device x dtype x feature; tests, README and command line read it."""

from __future__ import annotations

ENGINES: dict[str, str | None] = {"generic": None}
