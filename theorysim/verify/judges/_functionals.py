"""Per-seed values against their prediction: the mean (t or Hall), or the median (sign test)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from theorysim.verify.claim import Case
from theorysim.verify.intervals import median_test
from theorysim.verify.judges._evidence import Evidence, draws_of, invalid, one_sided, region_of
from theorysim.verify.primitive import Test, mean_test, ratio_test

Side = Literal["two-sided", "upper", "lower"]
SKEWED_SEEDS = 64
_OPPOSITE: dict[Side, Side] = {"two-sided": "two-sided", "upper": "lower", "lower": "upper"}


def heavy_tail(skewness: float, seeds: int) -> str:
    """The gate of Hall's transform, as a problem in words ('' when it passes)."""
    if seeds < SKEWED_SEEDS:
        return f"heavy tail: skewed data need at least {SKEWED_SEEDS} seeds, got {seeds}"
    limit = 0.2 * math.sqrt(seeds)
    return "" if abs(skewness) <= limit else f"heavy tail: skewness {skewness:.3g} beyond {limit:.3g}"


def unusable(values: np.ndarray) -> str:
    """Why per-seed values cannot be judged ('' when they can)."""
    if values.shape[-1] < 2:
        return f"invalid data: {values.shape[-1]} admissible seeds have no standard error"
    return "" if np.isfinite(values).all() else "invalid data: values that are not finite"


def functional_evidence(
    case: Case,
    *,
    tolerance: float,
    absolute: bool,
    alpha: float,
    side: Side = "two-sided",
    functional: Literal["mean", "median"] = "mean",
    skewed: bool = False,
    bias: float = 0.0,
) -> list[Evidence]:
    """One piece of evidence per component of a case.

    Relative: E a = r E b with r in [1 - tolerance, 1 + tolerance], by linear statistics, so that a prediction that
    varies over seeds is compared as a ratio of expectations. Absolute, and medians: a - b within the tolerance of 0.
    `bias` is in the units of the observable.
    """
    draws = draws_of(case)
    evidence = []
    for a, b, label in zip(draws.observed, draws.predicted, draws.labels, strict=True):
        seeds = len(a)
        predicted = float(b.mean()) if seeds else math.nan
        problem = unusable(a) or unusable(b)
        if not problem and not absolute and predicted == 0:
            problem = "a relative tolerance needs a prediction that is not 0"
        if problem:
            evidence.append(invalid(label, problem, predicted, seeds))
            continue
        region = one_sided(region_of(predicted, tolerance, absolute), side)
        half = tolerance if absolute else tolerance * abs(predicted)
        if absolute or functional == "median":
            lo, hi = one_sided((-half, half), side)
            if functional == "median":
                test = median_test(a - b, lo + bias, hi - bias, alpha)
                outer = median_test(a - b, lo - bias, hi + bias, alpha)
                test = test._replace(p=test.p._replace(refuted=outer.p.refuted))
            else:
                test = mean_test(a - b, lo, hi, alpha, hall=skewed, bias=bias)
            shown = (predicted + float(test.estimate), predicted + float(test.lower), predicted + float(test.upper))
            se = float(test.se)
        else:
            test, shown, se = _ratio(a, b, predicted, tolerance, side, alpha, skewed, bias)
        if functional == "mean":
            if se == 0:
                problem = "invalid data: no spread between seeds"
            elif skewed:
                problem = heavy_tail(float(test.skewness), seeds)
        estimate, lower, upper = shown
        evidence.append(
            Evidence(
                label,
                predicted,
                estimate,
                (lower, upper),
                region,
                float(test.p.verified),
                float(test.p.refuted),
                se=None if math.isnan(se) else se,
                df=None if functional == "median" else seeds - 1,
                seeds=seeds,
                tolerance=half,
                problem=problem,
                gates={} if functional == "median" else {"skewness": float(test.skewness)},
            )
        )
    return evidence


def _ratio(
    a: np.ndarray,
    b: np.ndarray,
    predicted: float,
    tolerance: float,
    side: Side,
    alpha: float,
    skewed: bool,
    bias: float,
) -> tuple[Test, tuple[float, float, float], float]:
    """The relative test, and (estimate, lower, upper) and s.e. in the units of the observable."""
    # 'at most' b + tolerance |b| is 'at least' in units of a negative b
    lo, hi = one_sided((1 - tolerance, 1 + tolerance), side if predicted > 0 else _OPPOSITE[side])
    test = ratio_test(a, b, lo, hi, alpha, hall=skewed, bias=bias / abs(predicted))
    lower, upper = sorted((float(test.lower) * predicted, float(test.upper) * predicted))
    return test, (float(test.estimate) * predicted, lower, upper), float(test.se) * abs(predicted)
