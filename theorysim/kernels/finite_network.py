"""The law of N interacting neurons at stationarity, P* ∝ exp(-(N/lam) F(rho)) on (R^d)^N: exactly, and by importance sampling.

P* minimises L^N(P) = N E_P F(rho) + lam Ent(P), rho the empirical law of the N particles, and is compared with the optimum mu* of
`theorysim.kernels.mean_field`, in whose notation (Nitanda et al., ICML 2025, arXiv 2502.05784; Chen, Ren, Wang, arXiv 2212.03050)

    dP*/d mu*^N = exp(-(N/lam) B(rho, mu*))/Z_N,    Delta_N := L^N(P*)/N - L(mu*) = -(lam/N) log Z_N.

For the squared loss (N/lam) B = |s|^2/2, s = sum_i phi(x^i)/sqrt(lam n N), phi_j(x) = h(x, z_j) - u_j, and the Gaussian integral
exp(-|s|^2/2) = E_zeta exp(i zeta.s), zeta ~ N(0, I_n), makes the neurons independent given zeta (Hubbard and Stratonovich):
Z_N = E_zeta psi(zeta)^N with psi = E_mu* exp(i zeta.phi/sqrt(lam n N)). Derived here.

Neurons live on the nodes of the grid, mu* is the law that `mean_field.optimum` found there, and P* is exact for that base measure.
Pure functions; `jit` and `vmap` are the caller's. For use in float64.

>>> law = jax.jit(gibbs_law)(model, grid, optimum(model, grid), N, points)
>>> draws = sample(key, model, grid, optimum(model, grid), N, points, samples=200_000)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Complex, Float, Int, Key

from theorysim.errors import require
from theorysim.kernels import mean_field
from theorysim.kernels.elementary import sincos
from theorysim.kernels.langevin import Model
from theorysim.kernels.losses import Squared
from theorysim.kernels.mean_field import Grid, Optimum, Points

Scalar = Float[Array, ""]
Size = Int[Array, ""] | int

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


class GibbsLaw(NamedTuple):
    """What P* says of N neurons; test points z_t.

    gap: Delta_N. bregman: E B(rho, mu*), for the squared loss half the mean over j of E (h_rho(z_j) - u_j)^2.
    kl: KL(P* || mu*^N) = (N/lam) (Delta_N - E B).
    bias, second_moment: of h_rho(z_t) - h_{mu*}(z_t), shapes (T,). marginal: density of one neuron relative to mu*, shape (G,).
    resolved: whether the quadrature in zeta is fine enough; true where there is none.
    """

    gap: Scalar
    bregman: Scalar
    kl: Scalar
    bias: Float[Array, " T"]
    second_moment: Float[Array, " T"]
    marginal: Float[Array, " G"]
    resolved: Bool[Array, ""]

    @property
    def variance(self) -> Float[Array, " T"]:
        """Var h_rho(z_t)."""
        return self.second_moment - self.bias**2


# --- squared loss, any N ----------------------------------------------------------------------------------------------


class _Transform(NamedTuple):
    """Quadrature in zeta. tables: cos and sin of zeta_a phi_j(x)/sqrt(lam n N), zeta_a >= 0, n arrays of shape (2, m, G).
    axes: of the nodes zeta, n arrays. weights: of N(0, I_n), doubled where zeta_1 > 0: integrands at -zeta are the conjugates of
    those at zeta, so zeta_1 >= 0 is enough. resolved: see `GibbsLaw`."""

    tables: list[Float[Array, "2 m G"]]
    axes: list[Float[np.ndarray, " k"]]
    weights: Float[Array, "..."]
    resolved: Bool[Array, ""]

    def __call__(self, q: Float[Array, " G"]) -> Complex[Array, "..."]:
        """sum_g q_g exp(i zeta.phi(x_g)/sqrt(lam n N)) at all nodes zeta.

        The exponential is a product over j, so this is one product of an (m^{n-1}, G) and a (G, m) matrix of cosines and sines.
        """
        *first, last = self.tables
        left = q
        for table in first:
            left = left[..., None, None, :] * table
        value = jnp.tensordot(left, last, ((-1,), (-1,)), precision=PRECISE)
        for j in range(len(self.tables)):
            cosine, sine = (lax.index_in_dim(value, k, axis=j, keepdims=False) for k in (0, 1))
            value = cosine + 1j * sine
            if j > 0:
                mirrored = lax.slice_in_dim(jnp.flip(cosine - 1j * sine, axis=j), 0, value.shape[j] - 1, axis=j)
                value = jnp.concatenate([mirrored, value], axis=j)
        return value

    def mean(self, values: Complex[Array, "..."]) -> Scalar:
        """E_zeta."""
        return jnp.sum(self.weights * values.real)


def _transform(model: Model, grid: Grid, best: Optimum, N: Size, count: int, cutoff: float) -> _Transform:
    require(isinstance(model.loss, Squared), f"loss must be squared, got {type(model.loss).__name__}")
    n = len(model.y)
    require(n <= 3, f"number of data n must be at most 3, got {n}")
    require(count >= 3 and count % 2 == 1, f"count must be odd and at least 3, got {count}")
    phi = mean_field.features(model, grid) - best.u
    scale = 1 / jnp.sqrt(model.lam * n * jnp.asarray(N, phi.dtype))
    full = np.linspace(-cutoff, cutoff, count)
    half = np.maximum(full[count // 2 :], 0)
    tables = []
    for j in range(n):
        sine, cosine = sincos(half[:, None] * (scale * phi[:, j]))
        tables.append(jnp.stack([cosine, sine]))
    axes = [half] + [full] * (n - 1)
    one = [np.exp(-(axis**2) / 2) for axis in axes]
    one[0] = one[0] * np.where(half > 0, 2, 1)
    weights = np.ones(())
    for w in one:
        weights = weights[..., None] * (w / w.sum())
    # By Poisson's formula the rule replaces exp(-s^2/2) by its sum over shifts of s by 2 pi/spacing: they must be far from any s
    # that has a weight, eight standard deviations under mu*^N, and N times the largest phase at most.
    p = mean_field.masses(grid, best.log_density)
    deviation = jnp.sqrt(jnp.max(p @ phi**2) / (model.lam * n))
    furthest = jnp.minimum(8 * deviation, N * scale * jnp.max(jnp.abs(phi)))
    resolved = 2 * np.pi / (full[1] - full[0]) >= 8 + furthest
    return _Transform(tables, axes, jnp.asarray(weights, phi.dtype), resolved)


def gibbs_law(
    model: Model,
    grid: Grid,
    best: Optimum,
    N: Size,
    points: Points | None = None,
    *,
    count: int = 121,
    cutoff: float = 7.5,
) -> GibbsLaw:
    """P* for the squared loss and n <= 3 data, by quadrature over zeta in R^n.

    best: `mean_field.optimum` on the same grid. N: may be traced. points: without them the inputs Z.
    count: nodes from -cutoff to cutoff on each axis of zeta, with the trapezoidal rule. 121 are enough where
        sqrt(K_jj/(lam n)) < 5, K_jj the variance of h(x, z_j) under mu*; see `resolved`. Costs O(count^n G) operations T + 2 times,
        and count^{n-1} G numbers of memory.

    Raises InputError for another loss, n > 3, an even count; where the value is known, unless N >= 1.
    """
    _require_size(N)
    n, size = len(model.y), jnp.asarray(N)
    transform = _transform(model, grid, best, N, count, cutoff)
    p = mean_field.masses(grid, best.log_density)
    psi, transposed = jax.vjp(transform, p)
    two_less = _power(psi, jnp.maximum(size - 2, 0))
    one_less = jnp.where(size == 1, 1, two_less * psi)
    whole = one_less * psi
    Z = transform.mean(whole)
    marginal = transposed((transform.weights * one_less).astype(psi.dtype))[0] / Z

    f = _deviations(model, grid, p, points)
    pairs = lax.map(lambda f: transform.mean(two_less * transform(p * f) ** 2) / Z, f.T)
    own = jnp.matmul(p * marginal, f**2, precision=PRECISE)
    second_moment = own / size + (1 - 1 / size) * pairs

    # E[zeta_j^2 exp(i zeta.s)] = (1 - s_j^2) exp(-|s|^2/2), whence E|s|^2 under P*
    radius = sum(jnp.expand_dims(axis**2, [k for k in range(n) if k != j]) for j, axis in enumerate(transform.axes))
    square = n - transform.mean(radius * whole) / Z
    return GibbsLaw(
        gap=-model.lam / size * jnp.log(Z),
        bregman=model.lam / (2 * size) * square,
        kl=-jnp.log(Z) - square / 2,
        bias=jnp.matmul(p * marginal, f, precision=PRECISE),
        second_moment=second_moment,
        marginal=marginal,
        resolved=transform.resolved,
    )


def gibbs_pairs(
    model: Model, grid: Grid, best: Optimum, N: Size, *, count: int = 121, cutoff: float = 7.5
) -> Float[Array, "G G"]:
    """Density of two of the N neurons relative to mu* x mu*, for the squared loss and n <= 3. Arguments as for `gibbs_law`.

    Costs O(count^n G^2) operations. Raises InputError as `gibbs_law`; where the value is known, unless N >= 2.
    """
    _require_size(N, least=2)
    transform = _transform(model, grid, best, N, count, cutoff)
    psi = transform(mean_field.masses(grid, best.log_density))
    power = _power(psi, jnp.asarray(N) - 2)
    density = (transform.weights * power).reshape(count // 2 + 1, -1)
    # exp(i zeta.phi) on a slab of fixed zeta_1, as real and imaginary parts
    rest_real, rest_imag = (
        jnp.ones((1, len(grid.weights)), psi.real.dtype),
        jnp.zeros((1, len(grid.weights)), psi.real.dtype),
    )
    for cosine, sine in transform.tables[1:]:
        full_cosine = jnp.concatenate([jnp.flip(cosine[1:], axis=0), cosine])
        full_sine = jnp.concatenate([-jnp.flip(sine[1:], axis=0), sine])
        rest_real, rest_imag = (
            part.reshape(-1, len(grid.weights))
            for part in _multiply(rest_real[:, None], rest_imag[:, None], full_cosine[None], full_sine[None])
        )

    def add(total: Array, slab: tuple[Array, Array, Array]) -> tuple[Array, None]:
        cosine, sine, weight = slab
        real, imag = _multiply(rest_real, rest_imag, cosine, sine)
        left_real, left_imag = _multiply(real, imag, weight.real[:, None], weight.imag[:, None])
        product = partial(jnp.matmul, precision=PRECISE)
        return total + product(left_real.T, real) - product(left_imag.T, imag), None

    zeros = jnp.zeros((len(grid.weights),) * 2, psi.real.dtype)
    total, _ = lax.scan(add, zeros, (*transform.tables[0], density))
    return total / transform.mean(power * psi**2)


def relative_entropy(masses: Float[Array, "..."], ratio: Float[Array, "..."]) -> Scalar:
    """KL(r mu || mu) from the density r relative to mu, accurate near r = 1: the mean of r log r - r + 1 under `masses`."""
    excess = ratio - 1
    terms = jnp.where(ratio > 0, ratio * jnp.log1p(jnp.where(ratio > 0, excess, 0)) - excess, 1)
    return jnp.sum(masses * terms)


def wasserstein2_line(grid: Grid, log_density: Float[Array, " G"], other: Float[Array, " G"]) -> Scalar:
    """W_2^2 of two laws on a line whose densities vanish at both ends, from their quantiles: int (x - T(x))^2 mu(x) dx.

    Distribution functions are cubic Hermite interpolants, whose slopes are the densities; error O(spacing^4).
    """
    x, spacing = grid.nodes[:, 0], grid.nodes[1, 0] - grid.nodes[0, 0]
    mu, nu = jnp.exp(log_density), jnp.exp(other)
    F, Q = (_distribution(density, spacing) for density in (mu, nu))
    cell = jnp.clip(jnp.searchsorted(Q, F, side="right") - 1, 0, len(x) - 2)
    q0, q1, s0, s1 = Q[cell], Q[cell + 1], nu[cell] * spacing, nu[cell + 1] * spacing

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        t = (low + high) / 2
        value = q0 + t * s0 + t**2 * (3 * (q1 - q0) - 2 * s0 - s1) + t**3 * (2 * (q0 - q1) + s0 + s1)
        return jnp.where(value < F, t, low), jnp.where(value < F, high, t)

    low, high = lax.fori_loop(0, 50, halve, (jnp.zeros_like(F), jnp.ones_like(F)))
    return jnp.sum(grid.weights * mu * (x[cell] + (low + high) / 2 * spacing - x) ** 2)


def _distribution(density: Float[Array, " G"], spacing: Scalar) -> Float[Array, " G"]:
    slope = _slope(density)
    cells = (density[1:] + density[:-1]) / 2 + (slope[:-1] - slope[1:]) / 12
    cumulative = jnp.concatenate([jnp.zeros(1, density.dtype), jnp.cumsum(cells)])
    return cumulative / cumulative[-1]


def _multiply(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
    return a * c - b * d, a * d + b * c


def _power(base: Complex[Array, "..."], exponent: Int[Array, ""]) -> Complex[Array, "..."]:
    """base^exponent by repeated squaring: one program for all exponents >= 0, and 0^0 = 1."""

    def square(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        result, base, k = state
        return jnp.where(k % 2 == 1, result * base, result), base * base, k // 2

    return lax.while_loop(lambda state: state[2] > 0, square, (jnp.ones_like(base), base, exponent))[0]


def _deviations(model: Model, grid: Grid, p: Float[Array, " G"], points: Points | None) -> Float[Array, "G T"]:
    """h(x, z_t) - h_{mu*}(z_t)."""
    h = mean_field.features(model, grid, points)
    return h - jnp.matmul(p, h, precision=PRECISE)


def _require_size(N: Size, least: int = 1) -> None:
    if isinstance(N, int):
        require(least <= N, f"number of neurons N must be at least {least}, got {N}")


# --- any loss, one or two neurons -------------------------------------------------------------------------------------


def quadrature_law(model: Model, grid: Grid, best: Optimum, N: int, points: Points | None = None) -> GibbsLaw:
    """P* of one or two neurons by summing exp(-(N/lam) F(rho)) over their nodes, for any loss; O(G^N) memory.

    Raises InputError unless N is 1 or 2.
    """
    require(N in (1, 2), f"number of neurons N must be 1 or 2, got {N}")
    log_masses = jnp.log(grid.weights)
    log_reference = log_masses + best.log_density
    H, f = mean_field.features(model, grid), _deviations(model, grid, jnp.exp(log_reference), points)
    if N == 1:
        energy, base, reference, u = single_energy(model, grid), log_masses, log_reference, H
    else:
        energy, u = pair_energy(model, grid), (H[:, None] + H) / 2
        base, reference = (v[:, None] + v for v in (log_masses, log_reference))
    exponent = base - N / model.lam * energy
    log_Z = logsumexp(exponent)
    log_P = exponent - log_Z
    P = jnp.exp(log_P)
    log_one = log_P if N == 1 else logsumexp(log_P, axis=1)
    one = jnp.exp(log_one)
    bias, own = jnp.matmul(one, f, precision=PRECISE), jnp.matmul(one, f**2, precision=PRECISE)
    pairs = jnp.zeros_like(own) if N == 1 else jnp.sum(f * jnp.matmul(P, f, precision=PRECISE), axis=0)
    return GibbsLaw(
        gap=-model.lam / N * log_Z - best.free_energy,
        bregman=jnp.sum(P * mean_field.bregman(model, u, best.u)),
        kl=jnp.sum(P * (log_P - reference)),
        bias=bias,
        second_moment=own / N + (1 - 1 / N) * pairs,
        marginal=jnp.exp(log_one - log_reference),
        resolved=jnp.ones((), bool),
    )


def single_energy(model: Model, grid: Grid) -> Float[Array, " G"]:
    """F of point masses at the nodes."""
    H = mean_field.features(model, grid)
    return jnp.mean(model.loss.value(H, jnp.broadcast_to(model.y, H.shape)), axis=-1) + model.lamp * _squares(grid)


def pair_energy(model: Model, grid: Grid) -> Float[Array, "G G"]:
    """F(rho) of two particles at all pairs of nodes."""
    H, squares = mean_field.features(model, grid), _squares(grid)
    u = (H[:, None] + H) / 2
    penalty = model.lamp * (squares[:, None] + squares) / 2
    return jnp.mean(model.loss.value(u, jnp.broadcast_to(model.y, u.shape)), axis=-1) + penalty


def _squares(grid: Grid) -> Float[Array, " G"]:
    return jnp.sum(grid.nodes**2, axis=1)


# --- laws of two neurons on a line ------------------------------------------------------------------------------------


def normalise_pair(grid: Grid, log_density: Float[Array, "G G"]) -> Float[Array, "G G"]:
    """With integral 1 on the grid's square."""
    return log_density - logsumexp(log_density + _log_squares(grid))


