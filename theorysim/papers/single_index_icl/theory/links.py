"""The law of the link sigma = sum_k (c_k/k!) He_k that a prompt draws, independently of its direction beta."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial, sqrt

import numpy as np
from jaxtyping import Float, Shaped

from theorysim.errors import InputError, require
from theorysim.papers.single_index_icl.theory.hermite import HIGHEST, hermite_coefficients, hermite_polynomials
from theorysim.papers.single_index_icl.theory.inputs import Real


@dataclass(frozen=True)
class Link:
    """Atoms (c_0, ..., c_P) of the coefficients' law, one tuple of equal length each, and weights of sum one.

    c_0 = 0: the theory takes links of mean zero. Risks of predictors linear in the labels depend on second moments
    C_kl = E c_k c_l alone and gradients' second moments on fourth ones, so that atoms and weights may also be a cubature of
    degree four, with weights of any sign (`ellipsoid`). The paper's theorems ask for an information exponent of 2 or
    more; the formulas do not.
    """

    coefficients: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        require(
            len(self.coefficients) == len(self.weights) > 0, "a link needs as many weights as atoms, and at least one"
        )
        lengths = {len(atom) for atom in self.coefficients}
        require(len(lengths) == 1, f"atoms of a link must have equally many coefficients, got {sorted(lengths)}")
        c = np.asarray(self.coefficients, dtype=np.float64)
        require(bool(np.isfinite(c).all()), f"coefficients of a link must be finite, got {self.coefficients}")
        require(c.shape[1] <= HIGHEST + 1, f"degree of the link must be at most {HIGHEST}, got {c.shape[1] - 1}")
        total = sum(self.weights)
        require(abs(total - 1) <= 1e-9, f"weights of a link must sum to 1, got {self.weights} of sum {total:.12g}")
        require(bool(c[:, 1:].any()), "link must not be constant: no coefficient of degree 1 or more")
        require(not c[:, 0].any(), f"E sigma must be 0: subtract the mean c_0 = {c[np.abs(c[:, 0]).argmax(), 0]:.6g}")

    @cached_property
    def normalised_moments(self) -> Float[np.ndarray, "degrees degrees"]:
        """C_kl/sqrt(k! l!), k, l = 0..P: of unit trace for a link of unit variance."""
        c = np.asarray(self.coefficients) / self._norms
        return np.einsum("a,ak,al->kl", self.weights, c, c)

    @cached_property
    def moments(self) -> Float[np.ndarray, "degrees degrees"]:
        """C_kl = E c_k c_l, k, l = 0..P."""
        return self.normalised_moments * np.outer(self._norms, self._norms)

    @property
    def information_exponent(self) -> int:
        """Q = min{k >= 1: E c_k^2 > 0}."""
        return int(np.flatnonzero(np.diag(self.moments))[0])

    @property
    def degree(self) -> int:
        """P = max{k: E c_k^2 > 0}."""
        return int(np.flatnonzero(np.diag(self.moments))[-1])

    @property
    def variance(self) -> float:
        """v = E f^2 = sum_k C_kk/k!."""
        return float(np.trace(self.normalised_moments))

    def __call__(self, z: Real) -> Float[np.ndarray, "atoms *shape"]:
        """sigma(z) of every atom."""
        c = np.asarray(self.coefficients) / self._norms**2
        return np.tensordot(c, hermite_polynomials(c.shape[1] - 1, z), axes=1)

    @property
    def _norms(self) -> Float[np.ndarray, " degrees"]:
        return np.sqrt([float(factorial(k)) for k in range(len(self.coefficients[0]))])


def polynomial(coefficients: Sequence[float]) -> Link:
    """The fixed link of Hermite coefficients c_0 = 0, c_1, ..., c_P."""
    return Link((tuple(float(c) for c in coefficients),))


def monomial(degree: int) -> Link:
    """He_k/sqrt(k!), of unit variance."""
    require(1 <= degree <= HIGHEST, f"degree of the link must lie in [1, {HIGHEST}], got {degree}")
    return polynomial([0.0] * degree + [sqrt(factorial(degree))])


def from_function(g: Callable[[float], float], degree: int | None = None) -> Link:
    """The fixed link g, any Python function of one number, to its Hermite degree or truncated at `degree`.

    Raises InputError unless E g(z) = 0 and g is not constant; without `degree`, where more than 1e-9 of the power of g is
    above degree 30 (it is no polynomial).
    """
    coefficients, square = hermite_coefficients(g, HIGHEST if degree is None else degree)
    if degree is None:
        power = np.array([c**2 / factorial(k) for k, c in enumerate(coefficients)])
        missing = 1 - power.sum() / square if square else 0.0
        if missing > 1e-9:
            raise InputError(
                f"link must be a polynomial: {missing:.2g} of its power is above degree {HIGHEST}; give degree"
            )
        coefficients = np.trim_zeros(coefficients, "b")
    return polynomial(coefficients.tolist() or [0.0])


def ellipsoid(moments: Shaped[np.ndarray, "span span"], lowest: int) -> Link:
    """Random coefficients of degrees lowest, lowest + 1, ... with given C_kl: c = sqrt(n) C^{1/2} u, u uniform on S^{n-1}.

    The law enters through its moments up to the fourth, so u is the cubature of degree five (Stroud's U_n: 5-2) with the
    2n points +-e_i of weight (4 - n)/(2n(n + 2)) and the 2n(n - 1) points (+-e_i +- e_j)/sqrt 2 of weight 1/(n(n + 2)).
    """
    c = np.asarray(moments, dtype=np.float64)
    n = len(c)
    require(lowest >= 1, f"lowest degree of a link must be at least 1, got {lowest}")
    require(bool(np.isfinite(c).all() and np.allclose(c, c.T)), "moments C of a link must be a symmetric matrix")
    # Scaled to unit diagonal: moments grow like k!.
    scale = np.sqrt(np.maximum(np.diag(c), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(c / np.outer(safe, safe))
    require(
        bool(values[0] >= -1e-9), f"moments C of a link must be positive semi-definite, got eigenvalue {values[0]:.3g}"
    )
    root = scale[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
    axes = np.eye(n)
    points = [sign * axis for axis in axes for sign in (1, -1)]
    weights = [(4 - n) / (2 * n * (n + 2))] * (2 * n)
    for i in range(n):
        for j in range(i):
            points += [(si * axes[i] + sj * axes[j]) / sqrt(2) for si in (1, -1) for sj in (1, -1)]
            weights += [1 / (n * (n + 2))] * 4
    atoms = sqrt(n) * np.asarray(points) @ root.T
    return Link(tuple((0.0,) * lowest + tuple(atom) for atom in atoms.tolist()), tuple(weights))


def band(lowest: int, highest: int) -> Link:
    """(c_k/sqrt k!) for k = Q..P uniform on the unit sphere of R^{P-Q+1}; (2, 4) is the family of the paper's Fig. 2."""
    require(1 <= lowest <= highest, f"information exponent Q must lie in [1, P = {highest}], got {lowest}")
    degrees = range(lowest, highest + 1)
    return ellipsoid(np.diag([factorial(k) / len(degrees) for k in degrees]), lowest)


HE2, HE3, HE4 = monomial(2), monomial(3), monomial(4)
"""He_k/sqrt(k!)."""

MIX = band(2, 4)
"""Random coefficients of degrees 2 to 4, C_kl = (k!/3) delta_kl."""
