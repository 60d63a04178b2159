"""Dynamics in dimension 1: the noisy-GD chain with its 1/N terms, the mean-field Fokker-Planck flow, relaxation rates.

Conventions of `theory`; everything is derived here. One step of noisy gradient descent with step size eta takes every
neuron to x - eta U'_{rho}(x) + sqrt(2 lam eta) N(0, 1), independently given the empirical law rho; time is t = k eta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import (
    cho_factor,
    cho_solve,
    cho_solve_banded,
    cholesky_banded,
    eigh_tridiagonal,
    lu_factor,
    lu_solve,
    solve_banded,
)
from scipy.sparse.linalg import LinearOperator, eigsh

from theorysim.errors import InputError, require
from theorysim.papers.mean_field_langevin.theory.mean_field import Grid, Model, Optimum, Value, entropy, mf_optimum

RESOLUTION = 2.0
"""Spacings of the grid that the standard deviation of one step's noise must have at least; 3 is recommended."""

# --------------------------------------------------------------------------------------------------------------------
# The chain with fluctuations and bias
# --------------------------------------------------------------------------------------------------------------------


class Chain(NamedTuple):
    """Noisy gradient descent of a model, d = 1, at step size eta on a grid, by `make_chain`.

    features: h(x, z_j), (G, n). slopes: dh/dx, (G, n).
    """

    model: Model
    grid: Grid
    eta: float
    features: Float[np.ndarray, "g n"]
    slopes: Float[np.ndarray, "g n"]


class ChainState(NamedTuple):
    """Law of the empirical measure rho_k of N neurons to order 1/N, as masses on the nodes, G of them.

    mass: mu_k, sum 1, (G,). covariance: lim N Cov(rho_k), (G, G), rows of sum 0. bias: lim N (E rho_k - mu_k), (G,), sum 0.
    """

    mass: Float[np.ndarray, " g"]
    covariance: Float[np.ndarray, "g g"]
    bias: Float[np.ndarray, " g"]


class ChainOutputs(NamedTuple):
    """Outputs at m test inputs: E h_{rho_k}(z) = value + bias/N + O(1/N^2), N Var h_{rho_k}(z) = variance + O(1/N).

    Of shape (m,) for one state, (steps + 1, m) for a run.
    """

    value: Float[np.ndarray, "... m"]
    variance: Float[np.ndarray, "... m"]
    bias: Float[np.ndarray, "... m"]


class _Transition(NamedTuple):
    """T[u](x|x') as (x, x') and its first two derivatives in the mean of each column, whose columns sum to 0."""

    kernel: Float[np.ndarray, "g g"]
    first: Float[np.ndarray, "g g"]
    second: Float[np.ndarray, "g g"]


def make_chain(model: Model, grid: Grid, eta: float) -> Chain:
    """Raises InputError unless eta > 0, d = 1, the neuron has a gradient and the spacing is at most half of sqrt(2 lam eta)."""
    require(eta > 0, f"step size eta must be positive, got {eta}")
    require(model.d == 1, f"model must have d = 1, got d = {model.d}")
    allowed = float(np.sqrt(2 * model.lam * eta)) / RESOLUTION
    require(
        grid.spacing <= allowed, f"spacing must be at most sqrt(2 lam eta)/2 = {allowed:.3g}, got {grid.spacing:.3g}"
    )
    if model.neuron.gradient is None:
        raise InputError("neuron must have a gradient here, got none")
    slopes = np.stack([model.neuron.gradient(grid.nodes, z)[:, 0] for z in model.Z], -1)
    return Chain(model, grid, eta, model.features(grid.nodes, model.Z), slopes)


def chain_start(density: Float[np.ndarray, " g"]) -> ChainState:
    """N neurons drawn independently from a density on the grid."""
    mass = density / density.sum()
    return ChainState(mass, np.diag(mass) - np.outer(mass, mass), np.zeros_like(mass))