def pair_gibbs(model: Model, grid: Grid) -> Float[Array, "G G"]:
    """Log density of P* for N = 2."""
    return normalise_pair(grid, -2 / model.lam * pair_energy(model, grid))


def pair_objective(model: Model, grid: Grid, log_density: Float[Array, "G G"]) -> Scalar:
    """L^2(P)/2 = E_P F(rho) + (lam/2) Ent(P)."""
    P = jnp.exp(log_density + _log_squares(grid))
    return jnp.sum(P * (pair_energy(model, grid) + model.lam / 2 * log_density))


def pair_bregman(model: Model, grid: Grid, best: Optimum, log_density: Float[Array, "G G"]) -> Scalar:
    """E_P B(rho, mu*)."""
    H = mean_field.features(model, grid)
    return jnp.sum(jnp.exp(log_density + _log_squares(grid)) * mean_field.bregman(model, (H[:, None] + H) / 2, best.u))


def pair_kl(grid: Grid, log_density: Float[Array, "G G"], other: Float[Array, "G G"]) -> Scalar:
    """KL(P || Q) of two log densities. That of mu* x mu* is `best.log_density[:, None] + best.log_density`."""
    return jnp.sum(jnp.exp(log_density + _log_squares(grid)) * (log_density - other))


def pair_fisher(grid: Grid, log_density: Float[Array, "G G"], other: Float[Array, "G G"]) -> Scalar:
    """FI(P || Q) = E_P |grad log(P/Q)|^2, the gradient by central differences of fourth order, lower at the margins; d = 1.

    Raises InputError unless d = 1.
    """
    require(grid.nodes.shape[1] == 1, f"nodes must be on a line, got dimension d = {grid.nodes.shape[1]}")
    ratio, spacing = log_density - other, grid.nodes[1, 0] - grid.nodes[0, 0]
    gradient = jnp.stack([_slope(ratio), _slope(ratio.T).T]) / spacing
    return jnp.sum(jnp.exp(log_density + _log_squares(grid)) * jnp.sum(gradient**2, axis=0))


