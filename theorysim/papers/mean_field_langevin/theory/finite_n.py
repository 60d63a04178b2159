"""The exact law of N neurons: P* by the Hubbard-Stratonovich transform, by quadrature at N = 1, 2, and any law of two neurons.

Conventions of `theory`. Everything is derived here: the gap identity L^N(P)/N - L(mu*) = E_P B(rho_X, mu*) + (lam/N)
KL(P||mu*^N) follows from U_{mu*} = -lam log mu* + const, and for the squared loss N B/lam = |s|^2/2 with s = sum_i
phi(x^i)/sqrt(lam n N), so that e^{-|s|^2/2} = E e^{i zeta.s} over a standard normal zeta splits over neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp, rel_entr, xlogy

from theorysim.errors import InputError, require
from theorysim.papers.mean_field_langevin.theory.mean_field import SQUARED, Grid, Model, Optimum

REACH = 8.5
"""Gaussian factors are cut here: e^{-REACH^2/2} = 2e-16."""

SPREAD = 12.0
"""s is beyond so many standard deviations of its Gaussian limit with a probability that does not matter."""

POINTS = 2**22
"""Points zeta of the Hubbard-Stratonovich transform allowed in all."""

# --------------------------------------------------------------------------------------------------------------------
# P* of any N
# --------------------------------------------------------------------------------------------------------------------


class GibbsLaw(NamedTuple):
    """Exact averages under P* of N = size neurons; n training and m test inputs.

    gap: Delta_N = L^N(P*)/N - L(mu*). bias: E h_rho(z) - h*(z), (m,). mean_square: E (h_rho(z) - h*(z))^2, (m,).
    training: E (h_rho(z_j) - h*(z_j))^2, (n,). bregman: E B(rho_X, mu*).
    """

    size: int
    gap: float
    bias: Float[np.ndarray, " m"]
    mean_square: Float[np.ndarray, " m"]
    training: Float[np.ndarray, " n"]
    bregman: float

    @property
    def variance(self) -> Float[np.ndarray, " m"]:
        """Var h_rho(z), (m,)."""
        return self.mean_square - self.bias**2

    def kl(self, lam: float) -> float:
        """KL(P*||mu*^N) = (N/lam) (Delta_N - E B)."""
        return self.size / lam * (self.gap - self.bregman)


def gibbs_law(
    optimum: Optimum, size: int, z: Float[np.ndarray, "m q"], cutoff: float | None = None, refine: float = 1.0
) -> GibbsLaw:
    """P* of N = size neurons, squared loss, as an integral over zeta ~ N(0, I_n).

    With e = exp(i zeta.phi/sqrt(lam n N)), psi_f = E_{mu*}[f e]: norm = E psi^N, E f-average = E[psi_f psi^{N-1}]/norm and its
    square (E[psi_{f^2} psi^{N-1}] + (N - 1) E[psi_f^2 psi^{N-2}])/(N norm). zeta is taken along eigenvectors of K; directions
    with eigenvalue/(lam n) <= cutoff are dropped (default: none for n <= 3, else 1e-6; each costs Delta_N at most
    eigenvalue/(2 n N)). Trapezoidal rule: spacing h aliases s by 2 pi/h, so that h = 2 pi/(REACH + max |s|) leaves e^{-REACH^2/2};
    `refine` divides it. The cost is exponential in the number of directions. Raises InputError for other losses, for size < 1
    and if more than 2^22 points would be needed.
    """
    transform = _transform(optimum, size, cutoff, refine)
    f = optimum.model.features(optimum.grid.nodes, np.concatenate([optimum.model.Z, z]))
    f = f - optimum.mean(f)
    p = optimum.density * optimum.grid.weight
    norm, first, second = 0.0, np.zeros(f.shape[1]), np.zeros(f.shape[1])
    for weight, left, right in transform.slabs():
        psi = (left * p) @ right.T
        inner = psi ** (size - 1)
        # At size = 1 this factor has weight 0, and 0/psi would be NaN where psi vanishes.
        outer = psi ** (size - 2) if size > 1 else np.zeros_like(psi)
        norm += (weight * (inner * psi).real).sum()
        for k, column in enumerate(f.T):
            psi_f = (left * (p * column)) @ right.T
            psi_ff = (left * (p * column**2)) @ right.T
            first[k] += (weight * (psi_f * inner).real).sum()
            second[k] += (weight * (psi_ff * inner + (size - 1) * psi_f**2 * outer).real).sum() / size
    first, second, n = first / norm, second / norm, optimum.model.n
    gap = -optimum.model.lam / size * np.log(norm)
    return GibbsLaw(size, float(gap), first[n:], second[n:], second[:n], float(second[:n].mean() / 2))


class Marginals(NamedTuple):
    """P*^{(1)}/mu* on the nodes, (G,), and P*^{(2)}/(mu* mu*'), (G, G)."""

    single: Float[np.ndarray, " g"]
    pair: Float[np.ndarray, "g g"]


def gibbs_marginals(optimum: Optimum, size: int, cutoff: float | None = None, refine: float = 1.0) -> Marginals:
    """E[e(x) psi^{N-1}]/norm and E[e(x) e(x') psi^{N-2}]/norm, see `gibbs_law`, for N = size >= 2; G^2 memory."""
    require(size >= 2, f"size must be at least 2 for pairs, got {size}")
    transform = _transform(optimum, size, cutoff, refine)
    p = optimum.density * optimum.grid.weight
    norm, single, pair = 0.0, np.zeros(len(p)), np.zeros((len(p), len(p)))
    for weight, left, right in transform.slabs():
        for row, a in zip(weight, left, strict=True):
            e = a * right
            psi = e @ p
            outer = row * psi ** (size - 2)
            norm += (outer * psi**2).real.sum()
            single += ((outer * psi) @ e).real
            # Real part of the product e^T diag(outer) e, from real factors: two real products instead of four.
            scaled = outer[:, None] * e
            pair += scaled.real.T @ e.real - scaled.imag.T @ e.imag
    return Marginals(single / norm, pair / norm)


class _Transform(NamedTuple):
    """phases: phi along the directions kept over sqrt(lam n N), (G, r). axes: nodes of zeta, one array for each direction."""

    phases: Float[np.ndarray, "g r"]
    axes: tuple[Float[np.ndarray, " k"], ...]

    def slabs(
        self,
    ) -> Iterator[tuple[Float[np.ndarray, "a b"], Complex[np.ndarray, "a g"], Complex[np.ndarray, "b g"]]]:
        """Weights, of sum 1 in all, and factors (a, G), (b, G) of e(zeta, x), for each point of the directions but two.

        By the symmetry zeta -> -zeta, under which everything goes to its complex conjugate, zeta_1 >= 0 is enough.
        """
        first, *rest = self.axes
        first = first[first >= 0]
        norm = np.prod([np.exp(-(axis**2) / 2).sum() for axis in self.axes])
        half = np.exp(-(first**2) / 2) * np.where(first > 0, 2.0, 1.0) / norm
        left = np.exp(1j * first[:, None] * self.phases[:, 0])
        if not rest:
            yield half[:, None], left, np.ones((1, len(self.phases)), dtype=complex)
            return
        last = rest.pop()
        right = np.exp(1j * last[:, None] * self.phases[:, -1])
        weight = half[:, None] * np.exp(-(last**2) / 2)
        for point in np.array(list(product(*rest))):
            shift = np.exp(1j * self.phases[:, 1:-1] @ point)
            yield weight * np.exp(-(point @ point) / 2), left * shift, right


def _transform(optimum: Optimum, size: int, cutoff: float | None, refine: float) -> _Transform:
    model = optimum.model
    require(model.loss is SQUARED, "loss must be squared for the Hubbard-Stratonovich transform, got another")
    require(size >= 1, f"size must be at least 1, got {size}")
    require(refine > 0, f"refine must be positive, got {refine}")
    scale = model.lam * model.n
    eigenvalues, vectors = np.linalg.eigh(optimum.K / scale)
    kept = eigenvalues > ((0.0 if model.n <= 3 else 1e-6) if cutoff is None else cutoff)
    kept[-1] = True
    phases = optimum.features @ vectors[:, kept] / np.sqrt(scale * size)
    support = optimum.density > 1e-30 * optimum.density.max()
    spread = np.minimum(size * np.abs(phases[support]).max(0), SPREAD * np.sqrt(np.abs(eigenvalues[kept])))
    halves = np.ceil(REACH * (REACH + spread) / (2 * np.pi) * refine).astype(int)
    points = float(np.prod(2.0 * halves + 1))
    require(points <= POINTS, f"points of the transform must be at most {POINTS}, got {points:.3g}: raise cutoff")
    return _Transform(phases, tuple(np.linspace(-REACH, REACH, 2 * half + 1) for half in halves))


def wasserstein2(grid: Grid, density: Float[np.ndarray, " g"], other: Float[np.ndarray, " g"]) -> float:
    """W_2^2 of two laws of dimension 1, by Newton on F_other(T(x)) = F(x) with splines; for laws close to each other."""
    x = grid.line
    target = CubicSpline(x, other)
    cumulative = target.antiderivative()
    level = CubicSpline(x, density).antiderivative()(x)
    level, total = level / level[-1], float(cumulative(x[-1]))
    inside = np.minimum(level, 1 - level) > 1e-12
    start, level = x[inside], level[inside]
    image = start.copy()
    for _ in range(8):
        step = (cumulative(image) / total - level) / (target(image) / total)
        image = np.clip(image - np.clip(step, -0.5, 0.5), x[0], x[-1])
    return float(((image - start) ** 2 * density[inside]).sum() * grid.spacing)


class ChaosDistances(NamedTuple):
    """Of P* from mu*^N: KL of one neuron's law and of a pair's, and W_2^2 of one neuron's law (NaN unless d = 1)."""

    single: float
    pair: float
    transport: float


def chaos_distances(optimum: Optimum, marginals: Marginals) -> ChaosDistances:
    """KL(P*^{(1)}||mu*), KL(P*^{(2)}||mu*^2), W_2^2(P*^{(1)}, mu*); `theory.local_chaos` has the limits of N^2 times each.

    KL(q||p) = E_p[r log r - r + 1] at r = q/p: every term is non-negative, nothing cancels.
    """
    p = optimum.density * optimum.grid.weight
    single = p @ _relative(marginals.single)
    pair = p @ _relative(marginals.pair) @ p
    transport = np.nan
    if optimum.model.d == 1:
        ratio = np.where(optimum.density > 1e-30, marginals.single, 1.0)
        transport = wasserstein2(optimum.grid, optimum.density * ratio, optimum.density)
    return ChaosDistances(float(single), float(pair), transport)


def _relative(ratio: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return xlogy(ratio, ratio) - ratio + 1


# --------------------------------------------------------------------------------------------------------------------
# One and two neurons by quadrature, any loss
# --------------------------------------------------------------------------------------------------------------------


def direct_law(optimum: Optimum, size: int, z: Float[np.ndarray, "m q"]) -> GibbsLaw:
    """P* = exp(-N F(rho_X)/lam)/norm of N = 1 or 2 neurons on the grid of the optimum: knows mu* through u and L(mu*) alone.

    For any loss. N = 2 takes G^2 memory. Raises InputError for other sizes.
    """
    require(size in (1, 2), f"size must be 1 or 2 for quadrature, got {size}")
    model, grid = optimum.model, optimum.grid
    H, square = model.features(grid.nodes, model.Z), (grid.nodes**2).sum(-1)
    f = model.features(grid.nodes, np.concatenate([model.Z, z])) - np.concatenate(
        [optimum.u, optimum.mean(model.features(grid.nodes, z))]
    )
    if size == 1:
        log_p = -(model.risk(H) + model.lamp * square) / model.lam
        log_norm = logsumexp(log_p)
        p = np.exp(log_p - log_norm)
        first, second = p @ f, p @ f**2
        bregman = p @ model.bregman(H, optimum.u)
    else:
        log_p = pair_gibbs(model, grid)
        log_norm = logsumexp(log_p)
        p = np.exp(log_p - log_norm)
        rows = p.sum(1)
        first = rows @ f
        second = (rows @ f**2 + np.einsum("gk,gk->k", f, p @ f)) / 2
        # E B by the same sum as F, in one pass over the training inputs to keep memory at G^2.
        divergence = np.zeros_like(p)
        for j in range(model.n):
            u, at, y = (H[:, None, j] + H[:, j]) / 2, optimum.u[j], model.y[j]
            divergence += model.loss.value(u, y) - model.loss.value(at, y) - (u - at) * model.loss.slope(at, y)
        bregman = (p * divergence).sum() / model.n
    free = -model.lam / size * (log_norm + size * np.log(grid.weight))
    n = model.n
    return GibbsLaw(size, float(free - optimum.value), first[n:], second[n:], second[:n], float(bregman))


def pair_energy(model: Model, grid: Grid) -> Float[np.ndarray, "g g"]:
    """F(rho_X) of two neurons at every pair of nodes."""
    H, square = model.features(grid.nodes, model.Z), (grid.nodes**2).sum(-1)
    energy = model.lamp * (square[:, None] + square) / 2
    for column, y in zip(H.T, model.y, strict=True):
        energy += model.loss.value((column[:, None] + column) / 2, y) / model.n
    return energy


def pair_gibbs(model: Model, grid: Grid) -> Float[np.ndarray, "g g"]:
    """-2 F(rho_X)/lam: log P* of two neurons up to a constant."""
    return -2 * pair_energy(model, grid) / model.lam


def normalised_pair(grid: Grid, log_density: Float[np.ndarray, "g g"]) -> Float[np.ndarray, "g g"]:
    """The density of two neurons proportional to exp(log_density)."""
    return np.exp(log_density - logsumexp(log_density)) / grid.weight**2


def pair_objective(model: Model, grid: Grid, density: Float[np.ndarray, "g g"]) -> float:
    """L^2(P)/2 = E_P F(rho_X) + (lam/2) Ent(P)."""
    integrand = density * pair_energy(model, grid) + model.lam / 2 * xlogy(density, density)
    return float(integrand.sum() * grid.weight**2)


def pair_bregman(optimum: Optimum, density: Float[np.ndarray, "g g"]) -> float:
    """E_P B(rho_X, mu*) of two neurons on the grid of the optimum."""
    model, grid = optimum.model, optimum.grid
    H = model.features(grid.nodes, model.Z)
    total = 0.0
    for column, at, y in zip(H.T, optimum.u, model.y, strict=True):
        u = (column[:, None] + column) / 2
        divergence = model.loss.value(u, y) - model.loss.value(at, y) - (u - at) * model.loss.slope(at, y)
        total += float((density * divergence).sum())
    return total * grid.weight**2 / model.n


def pair_kl(grid: Grid, density: Float[np.ndarray, "g g"], other: Float[np.ndarray, "g g"]) -> float:
    """KL(density||other) of laws of two neurons."""
    return float(rel_entr(density, other).sum() * grid.weight**2)


def fisher_information(grid: Grid, log_density: Float[np.ndarray, "g g"], log_other: Float[np.ndarray, "g g"]) -> float:
    """FI(P||Q) = E_P |grad log(P/Q)|^2 of laws of two neurons, d = 1, by central differences; logs up to constants.

    Differences are second order: 1e-3 relative at a tenth of the width of P, and one-sided at the edge of the grid.
    """
    require(grid.nodes.shape[1] == 1, f"grid must be of dimension 1 here, got dimension {grid.nodes.shape[1]}")
    density = normalised_pair(grid, log_density)
    first, second = np.gradient(log_density - log_other, grid.spacing)
    return float((density * (first**2 + second**2)).sum() * grid.weight**2)


def random_pair_law(
    rng: np.random.Generator, grid: Grid, log_gibbs: Float[np.ndarray, "g g"] | None = None
) -> Float[np.ndarray, "g g"]:
    """log density, up to a constant, of a random exchangeable law of two neurons, d = 1.

    A mixture of one to three symmetrised products N(c1, s1) x N(c2, s2), centres N(0, 1), variances uniform on (0.05, 1),
    weights uniform on the simplex; with `log_gibbs` the geometric mean P^t P*^{1-t}, t = U^2, which comes close to P*.
    """
    x = grid.line
    count = int(rng.integers(1, 4))
    terms = []
    for weight in rng.dirichlet(np.ones(count)):
        c, s = rng.standard_normal(2), rng.uniform(0.05, 1.0, 2)
        a, b = (-((x - c[k]) ** 2) / (2 * s[k]) - np.log(s[k]) / 2 for k in (0, 1))
        product = a[:, None] + b + np.log(weight)
        terms.append(np.logaddexp(product, product.T))
    log_density = np.logaddexp.reduce(terms)
    if log_gibbs is None:
        return log_density
    t = rng.uniform() ** 2
    return t * (log_density - logsumexp(log_density)) + (1 - t) * (log_gibbs - logsumexp(log_gibbs))


def directional_lsi(model: Model, size: int, extent: float, count: int = 301) -> float:
    """alpha of all conditionals of P* for one neuron given the others, N = size, d = 1, squared loss, bounded neurons.

    By curvature: d^2/dx^2 [N F(rho_X)]/lam = [(1/n) sum_j ((h_rho - y_j) h'' + h'^2/N) + 2 lamp]/lam, affine in the average of
    the others' features and thus smallest where all the others coincide. x runs over [-extent, extent], the others over
    a line stretched to 1e3 extents, where neurons that saturate have reached their limits; the minimum on a grid of
    count^2 pairs is refined by four smaller grids. Raises InputError for other losses, d > 1 or neurons without derivatives.
    """
    require(model.loss is SQUARED and model.d == 1, "model must have d = 1 and squared loss, got another")
    require(size >= 1, f"size must be at least 1, got {size}")
    value, gradient, laplacian = model.neuron.value, model.neuron.gradient, model.neuron.laplacian
    if gradient is None or laplacian is None:
        raise InputError("neuron must have gradient and laplacian here, got none")
    stretch = float(np.arcsinh(1e3))
    centre, reach = np.zeros(2), 1.0
    curvature = np.zeros((count, count))
    for _ in range(5):
        s, t = (np.clip(np.linspace(c - reach, c + reach, count), -1, 1)[:, None] for c in centre)
        x, others = extent * s, extent * np.sinh(stretch * t)
        curvature = np.full((count, count), 2 * model.lamp)
        for z, y in zip(model.Z, model.y, strict=True):
            mean = (value(x, z)[:, None] + (size - 1) * value(others, z)) / size
            curvature += ((mean - y) * laplacian(x, z)[:, None] + gradient(x, z) ** 2 / size) / model.n
        row, column = np.unravel_index(curvature.argmin(), curvature.shape)
        centre, reach = np.array([s[row, 0], t[column, 0]]), 4 * reach / count
    return float(curvature.min()) / model.lam
