"""Predictions for TAP variational inference and Bayes AMP in the linear model, all from the scalar Gaussian channel.

Celentano, Fan, Lin, Mei, 2023, arXiv 2311.08442; constants and everything without a reference are derived here, with the
key step in each docstring.

Convention: X is n x p with i.i.d. N(0, 1/p) entries, y = X beta0 + N(0, sigma^2) noise, beta0 i.i.d. from the prior P0,
delta = n/p. (With N(0, 1/n) entries and noise sigma_A, as in compressed sensing: sigma^2 = delta sigma_A^2.) Entropies
and informations are in nats. The scalar channel at signal-to-noise ratio gamma is lam = gamma beta + sqrt(gamma) Z, whose
posterior is the tilted law P_{lam,gamma}(d beta) = exp(lam beta - gamma beta^2/2) P0(d beta)/Z(lam, gamma).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import perm
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from jaxtyping import Float, Shaped
from scipy.interpolate import PPoly
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq, minimize_scalar
from scipy.optimize.elementwise import find_root
from scipy.special import erfcx, expit, logsumexp, ndtr

from theorysim.errors import InputError, require

Real = float | int | np.floating | np.integer | Shaped[np.ndarray, "..."]
"""A number or an array of any shape; arguments broadcast against each other."""

Value: TypeAlias = Any
"""What a broadcasting formula returns, typed as NumPy types its own ufuncs: float64, a scalar for scalars."""

REACH = 10.0
"""Gaussian averages stop here: P(|Z| > 10) = 1.5e-23."""

STEP = 0.5
"""Of quadratures over lam, times the width of the support: Z(lam, gamma) has no zero with |Im lam| < pi/width, so that the
trapezoidal rule errs by about e^{-2 pi^2/STEP} = 7e-18, times 10 or so for every power of V."""

# --------------------------------------------------------------------------------------------------------------------
# Priors and their tilted laws
# --------------------------------------------------------------------------------------------------------------------


class Tilted(NamedTuple):
    """Moments of beta under P_{lam,gam}, each of the shape that lam and gam broadcast to.

    log_partition: log Z, with d log Z/d lam = m, d log Z/d gam = -s/2.
    mean: m. variance: V = dm/dlam. third_cumulant: E(beta - m)^3 = dV/dlam.
    square_variance: Var(beta^2), the entry C22 of C = Cov(beta, beta^2).
    """

    log_partition: Value
    mean: Value
    variance: Value
    third_cumulant: Value
    square_variance: Value

    @property
    def second_moment(self) -> Value:
        """s = <beta^2>."""
        return self.variance + self.mean**2

    @property
    def cross_covariance(self) -> Value:
        """Cov(beta, beta^2) = third cumulant + 2 m V, the entry C12 of C."""
        return self.third_cumulant + 2 * self.mean * self.variance


class ScalarChannel(NamedTuple):
    """Averages over the scalar channel at gamma, each of the shape of gamma.

    mmse: E V. mean_square_variance: E V^2 = -mmse'. curvature: mmse'' = E[2 V^3 - (third cumulant)^2].
    information: i(gamma) = I(beta; lam) in nats, i' = mmse/2.
    """

    mmse: Value
    mean_square_variance: Value
    curvature: Value
    information: Value


class Prior(ABC):
    """P0: moments, tilted law and scalar channel. Frozen and hashable: tables are made once per prior."""

    @property
    @abstractmethod
    def mean(self) -> float: ...

    @property
    @abstractmethod
    def variance(self) -> float: ...

    @property
    def second_moment(self) -> float:
        return self.variance + self.mean**2

    @property
    @abstractmethod
    def width(self) -> float:
        """Length of the convex hull of the support."""

    @property
    @abstractmethod
    def information_dimension(self) -> float:
        """lim 2 i(gamma)/log gamma: the limit of delta_IT as sigma -> 0."""

    @property
    def gamma_range(self) -> tuple[float, float]:
        """gamma below which the channel carries next to nothing, and above which no transition is looked for."""
        return 1e-6 / self.variance, 1e14 / self.variance

    @abstractmethod
    def tilted(self, lam: Real, gam: Real) -> Tilted:
        """Moments under P_{lam,gam}."""

    @abstractmethod
    def quadrature_size(self, gamma: Float[np.ndarray, " g"]) -> Shaped[np.ndarray, " g"]:
        """Half the number of nodes that `channel` needs: a power of two, so that a value depends on its own gamma alone."""

    @abstractmethod
    def channel(self, gamma: Float[np.ndarray, " g"], half: int) -> ScalarChannel:
        """Averages at each gamma, on nodes of that number."""


@dataclass(frozen=True)
class Discrete(Prior):
    """Atoms in increasing order and their positive weights.

    The paper's theorems ask for three atoms or more: with two, beta^2 is affine in beta and C is singular.
    """

    atoms: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        b, w = np.asarray(self.atoms, dtype=np.float64), np.asarray(self.weights, dtype=np.float64)
        require(len(b) >= 2, f"a discrete prior needs at least 2 atoms, got {len(b)}")
        require(len(w) == len(b), f"weights must be as many as atoms, got {len(w)} for {len(b)}")
        require(bool(np.isfinite(b).all() and (np.diff(b) > 0).all()), f"atoms must increase, got {self.atoms}")
        require(bool((w > 0).all()), f"weights must be positive, got {self.weights}")
        require(bool(abs(w.sum() - 1) <= 1e-9), f"weights must sum to 1, got {self.weights} of sum {w.sum():.12g}")

    @property
    def mean(self) -> float:
        return float(np.dot(self.weights, self.atoms))

    @property
    def variance(self) -> float:
        return float(np.dot(self.weights, (np.array(self.atoms) - self.mean) ** 2))

    @property
    def width(self) -> float:
        return self.atoms[-1] - self.atoms[0]

    @property
    def entropy(self) -> float:
        """H(P0) = lim i(gamma)."""
        return float(-np.dot(self.weights, np.log(self.weights)))

    @property
    def information_dimension(self) -> float:
        return 0.0

    @property
    def gamma_range(self) -> tuple[float, float]:
        """As for every prior; above it the error is 1e-23 and less."""
        return 1e-6 / self.variance, (2 * REACH / float(np.diff(self.atoms).min())) ** 2

    def log_probabilities(self, lam: Real, gam: Real) -> tuple[Value, Value]:
        """log Z and the log probabilities of the atoms, (K, ...), under P_{lam,gam}."""
        lam, gam = np.asarray(lam, dtype=np.float64), np.asarray(gam, dtype=np.float64)
        axes = (-1, *(1,) * np.broadcast(lam, gam).ndim)
        b, log_w = np.reshape(self.atoms, axes), np.log(self.weights).reshape(axes)
        logits = log_w + (lam - gam * b / 2) * b
        top = logits.max(0)
        log_partition = top + np.log(np.exp(logits - top).sum(0))
        return log_partition[()], logits - log_partition

    def tilted(self, lam: Real, gam: Real) -> Tilted:
        """Moments under P_{lam,gam}; central ones are sums over (b_k - m)^r, exact where V is tiny."""
        return self._moments(*self.log_probabilities(lam, gam))

    def _moments(self, log_partition: Value, log_p: Value) -> Tilted:
        p, b = np.exp(log_p), np.reshape(self.atoms, (-1, *(1,) * (log_p.ndim - 1)))
        mean, square = (p * b).sum(0), (p * b**2).sum(0)
        off = b - mean
        weighted = p * off**2
        moments = mean, weighted.sum(0), (weighted * off).sum(0), (p * (b**2 - square) ** 2).sum(0)
        return Tilted(log_partition, *(moment[()] for moment in moments))

    def quadrature_size(self, gamma: Float[np.ndarray, " g"]) -> Shaped[np.ndarray, " g"]:
        """Steps of 1/2 at most in z and of `STEP`/width in lam."""
        return _power_of_two(REACH * np.maximum(2.0, np.sqrt(gamma) * self.width / STEP))

    def channel(self, gamma: Float[np.ndarray, " g"], half: int) -> ScalarChannel:
        """i = H(P0) - H(beta|lam): gamma E beta^2/2 - E log Z would cancel at large gamma."""
        z, weight = _normal_nodes(half)
        g = gamma[:, None, None]
        truth = np.reshape(self.weights, (-1, 1)) * weight
        lam = g * np.reshape(self.atoms, (-1, 1)) + np.sqrt(g) * z
        log_partition, log_p = self.log_probabilities(lam, g)
        log_truth = np.einsum("kgkz,kz->g", log_p, truth)
        return _channel_averages(self._moments(log_partition, log_p), truth, self.entropy + log_truth)


@dataclass(frozen=True)
class BernoulliGaussian(Prior):
    """(1 - rho) delta_0 + rho N(0, v). Unbounded: outside the paper's theorems, within those of AMP."""

    rho: float
    v: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.rho < 1, f"rho must lie in (0, 1), got {self.rho}")
        _positive("v", self.v)

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def width(self) -> float:
        return np.inf

    @property
    def variance(self) -> float:
        return self.rho * self.v

    @property
    def information_dimension(self) -> float:
        return self.rho

    def log_odds(self, lam: Real, gam: Real) -> Value:
        """log of P(slab)/P(spike) under P_{lam,gam}."""
        shrinkage = _shrinkage(self.v, gam)
        prior = np.log(self.rho) - np.log1p(-self.rho)
        return prior + np.log(shrinkage) / 2 + self.v * shrinkage * np.square(lam) / 2

    def tilted(self, lam: Real, gam: Real) -> Tilted:
        """Moments under P_{lam,gam}: 0, or with the probability of the slab N(mu, sv), sv = v/(1 + gam v), mu = sv lam.

        Raises InputError unless 1 + gam v > 0.
        """
        lam, odds = np.asarray(lam, dtype=np.float64), np.asarray(self.log_odds(lam, gam))
        sv = self.v * _shrinkage(self.v, gam)
        mu = sv * lam
        slab, spike = expit(odds), expit(-odds)
        log_partition = np.log1p(-self.rho) + np.logaddexp(0, odds)
        mixing = slab * spike
        variance = slab * sv + mixing * mu**2
        third = mixing * mu * ((spike - slab) * mu**2 + 3 * sv)
        square = slab * (2 * sv**2 + 4 * mu**2 * sv) + mixing * (sv + mu**2) ** 2
        return Tilted(log_partition, slab * mu, variance, third, square)

    def quadrature_size(self, gamma: Float[np.ndarray, " g"]) -> Shaped[np.ndarray, " g"]:
        """Steps of .02 in x for the slab, z = c sinh x: spike and slab are told apart on the scale c = 3/sqrt(1 + gamma v)."""
        return _power_of_two(np.arcsinh(REACH / self._scale(gamma)) / 0.02)

    def channel(self, gamma: Float[np.ndarray, " g"], half: int) -> ScalarChannel:
        """lam ~ (1 - rho) N(0, gamma) + rho N(0, gamma + gamma^2 v), and all averages are even in lam.

        i = H(label) - H(label|lam) + (rho/2) log(1 + gamma v), without cancellation: what lam tells about the label,
        spike or slab, and about the Gaussian given the slab.
        """
        g = gamma[:, None]
        z, spike = (nodes[128:] for nodes in _normal_nodes(128))  # the label's odds change over Delta z of order one
        scale = self._scale(g)
        x = np.arcsinh(REACH / scale) * np.arange(half + 1) / half
        y = scale * np.sinh(x)
        slab = np.exp(-(y**2) / 2) * np.cosh(x)
        lam = np.hstack([np.sqrt(g) * z, np.sqrt(g + g**2 * self.v) * y])
        spike, slab = (np.hstack([part[..., :1] / 2, part[..., 1:]]) for part in (spike, slab))
        spike = np.broadcast_to(spike * (1 - self.rho) / spike.sum(), (len(gamma), len(z)))
        truth = np.hstack([spike, slab * self.rho / slab.sum(1, keepdims=True)])
        odds = np.asarray(self.log_odds(lam, g))
        odds[:, : len(z)] *= -1
        label = -self.rho * np.log(self.rho) - (1 - self.rho) * np.log1p(-self.rho)
        information = label + self.rho / 2 * np.log1p(gamma * self.v) - np.sum(truth * np.logaddexp(0, -odds), 1)
        return _channel_averages(self.tilted(lam, g), truth, information)

    def _scale(self, gamma: Value) -> Value:
        return 3 / np.sqrt(1 + gamma * self.v)


