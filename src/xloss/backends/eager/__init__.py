"""Libraries that compute at once and have no autodiff: the engine's outcome, reduced."""
