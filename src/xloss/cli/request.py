"""What one run of `xloss eval` is asked for, as plain values that any process can be sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .loss_choices import CHOICES, LossChoice
from .output import fail

IGNORE_INDEX = -100


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments and options of `xloss eval`; None is an option that was not given."""

    logits: str
    targets: str
    backend: str = "numpy"
    loss: str = "cross_entropy"
    shift: bool = False
    axis: int | None = None
    ignore_index: int | None = None
    label_smoothing: float | None = None
    weight: str | None = None
    eps: float | None = None
    gamma: float | None = None
    alpha: float | None = None
    worst: int = 5
    scheduler: str | None = None

    @property
    def choice(self) -> LossChoice:
        """The loss that is asked for."""
        if self.loss not in CHOICES:
            fail(f"--loss {self.loss}: expected one of {', '.join(CHOICES)}")
        return CHOICES[self.loss]

    @property
    def ignored(self) -> int:
        """The label of the rows that are left out."""
        return IGNORE_INDEX if self.ignore_index is None else self.ignore_index

    def loss_options(self, axis: int | None, weight: Any) -> dict[str, Any]:
        """Return the options of the public function, with its class axis and its class weights."""
        names = ("ignore_index", "label_smoothing", "eps", "gamma", "alpha")
        given = {"axis": axis, "weight": weight} | {n: getattr(self, n) for n in names}
        return {name: value for name, value in given.items() if value is not None}


def refuse_idle(request: Request) -> None:
    """Refuse an option that the loss does not have: leaving it out unsaid would change the number.

    None or False is an option that was not given.
    """
    choice = request.choice
    known = frozenset[str]().union(*(c.options for c in CHOICES.values()))
    for name, value in asdict(request).items():
        if name not in known - choice.options or value is None or value is False:
            continue
        flag = f"--{name.replace('_', '-')}"
        owners = ", ".join(c.name for c in CHOICES.values() if name in c.options)
        fail(f"{flag}: {choice.name} has no such option; only {owners}")