@dataclass(frozen=True)
class Gaussian(Prior):
    """N(0, v): every prediction in closed form."""

    v: float = 1.0

    def __post_init__(self) -> None:
        _positive("v", self.v)

    @property
    def mean(self) -> float:
        return 0.0

    @property
    def width(self) -> float:
        return np.inf

    @property
    def information_dimension(self) -> float:
        return 1.0

    @property
    def variance(self) -> float:
        return self.v

    def tilted(self, lam: Real, gam: Real) -> Tilted:
        """Moments under P_{lam,gam} = N(sv lam, sv), sv = v/(1 + gam v). Raises InputError unless 1 + gam v > 0."""
        shrinkage = _shrinkage(self.v, gam)
        sv, lam = self.v * shrinkage, np.asarray(lam, dtype=np.float64)
        mean, sv = np.broadcast_arrays(sv * lam, sv)
        log_partition = np.log(shrinkage) / 2 + mean * lam / 2
        return Tilted(log_partition, mean[()], sv[()], np.zeros_like(sv)[()], (2 * sv**2 + 4 * mean**2 * sv)[()])

    def quadrature_size(self, gamma: Float[np.ndarray, " g"]) -> Shaped[np.ndarray, " g"]:
        """No nodes."""
        return np.ones_like(gamma, dtype=int)

    def channel(self, gamma: Float[np.ndarray, " g"], half: int) -> ScalarChannel:
        """mmse = V = v/(1 + gamma v), i = log(1 + gamma v)/2."""
        sv = self.v * _shrinkage(self.v, gamma)
        return ScalarChannel(sv, sv**2, 2 * sv**3, np.log1p(gamma * self.v) / 2)


U3 = Discrete((-1.0, 0.0, 1.0), (1 / 3, 1 / 3, 1 / 3))
"""Uniform on {-1, 0, 1}."""


def S3(epsilon: float) -> Discrete:
    """{-1, 0, 1} with weights (epsilon/2, 1 - epsilon, epsilon/2)."""
    require(0 < epsilon < 1, f"epsilon must lie in (0, 1), got {epsilon}")
    return Discrete((-1.0, 0.0, 1.0), (epsilon / 2, 1 - epsilon, epsilon / 2))


RADEMACHER = Discrete((-1.0, 1.0), (0.5, 0.5))
"""Uniform on {-1, 1}."""


def _shrinkage(v: float, gam: Real) -> Value:
    """1/(1 + gam v)."""
    spread = 1 + np.asarray(gam, dtype=np.float64) * v
    _each("1 + gam v", spread, spread > 0, "positive")
    return 1 / spread[()]


# --------------------------------------------------------------------------------------------------------------------
# Scalar channel
# --------------------------------------------------------------------------------------------------------------------

ROOT_TOLERANCES = {"xatol": 1e-15, "xrtol": 4 * np.finfo(np.float64).eps}
"""Of logarithms: gamma to 1e-14 relative."""

BLOCK = 2**15
"""Quadrature nodes evaluated at a time: they stay in cache."""


