"""Angular decomposition of He_k(<beta, x>) in R^r, and what averages over beta uniform on the sphere are made of.

    He_k(rho u) = sqrt(k!) sum_{l = k, k-2, ..} sqrt(lambda_kl) n_l R_kl(rho) P_l(u)

with rho = |x|, u = <beta, x>/rho, R_kl of unit norm under |x|, x ~ N(0, I_r), P_l the Gegenbauer polynomial with
P_l(1) = 1, n_l the dimension of the harmonics of degree l. lambda_kl are the eigenvalues of E_beta of the product of
He_k(<beta, x>)/sqrt(k!) at two points: sum_l n_l lambda_kl = 1.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import comb, factorial, prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh_tridiagonal
from scipy.special import eval_genlaguerre

from theorysim.errors import require
from theorysim.papers.single_index_icl.theory.inputs import Real, Value, float64, require_dimension, require_noise
from theorysim.papers.single_index_icl.theory.links import Link

RANK_TOLERANCE = 1e-12
"""Eigenvalues of normalised moments below this part of the largest are rounding."""


def sphere_moment(order: int, r: int) -> float:
    """M_2n = E <beta, u>^{2n} = (2n - 1)!!/(r(r + 2)..(r + 2n - 2)) for a unit vector u; 0 for odd orders."""
    require_dimension(r)
    require(order >= 0, f"order of a moment must be >= 0, got {order}")
    return 0.0 if order % 2 else prod((2 * i + 1) / (r + 2 * i) for i in range(order // 2))


def multiplicity(degree: int, r: int) -> int:
    """n_l = C(r + l - 1, l) - C(r + l - 3, l - 2), the dimension of the spherical harmonics of degree l in R^r."""
    require_dimension(r)
    return comb(r + degree - 1, degree) - (comb(r + degree - 3, degree - 2) if degree >= 2 else 0)


def zonal_eigenvalue(k: int, degree: int, r: int) -> float:
    """lambda_kl(r) = k!/(prod_{i=1}^j [2i(r + 2l + 2i - 2)] prod_{i<l} (r + 2i)), j = (k - l)/2, of order r^{-(k+l)/2}."""
    require_dimension(r)
    require(
        0 <= degree <= k and (k - degree) % 2 == 0,
        f"degree l must be one of k, k - 2, .. >= 0, got {degree} at k = {k}",
    )
    radial = prod(2 * i * (r + 2 * degree + 2 * i - 2) for i in range(1, (k - degree) // 2 + 1))
    return factorial(k) / (radial * prod(r + 2 * i for i in range(degree)))


def radial_function(k: int, degree: int, r: int, rho: Real) -> Value:
    """R_kl(rho) = (-1)^j sqrt(j! Gamma(r/2)/(2^l Gamma(r/2 + l + j))) rho^l L_j^{(l + r/2 - 1)}(rho^2/2)."""
    rho, j = float64(rho), (k - degree) // 2
    squared = factorial(j) / prod(r / 2 + i for i in range(degree + j))
    laguerre = eval_genlaguerre(j, degree + r / 2 - 1, rho**2 / 2)
    return (-1) ** j * np.sqrt(squared) * (rho / np.sqrt(2)) ** degree * laguerre


def gegenbauer(degree: int, r: int, u: Real) -> Value:
    """P_l(u) = C_l^{(r/2-1)}(u)/C_l^{(r/2-1)}(1), by its recurrence in l; T_l for r = 2; r = 1 has l = 0, 1 only."""
    require_dimension(r)
    require(r > 1 or degree <= 1, f"degree l must be at most 1 in dimension r = 1, got {degree}")
    u = float64(u)
    before, value = np.ones_like(u), u
    if degree == 0:
        return before[()]
    for n in range(1, degree):
        before, value = value, ((2 * n + r - 2) * u * value - n * before) / (n + r - 2)
    return value


@cache
def sphere_nodes(r: int, count: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Gauss nodes and weights for one coordinate of a uniform point on S^{r-1}: exact up to degree 2 count - 1.

    From the recurrence, which is stable at any r; r = 1 has the two points alone.
    """
    require_dimension(r)
    if r == 1:
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    k = np.arange(2, count)
    squares = np.concatenate([[1 / r], k * (k + r - 3) / ((2 * k + r - 2) * (2 * k + r - 4))])[: count - 1]
    nodes, vectors = eigh_tridiagonal(np.zeros(count), np.sqrt(squares))
    return nodes, vectors[0] ** 2


