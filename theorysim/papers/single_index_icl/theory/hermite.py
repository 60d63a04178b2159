"""Hermite coefficients: of ReLU, its derivative and its square at any bias, and of any function by quadrature.

He_k are the probabilists' polynomials, E He_j He_k = k! delta_jk under N(0, 1). Coefficients are not normalised:
g = sum_k (c_k/k!) He_k with c_k = E[g(z) He_k(z)], as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, sqrt

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad_vec
from scipy.special import ndtr

from theorysim.errors import InputError, require
from theorysim.papers.single_index_icl.theory.inputs import Real, Value, float64

HIGHEST = 30
"""Highest degree of a link that is a function: its polynomials reach to |z| = 2 sqrt(30) = 11."""

REACH = 18.0
"""Quadrature of functions stops here: phi(z) He_30(z)^2/30! < 1e-21 beyond."""

NEGLIGIBLE = 1e-10
"""A Hermite coefficient of less than this part of a function's norm is rounding and read as zero."""


def hermite_polynomials(degree: int, z: Real) -> Float[np.ndarray, "degrees *shape"]:
    """He_0(z), ..., He_degree(z)."""
    z = float64(z)
    values = np.ones((degree + 1, *np.shape(z)))
    if degree:
        values[1] = z
    for k in range(1, degree):
        values[k + 1] = z * values[k] - k * values[k - 1]
    return values


def relu_coefficients(degree: int, bias: Real) -> Float[np.ndarray, "degrees *shape"]:
    """a_k = E[relu(z + b) He_k(z)]: b Phi(b) + phi(b), Phi(b), then (-1)^k He_{k-2}(b) phi(b), by Stein's lemma.

    At b = 0 all odd a_k with k >= 3 vanish: ReLU without a bias cannot see an odd link of degree 3 or more.
    """
    b = float64(bias)
    step = step_coefficients(max(degree - 1, 0), b)
    return np.concatenate([(b * ndtr(b) + _density(b))[None], step[:degree]])


def step_coefficients(degree: int, bias: Real) -> Float[np.ndarray, "degrees *shape"]:
    """s_k = E[1(z + b > 0) He_k(z)] = a_{k+1}: Phi(b), then (-1)^{k-1} He_{k-1}(b) phi(b)."""
    b = float64(bias)
    sign = np.reshape((-1.0) ** np.arange(degree), (-1, *(1,) * np.ndim(b)))
    higher = sign * hermite_polynomials(max(degree - 1, 0), b)[:degree] * _density(b)
    return np.concatenate([ndtr(b)[None], higher])


def squared_relu_coefficients(degree: int, bias: Real) -> Float[np.ndarray, "degrees *shape"]:
    """t_k = E[relu(z + b)^2 He_k(z)]: (1 + b^2) Phi(b) + b phi(b), 2 a_0, then 2 s_{k-2}."""
    b = float64(bias)
    mean = (1 + b**2) * ndtr(b) + b * _density(b)
    return np.concatenate([mean[None], 2 * relu_coefficients(max(degree - 1, 0), b)[:degree]])


def hermite_coefficients(g: Callable[[float], float], degree: int) -> tuple[Float[np.ndarray, " degrees"], float]:
    """(c_0, ..., c_degree) and E g(z)^2 of any Python function of one number, by adaptive quadrature to about 1e-11.

    Kinks and jumps are found by bisection. Coefficients below `NEGLIGIBLE` sqrt(k! E g^2) are set to zero. Raises
    InputError where g is not finite, or its square has no Gaussian mean.
    """
    require(0 <= degree <= HIGHEST, f"degree of the link must lie in [0, {HIGHEST}], got {degree}")
    norms = np.sqrt([float(factorial(k)) for k in range(degree + 1)])

    def integrand(z: float) -> Float[np.ndarray, " integrals"]:
        value = float(g(z))
        if not np.isfinite(value):
            raise InputError(f"link must be finite everywhere, got {value} at z = {z:.6g}")
        projections = hermite_polynomials(degree, z) / norms
        return np.append(projections, value) * (value * float(_density(np.float64(z))))

    with np.errstate(over="ignore", invalid="ignore"):
        integrals, _ = quad_vec(integrand, -REACH, REACH, epsabs=1e-200, epsrel=1e-12, limit=500, points=(0.0,))
        edge = max(float(g(end)) ** 2 * float(_density(np.float64(end))) for end in (-REACH, REACH))
    square = float(integrals[-1])
    require(bool(np.isfinite(square)) and edge <= 1e-12 * max(square, 1e-300), "link must have a finite E g(z)^2")
    normalised = integrals[:-1]
    normalised[np.abs(normalised) <= NEGLIGIBLE * sqrt(square)] = 0.0
    return normalised * norms, square


def information_exponent(g: Callable[[float], float]) -> int:
    """Q, the smallest k >= 1 with E[g(z) He_k(z)] != 0. Raises InputError for a constant, or where Q > 30."""
    coefficients, _ = hermite_coefficients(g, HIGHEST)
    found = np.flatnonzero(coefficients[1:])
    require(len(found) > 0, f"link must not be constant: no Hermite coefficient of degree 1 to {HIGHEST}")
    return int(found[0]) + 1


def _density(b: Value) -> Value:
    return np.exp(-(b**2) / 2) / np.sqrt(2 * np.pi)