def random_pair_law(
    key: Key[Array, ""], grid: Grid, *, temper: Float[Array, "G G"] | None = None
) -> Float[Array, "G G"]:
    """Log density of a random exchangeable law of two particles on a line.

    A mixture of one to three symmetrised products N(c, v) x N(c', v'), c ~ N(0, 1), v ~ U(0.05, 1), with uniform weights. With the
    log density `temper` of Q, the law ∝ P^t Q^{1-t}, t = U^2, in its place.
    """
    number, weights, centres, variances, power = random.split(key, 5)
    x, dtype = grid.nodes[:, 0], grid.nodes.dtype
    present = jnp.arange(3) < random.randint(number, (), 1, 4)
    w = jnp.where(present, random.uniform(weights, (3,), dtype, minval=1e-3), 0)
    c = random.normal(centres, (3, 2, 1), dtype)
    v = random.uniform(variances, (3, 2, 1), dtype, minval=0.05, maxval=1.0)
    first, second = jnp.moveaxis(-((x - c) ** 2) / (2 * v) - jnp.log(v) / 2, 1, 0)
    products = first[:, :, None] + second[:, None, :]
    symmetric = jnp.logaddexp(products, products.transpose(0, 2, 1))
    log_density = normalise_pair(grid, logsumexp(symmetric, axis=0, b=w[:, None, None]))
    if temper is None:
        return log_density
    t = random.uniform(power, (), dtype) ** 2
    return normalise_pair(grid, t * log_density + (1 - t) * temper)


