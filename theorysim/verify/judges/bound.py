"""Inequalities: for every admissible input, in expectation, and with high probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.intervals import clopper_pearson, draws_without_violation
from theorysim.verify.judges._evidence import Evidence, decide, draws_of, invalid, label_of, matched
from theorysim.verify.judges._functionals import functional_evidence
from theorysim.verify.verdict import Judgement, Status

Sense = Literal["<=", ">="]
REPLAYED = 64
"""Suspected violations that are recomputed in the next precision, worst first; one beyond them stays uncertified."""
UNREPLAYED_MARGIN = 1e3
"""Rounding bounds that a violation must exceed to count as certified without a replay."""


class _Slack:
    """Slack rhs - lhs of an array of inequalities, with the rounding bound of each.

    An infinite side decides an inequality where the other is finite; NaN, and infinity against itself, are invalid.
    """

    def __init__(self, observed: Any, predicted: Any, sense: Sense, rounding: float) -> None:
        observed, predicted = np.broadcast_arrays(observed, predicted)
        self.lhs, self.rhs = (observed, predicted) if sense == "<=" else (predicted, observed)
        with np.errstate(invalid="ignore", over="ignore"):
            self.slack = self.rhs - self.lhs
            size = np.abs(self.lhs) + np.abs(self.rhs)
        self.invalid = np.asarray(self.slack != self.slack)
        # a few units in the last place at least, whatever was declared: float32 results are not good to 1e-12, and what
        # underflows is not good to anything
        unit = max(rounding, 8 * max(_epsilon(observed.dtype), _epsilon(predicted.dtype)))
        least = max(_least(observed.dtype), _least(predicted.dtype))
        self.rounding = np.where(np.isinf(size.astype(float)), 0.0, unit * size + least)
        self.violating = ~self.invalid & (self.slack < -self.rounding)

    @property
    def relative(self) -> np.ndarray:
        """Slack over |rhs| (over |lhs| where rhs is 0); infinite where invalid or equal at 0."""
        size = np.where(self.rhs == 0, np.abs(self.lhs), np.abs(self.rhs)).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.asarray(self.slack, float) / size
        infinite = np.where(self.violating, -np.inf, np.inf)
        return np.where(self.invalid | ~np.isfinite(relative), infinite, relative)

    @property
    def usage(self) -> float:
        """Largest lhs/rhs over positive finite rhs: the constant could be this many times what it is."""
        usable = ~self.invalid & (self.rhs > 0) & (np.abs(self.rhs) < np.inf)
        return float((self.lhs[usable] / self.rhs[usable]).max()) if usable.any() else -math.inf


@dataclass
class _Tally:
    """What has been seen so far."""

    draws: int = 0
    inputs: int = 0
    tight: int = 0
    invalid: int = 0
    violating: int = 0
    cleared: int = 0
    least: float = math.inf
    least_at: str = ""
    usage: float = -math.inf
    certified: str = ""
    doubtful: str = ""


@dataclass(frozen=True)
class Bound:
    """observed <= predicted (or >=) at every component of every admissible sample.

    Samples are independent draws from the claim's input distribution; components of one sample are not. Refuted by a
    single sample that violates beyond its rounding bound and does so again in the next precision (without a replay:
    beyond 1000 rounding bounds). Verified, about that distribution, if none violates and there are log(alpha)/log(1 -
    mass) draws: a violating mass of `mass` or more would then have gone unseen with probability at most alpha.

    rounding: E = rounding * (|observed| + |predicted|) bounds what rounding can do to the slack.
    exhaustive: the inputs are a fixed grid or single instances, not draws: their number is not asked for.
    """

    mass: float = 1e-3
    sense: Sense = "<="
    rounding: float = 1e-12
    exhaustive: bool = False
    kind: Kind = "bound"

    def __post_init__(self) -> None:
        require(0 < self.mass < 1, f"mass must lie in (0, 1), got {self.mass}")
        require(self.sense in ("<=", ">="), f"sense must be <= or >=, got {self.sense!r}")
        require(0 <= self.rounding < 1, f"rounding must lie in [0, 1), got {self.rounding}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """One judgement over all draws of all settings."""
        tally = _Tally()
        for case in cases:
            self._add(tally, case)
        needed = 1 if self.exhaustive else draws_without_violation(self.mass, alpha)
        status: Status = "inconclusive"
        reason = ""
        if tally.certified:
            status = "refuted"
        elif tally.inputs == 0:
            reason = "invalid data: no data"
        elif tally.invalid:
            reason = f"invalid data: {tally.invalid} of {tally.inputs} inequalities are undefined"
        elif tally.doubtful:
            reason = "violation not certified"
        elif tally.draws < needed:
            reason = f"{tally.draws} draws without violation, {needed} are needed"
        else:
            status = "verified"
        seen = tally.violating - tally.cleared
        limit = float(clopper_pearson(seen, tally.draws, alpha)[1]) if tally.draws else 1.0
        sound = tally.inputs > 0 and not (seen or tally.invalid)
        random = not (self.exhaustive or tally.certified)
        share = seen / max(tally.draws, 1)
        return Judgement(
            status,
            self.kind,
            predicted=0.0,
            estimate=share if tally.draws else None,
            interval=(0.0, limit) if random else (share, share),
            region=(0.0, 0.0 if self.exhaustive else self.mass),
            # the chance of seeing no violation if their mass were as large as `mass`
            p_verified=((1 - self.mass) ** tally.draws if sound else 1.0) if random else None,
            p_refuted=1.0 if random else None,
            certified=not random,
            samples=tally.draws,
            worst=tally.certified or tally.doubtful or tally.least_at,
            reason=reason,
            needed=needed if tally.draws < needed and not tally.certified else None,
            gates={
                "violating mass": self.mass,
                "inequalities": tally.inputs,
                "violations": seen,
                "cleared in higher precision": tally.cleared,
                "tight": tally.tight,
                "least slack/|rhs|": tally.least,
                "at": tally.least_at,
                "tightening": tally.usage,
            },
        )

    def _add(self, tally: _Tally, case: Case) -> None:
        observed, predicted, mask = matched(case)
        samples = np.flatnonzero(mask)
        tally.draws += len(samples)
        if observed[mask].size == 0:
            return
        found = _Slack(observed[mask], predicted[mask], self.sense, self.rounding)
        relative = found.relative
        tally.inputs += relative.size
        tally.invalid += int(found.invalid.sum())
        tally.tight += int((np.abs(found.slack) <= found.rounding).sum())
        tally.usage = max(tally.usage, found.usage)
        index = np.unravel_index(int(relative.argmin()), relative.shape)
        if relative[index] < tally.least:
            tally.least = float(relative[index])
            tally.least_at = label_of(case.setting, (int(samples[index[0]]), *map(int, index[1:])))
        rows = found.violating.reshape(len(samples), -1).any(1)
        tally.violating += int(rows.sum())
        worst_first = np.argsort(relative.reshape(len(samples), -1).min(1), kind="stable")
        for position, row in enumerate(worst_first[rows[worst_first]]):
            if tally.certified:
                return
            label = label_of(case.setting, (int(samples[row]),))
            if case.replay is not None and position < REPLAYED:
                again = _replayed(case.replay(int(samples[row])), self, observed.dtype)
                tally.invalid += int(again.invalid.any())
                confirmed = bool(again.violating.any())
                tally.cleared += not confirmed and not again.invalid.any()
            else:
                margin = UNREPLAYED_MARGIN * found.rounding[row]
                confirmed = case.replay is None and bool((found.violating[row] & (found.slack[row] < -margin)).any())
                if not confirmed:
                    tally.doubtful = label
            if confirmed:
                tally.certified = label


def _replayed(sides: tuple[Any, Any], bound: Bound, first: np.dtype) -> _Slack:
    """The sample in the next precision, with a rounding bound smaller by as much as the precision is finer."""
    observed, predicted = (np.asarray(side) for side in sides)
    finer = _epsilon(np.result_type(observed, predicted)) / _epsilon(first)
    return _Slack(observed, predicted, bound.sense, bound.rounding * min(1.0, finer))


def _epsilon(dtype: np.dtype) -> float:
    """Spacing of the numbers next to 1; objects (mpmath) are taken for quadruple precision, integers for float64."""
    return 2.0**-112 if dtype.kind == "O" else float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _least(dtype: np.dtype) -> float:
    """The smallest normal number; 0 for objects, and where float64 does not hold it."""
    return 0.0 if dtype.kind == "O" else float(np.finfo(dtype if dtype.kind == "f" else np.float64).tiny)


@dataclass(frozen=True)
class ExpectationBound:
    """E observed <= predicted (or >=) up to a tolerance, at every setting and component, one-sided Judge 0.

    With tolerance 0 a claim whose equality case occurs stays inconclusive there.

    tolerance: of the prediction's size, or `absolute`.
    skewed, bias: as in `Equivalence`.
    """

    tolerance: float = 0.05
    absolute: bool = False
    sense: Sense = "<="
    skewed: bool = False
    bias: float = 0.0
    kind: Kind = "bound"

    def __post_init__(self) -> None:
        require(self.tolerance >= 0, f"tolerance must be at least 0, got {self.tolerance}")
        require(self.sense in ("<=", ">="), f"sense must be <= or >=, got {self.sense!r}")
        require(self.bias >= 0, f"bias must be at least 0, got {self.bias}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every setting and component is; refuted iff some p-value is at most alpha/J."""
        evidence = [
            item
            for case in cases
            for item in functional_evidence(
                case,
                tolerance=self.tolerance,
                absolute=self.absolute,
                side="upper" if self.sense == "<=" else "lower",
                skewed=self.skewed,
                bias=self.bias,
                alpha=alpha,
            )
        ]
        return decide(evidence, self.kind, alpha, bias=self.bias, absolute=self.absolute)


