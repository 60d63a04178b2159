"""A claim: a theorem as data, readable aloud. Prediction and measurement meet here and nowhere else.

A claim holds one or more checks (most hold one). A check says what is run (an experiment over a design), what is read off
the results (`observable`), what the theory says of it (`predict`), which judge compares them, and which single thing its
control breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from theorysim.errors import require
from theorysim.sweep import Experiment
from theorysim.verify.verdict import ALPHA, Judgement

PRESETS = ("quick", "standard", "paper")
KINDS = ("identity", "bound", "limit", "law", "rate", "threshold", "ordering")
Kind = Literal["identity", "bound", "limit", "law", "rate", "threshold", "ordering"]

Setting = Any
Results = Mapping[str, np.ndarray]
"""Measured arrays of one setting; the leading axis of each is the seed."""


class Case(NamedTuple):
    """One setting's evidence, as a judge sees it.

    setting: the setting, for labels.
    observed: shape (seeds, ...).
    predicted: broadcastable against `observed`; for a law, the law.
    size: what grows in limits, rates and thresholds: a number, or a vector along the last axis of `observed`.
    group: settings with equal `group` form one sequence in size; several groups are several settings of the claim.
    admissible: shape (seeds,), which samples satisfy the claim's assumptions; None for all. Others are no draws from the
        claim's distribution and are not counted.
    floor: rounding floor of the relative difference, broadcastable against `observed`; None where not measured.
    replay: seed index -> (observed, predicted) of that sample, recomputed in the next precision; None where not available.
    """

    setting: Setting
    observed: np.ndarray
    predicted: Any
    size: float | np.ndarray | None = None
    group: object = None
    admissible: np.ndarray | None = None
    floor: np.ndarray | None = None
    replay: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None


@runtime_checkable
class Judge(Protocol):
    """A frozen dataclass: its fields are tolerances and declared orders, fixed before the data.

    A judge never raises on what the data hold: NaN, empty data and diverged runs are `inconclusive`, with the reason.
    """

    @property
    def kind(self) -> Kind: ...

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement: ...


@dataclass(frozen=True)
class Design:
    """What a preset runs: every setting with `seeds` independent seeds."""

    settings: tuple[Setting, ...]
    seeds: int = 1

    def __post_init__(self) -> None:
        require(len(self.settings) > 0, "settings of a design must not be empty, got ()")
        require(self.seeds >= 1, f"seeds of a design must be at least 1, got {self.seeds}")


@dataclass(frozen=True)
class Control:
    """The one thing that is broken; every field that is not None replaces the check's own. The judge stays."""

    breaks: str
    predict: Callable[..., Any] | None = None
    observable: Callable[..., Any] | None = None
    admissible: Callable[..., Any] | None = None
    design: Mapping[str, Design] | None = None
    experiment: Experiment | None = None
    replay: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Range:
    """Values from low to high of a field, each element of an array its own; `log`: spaced evenly in the logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        finite = bool(np.isfinite([self.low, self.high]).all())
        require(finite and self.low < self.high, f"range must be finite with low < high, got {self.low} to {self.high}")
        require(self.low > 0 or not self.log, f"low end of a logarithmic range must be positive, got {self.low}")


@dataclass(frozen=True)
class Search:
    """Where else a bound is said to hold: what `theorysim falsify` may move besides the seed.

    draws: it holds for every draw, not for most: the numbers drawn from the key are moved one by one, too.
    ranges: traced fields of the settings, by name ("eta", "problem.lam").
    choices: other values of further fields, such as sizes; each needs a program of its own.
    """

    draws: bool = False
    ranges: Mapping[str, Range] = field(default_factory=dict)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One comparison of a prediction with a measurement.

    observable: (setting, results) -> array (seeds, ...), in NumPy.
    predict: (setting, inputs) -> value, broadcastable against the observable. It sees the setting and the arrays named in
        `inputs` (what the instance *is*: its margin, the norm of its initialisation, the recorded times), never the rest.
    inputs: names of the results that describe the instance.
    admissible: (setting, results) -> bool (seeds,): the claim's assumptions, where they depend on the sample.
    size, group: of a setting, see `Case`.
    floor: (setting, results) -> rounding floor, see `Case`.
    replay: (setting, key) -> the results of that one sample, recomputed in the next precision, so that rounding is never
        called a counterexample.
    search: of a bound, where else it is said to hold; None where counterexamples are sought among independent draws alone.
    """

    name: str
    experiment: Experiment
    design: Mapping[str, Design]
    observable: Callable[[Setting, Results], Any]
    predict: Callable[[Setting, Results], Any]
    judge: Judge
    control: Control
    inputs: tuple[str, ...] = ()
    admissible: Callable[[Setting, Results], Any] | None = None
    size: Callable[[Setting], Any] | None = None
    group: Callable[[Setting], object] | None = None
    floor: Callable[[Setting, Results], Any] | None = None
    replay: Callable[[Setting, Any], Results] | None = None
    search: Search | None = None

    def broken(self) -> Check:
        """The control as a check of its own; one with a design of its own is not searched beyond it."""
        fields = ("predict", "observable", "admissible", "design", "experiment", "replay")
        changes = {name: getattr(self.control, name) for name in fields if getattr(self.control, name) is not None}
        if "design" in changes or "experiment" in changes:
            changes["search"] = None
        return replace(self, name=f"{self.name} (control)", **changes)


@dataclass(frozen=True)
class Claim:
    """An executable theorem.

    id: "<paper>.<claim>".
    statement: one sentence with its formula.
    source: paper with theorem or equation, and whether constants were derived here.
    assumptions: what must hold, in words.
    note: what was found when it was checked, shown in the report.
    announced: True when the note explains why the claim is refuted as stated (a finding, not a failure).
    """

    id: str
    kind: Kind
    statement: str
    source: str
    assumptions: str
    checks: tuple[Check, ...]
    note: str = ""
    announced: bool = False

    def __post_init__(self) -> None:
        require(self.id.count(".") >= 1, f"claim id must read <paper>.<claim>, got {self.id!r}")
        require(self.kind in KINDS, f"kind of {self.id} must be one of {', '.join(KINDS)}, got {self.kind!r}")
        require(len(self.checks) > 0, f"checks of {self.id} must not be empty, got ()")
        names = [check.name for check in self.checks]
        require(len(set(names)) == len(names), f"check names of {self.id} must differ, got {names}")
        require(not self.announced or bool(self.note), f"{self.id} announces a refutation, so its note must say why")

    @property
    def paper(self) -> str:
        """Slug of the paper."""
        return self.id.split(".", 1)[0]