def _log_squares(grid: Grid) -> Float[Array, "G G"]:
    return jnp.log(grid.weights)[:, None] + jnp.log(grid.weights)


def _slope(values: Float[Array, "G ..."]) -> Float[Array, "G ..."]:
    """Differences along the first axis, of order four inside, one-sided at both ends."""
    second = (values[2:] - values[:-2]) / 2
    fourth = (8 * (values[3:-1] - values[1:-3]) - (values[4:] - values[:-4])) / 12
    ends = values[1:2] - values[:1], values[-1:] - values[-2:-1]
    return jnp.concatenate([ends[0], second[:1], fourth, second[-1:], ends[1]])


# --- any loss, any N: importance sampling -----------------------------------------------------------------------------


class Draws(NamedTuple):
    """Networks of N independent neurons of law mu*, with their weights for P*.

    deviation: sqrt(N) (h_rho(z_t) - h_{mu*}(z_t)), shape (S, T). log_weight: -(N/lam) B(rho, mu*), shape (S,).
    """

    deviation: Float[Array, "S T"]
    log_weight: Float[Array, " S"]


class Sums(NamedTuple):
    """Sums over the networks of each of C chunks, W = exp(-(N/lam) B), P = h_rho(z_t) - h_{mu*}(z_t), from mu*^N.

    weight, squared_weight, weighted_bregman: of W, W^2, W B, shapes (C,). plain: of P, P^2, weighted: of W P, W P^2,
    shapes (C, 2, T). count: networks of a chunk.
    """

    weight: Float[Array, " C"]
    squared_weight: Float[Array, " C"]
    weighted_bregman: Float[Array, " C"]
    plain: Float[Array, "C 2 T"]
    weighted: Float[Array, "C 2 T"]
    count: Int[Array, ""]


