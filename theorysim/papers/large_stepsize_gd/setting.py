"""What is trained, on what data, from where: the settings of large-stepsize gradient descent, each able to draw an instance.

Conventions of the paper with `eta` width free: the stepsize on all of W is eta * m. Data lie in the unit ball; gamma is the
margin of the unit direction w*, y_i <x_i, w*> >= gamma.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float

from theorysim.errors import require
from theorysim.kernels.gradient_descent import Linear, Predictor, Problem, TwoLayer, problem
from theorysim.sweep import setting

ActivationName = Literal["softplus", "gelu", "silu", "huberised-relu", "linear"]
Scalar = Float[Array, ""]

UNIT_BALL_SLACK = 1e-12
"""Rows scaled to norm 1 may exceed it by rounding."""


class Instance(NamedTuple):
    """One gradient-descent problem, ready to run.

    weights: W_0, shape (m, d). eta: width-free stepsize. samples: n, the number of rows that are not padding.
    gamma: margin of `direction` (w*, shape (d,)); zero and NaN where the data are not separable.
    margin: constants of the modified margin.
    """

    problem: Problem
    predictor: Predictor
    weights: Float[Array, "m d"]
    eta: Scalar | float
    samples: Scalar | float
    gamma: Scalar | float
    direction: Float[Array, " d"]
    margin: ModifiedMargin


@setting
class ModifiedMargin:
    """Constants in u(x) = log(1/(2 n x)) - kappa, C = sign (4/3)(n + eta (lam^2 + beta/2)), gc = (u/||W||) exp(-C L/u).

    kappa, beta, lam: of the (leaky) activation. Zero, zero and one for the identity.
    sign: +1; -1 breaks the correction, for controls.
    """

    kappa: float = 0.0
    beta: float = 0.0
    lam: float = 1.0
    sign: float = 1.0

    def validate(self) -> None:
        require(0 <= self.kappa < np.inf, f"kappa must be finite and not negative, got {self.kappa}")
        require(0 <= self.beta < np.inf, f"beta must be finite and not negative, got {self.beta}")
        require(0 < self.lam < np.inf, f"lam must be positive and finite, got {self.lam}")
        require(abs(self.sign) == 1, f"sign of the correction must be +1 or -1, got {self.sign}")


# --- data -------------------------------------------------------------------------------------------------------------


@setting
class TwoPoint:
    """x_1 = (gamma, p), x_2 = (gamma, -q), both labelled +1, with p > q > 0: max margin gamma, direction e_1."""

    gamma: float
    p: float = 0.9
    q: float = 0.5

    def validate(self) -> None:
        check_two_points(self.gamma, self.p, self.q)

    def draw(self) -> tuple[Array, Array, Any, Array]:
        """X, y, gamma, w*."""
        X = jnp.stack([jnp.stack([self.gamma, self.p]), jnp.stack([self.gamma, -self.q])]) * 1.0
        return X, jnp.ones(2, X.dtype), self.gamma, jnp.asarray([1.0, 0.0], X.dtype)


@setting
class TwoPointConflict:
    """The two points of `TwoPoint` and the first again with label -1: not separable, whatever gamma is claimed."""

    gamma: float
    p: float = 0.9
    q: float = 0.5

    def validate(self) -> None:
        check_two_points(self.gamma, self.p, self.q)

    def draw(self) -> tuple[Array, Array, Any, Array]:
        """X, y, the margin of the two consistent points, w*."""
        X, y, gamma, direction = TwoPoint.draw(self)  # type: ignore[arg-type]
        return jnp.concatenate([X, X[:1]]), jnp.concatenate([y, -y[:1]]), gamma, direction


@setting
class OneSample:
    """One sample x = norm * e_1, label +1, in `dimension` dimensions: margin equal to the norm."""

    norm: float = 1.0
    dimension: int = 1

    def validate(self) -> None:
        require(0 < self.norm <= 1, f"norm of the sample must lie in (0, 1], got {self.norm}")
        require(self.dimension >= 1, f"dimension must be at least 1, got {self.dimension}")

    def draw(self) -> tuple[Array, Array, Any, Array]:
        """X, y, gamma, w*."""
        direction = jnp.zeros(self.dimension).at[0].set(1.0)
        return direction[None, :] * self.norm, jnp.ones(1, direction.dtype), self.norm, direction


@setting
class Xor:
    """x = (+-1, +-1)/sqrt(2), y = sign(x_1 x_2): not linearly separable, fitted by two-layer networks."""

    def draw(self) -> tuple[Array, Array, Any, Array]:
        """X, y, zero, NaN."""
        X = jnp.asarray([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) / jnp.sqrt(2.0)
        return X, jnp.sign(X[:, 0] * X[:, 1]), 0.0, jnp.full(2, jnp.nan, X.dtype)


@setting
class FivePoint:
    """The five points of the paper's Figure 4, max-margin direction (1, 0, 0) with margin .05 before scaling.

    scaled: divide by sqrt(8.0025), the largest norm, so that the rows lie in the unit ball. The figure uses False.
    """

    scaled: bool = True

    def draw(self) -> tuple[Array, Array, Any, Array]:
        """X, y, gamma, w*."""
        X = jnp.asarray([[0.05, 1, 2], [0.05, -2, 1], [-1, 0, 2], [0.05, -2, -2], [0.05, 1, -2]])
        y = jnp.asarray([1.0, 1.0, -1.0, 1.0, 1.0])
        factor = 8.0025**-0.5 if self.scaled else 1.0
        return X * factor, y, 0.05 * factor, jnp.asarray([1.0, 0.0, 0.0])


@setting
class Samples:
    """Given data: rows X in the unit ball, labels y in {-1, +1}, and a unit direction with its certified margin.

    gamma: certified lower bound of the margin, zero where the data are not separable.
    """

    name: str
    X: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]
    gamma: float
    direction: Float[np.ndarray, " d"]

    def validate(self) -> None:
        require(np.isrealobj(self.X), f"X must be real, got dtype {self.X.dtype}")
        require(self.X.ndim == 2 and self.X.size > 0, f"X must have shape (n, d) with n, d >= 1, got {self.X.shape}")
        require(self.y.shape == self.X.shape[:1], f"y must have shape ({self.X.shape[0]},), got {self.y.shape}")
        require(bool(np.all(np.abs(self.y) == 1)), f"labels y must be -1 or +1, got {sorted(set(self.y.tolist()))[:5]}")
        norm = float(np.max(np.linalg.norm(self.X, axis=1)))
        require(norm <= 1 + UNIT_BALL_SLACK, f"rows of X must lie in the unit ball, got norm {norm:.6g}")
        shape, length = self.X.shape[1:], float(np.linalg.norm(self.direction))
        require(self.direction.shape == shape, f"direction must have shape {shape}, got {self.direction.shape}")
        require(abs(length - 1) <= UNIT_BALL_SLACK, f"direction must be a unit vector, got norm {length:.6g}")
        require(self.gamma >= 0, f"margin gamma must not be negative, got {self.gamma}")
        margin = float(np.min(self.y * (self.X @ self.direction)))
        certified = self.gamma <= max(margin, 0) + UNIT_BALL_SLACK
        require(certified, f"margin gamma must be at most that of the direction, {margin:.6g}, got {self.gamma}")

    def draw(self) -> tuple[Array, Array, Any, Array]:
        """X, y, gamma, w*."""
        return jnp.asarray(self.X), jnp.asarray(self.y), self.gamma, jnp.asarray(self.direction)


Data = TwoPoint | TwoPointConflict | OneSample | Xor | FivePoint | Samples

# --- predictors -------------------------------------------------------------------------------------------------------


@setting
class LinearPredictor:
    """f(w; x) = <x, w>, m = 1."""

    def draw(self) -> tuple[Predictor, int]:
        """The predictor and its width."""
        return Linear(), 1


@setting
class Network:
    """Two-layer network with `plus` neurons of sign a = +1 and `minus` of sign -1, leaky activation phi_c, c = leak."""

    activation: ActivationName
    plus: int
    minus: int
    leak: float = 0.5

    def validate(self) -> None:
        require(self.plus >= 0, f"number of positive neurons must not be negative, got {self.plus}")
        require(self.minus >= 0, f"number of negative neurons must not be negative, got {self.minus}")
        require(self.width >= 1, f"width m must be at least 1, got {self.width}")
        require(0 <= self.leak < 1, f"leak c must lie in [0, 1), got {self.leak}")

    @property
    def width(self) -> int:
        """m."""
        return self.plus + self.minus

    def draw(self) -> tuple[Predictor, int]:
        """The predictor and its width."""
        signs = jnp.concatenate([jnp.ones(self.plus), -jnp.ones(self.minus)])
        return TwoLayer(signs, self.leak, float(self.width), self.activation), self.width


# --- settings ---------------------------------------------------------------------------------------------------------


@setting
class Training:
    """Gradient descent on given data: predictor, stepsize and initialisation.

    eta: width-free stepsize. times: increasing record times; the last is the horizon T.
    scale: W_0 has independent N(0, scale^2) entries; zero starts at the origin.
    """

    data: Data
    predictor: LinearPredictor | Network
    eta: float
    times: tuple[int, ...]
    scale: float = 0.0
    margin: ModifiedMargin = ModifiedMargin()

    def validate(self) -> None:
        require(0 < self.eta < np.inf, f"stepsize eta must be positive and finite, got {self.eta}")
        require(0 <= self.scale < np.inf, f"scale of the initialisation must not be negative, got {self.scale}")
        check_times(self.times)

    def draw(self, key: Array) -> Instance:
        """The instance; the key draws W_0."""
        X, y, gamma, direction = self.data.draw()
        predictor, width = self.predictor.draw()
        weights = self.scale * random.normal(key, (width, X.shape[1]), X.dtype)
        return Instance(problem(X, y), predictor, weights, self.eta, float(X.shape[0]), gamma, direction, self.margin)


@setting
class RandomInstances:
    """A distribution over admissible instances: separable data, leaky activation, stepsize and initialisation at random.

    n in {1, 2, 5, 16} up to `rows`, d in {2, 5}, m in {1, 2, 8} up to `width`, leak c in `leaks`, gamma in {.05, .2, .5},
    each uniform; log10 eta
    uniform on [-1, 2.5]; W_0 Gaussian with entries of sd (0, .1, 1 or 5)/sqrt(d); w* uniform on the sphere, random signs a;
    x_i = y_i mu_i w* + r_i v_i with mu_i uniform on [gamma, 1] and min_i mu_i = gamma, v_i a uniform unit vector orthogonal
    to w*, r_i uniform on [0, sqrt(1 - mu_i^2)], y_i = +-1. Smaller n, d, m are padded, so that one program serves all.

    kappas, betas, lams: constants of the modified margin, one for each of `leaks`.
    """

    activation: ActivationName
    leaks: Float[np.ndarray, " L"]
    kappas: Float[np.ndarray, " L"]
    betas: Float[np.ndarray, " L"]
    lams: Float[np.ndarray, " L"]
    times: tuple[int, ...]
    rows: int = 16
    width: int = 8

    def validate(self) -> None:
        require(self.leaks.ndim == 1 and self.leaks.size > 0, f"leaks must have shape (L,), got {self.leaks.shape}")
        require(bool(np.all((self.leaks >= 0) & (self.leaks < 1))), f"leaks must lie in [0, 1), got {self.leaks}")
        for name in ("kappas", "betas", "lams"):
            shape = getattr(self, name).shape
            require(shape == self.leaks.shape, f"{name} must have the shape of leaks {self.leaks.shape}, got {shape}")
            values, least = getattr(self, name), "positive" if name == "lams" else "not negative"
            fine = np.isfinite(values) & ((values > 0) if name == "lams" else (values >= 0))
            require(bool(fine.all()), f"{name} must be finite and {least}, got {values}")
        require(self.rows >= 1, f"largest sample number rows must be at least 1, got {self.rows}")
        require(self.width >= 1, f"largest width must be at least 1, got {self.width}")
        check_times(self.times)

    def draw(self, key: Array) -> Instance:
        """One instance; the key draws everything."""
        rows, dimension, width = self.rows, 5, self.width
        # One call of the generator, cut up below (normals by Box and Muller): each further call costs compilation.
        vectors = (1 + rows + width, dimension)
        count = math.prod(vectors)
        uniform, radial, angular = jnp.split(
            random.uniform(key, (7 + 3 * rows + width + 2 * count,)), np.cumsum([7 + 3 * rows + width, count])
        )
        normal = (jnp.sqrt(-2 * jnp.log1p(-radial)) * jnp.cos(2 * jnp.pi * angular)).reshape(vectors)
        pick = lambda i, options: jnp.asarray(options)[jnp.int32(uniform[i] * len(options))]
        n = pick(0, [n for n in (1, 2, 5, 16) if n <= rows])
        d = pick(1, [2, 5])
        m = pick(2, [m for m in (1, 2, 8) if m <= width])
        gamma, eta = pick(3, [0.05, 0.2, 0.5]), 10 ** (3.5 * uniform[4] - 1)
        scale = pick(5, [0.0, 0.1, 1.0, 5.0]) / jnp.sqrt(d)
        case = jnp.int32(uniform[6] * self.leaks.shape[0])
        leak, kappa, beta, lam = (jnp.asarray(a)[case] for a in (self.leaks, self.kappas, self.betas, self.lams))

        coordinate = jnp.arange(dimension) < d
        direction = normal[0] * coordinate
        direction = direction / jnp.linalg.norm(direction)
        across = normal[1 : 1 + rows] * coordinate
        across = across - (across @ direction)[:, None] * direction
        across = across / jnp.linalg.norm(across, axis=1, keepdims=True)
        mu_draw, radius_draw, label_draw = jnp.split(uniform[7 : 7 + 3 * rows], 3)
        mu = (gamma + (1 - gamma) * mu_draw).at[0].set(gamma)
        y = jnp.where(label_draw < 0.5, -1.0, 1.0)
        X = (y * mu)[:, None] * direction + (radius_draw * jnp.sqrt(1 - mu**2))[:, None] * across
        row = jnp.arange(rows) < n
        data = Problem(X * row[:, None], y, row / n)

        neuron = jnp.arange(width) < m
        signs = jnp.where(uniform[7 + 3 * rows :] < 0.5, -1.0, 1.0) * neuron
        weights = scale * normal[1 + rows :] * coordinate * neuron[:, None]
        predictor = TwoLayer(signs, leak, m * 1.0, self.activation)
        return Instance(data, predictor, weights, eta, n * 1.0, gamma, direction, ModifiedMargin(kappa, beta, lam, 1.0))  # type: ignore[arg-type]


@setting
class RandomTwoPoint:
    """The two-point data under a linear predictor from the origin, with gamma and eta uniform on (0, bound]."""

    gamma_bound: float
    eta_bound: float
    times: tuple[int, ...]
    p: float = 0.9
    q: float = 0.5

    def validate(self) -> None:
        require(0 < self.q < self.p, f"offsets must satisfy 0 < q < p, got q={self.q}, p={self.p}")
        norm = float(np.hypot(self.gamma_bound, self.p))
        require(self.gamma_bound > 0, f"bound of the margin gamma must be positive, got {self.gamma_bound}")
        require(norm <= 1 + UNIT_BALL_SLACK, f"norm of (gamma, p) must be at most 1, got {norm:.6g}")
        require(0 < self.eta_bound < np.inf, f"bound of the stepsize eta must be positive, got {self.eta_bound}")
        check_times(self.times)

    def draw(self, key: Array) -> Instance:
        """One instance; the key draws gamma and eta."""
        gamma, eta = (1 - random.uniform(key, (2,))) * jnp.stack([self.gamma_bound * 1.0, self.eta_bound * 1.0])
        X = jnp.stack([jnp.stack([gamma, self.p * 1.0]), jnp.stack([gamma, -self.q * 1.0])])
        direction = jnp.asarray([1.0, 0.0])
        weights = jnp.zeros((1, 2))
        return Instance(problem(X, jnp.ones(2)), Linear(), weights, eta, 2.0, gamma, direction, ModifiedMargin())


@setting
class Budget:
    """One run of several of different stepsize, to be read at its own horizon T (one of the record times)."""

    training: Training
    horizon: float

    def validate(self) -> None:
        require(self.horizon in self.training.times, f"horizon must be a record time, got {self.horizon}")


@setting
class Contest:
    """Two runs on the same data, compared at the horizon T (one of their record times)."""

    fast: Training
    slow: Training
    horizon: float

    def validate(self) -> None:
        require(
            self.fast.times == self.slow.times, f"record times must agree, got {self.fast.times}, {self.slow.times}"
        )
        require(self.horizon in self.fast.times, f"horizon must be a record time, got {self.horizon}")


def check_two_points(gamma: float, p: float, q: float) -> None:
    """Raise InputError unless (gamma, p) and (gamma, -q) lie in the unit ball, with 0 < gamma and 0 < q < p."""
    require(0 < gamma <= 1, f"margin gamma must lie in (0, 1], got {gamma}")
    require(0 < q < p, f"offsets must satisfy 0 < q < p, got q={q}, p={p}")
    norm = float(np.hypot(gamma, p))
    require(norm <= 1 + UNIT_BALL_SLACK, f"norm of (gamma, p) must be at most 1, got {norm:.6g}")


def check_times(times: tuple[Any, ...]) -> None:
    """Raise InputError unless record times are increasing integers, from 0 on, and end after it."""
    require(len(times) >= 2, f"record times must hold at least two times, got {times}")
    integers = all(isinstance(t, int | np.integer) and not isinstance(t, bool) for t in times)
    require(integers, f"record times must be integers, got {times[:6]}")
    increasing = times[0] >= 0 and all(a < b for a, b in pairwise(times))
    require(increasing, f"record times must increase from 0 or later, got {times[:6]}")
