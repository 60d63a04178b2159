"""Mean-field limit of a two-layer network trained by noisy gradient descent: functionals of the law of a neuron, and the optimum.

A law mu on R^d of a neuron's parameter has predictions h_mu(z) = E_mu h(x, z). With data (z_j, y_j), j = 1..n,

    F(mu) = (1/n) sum_j l(h_mu(z_j), y_j) + lamp E_mu |x|^2,    L(mu) = F(mu) + lam Ent(mu),    Ent(mu) = int mu log mu dx,
    U_mu(x) = (1/n) sum_j l'(h_mu(z_j), y_j) h(x, z_j) + lamp |x|^2,    proximal Gibbs law ∝ exp(-U_mu/lam);

mu* minimises L and is its own proximal Gibbs law (Nitanda, Lee, Tan Xing Kai, Sakaguchi, Suzuki, ICML 2025, arXiv 2502.05784; Chen,
Ren, Wang, arXiv 2212.03050). Laws are densities on a grid, as logarithms, normalised on the grid: then the identities between these
functionals hold to rounding whatever the grid, because its counting measure is a base measure like any other.

Pure functions of a `langevin.Model`; `jit` and `vmap`, over data, lam, lamp or extents, are the caller's. For use in float64.

>>> grid = ball_grid(6.0, 801)
>>> best = jax.jit(optimum)(Model.of("tanh", "squared", Z, y, lamp=0.05, lam=0.05), grid)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp, xlogy
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import InputError, require
from theorysim.kernels.langevin import Model
from theorysim.kernels.losses import Logistic, Squared

Scalar = Float[Array, ""]
LogDensity = Float[Array, " G"]
Points = Float[Array, "T q"] | Float[np.ndarray, "T q"]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


# --- grids and densities ----------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """nodes: shape (G, d). weights: of the quadrature rule, shape (G,)."""

    nodes: Float[Array, "G d"]
    weights: Float[Array, " G"]


def ball_grid(extent: Scalar | float, count: int, d: int = 1) -> Grid:
    """The nodes in |x| <= extent of the lattice with `count` nodes from -extent to extent on each axis, with equal weights.

    In d = 1 the trapezoidal rule but for the weights of both ends, which is exact beyond all orders of the spacing for densities
    that vanish there. `extent` may be traced.

    Raises InputError unless count >= 2 and d >= 1; where the value is known, unless extent > 0.
    """
    require(count >= 2, f"count must be at least 2, got {count}")
    require(d >= 1, f"dimension d must be at least 1, got {d}")
    if isinstance(extent, float | int):
        require(extent > 0, f"extent must be positive, got {extent}")
    axis = np.linspace(-1, 1, count)
    unit = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
    unit = jnp.asarray(unit[np.sum(unit**2, axis=1) <= 1 + 1e-12])
    spacing = jnp.asarray(extent, unit.dtype) * (2 / (count - 1))
    return Grid(extent * unit, jnp.full(len(unit), spacing**d))


def sufficient_extent(model: Model, bound: float, digits: float = 16.0) -> Scalar:
    """X beyond which every proximal Gibbs density of a law is below 10^-digits of its value at 0, where |h| <= `bound`.

    lamp X^2 = lam digits log 10 + 2 bound (1/n) sum_j sup |l'|: the tail of the regulariser against the most that data can do.
    """
    ends = [jnp.abs(model.loss.slope(jnp.full_like(model.y, u), model.y)) for u in (-bound, bound)]  # l' is monotone
    data = 2 * bound * jnp.mean(jnp.maximum(*ends))
    return jnp.sqrt((model.lam * digits * np.log(10) + data) / model.lamp)


def normalise(grid: Grid, log_density: LogDensity) -> LogDensity:
    """With integral 1 on the grid."""
    return log_density - logsumexp(log_density, b=grid.weights)


def gaussian_mixture(
    grid: Grid, weights: Float[Array, " C"], means: Float[Array, "C d"], variances: Float[Array, " C"]
) -> LogDensity:
    """sum_c weights_c N(means_c, variances_c I_d), normalised on the grid. Weights need not sum to one."""
    d = grid.nodes.shape[1]
    squares = jnp.sum((grid.nodes[:, None, :] - means) ** 2, axis=2)
    return normalise(grid, logsumexp(-squares / (2 * variances) - d / 2 * jnp.log(variances), axis=1, b=weights))


def masses(grid: Grid, log_density: LogDensity) -> Float[Array, " G"]:
    """Probabilities of the nodes."""
    return grid.weights * jnp.exp(log_density)


def features(model: Model, grid: Grid, points: Points | None = None) -> Float[Array, "G T"]:
    """h(x, z) at the nodes x and points z; without points at the inputs Z."""
    return model.neuron.features(grid.nodes, model.Z if points is None else jnp.asarray(points))[0]


# --- functionals ------------------------------------------------------------------------------------------------------


def predictions(model: Model, grid: Grid, log_density: LogDensity, points: Points | None = None) -> Float[Array, " T"]:
    """h_mu at the points; without points at the inputs Z."""
    return jnp.matmul(masses(grid, log_density), features(model, grid, points), precision=PRECISE)


def objective(model: Model, grid: Grid, log_density: LogDensity) -> Scalar:
    """F(mu)."""
    risk = jnp.mean(model.loss.value(predictions(model, grid, log_density), model.y))
    return risk + model.lamp * jnp.sum(masses(grid, log_density) * _squares(grid))


def entropy(grid: Grid, log_density: LogDensity) -> Scalar:
    """Ent(mu) = int mu log mu dx, the negative differential entropy."""
    return _mean(grid, log_density, log_density)


def free_energy(model: Model, grid: Grid, log_density: LogDensity) -> Scalar:
    """L(mu) = F(mu) + lam Ent(mu)."""
    return objective(model, grid, log_density) + model.lam * entropy(grid, log_density)


def kl(grid: Grid, log_density: LogDensity, other: LogDensity) -> Scalar:
    """KL(mu || nu) of two log densities."""
    return _mean(grid, log_density, log_density - other)


def bregman(model: Model, u: Float[Array, "... n"], at: Float[Array, " n"]) -> Float[Array, "..."]:
    """B(mu, nu) = F(mu) - F(nu) - int U_nu d(mu - nu), which depends on the predictions alone: u of mu, `at` of nu."""
    y = jnp.broadcast_to(model.y, u.shape)
    tangent = model.loss.value(at, model.y) + model.loss.slope(at, model.y) * (u - at)
    return jnp.mean(model.loss.value(u, y) - tangent, axis=-1)


def first_variation(model: Model, grid: Grid, slopes: Float[Array, " n"]) -> Float[Array, " G"]:
    """U(x) = (1/n) sum_j slopes_j h(x, z_j) + lamp |x|^2 at the nodes; U_mu at slopes_j = l'(h_mu(z_j), y_j)."""
    return _first_variation(model, grid, features(model, grid), slopes)