class Estimate(NamedTuple):
    """Of P*. gap: Delta_N. bregman: E B. kl: KL(P* || mu*^N). bias, variance: of h_rho(z_t), shapes (T,).
    effective: the fraction (mean W)^2/mean W^2 of the networks that counts."""

    gap: Scalar
    bregman: Scalar
    kl: Scalar
    bias: Float[Array, " T"]
    variance: Float[Array, " T"]
    effective: Scalar


def sample(
    key: Key[Array, ""],
    model: Model,
    grid: Grid,
    best: Optimum,
    N: Size,
    points: Points | None = None,
    *,
    samples: int,
    chunk: int = 4000,
) -> Draws:
    """Networks from mu*^N with weights for P*, any convex smooth loss.

    best: `mean_field.optimum` on the same grid. N: may be traced. points: without them the inputs Z. chunk: networks at a time.

    Raises InputError unless samples is a positive multiple of chunk; where the value is known, unless N >= 1.
    """
    chunks, draw = _proposal(key, model, grid, best, N, points, samples, chunk)
    deviation, log_weight = lax.map(lambda index: draw(index)[:2], chunks)
    return Draws(
        jnp.sqrt(jnp.asarray(N, deviation.dtype)) * deviation.reshape(samples, -1), log_weight.reshape(samples)
    )


