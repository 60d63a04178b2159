"""What is inferred, from what data: priors, and linear models y = X beta0 + noise with X of shape (n, p), entries of variance 1/p.

delta = n/p throughout, and sigma is the standard deviation of the noise. A prior here describes one for both sides: `kernel()` is
that of the algorithms.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from theorysim.errors import require
from theorysim.kernels import priors
from theorysim.sweep import setting

Law = Literal["gaussian", "rademacher", "sparse-signs", "uniform", "student-t5", "shifted", "cauchy"]
"""Laws of the entries of X; the last two have no finite variance 1/p about 0 (for controls)."""


@setting
class Atoms:
    """P0 = sum_k w_k delta_{b_k}."""

    values: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, " K"]

    def validate(self) -> None:
        priors.discrete(self.values, self.weights)

    def kernel(self) -> priors.Discrete:
        """The prior of the algorithms."""
        return priors.Discrete(self.values, self.weights)


@setting
class SpikeAndSlab:
    """(1 - rho) delta_0 + rho N(0, v); rho = 1 is a Gaussian."""

    rho: float
    v: float = 1.0

    def validate(self) -> None:
        require(0 < self.rho <= 1, f"rho must lie in (0, 1], got {self.rho}")
        require(0 < self.v < math.inf, f"v must be positive and finite, got {self.v}")

    def kernel(self) -> priors.BernoulliGaussian:
        """The prior of the algorithms."""
        return priors.BernoulliGaussian(self.rho, self.v)


Prior = Atoms | SpikeAndSlab


def three_point(density: float) -> Atoms:
    """S3(density): atoms -1, 0, 1 of weights density/2, 1 - density, density/2."""
    return Atoms(np.array([-1.0, 0.0, 1.0]), np.array([density / 2, 1 - density, density / 2]))


U3 = three_point(2 / 3)
"""Uniform on -1, 0, 1."""


@setting
class LinearModel:
    """One instance: X with independent entries of the given law and variance 1/p, beta0 ~ P0, y = X beta0 + N(0, sigma^2)."""

    n: int
    p: int
    sigma: float
    prior: Prior
    entries: Law = "gaussian"

    def validate(self) -> None:
        require(self.n >= 1, f"n must be at least 1, got {self.n}")
        require(self.p >= 1, f"p must be at least 1, got {self.p}")
        require(0 < self.sigma < math.inf, f"noise sigma must be positive and finite, got {self.sigma}")

    @property
    def delta(self) -> float:
        """n/p."""
        return self.n / self.p


def model(delta: float, sigma: float, p: int, prior: Prior = U3, entries: Law = "gaussian") -> LinearModel:
    """The model of p coefficients with n = round(delta p) observations."""
    return LinearModel(round(delta * p), p, sigma, prior, entries)