def gibbs(model: Model, grid: Grid, slopes: Float[Array, " n"]) -> tuple[LogDensity, Scalar]:
    """The law ∝ exp(-U/lam), U as in `first_variation`, and log int exp(-U/lam) dx."""
    return _gibbs(model, grid, features(model, grid), slopes)


def proximal_gibbs(model: Model, grid: Grid, log_density: LogDensity) -> LogDensity:
    """The law ∝ exp(-U_mu/lam)."""
    return gibbs(model, grid, model.loss.slope(predictions(model, grid, log_density), model.y))[0]


def dual(
    model: Model, grid: Grid, g: Float[Array, " n"], conjugate: Callable[[Array, Array], Array] | None = None
) -> Scalar:
    """D(g) = -(1/n) sum_j l*(g_j, y_j) - lam log int exp(-U/lam) dx, U as in `first_variation` with slopes g.

    D(g) <= L(mu) for every g and mu, with equality at mu* and g_j = l'(h_{mu*}(z_j), y_j) (Fenchel's duality).
    conjugate: l*(g, y) = sup_u g u - l(u, y), elementwise; known for the squared and the logistic loss.

    Raises InputError if a conjugate is needed and not given.
    """
    if conjugate is None:
        if type(model.loss) not in CONJUGATES:
            raise InputError(f"conjugate must be given for the loss {type(model.loss).__name__}")
        conjugate = CONJUGATES[type(model.loss)]
    return -jnp.mean(conjugate(g, model.y)) - model.lam * gibbs(model, grid, g)[1]


def _logistic_conjugate(g: Array, y: Array) -> Array:
    q = -y * g
    inside = jnp.clip(q, 0, 1)
    return jnp.where(q == inside, xlogy(inside, inside) + xlogy(1 - inside, 1 - inside), jnp.inf)


CONJUGATES: dict[type, Callable[[Array, Array], Array]] = {
    Squared: lambda g, y: g**2 / 2 + g * y,
    Logistic: _logistic_conjugate,
}
"""l*(g, y). That of the logistic loss is q log q + (1 - q) log(1 - q), q = -y g, and infinite unless 0 <= q <= 1."""


# --- optimum ----------------------------------------------------------------------------------------------------------


