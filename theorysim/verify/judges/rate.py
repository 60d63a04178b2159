"""A scaling exponent: slope of the log of the mean, its declared correction, and local slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.extrapolation import (
    Functional,
    LinearModel,
    hull,
    independent_sizes,
    linear_model,
    local_slopes,
    log_mean_pseudovalues,
    log_means,
    rate_models,
    richardson,
    shared_seeds,
    slope_gauges,
    small_correction,
)
from theorysim.verify.judges._evidence import (
    Evidence,
    SizeSequence,
    decide,
    decide_certified,
    exact_sequences,
    invalid,
    one_sided,
    sequences,
)
from theorysim.verify.judges._functionals import Side, unusable
from theorysim.verify.judges.limit import checked_orders, exact_orders, hull_evidence
from theorysim.verify.primitive import t_quantile
from theorysim.verify.verdict import Judgement

CURVATURE = 1e-5
"""Curvature of log y with a smaller p-value, where no correction was declared, leaves the claim undecided."""
RELATIVE_VARIANCE = 0.05
"""Largest squared relative s.e. of a mean whose logarithm is taken."""


@dataclass(frozen=True)
class Rate:
    """The mean grows like n^predicted: `predicted` is the slope of log E y in log n, negative for decay.

    Sequences in size as in `Limit`; observed values are the y themselves, averaged before the logarithm is taken.

    tolerance: absolute, on the exponent.
    side: two-sided; upper: the slope is at most predicted + tolerance ("decays at least as fast"); lower: mirrored.
    correction: order b (b,) or range (lo, hi) of a correction 1 + B n^-b. None declares a pure power law (for exact
        data: the default range .5 to 2).
    exponential: the slope is in n itself, y = c exp(predicted n), and corrections are exp(-b n).
    deterministic: exact data, four sizes at least, any spacing: local slopes, extrapolated; a model-error interval.
    """

    tolerance: float = 0.05
    side: Side = "two-sided"
    correction: tuple[float, ...] | None = None
    exponential: bool = False
    deterministic: bool = False
    kind: Kind = "rate"

    def __post_init__(self) -> None:
        require(self.tolerance > 0, f"tolerance must be positive, got {self.tolerance}")
        allowed = ("two-sided", "upper", "lower")
        require(self.side in allowed, f"side must be one of {', '.join(allowed)}, got {self.side!r}")
        checked_orders("correction", self.correction)
        declared = not (self.exponential and self.deterministic) or self.correction is not None
        require(
            declared, "correction of an exact exponential rate must be declared, in inverse units of size, got None"
        )

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every sequence and component is; refuted iff some p-value is at most alpha/J."""
        if self.deterministic:
            return decide_certified([e for s in exact_sequences(cases) for e in self._exact(s)], self.kind)
        evidence = [e for sequence in sequences(cases) for e in self._statistical(sequence, alpha)]
        return decide(evidence, self.kind, alpha, absolute=True)

    def _region(self, predicted: float) -> tuple[float, float]:
        return one_sided((predicted - self.tolerance, predicted + self.tolerance), self.side)

    def _axis(self, sequence: SizeSequence) -> np.ndarray:
        return sequence.sizes if self.exponential else np.log(sequence.sizes)

    def _statistical(self, sequence: SizeSequence, alpha: float) -> list[Evidence]:
        x = self._axis(sequence)
        evidence = []
        least = 4 if self.correction is None else 6
        for component, (label, predicted) in enumerate(zip(sequence.labels, sequence.predicted, strict=True)):
            values = [v[component] for v in sequence.columns]
            seeds = min((len(v) for v in values), default=0)
            problem = next((problem for v in values if (problem := unusable(v))), "")
            if len(x) < least:
                problem = f"a rate needs at least {least} sizes here, got {len(x)}"
            elif not problem and any(np.ptp(v) == 0 for v in values):
                problem = "invalid data: no spread between seeds"
            elif not problem and any(v.mean() <= 0 for v in values):
                problem = "invalid data: a mean that is not positive has no logarithm"
            if not problem:
                means = np.array([v.mean() for v in values])
                logs = log_means(means, np.array([v.var(ddof=1) / len(v) for v in values]))
                if logs.variance.max() > RELATIVE_VARIANCE:
                    problem = (
                        f"relative s.e. of a mean is {np.sqrt(logs.variance.max()):.2g}, too large for its logarithm"
                    )
            pseudo = None
            if not problem and sequence.shared:
                pseudo = log_mean_pseudovalues(np.stack(values, -1))
                if not np.isfinite(pseudo).all():
                    problem = "invalid data: one seed alone decides the sign of a mean"
            if problem:
                evidence.append(invalid(label, problem, float(predicted), seeds))
                continue
            counts = np.array([len(v) for v in values], float)

            def fit(model: LinearModel, pseudo=pseudo, logs=logs, counts=counts) -> Functional:
                if pseudo is not None:
                    return shared_seeds(model, pseudo)
                return independent_sizes(model, logs.value, logs.variance, counts)

            centre = logs.value if pseudo is None else pseudo.mean(0)
            families = rate_models(tuple(x), self.correction)
            fits = [small_correction(family, centre, x, fit) for family in families]
            region = self._region(float(predicted))
            result = hull(fits, *region, alpha)
            coefficient, limits, curvature_p = _curvature(x, fit, alpha)
            gates: dict[str, object] = {
                "local slopes": tuple(map(float, local_slopes(x, centre))),
                "curvature": coefficient,
                "curvature interval": limits,
                "curvature p": curvature_p,
            }
            models = [family.members[0] for family in families]
            found = hull_evidence(label, float(predicted), region, result, models, seeds, self.tolerance, gates)
            if self.correction is None and curvature_p < CURVATURE:
                found = invalid(label, "curvature without a declared correction", float(predicted), seeds)
            evidence.append(found)
        return evidence

    def _exact(self, sequence: SizeSequence) -> list[Evidence]:
        x, orders = self._axis(sequence), exact_orders(self.correction)
        doubling = np.full(len(orders), 2.0) if self.exponential else 2.0 ** np.array(orders)
        evidence = []
        for label, predicted, values in zip(sequence.labels, sequence.predicted, sequence.values, strict=True):
            values = values.reshape(-1)
            problem = "" if np.isfinite(predicted) else "invalid data: a prediction that is not finite"
            if len(x) < 4:
                problem = f"an exact rate needs at least 4 sizes, got {len(x)}"
            elif not (np.isfinite(values).all() and (values > 0).all()):
                problem = "invalid data: values that are not finite and positive"
            if problem:
                evidence.append(invalid(label, problem, float(predicted), 1))
                continue
            slopes = local_slopes(x, np.log(values))
            found = richardson(slopes, slope_gauges(x, orders), doubling)
            evidence.append(
                Evidence(
                    label,
                    float(predicted),
                    float(found.estimate),
                    (float(found.lower), float(found.upper)),
                    self._region(float(predicted)),
                    1.0,
                    1.0,
                    seeds=1,
                    gates={
                        "local slopes": tuple(map(float, slopes)),
                        "orders": orders,
                        "extrapolated": tuple(map(float, found.extrapolated)),
                    },
                )
            )
        return evidence


def _curvature(x: np.ndarray, fit, alpha: float) -> tuple[float, tuple[float, float], float]:
    """Coefficient of x^2 in log y, its interval and its two-sided p-value."""
    columns = np.stack([np.ones_like(x), x, x**2], 1)
    found = fit(linear_model("curvature", columns, np.ones_like(x), np.ones(len(x), bool), target=2))
    half = float(t_quantile(alpha, found.df) * found.se)
    value = float(found.estimate)
    return value, (value - half, value + half), float(2 * special.stdtr(found.df, -abs(value) / found.se))
