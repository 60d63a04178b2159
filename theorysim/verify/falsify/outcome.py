"""What a search for counterexamples reports of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """An input, and both sides of the bound there.

    setting: in words. key: 64 bits of threefry key data from which the rest was drawn. draws: numbers in place of the key's
        own, in the order in which the measurement draws them (uniform on [0, 1), or standard normal); None where they are its own.
    instance: the measured numbers that the prediction is made of.
    observed, predicted: of the component with the least slack. slack: right side minus left side.
    relative: slack over |predicted| (over |observed| where that is 0; the slack itself if every prediction is 0).
    found: by which part of the search.
    """

    setting: str
    key: tuple[int, int]
    draws: tuple[float, ...] | None
    instance: dict[str, Any]
    component: int
    observed: float
    predicted: float
    slack: float
    relative: float
    found: str


@dataclass(frozen=True)
class Falsification:
    """The search on one check.

    draws: admissible independent draws of the check's own distribution, the ones that count; 0 for an exhaustive check.
    limit: upper confidence limit of the violating mass of that distribution, None without draws.
    mass: violating mass that the check's judge excludes.
    trials: admissible inputs tried besides.
    undefined: inputs at which an inequality is undefined.
    least: input of least relative slack; None where no inequality was defined.
    tightening: largest factor by which the bound's constant could be tightened before one of the inputs tried breaks it (the
        right side divided, or the left side multiplied by it); None where no right side is positive.
    ascent: how the slack was driven down: "gradient", "steps without gradient (<why>)", or "none (<why>)".
    counterexample: the smallest certified violation.
    """

    check: str
    draws: int
    limit: float | None
    mass: float
    trials: int
    undefined: int
    least: Place | None
    tightening: float | None
    ascent: str
    counterexample: Place | None
    seconds: float