def chain_step(chain: Chain, state: ChainState) -> ChainState:
    """One step. Given rho_k, rho_{k+1} has mean T[u(rho_k)] rho_k and independent neurons.

    With rho = mu + eps/sqrt N: T[u] rho = T mu + A eps/sqrt N + (sum_j d_jT eps (H eps)_j + (1/2) sum_jl d_jd_lT mu (H eps)_j (H
    eps)_l)/N + ..., A = T + sum_j (d_jT mu) H_j; C' = A C A^T + diag(mu') - T diag(mu) T^T, beta' = A beta + E of the last term.
    """
    u = state.mass @ chain.features
    transition = _transition(chain, u)
    A = _linearised(chain, transition, state.mass, u)
    noise = _noise(transition, state.mass)
    covariance = A @ state.covariance @ A.T + noise
    covariance = (covariance + covariance.T) / 2
    return ChainState(transition.kernel @ state.mass, covariance, A @ state.bias + _source(chain, transition, state, u))


def chain_outputs(chain: Chain, state: ChainState, z: Float[np.ndarray, "m q"]) -> ChainOutputs:
    """Value, variance and bias at test inputs, (m,) each."""
    F = chain.model.features(chain.grid.nodes, z)
    return ChainOutputs(state.mass @ F, np.einsum("gm,gm->m", F, state.covariance @ F), state.bias @ F)


def chain_run(
    chain: Chain, density: Float[np.ndarray, " g"], steps: int, z: Float[np.ndarray, "m q"]
) -> tuple[ChainState, ChainOutputs]:
    """The state after `steps` steps from independent draws, and outputs before and after every step, (steps + 1, m) each."""
    state = chain_start(density)
    trace = [chain_outputs(chain, state, z)]
    for _ in range(steps):
        state = chain_step(chain, state)
        trace.append(chain_outputs(chain, state, z))
    value, variance, bias = (np.stack(parts) for parts in zip(*trace, strict=True))
    return state, ChainOutputs(value, variance, bias)


def stationary_mass(chain: Chain) -> Float[np.ndarray, " g"]:
    """mu_eta as masses on the nodes: the fixed point of mu = T[u] mu, u = h_mu, by Newton on u from the outputs of mu*."""
    u = mf_optimum(chain.model, chain.grid).u
    size = len(chain.features)
    for _ in range(50):
        transition = _transition(chain, u)
        # 1/size in every entry: the system is regular, leaves laws of mass 0 alone and has the stationary law as solution.
        factor = lu_factor(np.eye(size) - transition.kernel + 1 / size)
        mass = lu_solve(factor, np.full(size, 1 / size))
        residual = u - mass @ chain.features
        if np.abs(residual).max() < 1e-13:
            return np.maximum(mass, 0.0)  # the tails are below rounding
        moved = lu_solve(factor, transition.first @ (_shifts(chain, u) * mass[:, None]))
        u = u - np.linalg.solve(np.eye(len(u)) - chain.features.T @ moved, residual)
    raise ArithmeticError(f"Newton iteration of the stationary chain stopped at residual {np.abs(residual).max():.2g}")


def chain_stationary(chain: Chain) -> ChainState:
    """The state that steps converge to: C = A C A^T + noise by doubling, the bias by one linear solve."""
    mass = stationary_mass(chain)
    u = mass @ chain.features
    transition = _transition(chain, u)
    A = _linearised(chain, transition, mass, u)
    covariance = _noise(transition, mass)
    power = A - mass[:, None]  # the same on measures of mass 0, and without the eigenvalue 1
    for _ in range(60):
        increment = power @ covariance @ power.T
        covariance = covariance + (increment + increment.T) / 2
        power = power @ power
        if np.abs(increment).max() <= 1e-18:
            break
    state = ChainState(mass, covariance, np.zeros_like(mass))
    system = np.eye(len(mass)) - A + mass[:, None]
    return state._replace(bias=np.linalg.solve(system, _source(chain, transition, state, u)))


def _transition(chain: Chain, u: Float[np.ndarray, " n"]) -> _Transition:
    model, x = chain.model, chain.grid.line
    mean = x - chain.eta * (chain.slopes @ model.loss.slope(u, model.y) / model.n + 2 * model.lamp * x)
    score = (x[:, None] - mean) / (2 * model.lam * chain.eta)
    kernel = np.exp(-(score**2) * (model.lam * chain.eta))
    kernel /= kernel.sum(0)
    score -= (kernel * score).sum(0)
    first = kernel * score
    second = first * score
    return _Transition(kernel, first, second - kernel * second.sum(0))