def accumulate(
    key: Key[Array, ""],
    model: Model,
    grid: Grid,
    best: Optimum,
    N: Size,
    points: Points | None = None,
    *,
    samples: int,
    chunk: int = 4000,
) -> Sums:
    """What `estimate` needs of the networks that `sample` draws, which are not kept. Arguments, errors: as for `sample`."""
    chunks, draw = _proposal(key, model, grid, best, N, points, samples, chunk)

    def sums(index: Array) -> tuple[Array, Array, Array, Array, Array]:
        P, log_weight, B = draw(index)
        W = jnp.exp(log_weight)
        powers = jnp.stack([P, P**2])
        weighted = jnp.einsum("s,kst->kt", W, powers, precision=PRECISE)
        return jnp.sum(W), jnp.sum(W**2), jnp.sum(W * B), jnp.sum(powers, axis=1), weighted

    weight, squared_weight, weighted_bregman, plain, weighted = lax.map(sums, chunks)
    return Sums(weight, squared_weight, weighted_bregman, plain, weighted, jnp.asarray(chunk))


def estimate(model: Model, N: Size, sums: Sums) -> tuple[Estimate, Estimate]:
    """(estimates, their standard errors by the jackknife over chunks).

    E P = 0 under mu*^N, so the mean of P is a control variate for that of W P, with the coefficient sum W P^2/sum P^2.

    Raises InputError unless there are two chunks or more.
    """
    chunks = len(sums.weight)
    require(chunks >= 2, f"sums must be of at least 2 chunks, got {chunks}")

    def evaluate(values: tuple[Array, ...], chunks: int) -> Estimate:
        weight, squared, bregman, plain, weighted = values
        networks = chunks * sums.count
        log_Z = jnp.log(weight / networks)
        B = bregman / weight
        bias = (weighted[0] - weighted[1] / plain[1] * plain[0]) / weight
        return Estimate(
            gap=-model.lam / N * log_Z,
            bregman=B,
            kl=-log_Z - N / model.lam * B,
            bias=bias,
            variance=weighted[1] / weight - bias**2,
            effective=weight**2 / squared / networks,
        )

    every = tuple(sums[:-1])
    total = tuple(jnp.sum(leaf, axis=0) for leaf in every)
    without = tuple(whole - leaf for whole, leaf in zip(total, every, strict=True))
    less = jax.vmap(lambda values: evaluate(values, chunks - 1))(without)
    errors = jax.tree.map(lambda leaf: jnp.sqrt((chunks - 1) * jnp.var(leaf, axis=0)), less)
    return evaluate(total, chunks), errors


