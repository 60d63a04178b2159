"""What a judge says of one check, and what the report says of a claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

ALPHA = 2e-4
"""Error rate of a verdict, per claim and per direction: .05 over a report of 250 claims."""

Status = Literal["verified", "refuted", "inconclusive"]
ClaimStatus = Literal["verified", "refuted", "inconclusive", "toothless"]


@dataclass(frozen=True)
class Judgement:
    """A judge's decision about one check, with the evidence it rests on.

    status: verified, refuted or inconclusive.
    kind: the kind of judge that decided.
    predicted, estimate, interval: the headline numbers, of the worst setting when there are several. `interval` is the one
        that decides: a confidence interval at the judge's level unless `certified`.
    region: tolerance region [lo, hi] of the estimated parameter, fixed before the data.
    p_verified, p_refuted: p-values of the two null hypotheses (outside the region; inside it). None where the decision is
        deterministic (`certified`): a certified counterexample or a model-error interval.
    se, df, bias: standard error, degrees of freedom, stated bias bound.
    samples: number of independent units used (for a bound: admissible independent draws).
    worst: the setting or component that decided, in words.
    reason: why, when the status needs a word (invalid data, underpowered, no survivor of the lack-of-fit gate, ...).
    needed: units per setting that would decide, when inconclusive for lack of data.
    resolution: smallest relative distortion of the prediction that is refuted with probability .95, where defined.
    gates: named diagnostics (skewness, lack of fit, rounding floor, local slopes, least slack, ...), for the report.
    """

    status: Status
    kind: str
    predicted: float | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    region: tuple[float, float] | None = None
    p_verified: float | None = None
    p_refuted: float | None = None
    certified: bool = False
    se: float | None = None
    df: float | None = None
    bias: float = 0.0
    samples: int = 0
    worst: str = ""
    reason: str = ""
    needed: int | None = None
    resolution: float | None = None
    gates: dict[str, Any] = field(default_factory=dict)


def refutes(judgement: Judgement, chances: int) -> bool:
    """A certified counterexample, or a p-value that stays below alpha where any of `chances` looks and checks may err."""
    chance = 0.0 if judgement.certified or judgement.p_refuted is None else judgement.p_refuted
    return judgement.status == "refuted" and chance <= ALPHA / chances


@dataclass(frozen=True)
class Budget:
    """What a judgement rests on.

    seeds: of each setting. planned: what the design plans.
    look, looks: at which of how many looks it was reached; each was judged at alpha/looks.
    """

    seeds: int
    planned: int
    look: int = 1
    looks: int = 1


@dataclass(frozen=True)
class CheckVerdict:
    """The judgement of one check of a claim beside the judgement of its control."""

    name: str
    judgement: Judgement
    control: Judgement
    breaks: str
    sizes: tuple[float, ...] = ()
    budget: Budget | None = None
    control_budget: Budget | None = None
    seconds: float = 0.0

    @property
    def empty(self) -> bool:
        """Nothing was admissible here or in the control, as where a preset is too small for the claim's assumptions."""
        undecided = self.judgement.status == self.control.status == "inconclusive"
        return undecided and self.judgement.samples == self.control.samples == 0

    @property
    def toothless(self) -> bool:
        """The control had data and was not refuted: the check has not shown that it could fail."""
        return self.control.status != "refuted" and not self.empty

    @property
    def teeth(self) -> str:
        """The control's outcome in words."""
        if self.control.status == "refuted":
            return "refuted"
        if self.empty:
            return "no data"
        return "control passes" if self.control.status == "verified" else "underpowered control"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim: the conjunction of its checks, none of which may be toothless."""

    claim: str
    paper: str
    kind: str
    preset: str
    seed: int
    checks: tuple[CheckVerdict, ...]
    note: str = ""
    announced: bool = False
    seconds: float = 0.0

    @property
    def status(self) -> ClaimStatus:
        """toothless if any control survives, else refuted if any check is, else verified if all are."""
        if any(check.toothless for check in self.checks):
            return "toothless"
        return self.judged

    @property
    def judged(self) -> Status:
        """The conjunction of the judgements alone, controls apart: verified iff all are, refuted iff one is at alpha/J."""
        if any(self._refutes(check) for check in self.checks):
            return "refuted"
        return "verified" if all(check.judgement.status == "verified" for check in self.checks) else "inconclusive"

    def _refutes(self, check: CheckVerdict) -> bool:
        """The check refutes the claim, at a level that allows for the other checks and for all looks."""
        return refutes(check.judgement, len(self.checks) * (check.budget.looks if check.budget else 1))

    @property
    def headline(self) -> CheckVerdict:
        """The check that decided: the first that is toothless, refuted or not verified, else the first."""
        signs = (lambda check: check.toothless, self._refutes)
        signs += (lambda check: check.judgement.status != "verified",)
        return next((check for sign in signs for check in self.checks if sign(check)), self.checks[0])

    @property
    def failed(self) -> bool:
        """Refuted or toothless, and the claim's note does not announce it."""
        return self.status == "toothless" or (self.status == "refuted" and not self.announced)
