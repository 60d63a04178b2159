"""Laws as predictions, and distances between samples and laws.

A predicted law is any object with `cdf(x)`, `mean()` and `std()`, as frozen SciPy distributions have; `Discrete` and
`Tabulated` are two more. A law whose moments do not exist is judged by bounded functionals, which also need `ppf(u)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from theorysim.errors import require


@runtime_checkable
class PredictedLaw(Protocol):
    """What a law judge asks of a prediction."""

    def cdf(self, x: Any, /) -> Any: ...
    def mean(self) -> Any: ...
    def std(self) -> Any: ...


@dataclass(frozen=True)
class Discrete:
    """A law on finitely many points: `points` increasing, `probabilities` summing to 1."""

    points: Float[np.ndarray, " points"]
    probabilities: Float[np.ndarray, " points"]

    def __post_init__(self) -> None:
        points, probabilities = np.asarray(self.points, float), np.asarray(self.probabilities, float)
        require(
            points.ndim == 1 and points.shape == probabilities.shape, "points and probabilities must be equal vectors"
        )
        require(bool(np.all(np.diff(points) > 0)), "points of a discrete law must increase")
        total = probabilities.sum()
        require(bool(np.all(probabilities >= 0)), f"probabilities must be >= 0, got {probabilities.min()}")
        require(abs(total - 1) < 1e-9, f"probabilities must sum to 1, got {total}")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "probabilities", probabilities)

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """P(X <= x)."""
        cumulative = np.concatenate([[0.0], np.minimum(np.cumsum(self.probabilities), 1.0)])
        return cumulative[np.searchsorted(self.points, x, side="right")]

    def ppf(self, u: ArrayLike) -> np.ndarray:
        """Least point with cdf >= u."""
        index = np.searchsorted(np.cumsum(self.probabilities), u, side="left")
        return self.points[np.minimum(index, len(self.points) - 1)]

    def mean(self) -> float:
        return float(self.points @ self.probabilities)

    def std(self) -> float:
        return float(np.sqrt(np.square(self.points - self.mean()) @ self.probabilities))


@dataclass(frozen=True)
class Tabulated:
    """A continuous law from its cdf on a grid (linear between, 0 and 1 outside); moments of that interpolant."""

    points: Float[np.ndarray, " points"]
    values: Float[np.ndarray, " points"]

    def __post_init__(self) -> None:
        points, values = np.asarray(self.points, float), np.asarray(self.values, float)
        require(points.ndim == 1 and points.shape == values.shape, "points and values must be equal vectors")
        require(bool(np.all(np.diff(points) > 0)), "points of a tabulated law must increase")
        require(bool(np.all(np.diff(values) >= 0)), "cdf values of a tabulated law must not decrease")
        require(
            values[0] < 1e-6 and values[-1] > 1 - 1e-6, f"cdf must run from 0 to 1, got {values[0]} to {values[-1]}"
        )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "values", values)

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """P(X <= x)."""
        return np.interp(np.asarray(x, float), self.points, self.values, left=0.0, right=1.0)

    def ppf(self, u: ArrayLike) -> np.ndarray:
        """Inverse of the interpolated cdf."""
        return np.interp(np.asarray(u, float), self.values, self.points)

    def _power(self, power: int) -> float:
        a, b = self.points[:-1], self.points[1:]
        within = sum(a**i * b ** (power - i) for i in range(power + 1)) / (power + 1)
        return float(np.diff(self.values) @ within)

    def mean(self) -> float:
        return self._power(1)

    def std(self) -> float:
        return math.sqrt(self._power(2) - self.mean() ** 2)


def as_law(predicted: object) -> Any:
    """The law itself, also when it was wrapped in a 0-d object array."""
    if isinstance(predicted, np.ndarray) and predicted.dtype == object and predicted.ndim == 0:
        predicted = predicted.item()
    require(
        isinstance(predicted, PredictedLaw),
        f"predicted law must have cdf, mean and std, got {type(predicted).__name__}",
    )
    return predicted


def cdf_distance(draws: Float[np.ndarray, " draws"], law: Any, *, spacing: float | None = None) -> float:
    """sup_x |F - G| between the empirical cdf and the law.

    `spacing` is that of lattice outcomes compared with a continuous law: F(k) against G(k + spacing/2). For a law with
    atoms (`Discrete`) both sides are step functions.
    """
    ordered = np.sort(draws)
    count = len(ordered)
    if spacing is not None or (hasattr(law, "points") and hasattr(law, "probabilities")):
        points = np.unique(ordered if spacing is not None else np.concatenate([ordered, law.points]))
        empirical = np.searchsorted(ordered, points, side="right") / count
        shift = 0.0 if spacing is None else spacing / 2
        return float(np.abs(empirical - law.cdf(points + shift)).max())
    predicted = law.cdf(ordered)
    rank = np.arange(count)
    return float(max((predicted - rank / count).max(), ((rank + 1) / count - predicted).max()))


def design_effect(draws: Float[np.ndarray, "instances draws"]) -> float:
    """Variance inflation of the cdf by clustering: largest over the 5 to 95 % quantile points, at least 1."""
    instances, each = draws.shape
    points = np.quantile(draws, np.linspace(0.05, 0.95, 19))
    per_instance = np.stack([(draws <= point).mean(1) for point in points], 1)
    mean = per_instance.mean(0)
    binomial = mean * (1 - mean) / (instances * each)
    between = per_instance.var(0, ddof=1) / instances
    usable = binomial > 0
    return float(max(1.0, (between[usable] / binomial[usable]).max(initial=1.0)))


def randomised_pit(
    draws: Float[np.ndarray, "*shape"], law: Any, rng: np.random.Generator
) -> Float[np.ndarray, "*shape"]:
    """G(x-) + V G({x}): uniform on [0, 1] under the law, whether it has atoms or not."""
    upper = law.cdf(draws)
    lower = law.cdf(np.nextafter(draws, -np.inf))
    return lower + rng.uniform(size=np.shape(draws)) * (upper - lower)


def merged_bins(expected: Float[np.ndarray, " points"], least: float) -> Int[np.ndarray, " points"]:
    """Bin index of each point, neighbours merged until every bin expects at least `least` counts."""
    index = np.zeros(len(expected), dtype=int)
    current, filled = 0, 0.0
    for k, value in enumerate(expected):
        if filled >= least:
            current, filled = current + 1, 0.0
        index[k] = current
        filled += value
    if filled < least and current > 0:
        index[index == current] = current - 1
    return index