class Block(NamedTuple):
    """The prior kernel on harmonics of degree l, in the basis R_kl of the degrees k of the link.

    degree: l. multiplicity: n_l. degrees: the k = l, l + 2, .. with E c_k^2 > 0. factor: F_l, of full column rank, with
    L_l = F_l F_l^T, (L_l)_kk' = C_kk' sqrt(lambda_kl lambda_k'l/(k! k'!)).
    """

    degree: int
    multiplicity: int
    degrees: tuple[int, ...]
    factor: Float[np.ndarray, "degrees rank"]

    @property
    def matrix(self) -> Float[np.ndarray, "degrees degrees"]:
        """L_l."""
        return self.factor @ self.factor.T

    def radial(self, r: int, rho: Float[np.ndarray, " points"]) -> Float[np.ndarray, "degrees points"]:
        """R_kl(rho) of the block's degrees."""
        return np.stack([radial_function(k, self.degree, r, rho) for k in self.degrees])


@lru_cache(maxsize=256)
def blocks(link: Link, r: int) -> tuple[Block, ...]:
    """The blocks of the prior kernel in R^r, for l = 0..P."""
    c, found = link.normalised_moments, []
    for degree in range(link.degree + 1):
        degrees = tuple(k for k in range(degree, link.degree + 1, 2) if c[k, k] > 0)
        if not degrees or multiplicity(degree, r) == 0:
            continue
        roots = np.sqrt([zonal_eigenvalue(k, degree, r) for k in degrees])
        factor = roots[:, None] * _root(c[np.ix_(degrees, degrees)])
        found.append(Block(degree, multiplicity(degree, r), degrees, factor))
    return tuple(found)


def prior_kernel(
    x: Float[np.ndarray, "points r"], other: Float[np.ndarray, "others r"], link: Link
) -> Float[np.ndarray, "points others"]:
    """K(x, x') = E f(x) f(x') over beta uniform on the sphere of R^r and over the link."""
    r = x.shape[1]
    rho, rho_other = np.linalg.norm(x, axis=1), np.linalg.norm(other, axis=1)
    scale = np.outer(rho, rho_other)
    # At the origin only l = 0 is left, whatever the angle.
    cosine = np.clip((x @ other.T) / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
    kernel = np.zeros_like(cosine)
    for block in blocks(link, r):
        left, right = (block.factor.T @ block.radial(r, radius) for radius in (rho, rho_other))
        kernel += block.multiplicity * gegenbauer(block.degree, r, cosine) * (left.T @ right)
    return kernel


def signal_power(rho: Real, link: Link, r: int) -> Value:
    """K(x, x) = E[f(x)^2 | |x| = rho], a sum of squares."""
    rho = float64(rho)
    flat, total = np.ravel(rho), np.zeros(np.size(rho))
    for block in blocks(link, r):
        total += block.multiplicity * np.square(block.factor.T @ block.radial(r, flat)).sum(0)
    return total.reshape(np.shape(rho))[()]


def label_second_moment(rho: Real, link: Link, r: int, tau: float) -> Value:
    """q(rho) = E[y^2 | |Pi x| = rho] = tau^2 + K(x, x)."""
    require_noise(tau)
    return tau**2 + signal_power(rho, link, r)


def moment_factor(link: Link) -> Float[np.ndarray, "degrees rank"]:
    """E with E E^T = C_kl/sqrt(k! l!), k, l = 0..P."""
    size = link.degree + 1
    return _root(link.normalised_moments[:size, :size])


def _root(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n rank"]:
    """A factor F of full column rank with F F^T the matrix."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RANK_TOLERANCE * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])