def _shifts(chain: Chain, u: Float[np.ndarray, " n"]) -> Float[np.ndarray, "g n"]:
    """Derivative in u_j of the mean of each column."""
    return -chain.eta * chain.slopes * chain.model.loss.curvature(u, chain.model.y) / chain.model.n


def _linearised(
    chain: Chain, transition: _Transition, mass: Float[np.ndarray, " g"], u: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "g g"]:
    return transition.kernel + (transition.first @ (_shifts(chain, u) * mass[:, None])) @ chain.features.T


def _noise(transition: _Transition, mass: Float[np.ndarray, " g"]) -> Float[np.ndarray, "g g"]:
    """N times the covariance of one independent draw from each column."""
    half = transition.kernel * np.sqrt(mass)
    return np.diag(transition.kernel @ mass) - half @ half.T


def _source(
    chain: Chain, transition: _Transition, state: ChainState, u: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " g"]:
    shifts, model = _shifts(chain, u), chain.model
    CH = state.covariance @ chain.features
    S = chain.features.T @ CH
    third = -chain.eta * chain.slopes * model.loss.third(u, model.y) / model.n
    moved = (shifts * CH).sum(1) + third @ np.diag(S) * state.mass / 2
    spread = np.einsum("gj,jl,gl->g", shifts, S, shifts) * state.mass / 2
    return transition.first @ moved + transition.second @ spread


# --------------------------------------------------------------------------------------------------------------------
# The mean-field flow and its relaxation
# --------------------------------------------------------------------------------------------------------------------


class Flow(NamedTuple):
    """Mean-field Langevin dynamics at times 0, dt, ..., `steps` dt.

    time: (steps + 1,). objective: L(mu_t), (steps + 1,). outputs: h_{mu_t}(z_j), (steps + 1, n). density: the last law, (G,).
    """

    time: Float[np.ndarray, " t"]
    objective: Float[np.ndarray, " t"]
    outputs: Float[np.ndarray, "t n"]
    density: Float[np.ndarray, " g"]


def flow(model: Model, grid: Grid, density: Float[np.ndarray, " g"], dt: float, steps: int) -> Flow:
    """Fokker-Planck equation of dX = -U'_{mu_t}(X) dt + sqrt(2 lam) dW by finite volumes, d = 1, without flux at the edges.

    Scharfetter-Gummel rates (lam/dx^2) B(+-dU/lam), B(v) = v/(e^v - 1), with U = U_{mu_t} of the step's start, then implicit
    Euler: the equilibrium on the grid, `mf_optimum(model, grid)`, is exact. L(mu_t) falls to its `value`. Error O(dt) + O(dx^2).
    Raises InputError unless dt > 0, steps >= 0 and the dimension is 1.
    """
    require(dt > 0, f"time step dt must be positive, got {dt}")
    require(steps >= 0, f"steps must be at least 0, got {steps}")
    x, H = grid.line, model.features(grid.nodes, model.Z)
    ridge = model.lamp * x**2
    mass = density / density.sum()
    objective, trace = np.empty(steps + 1), np.empty((steps + 1, model.n))
    for k in range(steps + 1):
        if k > 0:
            potential = H @ model.loss.slope(trace[k - 1], model.y) / model.n + ridge
            right, left = _rates(model.lam, grid.spacing, potential)
            leaving = np.append(right, 0.0) + np.insert(left, 0, 0.0)
            into = np.stack([np.insert(left, 0, 0.0), -leaving, np.append(right, 0.0)])
            mass = solve_banded((1, 1), np.array([[0.0], [1.0], [0.0]]) - dt * into, mass)
        trace[k] = mass @ H
        entropic = model.lam * entropy(grid, mass / grid.weight)
        objective[k] = model.risk(trace[k]) + mass @ ridge + entropic
    return Flow(dt * np.arange(steps + 1.0), objective, trace, mass / grid.weight)