def scalar_channel(prior: Prior, gamma: Real) -> ScalarChannel:
    """All averages at gamma >= 0, by trapezoidal quadrature, to about 1e-13 Var P0.

    For discrete priors above `gamma_range`, where only that is left: mmse = 0 and i = H(P0).
    """
    gamma = np.asarray(gamma, dtype=np.float64)
    _each("gamma", gamma, (gamma >= 0) & (gamma < np.inf), ">= 0 and finite")
    flat = gamma.ravel()
    values = np.zeros((4, flat.size))
    todo = np.ones(flat.shape, bool)
    if isinstance(prior, Discrete):
        todo = flat <= prior.gamma_range[1]
        values[3] = prior.entropy
    half = np.where(todo, prior.quadrature_size(np.where(todo, flat, 0.0)), 0)
    for size in np.unique(half[todo]):
        members = np.flatnonzero(half == size)
        for block in np.array_split(members, -(-len(members) * int(size) // BLOCK)):
            values[:, block] = prior.channel(flat[block], int(size))
    return ScalarChannel(*(value.reshape(gamma.shape)[()] for value in values))


def mmse(prior: Prior, gamma: Real) -> Value:
    """E V(lam, gamma), the minimal mean-square error of the scalar channel."""
    return scalar_channel(prior, gamma).mmse


def mean_square_variance(prior: Prior, gamma: Real) -> Value:
    """E V^2 = -mmse'(gamma)."""
    return scalar_channel(prior, gamma).mean_square_variance


def information(prior: Prior, gamma: Real) -> Value:
    """i(gamma) = I(beta; gamma beta + sqrt(gamma) Z) in nats; i' = mmse/2."""
    return scalar_channel(prior, gamma).information


def _normal_nodes(half: int) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    z = REACH * np.arange(-half, half + 1) / half
    weight = np.exp(-(z**2) / 2)
    return z, weight / weight.sum()


def _channel_averages(tilted: Tilted, truth: Float[np.ndarray, "..."], information: Value) -> ScalarChannel:
    average = lambda value: np.sum(truth * value, axis=tuple(range(1, np.ndim(value))))
    v, k = tilted.variance, tilted.third_cumulant
    return ScalarChannel(average(v), average(v**2), average(2 * v**3 - k**2), information)


def _power_of_two(count: Float[np.ndarray, " g"]) -> Shaped[np.ndarray, " g"]:
    return 2 ** np.ceil(np.log2(count)).astype(int)


# --------------------------------------------------------------------------------------------------------------------
# Replica-symmetric potential
# --------------------------------------------------------------------------------------------------------------------


def rs_potential(prior: Prior, delta: Real, sigma: Real, gamma: Real) -> Value:
    """phi(gamma) = i(gamma) + sigma^2 gamma/2 - delta/2 + (delta/2) log(delta/(sigma^2 gamma)), gamma > 0."""
    delta, noise, gamma = _setting(delta, sigma, gamma)
    return _potential(information(prior, gamma), delta, noise, gamma)


def _potential(information: Value, delta: Value, noise: Value, gamma: Value) -> Value:
    return information + noise * gamma / 2 - delta / 2 + delta / 2 * np.log(delta / (noise * gamma))


def rs_slope(prior: Prior, delta: Real, sigma: Real, gamma: Real) -> Value:
    """phi' = (mmse + sigma^2 - delta/gamma)/2: zero where gamma = delta/(sigma^2 + mmse(gamma))."""
    delta, noise, gamma = _setting(delta, sigma, gamma)
    return (mmse(prior, gamma) + noise - delta / gamma) / 2


def rs_curvature(prior: Prior, delta: Real, gamma: Real) -> Value:
    """phi'' = delta/(2 gamma^2) - E V^2/2, positive exactly where `state_evolution_slope` is below 1."""
    return delta / (2 * np.square(gamma)) * (1 - state_evolution_slope(prior, delta, gamma))


def state_evolution_slope(prior: Prior, delta: Real, gamma: Real) -> Value:
    """(gamma^2/delta) E V^2: the factor by which an error of gamma shrinks in a step at a fixed point."""
    delta, _, gamma = _setting(delta, 1.0, gamma)
    return gamma**2 / delta * mean_square_variance(prior, gamma)


def _setting(delta: Real, sigma: Real, *gamma: Real) -> tuple[Value, ...]:
    """delta, sigma^2 (and gamma) as float64 arrays, all positive."""
    values = []
    for name, value in zip(("delta", "sigma", "gamma"), (delta, sigma, *gamma), strict=False):
        _positive(name, value)
        values.append(np.asarray(value, dtype=np.float64)[()])
    values[1] = values[1] ** 2
    return tuple(values)


# --------------------------------------------------------------------------------------------------------------------
# State evolution and its fixed points
# --------------------------------------------------------------------------------------------------------------------


class StateEvolution(NamedTuple):
    """Step t = 0, 1, ... along the leading axis, then the shape of delta and sigma.

    gamma: gamma_t, the signal-to-noise ratio of the channel that step t denoises. mse: mmse(gamma_t), the error of its
    output, and the limit of its mean reported variance.
    """

    gamma: Float[np.ndarray, "steps *shape"]
    mse: Float[np.ndarray, "steps *shape"]


def state_evolution(prior: Prior, delta: Real, sigma: Real, steps: int, *, informed: bool = False) -> StateEvolution:
    """gamma_{t+1} = delta/(sigma^2 + mmse(gamma_t)) from gamma_0 = delta/(sigma^2 + Var P0), or delta/sigma^2 if informed.

    Rises to `gamma_alg`, or falls to `gamma_informed`.
    """
    require(steps >= 1, f"steps must be at least 1, got {steps}")
    delta, noise = _setting(delta, sigma)
    gammas, errors = [], []
    error: Value = 0.0 if informed else prior.variance
    for _ in range(steps):
        gammas.append(delta / (noise + error))
        error = mmse(prior, gammas[-1])
        errors.append(error)
    return StateEvolution(np.stack(gammas), np.stack(errors))


def fixed_points(prior: Prior, delta: float, sigma: float) -> Float[np.ndarray, " fixed_points"]:
    """All gamma = delta/(sigma^2 + mmse(gamma)), increasing; every second one is unstable. At least one, oddly many."""
    roots = _fixed_points(prior, *_setting(delta, sigma))
    return roots[~np.isnan(roots)]


def gamma_alg(prior: Prior, delta: Real, sigma: Real) -> Value:
    """Smallest fixed point: the limit of Bayes AMP."""
    return np.nanmin(_fixed_points(prior, *_setting(delta, sigma)), axis=0)


def gamma_informed(prior: Prior, delta: Real, sigma: Real) -> Value:
    """Largest fixed point: the limit of AMP started near the truth."""
    return np.nanmax(_fixed_points(prior, *_setting(delta, sigma)), axis=0)


def gamma_stat(prior: Prior, delta: Real, sigma: Real) -> Value:
    """argmin phi: the channel of the posterior marginals."""
    return _ground_state(prior, delta, sigma)[0]


def information_rate(prior: Prior, delta: Real, sigma: Real) -> Value:
    """lim I(beta0; y|X)/p = min phi."""
    return _ground_state(prior, delta, sigma)[1]


def evidence_rate(prior: Prior, delta: Real, sigma: Real) -> Value:
    """lim -log p(y|X)/p = min phi + (delta/2) log(2 pi e sigma^2)."""
    return information_rate(prior, delta, sigma) + noise_entropy(delta, sigma)


def noise_entropy(delta: Real, sigma: Real) -> Value:
    """(delta/2) log(2 pi e sigma^2): F_TAP/p at a minimiser tends to phi(gamma) plus this."""
    delta, noise = _setting(delta, sigma)
    return delta / 2 * np.log(2 * np.pi * np.e * noise)


def _ground_state(prior: Prior, delta: Real, sigma: Real) -> tuple[Value, Value, Value]:
    """argmin phi, min phi, and whether a smaller fixed point than argmin phi exists."""
    delta, noise = np.broadcast_arrays(*_setting(delta, sigma))
    roots = _fixed_points(prior, delta, noise)
    potential = np.full_like(roots, np.inf)
    real = ~np.isnan(roots)
    deltas, noises = (np.broadcast_to(value, roots.shape)[real] for value in (delta, noise))
    potential[real] = _interpolated_potential(prior, deltas, noises, roots[real])
    best = potential.argmin(0)
    return np.take_along_axis(roots, best[None], 0)[0][()], potential.min(0)[()], best > 0


def _fixed_points(prior: Prior, delta: Value, noise: Value) -> Float[np.ndarray, "most *shape"]:
    """Fixed points in increasing order, padded with NaN.

    delta = D(gamma) = gamma (sigma^2 + mmse(gamma)) has at most one root between neighbouring spinodals, so that pairs
    about to merge are found. All lie in [delta/(sigma^2 + Var P0), delta/sigma^2].
    """
    delta, noise = np.broadcast_arrays(delta, noise)
    low, high, exists = _monotone_stretches(prior, delta, noise)
    roots = np.full(exists.shape, np.nan)
    where = np.nonzero(exists)
    roots[where] = _fixed_point_between(prior, delta[where[1:]], noise[where[1:]], low[where], high[where])
    return np.sort(roots, axis=0)


def _monotone_stretches(prior: Prior, delta: Value, noise: Value) -> tuple[Value, Value, Value]:
    """Ends of the stretches between spinodals, (stretches, *shape), and whether a fixed point lies in each."""
    levels, index = np.unique(noise, return_inverse=True)
    spinodals = _spinodals(prior, levels)[:, index.reshape(noise.shape)]
    first, last = delta / (noise + prior.variance), delta / noise
    inner = np.clip(np.where(np.isnan(spinodals), last, spinodals), first, last)
    ends = np.concatenate([first[None], inner, last[None]])
    above = ends * (noise + _interpolated(prior, ends)[0]) >= delta
    above[1:-1] = above[1:-1] & (inner > first) | (inner == last)
    above[0], above[-1] = False, True  # mmse <= Var P0 and mmse >= 0, whatever the rounding
    return ends[:-1], ends[1:], above[:-1] != above[1:]


def _fixed_point_between(prior: Prior, delta: Value, noise: Value, low: Value, high: Value) -> Value:
    return _root(lambda g, d, n: g * (n + _interpolated(prior, g)[0]) - d, low, high, delta, noise)


def _root(function: Callable[..., Value], low: Value, high: Value, *args: Value) -> Value:
    """Elementwise root of a function of x > 0 that changes sign between low and high; an end if rounding hides the change."""
    low, high, *rest = np.broadcast_arrays(low, high, *args)
    if not low.size:
        return np.empty(low.shape)
    at_low, at_high = function(low, *rest), function(high, *rest)
    hidden = np.sign(at_low) * np.sign(at_high) >= 0
    ends = np.where(np.abs(at_low) <= np.abs(at_high), low, high)
    top = np.where(hidden, low * 2, high)  # the log of a bracket that is not used
    in_log = lambda x, *values: function(np.exp(x), *values)
    found = find_root(in_log, (np.log(low), np.log(top)), args=tuple(rest), tolerances=ROOT_TOLERANCES)
    return np.where(hidden | np.isnan(found.x), ends, np.exp(found.x))[()]


# --------------------------------------------------------------------------------------------------------------------
# Spinodals, phase lines, phases
# --------------------------------------------------------------------------------------------------------------------

POINTS_PER_EFOLD = 32
"""Of the table of gamma, made once per prior: what is between its points is interpolated."""


class PhaseLines(NamedTuple):
    """delta_low < delta_IT < delta_alg at given sigma; NaN where there is one fixed point for every delta.

    low: below it no second, better fixed point. information: delta_IT, where phi is equal at the two. algorithmic:
    above it AMP reaches the better one. Easy outside (low, algorithmic), impossible below information, hard above.
    """

    low: Value
    information: Value
    algorithmic: Value


class NoiseLines(NamedTuple):
    """sigma_alg < sigma_IT < sigma_last at given delta; NaN where there is one fixed point for every sigma.

    algorithmic: below it AMP reaches the better fixed point, 0 if it never does. information: phi is equal at the two,
    0 if it never is, or below 1e-10 of last. last: above it no second fixed point.
    """

    algorithmic: Value
    information: Value
    last: Value


class Cusp(NamedTuple):
    """Where the phase lines meet: no hard phase for sigma above this."""

    gamma: float
    sigma: float
    delta: float


def phase(prior: Prior, delta: Real, sigma: Real) -> Value:
    """One of "easy", "hard" and "impossible", elementwise.

    hard: gamma_alg < gamma_stat. impossible: gamma_alg = gamma_stat, yet a fixed point of less error and larger phi
    exists. easy: AMP is Bayes-optimal and nothing better exists.
    """
    delta, noise = np.broadcast_arrays(*_setting(delta, sigma))
    phases = np.full(delta.shape, "easy", dtype="<U10")
    several = _monotone_stretches(prior, delta, noise)[2].sum(0) > 1
    _, _, stuck = _ground_state(prior, delta[several], np.sqrt(noise[several]))
    phases[several] = np.where(stuck, "hard", "impossible")
    return phases[()]


def phase_lines(prior: Prior, sigma: Real) -> PhaseLines:
    """delta_low, delta_IT, delta_alg at each sigma, to about 1e-12.

    D(gamma) = gamma (sigma^2 + mmse) has its local maximum delta_alg and minimum delta_low where D' = 0, i.e. gamma E V^2
    - mmse = sigma^2. phi(first) - phi(last) increases with delta: d phi/d delta = log(delta/(sigma^2 gamma))/2 at fixed
    gamma. Raises InputError for priors with several transitions at one sigma.
    """
    _, noise = _setting(1.0, sigma)
    ends = _spinodals(prior, np.ravel(noise))
    known = _one_transition(ends, "sigma", np.sqrt(np.ravel(noise)))
    lines = np.full((3, np.size(noise)), np.nan)
    if known.any():
        ends, level = ends[:, known], np.ravel(noise)[known]
        algorithmic, low = ends * (level + mmse(prior, ends))
        gap = lambda delta, n, first, last: _potential_gap(prior, delta, n, first, last)
        lines[:, known] = low, _root(gap, low, algorithmic, level, *ends), algorithmic
    return PhaseLines(*(line.reshape(np.shape(noise))[()] for line in lines))


def noise_lines(prior: Prior, delta: Real) -> NoiseLines:
    """sigma_alg, sigma_IT and the last spinodal at each delta.

    Fixed points solve sigma^2 = S(gamma) = delta/gamma - mmse, with S' = 0 where gamma^2 E V^2 = delta. Raises
    InputError for priors with several transitions at one delta.
    """
    delta, _ = _setting(delta, 1.0)
    level = np.ravel(delta)
    ends = _crossings(prior, _fixed_delta, level)
    noise = level / ends - mmse(prior, np.nan_to_num(ends, nan=1.0))
    ends[:, ~(noise[1] > 0)] = np.nan
    known = _one_transition(ends, "delta", level)
    lines = np.full((3, level.size), np.nan)
    if known.any():
        ends, level, (algorithmic, last) = ends[:2, known], level[known], noise[:2, known]
        gap = lambda n, d, first, second: _potential_gap(prior, d, n, first, second)
        lowest = np.maximum(algorithmic, 1e-20 * last)
        equal = _root(gap, lowest, last, level, *ends)
        never = gap(lowest, level, *ends) < 0
        lines[:, known] = np.maximum(algorithmic, 0), np.where(never & (algorithmic <= 0), 0.0, equal), last
    return NoiseLines(*(np.sqrt(line).reshape(np.shape(delta))[()] for line in lines))


def noiseless_lines(prior: Prior) -> PhaseLines:
    """Limits of `phase_lines` as sigma -> 0: delta_low = delta_IT = information dimension, delta_alg = sup gamma mmse(gamma).

    delta_IT: phi(last) - phi(first) ~ (dimension - delta) log(1/sigma), as i(gamma) ~ (dimension/2) log gamma. It is
    approached only like 1/log(1/sigma^2) where the dimension is positive.
    """
    peaks = _crossings(prior, _fixed_sigma, np.zeros(1))
    dimension = prior.information_dimension
    peaks = peaks[~np.isnan(peaks)]
    return PhaseLines(dimension, dimension, float(np.max(peaks * mmse(prior, peaks), initial=dimension)))


def cusp(prior: Prior) -> Cusp | None:
    """sigma_c^2 = max over gamma of gamma E V^2 - mmse, delta_c = D(gamma_c); None without a first-order transition."""
    gamma, value = _monotone_pieces(prior, _fixed_sigma)
    top = value.argmax()
    if value[top] <= 0:
        return None
    level = float(value[top])
    return Cusp(float(gamma[top]), float(np.sqrt(level)), float(gamma[top] * (level + mmse(prior, gamma[top]))))


def _potential_gap(prior: Prior, delta: Value, noise: Value, first_top: Value, last_bottom: Value) -> Value:
    """phi(first) - phi(last), the outer fixed points found between the spinodals and the ends of the range of gamma.

    Scanning a grid of gamma would miss the pair that merges as delta nears a spinodal.
    """
    first = _fixed_point_between(prior, delta, noise, delta / (noise + prior.variance), first_top)
    last = _fixed_point_between(prior, delta, noise, last_bottom, delta / noise)
    at_first, at_last = (_interpolated_potential(prior, delta, noise, gamma) for gamma in (first, last))
    return at_first - at_last


Curve: TypeAlias = Callable[[Value, ScalarChannel], tuple[Value, Value]]


def _fixed_sigma(gamma: Value, channel: ScalarChannel) -> tuple[Value, Value]:
    """gamma E V^2 - mmse, equal to sigma^2 where D' = 0, and its derivative."""
    square = channel.mean_square_variance
    return gamma * square - channel.mmse, 2 * square - gamma * channel.curvature


def _fixed_delta(gamma: Value, channel: ScalarChannel) -> tuple[Value, Value]:
    """gamma^2 E V^2, equal to delta where S' = 0, and its derivative."""
    square = channel.mean_square_variance
    return gamma**2 * square, 2 * gamma * square - gamma**2 * channel.curvature


def _spinodals(prior: Prior, noise: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "most levels"]:
    return _crossings(prior, _fixed_sigma, noise)


def _crossings(prior: Prior, curve: Curve, levels: Float[np.ndarray, " levels"]) -> Float[np.ndarray, "most levels"]:
    """Every gamma at which the curve crosses each level, increasing, padded with NaN to two or more."""
    gamma, value = _monotone_pieces(prior, curve)
    above = value[:, None] >= levels
    start, which = np.nonzero(above[1:] != above[:-1])
    found = _root(lambda g, c: curve(g, scalar_channel(prior, g))[0] - c, gamma[start], gamma[start + 1], levels[which])
    crossing = np.full((len(gamma), len(levels)), np.nan)
    crossing[start, which] = found
    crossing.sort(axis=0)
    return crossing[: max(2, np.bincount(which, minlength=1).max())]


@cache
def _monotone_pieces(prior: Prior, curve: Curve) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """gamma and the curve on a table that holds its extrema: between neighbours it is monotone and crosses a level once."""
    gamma, channel = _table(prior)
    value, slope = curve(gamma, channel)
    start = np.flatnonzero((slope[1:] > 0) != (slope[:-1] > 0))
    extrema = _root(lambda g: curve(g, scalar_channel(prior, g))[1], gamma[start], gamma[start + 1])
    place = start + 1
    value = np.insert(value, place, curve(extrema, scalar_channel(prior, extrema))[0])
    return np.insert(gamma, place, extrema), value


@cache
def _table(prior: Prior) -> tuple[Float[np.ndarray, " nodes"], ScalarChannel]:
    low, high = prior.gamma_range
    gamma = np.geomspace(low, high, int(POINTS_PER_EFOLD * np.log(high / low)))
    return gamma, scalar_channel(prior, gamma)


def _interpolated_potential(prior: Prior, delta: Value, noise: Value, gamma: Value) -> Value:
    return _potential(_interpolated(prior, gamma)[1], delta, noise, gamma)


def _interpolated(prior: Prior, gamma: Value) -> tuple[Value, Value]:
    """mmse and information to 1e-13 Var P0, a thousand times faster than the quadrature, which is used outside of the table."""
    gamma = np.asarray(gamma, dtype=np.float64)
    (low, high), curves = prior.gamma_range, _interpolants(prior)
    inside = (gamma >= low) & (gamma <= high)
    values = np.empty((2, *gamma.shape))
    values[:, inside] = [curve(np.log(gamma[inside])) for curve in curves]
    if not inside.all():
        outer = scalar_channel(prior, gamma[~inside])
        values[:, ~inside] = outer.mmse, outer.information
    return values[0], values[1]


@cache
def _interpolants(prior: Prior) -> tuple[PPoly, PPoly]:
    """mmse and information as functions of log gamma, Hermite interpolated with all derivatives known: 2 and 3 of them."""
    gamma, channel = _table(prior)
    slopes = channel.mmse, -channel.mean_square_variance, channel.curvature
    halves = channel.information, *(slope / 2 for slope in slopes)
    return _hermite(gamma, *slopes), _hermite(gamma, *halves)


def _hermite(gamma: Float[np.ndarray, " nodes"], *derivatives: Float[np.ndarray, " nodes"]) -> PPoly:
    """Piecewise polynomial in u = log gamma with the given value and derivatives in gamma at each node."""
    u, orders = np.log(gamma), range(len(derivatives))
    step = np.diff(u)
    stirling = ((1,), (0, 1), (0, 1, 1), (0, 1, 3, 1))  # (d/du)^r = sum_k stirling[r][k] gamma^k (d/d gamma)^k
    scaled = [gamma**k * value for k, value in enumerate(derivatives)]
    inner = [sum((c * f for c, f in zip(stirling[r], scaled, strict=False)), np.zeros_like(u)) for r in orders]
    # Taylor coefficients of t^j, t = (u - u_i)/step in [0, 1], from the derivatives at t = 0 and t = 1
    powers = np.arange(2 * len(orders))
    falling = np.array([[float(perm(int(j), r)) for j in powers] for r in orders])
    at_ends = np.vstack([falling * (powers == np.array(orders)[:, None]), falling])
    data = np.array([inner[r][:-1] * step**r for r in orders] + [inner[r][1:] * step**r for r in orders])
    coefficients = np.linalg.solve(at_ends, data) / step ** powers[:, None]
    return PPoly(coefficients[::-1], u)


def _one_transition(ends: Float[np.ndarray, "most levels"], name: str, value: Value) -> Shaped[np.ndarray, " levels"]:
    """Which levels have two spinodals; the others must have none."""
    count = np.sum(~np.isnan(ends), axis=0)
    _each(name, value, count <= 2, "where the prior has one transition at most, for phase lines")
    return count == 2


# --------------------------------------------------------------------------------------------------------------------
# Marginals: calibration of TAP, over-confidence of naive mean field
# --------------------------------------------------------------------------------------------------------------------


FINER = 32
"""Refinement of the quadratures over lam: intervals and bins cut their integrands, for errors of order step^2 and step."""


class Reliability(NamedTuple):
    """Per bin of the reported probability of an event: share of coordinates, mean report, frequency of the event."""

    share: Float[np.ndarray, " bins"]
    reported: Float[np.ndarray, " bins"]
    frequency: Float[np.ndarray, " bins"]


@dataclass(frozen=True, eq=False)
class MarginalLaw:
    """Joint law, as p -> infinity, of a coordinate beta0_j and the marginal that an algorithm reports for it.

    joint: P(beta0_j = atom k, lam_j in node), shape (K, nodes), sum 1. log_reported: the marginal reported there.
    """

    atoms: Float[np.ndarray, " K"]
    joint: Float[np.ndarray, "K nodes"]
    log_reported: Float[np.ndarray, "K nodes"]

    @property
    def reported(self) -> Float[np.ndarray, "K nodes"]:
        return np.exp(self.log_reported)

    @property
    def mse(self) -> float:
        """lim |m - beta0|^2/p, m the reported means."""
        return float(np.sum(self.joint * (self.atoms[:, None] - self.atoms @ self.reported) ** 2))

    @property
    def variance(self) -> float:
        """lim mean of the reported variances."""
        off = self.atoms[:, None] - self.atoms @ self.reported
        return float(np.sum(self.joint.sum(0) * np.sum(self.reported * off**2, 0)))

    @property
    def nll(self) -> float:
        """lim -mean log reported probability of beta0_j."""
        return float(-np.sum(self.joint * self.log_reported))

    @property
    def entropy(self) -> float:
        """lim mean entropy of the reported marginals; equal to `nll` where they are calibrated."""
        return float(-np.sum(self.joint.sum(0) * np.sum(self.reported * self.log_reported, 0)))

    def pit_cdf(self, u: Real) -> Value:
        """P(U <= u) of the randomised probability integral transform U = P(beta < beta0_j) + Uniform P(beta = beta0_j).

        Uniform where calibrated; without the randomisation it could not be, for a discrete prior.
        """
        u, p = np.asarray(u, dtype=np.float64), self.reported
        below = np.cumsum(p, 0) - p
        with np.errstate(divide="ignore", invalid="ignore"):  # probabilities that underflow
            cdf = [np.sum(self.joint * np.where(p > 0, np.clip((x - below) / p, 0, 1), x >= below)) for x in u.ravel()]
        return np.reshape(cdf, u.shape)[()]

    def coverage(self, level: Real) -> Value:
        """P(|U - 1/2| < level/2), of the central intervals of a nominal level in (0, 1)."""
        level = np.asarray(level, dtype=np.float64)
        return self.pit_cdf((1 + level) / 2) - self.pit_cdf((1 - level) / 2)

    def reliability(self, edges: Float[np.ndarray, " edges"], event: Shaped[np.ndarray, " K"]) -> Reliability:
        """Of the event beta in the atoms marked by the mask `event`, in bins of its reported probability (np.histogram's).

        Empty bins hold NaN.
        """
        p, weight, hits = event @ self.reported, self.joint.sum(0), event @ self.joint
        sums = [np.histogram(np.clip(p, 0, 1), edges, weights=value)[0] for value in (weight, weight * p, hits)]
        with np.errstate(invalid="ignore"):
            return Reliability(sums[0], sums[1] / sums[0], sums[2] / sums[0])


def bayes_marginals(prior: Discrete, gamma: float) -> MarginalLaw:
    """Of the TAP minimiser at a stationary gamma of phi: beta0 ~ P0, lam = gamma beta0 + sqrt(gamma) Z, report P_{lam,gamma}.

    Calibrated: the report is the posterior of this channel, whether or not gamma is the one of the true posterior.
    """
    _positive("gamma", gamma)
    spread, b = np.sqrt(gamma), np.array(prior.atoms)
    ends = gamma * b[0] - REACH * spread, gamma * b[-1] + REACH * spread
    lam, step = _grid(*ends, min(spread, STEP / prior.width) / FINER)
    density = np.exp(-np.square((lam - gamma * b[:, None]) / spread) / 2) / (spread * np.sqrt(2 * np.pi))
    return MarginalLaw(b, np.array(prior.weights)[:, None] * density * step, prior.log_probabilities(lam, gamma)[1])


@dataclass(frozen=True, eq=False)
class MeanField:
    """The naive mean-field optimum as p -> infinity, see `mean_field`.

    marginals: its calibration. margin: of convexity, 1 - (g0 - kappa) max V. slope: E eta'^2/delta, of state evolution.
    """

    marginals: MarginalLaw
    margin: float
    slope: float

    @property
    def stable(self) -> bool:
        """slope < 1: the prediction holds. Otherwise a formal fixed point."""
        return self.slope < 1


def mean_field(prior: Discrete, delta: float, sigma: float) -> MeanField:
    """Law of the minimiser of F_MF, valid in its convex regime (derived here).

    Naive mean field reports P_{lam,g0} with g0 = |X_j|^2/sigma^2 -> delta/sigma^2, and its means minimise |y - Xm|^2/
    (2 sigma^2) + sum_j psi(m_j), psi'(m) = lam(m) - g0 m: a separable M-estimator. With E its mean-square error, tau =
    sigma^2 + E and r = beta0 + sqrt(tau/delta) Z, the stationarity of kappa (m - r)^2/2 + psi(m) reads lam = kappa r +
    (g0 - kappa) m(lam, g0); kappa = (delta - e)/sigma^2, e = E eta', eta' = dm/dr = V kappa/(1 - (g0 - kappa) V).

    Raises InputError where r(lam) is not monotone (margin <= 0): the scalar problem is then not convex, and naive mean
    field has many optima.
    """
    delta, noise = (float(value) for value in _setting(delta, sigma))
    peak = _largest_variance(prior, delta / noise)
    error, response = prior.variance, 0.0
    change = np.full(2, np.inf)
    steps = 0
    while np.abs(change).max() > 1e-13:
        law, _, new_response = _mean_field_step(prior, delta, noise, error, response, 2)
        change = np.array([law.mse - error, new_response - response])
        error, response = np.array([error, response]) + change / 2
        margin, steps = float(1 - response / noise * peak), steps + 1
        where = f"at delta = {delta:.6g}, sigma = {sigma:.6g}"
        require(
            margin > 0 and response < delta and steps < 10_000,
            f"margin of convexity of mean field must be positive for a prediction, got {margin:.3g} {where}",
        )
    law, slope, _ = _mean_field_step(prior, delta, noise, error, response, FINER)
    return MeanField(law, margin, slope)


def _mean_field_step(
    prior: Discrete, delta: float, noise: float, error: float, response: float, finer: int
) -> tuple[MarginalLaw, float, float]:
    """Law, E eta'^2/delta and E eta' at mean-square error E and e, integrated over lam: r(lam) needs no inversion."""
    g0, kappa, excess = delta / noise, (delta - response) / noise, response / noise
    spread, b = np.sqrt((noise + error) / delta), np.array(prior.atoms)
    reach = REACH * spread
    ends = kappa * (b[0] - reach) + excess * b[0], kappa * (b[-1] + reach) + excess * b[-1]
    lam, step = _grid(*ends, min(kappa * spread, STEP / prior.width) / finer)
    tilted = prior.tilted(lam, g0)
    r, jacobian = (lam - excess * tilted.mean) / kappa, (1 - excess * tilted.variance) / kappa
    density = np.exp(-np.square((r - b[:, None]) / spread) / 2) * jacobian / (spread * np.sqrt(2 * np.pi))
    law = MarginalLaw(b, np.array(prior.weights)[:, None] * density * step, prior.log_probabilities(lam, g0)[1])
    slope = tilted.variance / jacobian
    weight = law.joint.sum(0)
    return law, float(weight @ slope**2) / delta, float(weight @ slope)


def _grid(low: float, high: float, step: float) -> tuple[Float[np.ndarray, " nodes"], float]:
    """Nodes at most `step` apart, and the step."""
    grid, step = np.linspace(low, high, 2 + int((high - low) / step), retstep=True)
    return grid, float(step)


def _largest_variance(prior: Discrete, gam: float) -> float:
    """max over lam of V(lam, gam), attained between the lam at which pairs of atoms are equally likely."""
    b, logits = np.array(prior.atoms), np.log(prior.weights) - gam * np.square(prior.atoms) / 2
    first, second = np.triu_indices(len(b), 1)
    ties = (logits[first] - logits[second]) / (b[second] - b[first])
    lam = np.linspace(ties.min() - 1 / prior.width, ties.max() + 1 / prior.width, 4001)
    v = prior.tilted(lam, gam).variance
    inner = slice(max(v.argmax() - 1, 0), v.argmax() + 2)
    best: Any = minimize_scalar(
        lambda x: -prior.tilted(x, gam).variance, bounds=(lam[inner][0], lam[inner][-1]), method="bounded"
    )
    return float(max(v.max(), -best.fun))


# --------------------------------------------------------------------------------------------------------------------
# Gaussian prior
# --------------------------------------------------------------------------------------------------------------------


class RidgePosterior(NamedTuple):
    """The exact posterior under N(0, v): ridge mean (p,), trace of the covariance over p, log p(y|X)."""

    mean: Float[np.ndarray, " p"]
    mean_variance: float
    log_evidence: float


def ridge_posterior(X: Float[np.ndarray, "n p"], y: Float[np.ndarray, " n"], v: float, sigma: float) -> RidgePosterior:
    """From K = sigma^2 I + v X X^T, the covariance of y. TAP and naive mean field have this mean at every n and p."""
    n, p = X.shape
    _positive("v", v)
    _positive("sigma", sigma)
    factor = cho_factor(sigma**2 * np.eye(n) + v * X @ X.T, lower=True)
    whitened = cho_solve(factor, np.column_stack([y, X]))
    log_determinant = 2 * np.log(np.diag(factor[0])).sum()
    variance = v - v**2 * np.sum(X * whitened[:, 1:]) / p
    log_evidence = -(n * np.log(2 * np.pi) + log_determinant + y @ whitened[:, 0]) / 2
    return RidgePosterior(v * X.T @ whitened[:, 0], float(variance), float(log_evidence))


def gaussian_tap_variance(v: Real, delta: Real, sigma: Real) -> Value:
    """E > 0 of E^2/v + E (sigma^2/v + delta - 1) - sigma^2 = 0, i.e. E = v/(1 + gamma v), gamma = delta/(sigma^2 + E).

    TAP's variance, and the limit of the posterior covariance's trace/p.
    """
    _positive("v", v)
    delta, noise = _setting(delta, sigma)
    half = (noise + np.asarray(v) * (delta - 1)) / 2
    root = np.hypot(half, np.sqrt(noise * v))
    # no cancellation for either sign
    return np.where(half > 0, noise * v / (root + np.abs(half)), root - half)[()]


def gaussian_mean_field_variance(v: Real, delta: Real, sigma: Real) -> Value:
    """1/(1/v + delta/sigma^2), what naive mean field reports at |X_j|^2 = delta."""
    _positive("v", v)
    delta, noise = _setting(delta, sigma)
    return 1 / (1 / np.asarray(v) + delta / noise)


# --------------------------------------------------------------------------------------------------------------------
# Landscape and natural gradient descent
# --------------------------------------------------------------------------------------------------------------------


def symmetric_point_eigenvalue(s: Real, delta: Real, sigma: Real) -> Value:
    """1/(s (1 - s)) - delta/(2 (sigma^2 + s)^2): an eigenvalue of Hess F_TAP in (m, s) at m = 0, all s_j = s in (0, 1).

    For priors on {-1, 0, 1} of any symmetric weights: C = diag(s, s - s^2) there, and along "all s_j equally" X drops
    out. Negative for small s, delta > 0 and sigma: F_TAP is not convex.
    """
    delta, noise = _setting(delta, sigma)
    s = np.asarray(s, dtype=np.float64)[()]
    _each("s", np.asarray(s), (s > 0) & (s < 1), "in (0, 1)")
    return 1 / (s * (1 - s)) - delta / (2 * (noise + s) ** 2)


def smoothness(prior: Prior, sigma: Real, spectral_norm: Real) -> Value:
    """L = 1 + (width/2)^2 |X|_op^2/sigma^2, infinite for unbounded priors.

    Hess F_TAP <= L Hess D everywhere: C^{1/2} diag(X^T X/sigma^2, 0) C^{1/2} <= max_j V_j |X|_op^2/sigma^2, V_j <=
    (width/2)^2, and the other terms are negative. So natural gradient descent of step <= 1/L never raises F.
    """
    _positive("sigma", sigma)
    return 1 + (prior.width / 2 * np.asarray(spectral_norm) / np.asarray(sigma)) ** 2


def spectral_norm_limit(delta: Real) -> Value:
    """|X|_op -> 1 + sqrt(delta)."""
    _positive("delta", delta)
    return 1 + np.sqrt(delta)


def ngd_rate(step: Real, smallest: Real, largest: Real) -> Value:
    """max(|1 - eta mu_min|, |1 - eta mu_max|), mu the spectrum of C^{1/2} Hess C^{1/2} at the minimiser.

    Natural gradient descent there is theta <- (I - eta Hess C) theta to first order, as C = d(m, s)/d theta. Stable for
    eta < 2/mu_max.
    """
    step = np.asarray(step)
    return np.maximum(np.abs(1 - step * smallest), np.abs(1 - step * largest))


# --------------------------------------------------------------------------------------------------------------------
# Exact posterior
# --------------------------------------------------------------------------------------------------------------------

MOST_STATES = 600_000
"""K^p up to which `exact_posterior` enumerates: p = 12 at K = 3."""


class ExactPosterior(NamedTuple):
    """log p(y|X), shape (...), and the posterior marginals, shape (..., p, K), with their means and variances (..., p)."""

    log_evidence: Float[np.ndarray, "*batch"]
    marginals: Float[np.ndarray, "*batch p K"]
    mean: Float[np.ndarray, "*batch p"]
    variance: Float[np.ndarray, "*batch p"]


def exact_posterior(
    prior: Discrete, X: Float[np.ndarray, "*batch n p"], y: Float[np.ndarray, "*batch n"], sigma: float
) -> ExactPosterior:
    """By enumeration of all K^p vectors beta. Raises InputError for more than `MOST_STATES`."""
    _positive("sigma", sigma)
    (n, p), b = X.shape[-2:], np.array(prior.atoms)
    states = len(b) ** p
    require(states <= MOST_STATES, f"K^p must be at most {MOST_STATES} to enumerate, got {len(b)}^{p}")
    which = np.indices((len(b),) * p).reshape(p, -1)  # in lexicographic order, the last coordinate fastest
    beta = b[which]
    correlation = np.einsum("...ij,...i->...j", X, y) @ beta
    gram = np.einsum("...ij,...ik->...jk", X, X)
    square = gram.reshape(*gram.shape[:-2], p * p) @ (beta[:, None] * beta).reshape(p * p, -1)
    misfit = np.sum(y**2, axis=-1)[..., None] - 2 * correlation + square
    log_joint = np.log(prior.weights)[which].sum(axis=0) - misfit / (2 * sigma**2)
    log_sum = np.asarray(logsumexp(log_joint, axis=-1))
    weight = np.exp(log_joint - log_sum[..., None])
    marginals = np.stack(
        [weight.reshape(*weight.shape[:-1], len(b) ** j, len(b), -1).sum((-3, -1)) for j in range(p)], axis=-2
    )
    mean = marginals @ b
    variance = np.sum(marginals * (b - mean[..., None]) ** 2, axis=-1)
    return ExactPosterior(log_sum - n / 2 * np.log(2 * np.pi * sigma**2), marginals, mean, variance)


# --------------------------------------------------------------------------------------------------------------------
# LASSO and the Donoho-Tanner curve: A is n x N with N(0, 1/n) entries, y = A x0 + N(0, s^2), delta = n/N
# --------------------------------------------------------------------------------------------------------------------


class Lasso(NamedTuple):
    """State evolution of soft thresholding at alpha tau; limits of the LASSO |y - A x|^2/2 + penalty |x|_1.

    mse: lim |x - x0|^2/N = delta (tau^2 - s^2). nonzero: lim |x|_0/N. tau2: tau^2, the noise of the scalar channel.
    """

    alpha: float
    tau2: float
    penalty: float
    mse: float
    nonzero: float


def lasso_at_threshold(prior: Discrete, delta: float, s: float, alpha: float) -> Lasso:
    """tau^2 = s^2 + tau^2 R(tau)/delta with R the risk of soft thresholding, penalty = alpha tau (1 - P(nonzero)/delta).

    Donoho, Maleki, Montanari 2009; Bayati, Montanari 2012. The map is concave in tau^2, and its only fixed point below
    (s^2 + E x0^2/delta)/(1 - R(infinity)/delta). Raises InputError unless alpha > `lasso_alpha_min`.
    """
    _positive("s", s)
    lowest = lasso_alpha_min(delta)
    require(alpha > lowest, f"alpha must exceed alpha_min = {lowest:.6g} at delta = {delta}, got {alpha}")
    x0, weight = np.array(prior.atoms), np.array(prior.weights)

    def averages(tau2: float) -> tuple[float, float]:
        risk, kept = _soft_threshold(x0 / np.sqrt(tau2), alpha)
        return float(weight @ risk), float(weight @ kept)

    most = (s**2 + prior.second_moment / delta) / (1 - 2 * _tail_square(alpha) / delta)
    excess = lambda u: np.exp(u) * (1 - averages(np.exp(u))[0] / delta) - s**2
    tau2 = float(np.exp(_zero(excess, 2 * np.log(s), np.log(2 * most))))
    nonzero = averages(tau2)[1]
    penalty = float(alpha * np.sqrt(tau2) * (1 - nonzero / delta))
    return Lasso(alpha, tau2, penalty, delta * (tau2 - s**2), nonzero)


def lasso(prior: Discrete, delta: float, s: float, penalty: float) -> Lasso:
    """The LASSO at a given penalty > 0, which increases with alpha from -infinity at alpha_min."""
    _positive("penalty", penalty)
    lowest = lasso_alpha_min(delta)
    excess = lambda a: lasso_at_threshold(prior, delta, s, a).penalty - penalty
    highest = lowest + 1
    while excess(highest) < 0:
        highest *= 2
    return lasso_at_threshold(prior, delta, s, _zero(excess, lowest + 1e-9, highest))


def lasso_alpha_min(delta: float) -> float:
    """alpha of (1 + alpha^2) Phi(-alpha) - alpha phi(alpha) = delta/2, where tau^2 diverges; 0 for delta >= 1."""
    _positive("delta", delta)
    return 0.0 if delta >= 1 else _zero(lambda a: _tail_square(a) - delta / 2, 0, 37)


class DonohoTanner(NamedTuple):
    """rho = k/n below which l1 minimisation recovers k-sparse signals, and the threshold alpha of AMP on it."""

    rho: float
    alpha: float


def donoho_tanner(delta: float, *, signed: bool = True) -> DonohoTanner:
    """delta = c phi/(alpha + c (phi - alpha Phi(-alpha))), rho = 1 - alpha Phi(-alpha)/phi; c = 2, or 1 if nonnegative.

    Stationarity of `donoho_tanner_variational` in z = alpha, as d/dz [(1 + z^2) Phi(-z) - z phi] = 2 z Phi(-z) - 2 phi.
    Donoho, Maleki, Montanari 2009. delta in (0, 1).
    """
    c = _sides(delta, signed)

    def undersampling(alpha: float) -> float:
        density = _density(alpha)
        return c * density / (alpha + c * density * (1 - alpha * _mills(alpha)))

    alpha = _zero(lambda a: undersampling(a) - delta, 0, 37)
    return DonohoTanner(float(1 - alpha * _mills(alpha)), alpha)


def donoho_tanner_variational(delta: float, *, signed: bool = True) -> float:
    """rho = max over z of [1 - (c/delta) G]/[1 + z^2 - c G], G = (1 + z^2) Phi(-z) - z phi(z) = E (Z - z)_+^2."""
    c = _sides(delta, signed)
    rho = lambda z: (1 - c / delta * _tail_square(z)) / (1 + z**2 - c * _tail_square(z))
    z = np.linspace(1e-3, 37, 4000)
    top = int(np.argmax(rho(z)))
    best: Any = minimize_scalar(
        lambda x: -rho(x), bounds=(z[max(top - 1, 0)], z[min(top + 1, len(z) - 1)]), method="bounded"
    )
    return float(-best.fun)


def _zero(function: Callable[[float], float], low: float, high: float) -> float:
    return float(cast(float, brentq(function, low, high, xtol=1e-15)))


def _soft_threshold(u: Value, alpha: float) -> tuple[Value, Value]:
    """E (soft(u + Z; alpha) - u)^2 and P(|u + Z| > alpha)."""
    kept = ndtr(u - alpha) + ndtr(-u - alpha)
    tails = (alpha + u) * _density(alpha - u) + (alpha - u) * _density(alpha + u)
    return (1 + alpha**2) * kept - tails + u**2 * (ndtr(alpha - u) - ndtr(-alpha - u)), kept


def _tail_square(z: Value) -> Value:
    """E (Z - z)_+^2 = (1 + z^2) Phi(-z) - z phi(z)."""
    return _density(z) * ((1 + z**2) * _mills(z) - z)


def _density(z: Value) -> Value:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _mills(z: Value) -> Value:
    """Phi(-z)/phi(z)."""
    return np.sqrt(np.pi / 2) * erfcx(z / np.sqrt(2))


def _sides(delta: float, signed: bool) -> int:
    require(0 < delta < 1, f"delta must lie in (0, 1), got {delta}")
    return 2 if signed else 1


# --------------------------------------------------------------------------------------------------------------------
# Z2 synchronisation: Y = (l/n) x x^T + W, x in {-1, 1}^n, W symmetric of variance 1/n (2/n on the diagonal), l = `snr`
# --------------------------------------------------------------------------------------------------------------------


def z2_state_evolution(snr: Real, steps: int) -> Float[np.ndarray, "steps *shape"]:
    """q_t = lim |m_t|^2/n = lim m_t.x/n, t = 0, 1, ..., of AMP from the spectral start, l > 1.

    gamma_0 = l^2 - 1, the signal-to-noise ratio of the top eigenvector, gamma_{t+1} = l^2 q_t and q_t = 1 - mmse(gamma_t).
    """
    require(steps >= 1, f"steps must be at least 1, got {steps}")
    snr = np.asarray(snr, dtype=np.float64)[()]
    _each("snr", np.asarray(snr), snr > 1, "above 1 for a spectral start")
    overlaps, gamma = [], snr**2 - 1
    for _ in range(steps):
        overlaps.append(1 - mmse(RADEMACHER, gamma))
        gamma = snr**2 * overlaps[-1]
    return np.stack(overlaps)


def z2_overlap(snr: Real) -> Value:
    """q*, the largest root of q = 1 - mmse(l^2 q): Bayes-optimal squared overlap, 0 for l <= 1, ~ 2 (l - 1) above."""
    snr = np.asarray(snr, dtype=np.float64)[()]
    _positive("snr", snr)
    known = snr > 1
    level = np.where(known, snr, 2.0) ** 2
    # q(gamma) is concave with q >= gamma - gamma^2, so that the root in gamma exceeds (1 - 1/l^2)/2
    gamma = _root(lambda g, c: g / c - (1 - mmse(RADEMACHER, g)), (1 - 1 / level) / 2, level, level)
    return np.where(known, gamma / level, 0.0)[()]


def z2_information(snr: Real) -> Value:
    """lim I(x; Y)/n = (l^2/4) (1 - q*)^2 + i(l^2 q*), i that of the Rademacher channel."""
    q = z2_overlap(snr)
    return np.square(snr) / 4 * (1 - q) ** 2 + information(RADEMACHER, np.square(snr) * q)


def z2_energy(snr: Real) -> Value:
    """lim min F_TAP per spin = I/n - log 2 - l^2/2."""
    return z2_information(snr) - np.log(2) - np.square(snr) / 2


def bbp_eigenvalue(snr: Real) -> Value:
    """Limit of the top eigenvalue of Y: l + 1/l for l > 1, 2 below."""
    _positive("snr", snr)
    snr = np.maximum(snr, 1.0)
    return snr + 1 / snr


def bbp_overlap(snr: Real) -> Value:
    """Limit of the squared overlap (v.x)^2/n of the top eigenvector: max(0, 1 - 1/l^2); never above `z2_overlap`."""
    _positive("snr", snr)
    return 1 - 1 / np.square(np.maximum(snr, 1.0))


# --------------------------------------------------------------------------------------------------------------------
# Admissible input
# --------------------------------------------------------------------------------------------------------------------


def _positive(name: str, value: Real) -> None:
    array = np.asarray(value, dtype=np.float64)
    _each(name, array, (array > 0) & (array < np.inf), "positive and finite")


def _each(name: str, value: Value, admissible: Value, allowed: str) -> None:
    """Raise InputError with the first element at fault."""
    if not np.all(admissible):
        raise InputError(f"{name} must be {allowed}, got {value[~admissible].ravel()[0]:.6g}")
