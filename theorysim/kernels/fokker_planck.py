"""The law of a neuron in infinitely wide networks, on a line: the flow of mean-field Langevin dynamics, and noisy gradient descent.

Neurons of law mu_t follow dX = -grad U_{mu_t}(X) dt + sqrt(2 lam) dW (Nitanda et al., ICML 2025, arXiv 2502.05784), so

    d mu/dt = d/dx (mu dU_mu/dx) + lam d^2 mu/dx^2;

those of noisy gradient descent at step size eta follow the Markov kernel N(x - eta dU_mu/dx, 2 lam eta), whose stationary law
mu_eta differs from mu* by O(eta). Notation and grids are those of `theorysim.kernels.mean_field`; d = 1 for the flow.

Pure functions; `jit` and `vmap` are the caller's. For use in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import require
from theorysim.kernels import mean_field
from theorysim.kernels.langevin import Model
from theorysim.kernels.mean_field import Grid, LogDensity

Scalar = Float[Array, ""]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""


class Flow(NamedTuple):
    """At the recorded steps: free energies L(mu_t), shape (K,), and log densities of mu_t, shape (K, G)."""

    free_energy: Float[Array, " K"]
    log_density: Float[Array, "K G"]


def flow(
    model: Model,
    grid: Grid,
    log_density: LogDensity,
    dt: Scalar | float,
    *,
    steps: Int[Array, " K"] | Int[np.ndarray, " K"],
) -> Flow:
    """Mean-field Langevin dynamics from mu_0 = exp(log_density), at the times dt * steps.

    Finite volumes with the rates of Scharfetter and Gummel (IEEE Trans. Electron Devices 16, 1969), of which discrete Gibbs laws
    are the equilibria: error O(dx^2). Implicit Euler steps, U renewed before each: error O(dt).
    steps: not decreasing, shape (K,); only K enters the program.

    Raises InputError unless d = 1.
    """
    require(grid.nodes.shape[1] == 1, f"nodes must be on a line, got dimension d = {grid.nodes.shape[1]}")
    H = mean_field.features(model, grid)
    dx = grid.nodes[1, 0] - grid.nodes[0, 0]
    zero = jnp.zeros(1, H.dtype)

    def step(p: Float[Array, " G"]) -> Float[Array, " G"]:
        slopes = model.loss.slope(jnp.matmul(p, H, precision=PRECISE), model.y)
        rise = jnp.diff(mean_field.first_variation(model, grid, slopes)) / model.lam
        right, left = (dt * model.lam / dx**2 * _bernoulli(v) for v in (rise, -rise))
        stay = 1 + jnp.concatenate([right, zero]) + jnp.concatenate([zero, left])
        below, above = -jnp.concatenate([zero, right]), -jnp.concatenate([left, zero])
        return lax.linalg.tridiagonal_solve(below, stay, above, p[:, None])[:, 0]

    def interval(carry: tuple[Array, Array], until: Int[Array, ""]) -> tuple[tuple[Array, Array], Flow]:
        p, done = carry
        p = lax.fori_loop(done, until, lambda _, p: step(p), p)
        now = mean_field.normalise(grid, jnp.log(p / grid.weights))
        return (p, until), Flow(mean_field.free_energy(model, grid, now), now)

    until = jnp.asarray(steps)
    return lax.scan(interval, (mean_field.masses(grid, log_density), jnp.zeros((), until.dtype)), until)[1]


def _bernoulli(v: Float[Array, " E"]) -> Float[Array, " E"]:
    """v/(e^v - 1)."""
    small = jnp.abs(v) < 1e-5
    safe = jnp.where(small, 1, v)
    return jnp.where(small, 1 - v / 2 + v**2 / 12, safe / jnp.expm1(safe))


class Stationary(NamedTuple):
    """u: predictions at the inputs, shape (n,). log_density: of mu_eta, shape (G,). converged: whether |u - h_mu| is within
    rounding of zero.

    Where mu_eta is below rounding errors, its logarithm is one of noise, or -infinity.
    """

    u: Float[Array, " n"]
    log_density: LogDensity
    converged: Bool[Array, ""]


def transition(model: Model, grid: Grid, u: Float[Array, " n"], eta: Scalar | float) -> Float[Array, "G G"]:
    """Markov kernel of noisy gradient descent driven by predictions u, from column to row; columns sum to 1.

    The spacing of the grid must be below sqrt(2 lam eta)/3.
    """
    _, saved = model.neuron.features(grid.nodes, model.Z)
    slopes = model.loss.slope(u, model.y) / len(u)
    drift = model.neuron.pullback(saved, grid.nodes, model.Z, slopes) + 2 * model.lamp * grid.nodes
    squares = jnp.sum((grid.nodes[:, None, :] - (grid.nodes - eta * drift)) ** 2, axis=2)
    return jax.nn.softmax(-squares / (4 * model.lam * eta) + jnp.log(grid.weights)[:, None], axis=0)


def stationary(model: Model, grid: Grid, eta: Scalar | float, *, limit: int = 50) -> Stationary:
    """Stationary law mu_eta of noisy gradient descent with infinitely many neurons, on the grid.

    For given predictions u the law mu(u) solves a linear system of G equations; u = h_{mu(u)} by damped Newton steps from those of
    mu*. At most `limit` evaluations, each O(G^3) operations.

    Raises InputError if the grid has more than 4000 nodes.
    """
    G = len(grid.weights)
    require(G <= 4000, f"grid must have at most 4000 nodes for the matrix of transitions, got {G}")
    H = mean_field.features(model, grid)
    tolerance = 1e4 * jnp.finfo(H.dtype).eps * jnp.max(jnp.abs(H))

    def law(u: Array) -> Float[Array, " G"]:
        uniform = jnp.full(G, 1 / G, H.dtype)  # adding it to every column makes the matrix regular and the law's mass 1
        return jnp.linalg.solve(jnp.eye(G, dtype=H.dtype) - transition(model, grid, u, eta) + uniform[:, None], uniform)

    def residual(u: Array) -> tuple[Array, Array]:
        r = u - jnp.matmul(law(u), H, precision=PRECISE)
        return r, r

    def evaluate(u: Array) -> tuple[Scalar, Array]:
        jacobian, r = jax.jacfwd(residual, has_aux=True)(u)
        return jnp.max(jnp.abs(r)), -jnp.linalg.solve(jacobian, r)

    last = mean_field.damped_newton(evaluate, mean_field.optimum(model, grid).u, tolerance, limit)
    u = last.u + last.direction  # known already, and within the tolerance it ends in rounding errors
    log_density = mean_field.normalise(grid, jnp.log(jnp.maximum(law(u), 0) / grid.weights))
    return Stationary(u, log_density, last.norm <= tolerance)