class Relaxation(NamedTuple):
    """Smallest positive rates, in increasing order, (count,) each.

    frozen: of Langevin dynamics in the potential U_{mu*}; the first, gap_0, is lam times the Poincare constant of mu*.
    mean_field: of the linearised mean-field dynamics; the first, gap_MF >= gap_0, is the rate of mu_t - mu*, and L(mu_t) - L(mu*)
    decays with 2 gap_MF.
    """

    frozen: Float[np.ndarray, " count"]
    mean_field: Float[np.ndarray, " count"]


def relaxation(optimum: Optimum, count: int = 3) -> Relaxation:
    """Rates at mu* on its grid of dimension 1, error O(dx^2).

    mu = mu* (1 + g): dg/dt = -A (I + Pi) g with A = -(lam/mu*) d/dx(mu* d/dx) and Pi g = (1/(lam n)) sum_j l''_j phi_j
    <phi_j, g>_{mu*}, both symmetric and non-negative in L^2(mu*). A is the tridiagonal generator of `flow`; with y = (I + Pi) g
    the problem is A y = rate (I + Pi)^{-1} y, solved by Lanczos iteration on the inverse at a small negative shift.
    """
    require(count >= 1, f"count must be at least 1, got {count}")
    model, grid = optimum.model, optimum.grid
    require(model.d == 1, f"model must have d = 1, got d = {model.d}")
    potential = model.potential(grid.nodes, model.loss.slope(optimum.u, model.y))
    right, left = _rates(model.lam, grid.spacing, potential)
    diagonal, off = np.append(right, 0.0) + np.insert(left, 0, 0.0), -np.sqrt(right * left)
    frozen = np.asarray(eigh_tridiagonal(diagonal, off, eigvals_only=True, select="i", select_range=(1, count)))
    root = np.sqrt(optimum.density * grid.weight)
    low = root[:, None] * optimum.features * np.sqrt(optimum.D / (model.lam * model.n))
    inner = cho_factor(np.eye(model.n) + low.T @ low)
    shift = 0.3 * float(frozen[0])
    banded = cholesky_banded(np.stack([np.insert(off, 0, 0.0), diagonal + shift]))
    solved = cho_solve_banded((banded, False), low)
    outer = cho_factor((np.eye(model.n) + low.T @ low) / shift - low.T @ solved)

    def metric(y: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        return y - low @ cho_solve(inner, low.T @ y)

    def inverse(y: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """(A + shift (I + Pi)^{-1})^{-1} y by Woodbury's identity."""
        return (free := cho_solve_banded((banded, False), y)) + solved @ cho_solve(outer, low.T @ free)

    def generate(y: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        return diagonal * y + np.append(off * y[1:], 0.0) + np.insert(off * y[:-1], 0, 0.0)

    size = len(root)
    rates = eigsh(
        _Symmetric(size, generate),
        k=count + 1,
        M=_Symmetric(size, metric),
        sigma=-shift,
        OPinv=_Symmetric(size, inverse),
        v0=np.linspace(1.0, 2.0, size) * root,
        return_eigenvectors=False,
    )
    return Relaxation(frozen, np.sort(rates)[1:])


class _Symmetric(LinearOperator):
    """A function of vectors as an operator."""

    def __init__(self, size: int, function: Callable[[Value], Value]) -> None:
        super().__init__(np.dtype(float), (size, size))
        self._function = function

    def _matvec(self, x: Value) -> Value:
        return self._function(x)


def poincare(optimum: Optimum) -> float:
    """Poincare constant of mu* on its grid, d = 1, in the convention of LSI(alpha): alpha is at most this."""
    return float(relaxation(optimum, 1).frozen[0]) / optimum.model.lam


def _rates(
    lam: float, spacing: float, potential: Float[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, " edges"], Float[np.ndarray, " edges"]]:
    """Rates of i -> i + 1 and of i + 1 -> i."""
    v = np.diff(potential) / lam
    scale = lam / spacing**2
    small = np.abs(v) < 1e-8
    safe = np.where(small, 1.0, v)
    right = np.where(small, 1 - v / 2, safe / np.expm1(safe))
    left = np.where(small, 1 + v / 2, -safe / np.expm1(-safe))  # not B(v) + v, which cancels where B(-v) is tiny
    return scale * right, scale * left