@dataclass(frozen=True)
class ProbabilityBound:
    """P(observed > predicted) <= delta (sense <=), by Clopper-Pearson limits, at every setting and component.

    delta: probability that the claim allows.
    tolerance: relative slack on delta; the verdict is about delta * (1 + tolerance).
    """

    delta: float = 0.05
    tolerance: float = 0.5
    sense: Sense = "<="
    kind: Kind = "bound"

    def __post_init__(self) -> None:
        require(0 < self.delta < 1, f"delta must lie in (0, 1), got {self.delta}")
        require(self.tolerance >= 0, f"tolerance must be at least 0, got {self.tolerance}")
        allowed = self.delta * (1 + self.tolerance)
        require(allowed < 1, f"delta * (1 + tolerance) must be below 1, got {allowed}")
        require(self.sense in ("<=", ">="), f"sense must be <= or >=, got {self.sense!r}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Infinite values are decided by the inequality; NaN is invalid."""
        evidence = []
        for case in cases:
            draws = draws_of(case)
            for a, b, label in zip(draws.observed, draws.predicted, draws.labels, strict=True):
                evidence.append(self._evidence(a, b, label, alpha))
        return decide(evidence, self.kind, alpha, absolute=True)

    def _evidence(self, a: np.ndarray, b: np.ndarray, label: str, alpha: float) -> Evidence:
        trials, allowed = len(a), self.delta * (1 + self.tolerance)
        if trials == 0 or np.isnan(a).any() or np.isnan(b).any():
            return invalid(label, "invalid data: no data" if trials == 0 else "invalid data: NaN", self.delta, trials)
        failures = int(np.sum(a > b if self.sense == "<=" else a < b))
        lower, upper = clopper_pearson(failures, trials, alpha)
        rate = failures / trials
        return Evidence(
            label,
            self.delta,
            rate,
            (float(lower), float(upper)),
            (-math.inf, allowed),
            # exact binomial tails at the edge of the region: what the Clopper-Pearson limits invert
            float(stats.binom.cdf(failures, trials, allowed)),
            float(stats.binom.sf(failures - 1, trials, allowed)),
            se=math.sqrt(max(rate * (1 - rate), allowed * (1 - allowed)) / trials),
            seeds=trials,
            gates={"failures": failures},
        )