class Optimum(NamedTuple):
    """mu* on a grid.

    u: predictions u_j = h_{mu*}(z_j), shape (n,). log_density: of mu*, shape (G,). log_partition: log int exp(-U_{mu*}/lam) dx.
    free_energy: L(mu*). converged: whether the largest |u_j - h_mu(z_j)|, mu the Gibbs law of slopes l'(u_j, y_j), is within
    rounding of zero, 128 units in the last place of max |h|. iterations: evaluations of the Gibbs law.
    """

    u: Float[Array, " n"]
    log_density: LogDensity
    log_partition: Scalar
    free_energy: Scalar
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]


class Newton(NamedTuple):
    """State of `damped_newton`. u: where the residual was smallest, in norm `norm`; direction: the full step from there.
    step: the fraction of it to try next. iterations: evaluations."""

    u: Float[Array, " n"]
    norm: Scalar
    direction: Float[Array, " n"]
    step: Scalar
    iterations: Int[Array, ""]


def damped_newton(
    evaluate: Callable[[Float[Array, " n"]], tuple[Scalar, Float[Array, " n"]]],
    start: Float[Array, " n"],
    tolerance: Scalar,
    limit: int,
) -> Newton:
    """Newton's method, whose step is halved until the residual's norm falls, up to a norm of `tolerance` or `limit` evaluations.

    evaluate: of u to (norm of the residual, Newton's step).
    """

    def proceed(state: Newton) -> Bool[Array, ""]:
        return (state.norm > tolerance) & (state.iterations < limit) & (state.step > 1e-12)

    def body(state: Newton) -> Newton:
        u = state.u + state.step * state.direction
        norm, direction = evaluate(u)
        better = norm < state.norm
        pick = lambda new, old: jnp.where(better, new, old)
        step = jnp.where(better, jnp.ones_like(state.step), state.step / 2)
        new = pick(u, state.u), pick(norm, state.norm), pick(direction, state.direction)
        return Newton(*new, step, state.iterations + 1)

    first = Newton(start, *evaluate(start), jnp.ones((), start.dtype), jnp.ones((), jnp.int32))
    return lax.while_loop(proceed, body, first)


def optimum(model: Model, grid: Grid, *, limit: int = 200) -> Optimum:
    """mu* by Newton's method for the n equations u_j = h_mu(z_j), mu the Gibbs law of slopes l'(u_j, y_j), from u = 0.

    The Jacobian I + K diag(l'')/(lam n), K the covariance of the features under mu, has eigenvalues of at least 1, so that short
    enough steps always reduce the residual: steps are halved until they do. At most `limit` evaluations of the Gibbs law, each
    O(G n^2) operations.
    """
    H, n = features(model, grid), len(model.y)
    tolerance = 128 * jnp.finfo(H.dtype).eps * jnp.max(jnp.abs(H))

    def evaluate(u: Array) -> tuple[Scalar, Array]:
        p = masses(grid, _gibbs(model, grid, H, model.loss.slope(u, model.y))[0])
        mean = jnp.matmul(p, H, precision=PRECISE)
        phi = H - mean
        K = jnp.matmul((phi * p[:, None]).T, phi, precision=PRECISE)
        jacobian = jnp.eye(n, dtype=H.dtype) + K * model.loss.curvature(u, model.y) / (model.lam * n)
        return jnp.max(jnp.abs(u - mean)), jnp.linalg.solve(jacobian, mean - u)

    last = damped_newton(evaluate, jnp.zeros(n, H.dtype), tolerance, limit)
    log_density, log_partition = _gibbs(model, grid, H, model.loss.slope(last.u, model.y))
    value = free_energy(model, grid, log_density)
    return Optimum(last.u, log_density, log_partition, value, last.norm <= tolerance, last.iterations)


def _gibbs(model: Model, grid: Grid, H: Float[Array, "G n"], slopes: Float[Array, " n"]) -> tuple[LogDensity, Scalar]:
    exponent = -_first_variation(model, grid, H, slopes) / model.lam
    log_partition = logsumexp(exponent, b=grid.weights)
    return exponent - log_partition, log_partition


def _first_variation(
    model: Model, grid: Grid, H: Float[Array, "G n"], slopes: Float[Array, " n"]
) -> Float[Array, " G"]:
    return jnp.matmul(H, slopes, precision=PRECISE) / len(slopes) + model.lamp * _squares(grid)


def _squares(grid: Grid) -> Float[Array, " G"]:
    return jnp.sum(grid.nodes**2, axis=1)


def _mean(grid: Grid, log_density: LogDensity, values: Float[Array, " G"]) -> Scalar:
    """E_mu of values that may be infinite where mu vanishes."""
    p = masses(grid, log_density)
    return jnp.sum(p * jnp.where(p > 0, values, 0))
