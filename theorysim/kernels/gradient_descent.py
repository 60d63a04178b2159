"""Full-batch gradient descent on the logistic loss, for two-layer networks and linear predictors, at any stepsize.

Setting and scalings of Cai, Wu, Mei, Lindsey, Bartlett (NeurIPS 2024, arXiv 2406.08654) and Wu, Bartlett, Telgarsky, Yu
(COLT 2024, arXiv 2402.15926): f(W; x) = (1/m) sum_j a_j phi(<x, w_j>), stepsize eta * m on all of W, so that eta is width
free and no m appears in the update. Pure functions; `jit`, `vmap` and the dtype (that of the data) are the caller's.

>>> predictor = TwoLayer(signs, leak, width, activation="softplus")
>>> state, risks, _ = run(init(weights), predictor, problem, eta, times=times, observe=lambda d, _: d.risk)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from theorysim.errors import require
from theorysim.kernels.activations import leaky
from theorysim.kernels.elementary import log_logistic_loss, logistic_loss

Scalar = Float[Array, ""]


class Problem(NamedTuple):
    """Binary classification data.

    X: inputs, shape (n, d). y: labels in {-1, +1}, shape (n,).
    weight: weight of each sample in the risk, shape (n,), summing to one. Weight zero marks padding: the sample then
        changes nothing, so that problems of different n share one compiled program.
    """

    X: Float[Array, "n d"]
    y: Float[Array, " n"]
    weight: Float[Array, " n"]


def problem(X: Float[Array, "n d"], y: Float[Array, " n"]) -> Problem:
    """The empirical risk: every sample has weight 1/n."""
    return Problem(X, y, jnp.full_like(y, 1 / y.shape[0]))


@runtime_checkable
class Predictor(Protocol):
    """A predictor that is differentiated by hand, because value and slope share their transcendental functions."""

    def forward(self, weights: Float[Array, "m d"], X: Float[Array, "n d"]) -> tuple[Float[Array, " n"], Any]:
        """Outputs f(x_i) and what `backward` needs."""
        ...

    def backward(self, saved: Any, X: Float[Array, "n d"], v: Float[Array, " n"]) -> Float[Array, "m d"]:
        """sum_i v_i m grad_W f(x_i): the width-free pull-back."""
        ...

    @property
    def width(self) -> Scalar | float:
        """m, of the stepsize eta * m."""
        ...


@partial(jax.tree_util.register_dataclass, data_fields=["signs", "leak", "width"], meta_fields=["activation"])
@dataclass(frozen=True)
class TwoLayer:
    """f(W; x) = (1/m) sum_j a_j phi_c(<x, w_j>) with fixed output signs.

    signs: a, shape (m,), in {-1, +1}; zero marks padding, which never moves if its weights start at zero.
    leak: c in phi_c(z) = c z + (1 - c) phi(z).
    width: m, the number of neurons that are not padding.
    activation: a name in `activations.ACTIVATIONS`; static under `jit`.
    """

    signs: Float[Array, " m"]
    leak: Scalar | float
    width: Scalar | float
    activation: str

    def forward(self, weights: Float[Array, "m d"], X: Float[Array, "n d"]) -> tuple[Float[Array, " n"], Any]:
        phi, slope = leaky(self.activation, X @ weights.T, self.leak)
        return phi @ self.signs / self.width, slope

    def backward(self, saved: Any, X: Float[Array, "n d"], v: Float[Array, " n"]) -> Float[Array, "m d"]:
        return self.signs[:, None] * ((saved * v[:, None]).T @ X)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=[])
@dataclass(frozen=True)
class Linear:
    """f(w; x) = <x, w>, weights of shape (1, d): logistic regression."""

    @property
    def width(self) -> float:
        return 1.0

    def forward(self, weights: Float[Array, "1 d"], X: Float[Array, "n d"]) -> tuple[Float[Array, " n"], Any]:
        # Elementwise, not a matrix product: problems are tiny and the call would cost more than the sum.
        return jnp.sum(X * weights[0], axis=-1), None

    def backward(self, saved: Any, X: Float[Array, "n d"], v: Float[Array, " n"]) -> Float[Array, "1 d"]:
        return jnp.sum(X * v[:, None], axis=0)[None, :]


class State(NamedTuple):
    """weights: W_t, shape (m, d). step: t."""

    weights: Float[Array, "m d"]
    step: Int[Array, ""]


class Diagnostics(NamedTuple):
    """What is known about W_t once its gradient is; fields that nobody reads are never computed.

    step: t. weights: W_t, shape (m, d). margins: F_i = y_i f(x_i), shape (n,).
    risk: L = sum_i weight_i ell(F_i). log_risk: log L, in the log domain, finite where L underflows.
    slope: G = sum_i weight_i |ell'(F_i)|. min_margin: min_i F_i over samples of positive weight.
    norm: ||W||_F. grad_norm2: ||grad L||_F^2. descent: <-grad L, W>.
    """

    step: Int[Array, ""]
    weights: Float[Array, "m d"]
    margins: Float[Array, " n"]
    risk: Scalar
    log_risk: Scalar
    slope: Scalar
    min_margin: Scalar
    norm: Scalar
    grad_norm2: Scalar
    descent: Scalar


class Reduction(NamedTuple):
    """A running reduction over all t = 0..T: `start`, then `update(accumulated, diagnostics)` at every step."""

    start: Any
    update: Callable[[Any, Diagnostics], Any]


NOTHING = Reduction((), lambda accumulated, diagnostics: accumulated)


def init(weights: Float[Array, "m d"]) -> State:
    """State at t = 0."""
    return State(weights, jnp.zeros((), jnp.int32))


def blank(state: State, problem: Problem) -> Diagnostics:
    """Diagnostics of shapes and dtypes as `step` gives them, all zero: what a loop carries before its first step."""
    dtype = jnp.result_type(state.weights, problem.X)
    zero = jnp.zeros((), dtype)
    return Diagnostics(
        jnp.zeros_like(state.step), jnp.zeros_like(state.weights), jnp.zeros(problem.y.shape, dtype), *[zero] * 7
    )


def step(state: State, predictor: Predictor, problem: Problem, eta: Scalar | float) -> tuple[State, Diagnostics]:
    """One step W_{t+1} = W_t - eta m grad L(W_t), and the diagnostics of W_t (the iterate before the step)."""
    weights, t = state
    outputs, saved = predictor.forward(weights, problem.X)
    margins = problem.y * outputs
    loss, slope = logistic_loss(margins)
    update = predictor.backward(saved, problem.X, slope * problem.y * problem.weight)
    diagnostics = Diagnostics(
        step=t,
        weights=weights,
        margins=margins,
        risk=jnp.sum(loss * problem.weight),
        log_risk=logsumexp(log_logistic_loss(margins), b=problem.weight),
        slope=jnp.sum(slope * problem.weight),
        min_margin=jnp.min(jnp.where(problem.weight > 0, margins, jnp.inf)),
        norm=jnp.sqrt(jnp.sum(weights**2)),
        grad_norm2=jnp.sum(update**2) / predictor.width**2,
        descent=jnp.sum(update * weights) / predictor.width,
    )
    return State(weights + eta * update, t + 1), diagnostics


def run(
    state: State,
    predictor: Predictor,
    problem: Problem,
    eta: Scalar | float,
    *,
    times: Int[Array, " K"] | Int[np.ndarray, " K"],
    observe: Callable[[Diagnostics, Any], Any],
    reduction: Reduction = NOTHING,
) -> tuple[State, Any, Any]:
    """Gradient descent up to t = times[-1], recording at the given times and reducing over every step.

    times: increasing, shape (K,); only K is part of the compiled program, so runs of any length share it.
    observe: (diagnostics of W_t, accumulated over all iterates before W_t) -> what to record at those times; each leaf of
        the trace gets a leading axis K.
    reduction: accumulated over all t = state.step..times[-1], the last iterate included.

    Memory is that of one step plus the trace. Returns (state at times[-1], trace, accumulated).
    """

    def advance(_, carry):
        state, accumulated = carry
        state, diagnostics = step(state, predictor, problem, eta)
        return state, reduction.update(accumulated, diagnostics)

    def interval(carry, bounds):
        # The gradient at a recorded time is computed twice, here and as the next interval's first step: records are few,
        # and every further copy of the step in the program costs compilation.
        state, accumulated, _ = carry
        start, stop = bounds
        state, accumulated = lax.fori_loop(start, stop, advance, (state, accumulated))
        _, diagnostics = step(state, predictor, problem, eta)
        return (state, accumulated, diagnostics), observe(diagnostics, accumulated)

    times = jnp.asarray(times, state.step.dtype)
    starts = jnp.concatenate([state.step[None], times[:-1]])
    carry = (state, reduction.start, blank(state, problem))
    (state, accumulated, last), trace = lax.scan(interval, carry, (starts, times))
    return state, trace, reduction.update(accumulated, last)


def log_spaced_times(steps: int, count: int) -> Int[np.ndarray, " K"]:
    """At most `count` increasing record times from 0 to `steps`, log-spaced, consecutive integers at the start.

    Raises InputError unless steps >= 1 and count >= 2.
    """
    require(steps >= 1, f"steps must be at least 1, got {steps}")
    require(count >= 2, f"count of record times must be at least 2, got {count}")
    points = np.unique(np.round(np.geomspace(1, steps, count - 1)).astype(np.int64))
    return np.concatenate([[0], points])
