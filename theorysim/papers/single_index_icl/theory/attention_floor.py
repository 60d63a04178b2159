"""The least risk of every one-layer linear attention f_hat = (1/N) sum_i y_i G(x_i, x), whatever its features.

For weights G that depend on one context point and the query, with K the prior kernel and q the label second moment,

    E(f_hat - f)^2 = v - 2 E[K G] + (1 - 1/N) E[G K G] + (1/N) E[q G^2],

so the best G solves (q/N + (1 - 1/N) K) G = K; features outside S only add to the risk. In the harmonics of degree l
this is a matrix as large as the number of the link's degrees: with L_l = F F^T and M_l = E[R R^T/q],

    floor = sum_l n_l tr[L_l - L_l M_l (I/N + (1 - 1/N) L_l M_l)^{-1} L_l] = sum_i g_i (1 - m_i)/(1 + (N - 1) m_i),

m_i the eigenvalues of F^T M F (all below 1) and g_i the power of f along its eigenvectors: nothing cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import factorial, prod
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import brentq

from theorysim.errors import require
from theorysim.papers.single_index_icl.theory.hermite import hermite_polynomials
from theorysim.papers.single_index_icl.theory.inputs import (
    Real,
    Value,
    float64,
    require_dimension,
    require_each,
    require_noise,
)
from theorysim.papers.single_index_icl.theory.links import Link
from theorysim.papers.single_index_icl.theory.zonal import (
    Block,
    blocks,
    gegenbauer,
    label_second_moment,
    moment_factor,
    zonal_eigenvalue,
)

PANELS, PANEL_NODES = 40, 20
"""Of composite Gauss-Legendre in rho. 1/q is no polynomial: Gauss-Laguerre would converge slowly where q nearly vanishes."""


class FloorSpectrum(NamedTuple):
    """Modes of the floor: each learns on its own, along a hyperbola in N.

    power: g_i, with sum v. gain: m_i in (0, 1).
    """

    power: Float[np.ndarray, " modes"]
    gain: Float[np.ndarray, " modes"]

    def risk(self, N: Real) -> Value:
        """sum_i g_i (1 - m_i)/(1 + (N - 1) m_i); real N >= 1 are admitted. Raises InputError below."""
        length = float64(N)
        require_each("prompt length N", length, length >= 1, "at least 1")
        return np.sum(self.power * (1 - self.gain) / (1 + (length[..., None] - 1) * self.gain), -1)

    @property
    def large_length_limit(self) -> float:
        """lim N floor(N) = sum_i g_i (1 - m_i)/m_i; sum_l n_l tr[M_l^{-1} - L_l] for non-singular L_l."""
        return float(np.sum(self.power * (1 - self.gain) / self.gain))

    def length(self, risk: float) -> float:
        """The real N >= 1 at which the floor is `risk`. Raises InputError unless 0 < risk <= floor(1)."""
        start = float(self.risk(1.0))
        require(0 < risk <= start, f"risk must lie in (0, {start:.6g}], the floor at N = 1, got {risk}")
        excess = lambda log_length: float(self.risk(np.exp(log_length))) - risk
        # 1 + (N - 1) m >= N m, so the floor is at most its limit over N.
        top = np.log(self.large_length_limit / risk) + 1e-9
        return float(np.exp(cast(float, brentq(excess, 0.0, top, xtol=1e-14))))


def floor_spectrum(link: Link, r: int, tau: float) -> FloorSpectrum:
    """Modes of the floor in a subspace of dimension r; r = d where the predictor does not know the subspace.

    To 1e-10 relative for tau >= .03 and 1e-6 for .003; at r = 1, where q may vanish but for tau, 1e-7 for tau >= .01.
    """
    return _spectrum(link, r, tau, lambda radial, weights, q: radial * (weights / q) @ radial.T)


def polynomial_spectrum(link: Link, r: int, tau: float) -> FloorSpectrum:
    """The modes of the best G that is a polynomial of the link's degrees in x_i: M_l is replaced by E[q R R^T]^{-1} <= M_l.

    Above `floor_spectrum`: the best attention divides by q.
    """
    return _spectrum(link, r, tau, lambda radial, weights, q: np.linalg.inv(radial * (weights * q) @ radial.T))


def attention_floor(N: Real, link: Link, r: int, tau: float) -> Value:
    """Least excess risk of one-layer linear attention at prompt length N, for every width, activation and pretraining."""
    return floor_spectrum(link, r, tau).risk(N)


def half_length(link: Link, r: int, tau: float) -> float:
    """N_half, where the floor is v/2. Raises InputError where it is less already at N = 1 (r = 1 with an even link)."""
    return floor_spectrum(link, r, tau).length(link.variance / 2)


def half_length_asymptote(link: Link, r: int, tau: float) -> float:
    """(v + tau^2)/(v lambda_PP) = (1 + tau^2/v) r(r + 2)..(r + 2P - 2)/P!: N_half of He_P as r -> infinity, of order r^P.

    M_l -> 1/(v + tau^2), because q concentrates, and half the power is learned at N L M = 1; almost all is at l = P.
    """
    require_dimension(r)
    require_noise(tau)
    degree = link.degree
    require(
        link.information_exponent == degree, f"link must have one degree, got {link.information_exponent} to {degree}"
    )
    return (1 + tau**2 / link.variance) * prod(r + 2 * i for i in range(degree)) / factorial(degree)


def zero_shot_risk(link: Link, r: int) -> float:
    """Least risk of the empty prompt with an intercept: v - sum_k (E c_k)^2/k! lambda_k0, by the prior mean of f.

    Linear attention has no intercept and starts at v.
    """
    require_dimension(r)
    mean = np.einsum("a,ak->k", link.weights, link.coefficients)
    known = sum(mean[k] ** 2 / factorial(k) * zonal_eigenvalue(k, 0, r) for k in range(2, link.degree + 1, 2))
    return float(link.variance - known)


# --------------------------------------------------------------------------------------------------------------------
# The attention that attains the floor
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionKernel:
    """G(x_i, x) = sum_l n_l P_l(cos) sum_kk' (A_l)_kk' R_kl(|x_i|) R_k'l(|x|)/q(|x_i|), A_l = (I/N + (1-1/N) L M)^{-1} L."""

    link: Link
    r: int
    tau: float
    N: float

    def __post_init__(self) -> None:
        require(self.N >= 1, f"prompt length N must be at least 1, got {self.N}")
        require_noise(self.tau)
        require_dimension(self.r)

    def __call__(
        self, context: Float[np.ndarray, "context r"], queries: Float[np.ndarray, "queries r"]
    ) -> Float[np.ndarray, "context queries"]:
        """Weights of the labels, before the 1/N."""
        radius, query_radius = np.linalg.norm(context, axis=1), np.linalg.norm(queries, axis=1)
        scale = np.outer(radius, query_radius)
        cosine = np.clip((context @ queries.T) / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
        total = np.zeros_like(cosine)
        for block, form in _optimal_forms(self):
            left, right = block.radial(self.r, radius), block.radial(self.r, query_radius)
            total += block.multiplicity * gegenbauer(block.degree, self.r, cosine) * (left.T @ form @ right)
        return total / label_second_moment(radius, self.link, self.r, self.tau)[:, None]


@cache
def _optimal_forms(kernel: AttentionKernel) -> tuple[tuple[Block, Float[np.ndarray, "degrees degrees"]], ...]:
    """(block, A_l). (I/N + (1 - 1/N) F F^T M)^{-1} F F^T = F (I/N + (1 - 1/N) F^T M F)^{-1} F^T."""
    rho, weights = radial_nodes(kernel.r)
    q = label_second_moment(rho, kernel.link, kernel.r, kernel.tau)
    forms = []
    for block in blocks(kernel.link, kernel.r):
        seen = block.factor.T @ block.radial(kernel.r, rho)
        system = np.eye(len(seen)) / kernel.N + (1 - 1 / kernel.N) * (seen * (weights / q)) @ seen.T
        forms.append((block, block.factor @ np.linalg.solve(system, block.factor.T)))
    return tuple(forms)


# --------------------------------------------------------------------------------------------------------------------
# Independent check, and other members of the class, on a grid of the plane
# --------------------------------------------------------------------------------------------------------------------


class PolarGrid(NamedTuple):
    """Quadrature of N(0, I_2): Gauss-Legendre in the radius, equidistant angles."""

    points: Float[np.ndarray, "points 2"]
    weights: Float[np.ndarray, " points"]


def polar_grid(radii: int = 80, angles: int = 24) -> PolarGrid:
    """radii x angles points. Exact in the angle where angles > 2P."""
    rho, radial = _legendre_radial(2, radii, 1)
    angle = 2 * np.pi * np.arange(angles) / angles
    points = rho[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return PolarGrid(points.reshape(-1, 2), np.repeat(radial, angles) / angles)


class GridProblem(NamedTuple):
    """The regression problem of linear attention at r = 2 on a grid; the measure of a grid point is its weight.

    weights: (g,). features: Phi_K (g, s) with K = Phi_K Phi_K^T, sigma at equidistant beta: no zonal expansion. second_moment:
    q (g,).
    """

    weights: Float[np.ndarray, " points"]
    features: Float[np.ndarray, "points features"]
    second_moment: Float[np.ndarray, " points"]

    @property
    def kernel(self) -> Float[np.ndarray, "points points"]:
        """K at pairs of grid points."""
        return self.features @ self.features.T

    @property
    def power(self) -> float:
        """sum_h w_h K_hh, v up to quadrature."""
        return float(self.weights @ np.square(self.features).sum(1))

    def spectrum(self) -> FloorSpectrum:
        """Modes of the floor by Nystrom's method: (q/N + (1 - 1/N) K diag(w)) G = K on the grid.

        G = q^{-1} Phi_K (I/N + (1 - 1/N) H)^{-1} Phi_K^T with H = Phi_K^T diag(w/q) Phi_K.
        """
        weighted = self.features * self.weights[:, None]
        gain, vectors = np.linalg.eigh((weighted / self.second_moment[:, None]).T @ self.features)
        power = np.square(np.sqrt(self.weights)[:, None] * (self.features @ vectors)).sum(0)
        kept = gain > 1e-13 * gain[-1]
        return FloorSpectrum(power[kept], gain[kept])

    def risk(self, N: float, attention: Float[np.ndarray, "points points"]) -> float:
        """Excess risk of any G on the grid, G_gh for context point g and query h."""
        require(N >= 1, f"prompt length N must be at least 1, got {N}")
        w = self.weights
        projected = (self.features * w[:, None]).T @ attention
        linear = float(np.sum((projected * self.features.T) @ w))
        signal = float(np.square(projected).sum(0) @ w)
        spread = float((w * self.second_moment) @ np.square(attention) @ w)
        return self.power - 2 * linear + (1 - 1 / N) * signal + spread / N

    def best_attention(self, N: float, phi: Float[np.ndarray, "points width"]) -> BestAttention:
        """The Gamma of least risk for features phi (g, m) at the grid points: G = Phi Gamma^T Phi^T.

        Gamma^T = B^+ K_F A^+, A = Phi^T diag(w) Phi, K_F = Phi^T diag(w) K diag(w) Phi, B = (1 - 1/N) K_F + Phi^T diag(w q)
        Phi/N. Directions of A and B below 1e-12 of the largest are left out, so that the risk is a true one of the class.
        """
        require(N >= 1, f"prompt length N must be at least 1, got {N}")
        weighted = phi * self.weights[:, None]
        seen = weighted.T @ self.features
        moments = seen @ seen.T
        context = (1 - 1 / N) * moments + (weighted * self.second_moment[:, None]).T @ phi / N
        left = np.linalg.pinv(context, rcond=1e-12, hermitian=True)
        right = np.linalg.pinv(weighted.T @ phi, rcond=1e-12, hermitian=True)
        transposed = left @ moments @ right
        return BestAttention(transposed.T, self.power - float(np.sum(transposed * moments)))


class BestAttention(NamedTuple):
    """gamma: Gamma (m, m), rows for features of the query, as in f_hat = <Gamma psi, phi>. risk: its excess risk."""

    gamma: Float[np.ndarray, "width width"]
    risk: float


def grid_problem(link: Link, tau: float, grid: PolarGrid) -> GridProblem:
    """The prior kernel from the mean over 2P + 1 equidistant beta on the circle, exact for polynomials of degree 2P."""
    require_noise(tau)
    count = 2 * link.degree + 1
    angle = 2 * np.pi * np.arange(count) / count
    projections = grid.points @ np.stack([np.cos(angle), np.sin(angle)])
    norms = np.sqrt([float(factorial(k)) for k in range(link.degree + 1)])
    values = np.tensordot(moment_factor(link).T / norms, hermite_polynomials(link.degree, projections), axes=1)
    features = np.moveaxis(values, 0, -1).reshape(len(grid.points), -1) / np.sqrt(count)
    return GridProblem(grid.weights, features, tau**2 + np.square(features).sum(1))


# --------------------------------------------------------------------------------------------------------------------
# Quadrature
# --------------------------------------------------------------------------------------------------------------------

_Metric = Callable[
    [Float[np.ndarray, "degrees nodes"], Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]],
    Float[np.ndarray, "degrees degrees"],
]
"""M_l from R_kl, the weights and q at the radial nodes."""


def _spectrum(link: Link, r: int, tau: float, metric: _Metric) -> FloorSpectrum:
    require_dimension(r)
    rho, weights = radial_nodes(r)
    q = label_second_moment(rho, link, r, tau)
    powers: list[Shaped[np.ndarray, " modes"]] = []
    gains: list[Shaped[np.ndarray, " modes"]] = []
    for block in blocks(link, r):
        gain, vectors = np.linalg.eigh(block.factor.T @ metric(block.radial(r, rho), weights, q) @ block.factor)
        powers.append(block.multiplicity * np.square(block.factor @ vectors).sum(0))
        gains.append(gain)
    return FloorSpectrum(np.concatenate(powers), np.concatenate(gains))


def radial_nodes(r: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Nodes and weights for rho = |x|, x ~ N(0, I_r); ten times as many at r = 1, where q may all but vanish."""
    return _legendre_radial(r, PANEL_NODES, PANELS if r > 1 else 10 * PANELS)


@cache
def _legendre_radial(
    r: int, count: int, panels: int
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """On [max(0, sqrt r - 10), sqrt r + 11], which |x| leaves with probability below 1e-22."""
    low, high = max(0.0, np.sqrt(r) - 10), np.sqrt(r) + 11
    node, weight = np.polynomial.legendre.leggauss(count)
    unit = ((node + 1) / 2 + np.arange(panels)[:, None]).ravel() / panels
    rho = low + (high - low) * unit
    log_density = (r - 1) * np.log(rho) - rho**2 / 2
    weight = np.tile(weight, panels) * np.exp(log_density - log_density.max())
    return rho, weight / weight.sum()