def resample(key: Key[Array, ""], draws: Draws, count: int) -> Float[Array, "M T"]:
    """`count` independent networks of law P*, up to the error of the weighted sample they are drawn from: their deviations."""
    weights = jnp.cumsum(jnp.exp(draws.log_weight))
    at = weights[-1] * random.uniform(key, (count,), weights.dtype)
    return draws.deviation[jnp.minimum(jnp.searchsorted(weights, at, side="right"), len(weights) - 1)]


def _proposal(
    key: Key[Array, ""],
    model: Model,
    grid: Grid,
    best: Optimum,
    N: Size,
    points: Points | None,
    samples: int,
    chunk: int,
) -> tuple[Int[Array, " C"], Callable[[Array], tuple[Float[Array, "S T"], Float[Array, " S"], Float[Array, " S"]]]]:
    """Indices of chunks, and a function of an index: P, -(N/lam) B and B of the networks of its chunk."""
    _require_size(N)
    require(
        samples >= 1 and samples % chunk == 0, f"samples must be a positive multiple of chunk = {chunk}, got {samples}"
    )
    p = mean_field.masses(grid, best.log_density)
    f = _deviations(model, grid, p, points)
    table = jnp.concatenate([mean_field.features(model, grid) - best.u, f], axis=1)
    cumulative = jnp.cumsum(p)
    n, last = len(model.y), len(p) - 1

    def draw(index: Array) -> tuple[Array, Array, Array]:
        own = random.fold_in(key, index)

        def add(i: Array, total: Array) -> Array:
            at = cumulative[-1] * random.uniform(random.fold_in(own, i), (chunk,), p.dtype)
            return total + table[jnp.minimum(jnp.searchsorted(cumulative, at, side="right"), last)]

        mean = lax.fori_loop(0, N, add, jnp.zeros((chunk, table.shape[1]), p.dtype)) / N
        B = mean_field.bregman(model, best.u + mean[:, :n], best.u)
        return mean[:, n:], -N / model.lam * B, B

    return jnp.arange(samples // chunk), draw
