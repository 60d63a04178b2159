"""Linear neurons and squared loss: noisy gradient descent in closed form, for every N, step size and time.

Conventions of `theory`; derived here. With S = Z^T Z/n = V diag(s) V^T, a0 = 2 lamp and theta = (S + a0 I)^{-1} Z^T y/n, the
chain splits into independent scalar linear recursions: the mean m of the N neurons along v_a with rate a = a0 + s_a, and
(N - 1) d directions orthogonal to the mean, with rate a0. mu* = N(theta, (lam/a0) I).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from theorysim.errors import require
from theorysim.papers.mean_field_langevin.theory.mean_field import LINEAR, SQUARED, Model, Real, Value


class GaussianModel(NamedTuple):
    """A linear model in its own coordinates.

    lam: temperature. a0: 2 lamp. s: eigenvalues of S, increasing, (d,). vectors: columns v_a, (d, d). theta: mean of mu*, (d,).
    """

    lam: float
    a0: float
    s: Float[np.ndarray, " d"]
    vectors: Float[np.ndarray, "d d"]
    theta: Float[np.ndarray, " d"]

    @property
    def d(self) -> int:
        return len(self.s)

    @property
    def rates(self) -> Float[np.ndarray, " d"]:
        """a = a0 + s_a, of the mean's directions; the largest is the Lipschitz constant of the drift in R^{Nd}."""
        return self.a0 + self.s

    @property
    def variance(self) -> float:
        """q = lam/a0, of mu* in every direction."""
        return self.lam / self.a0

    @property
    def alpha(self) -> float:
        """LSI constant a0/lam of mu*, of P* and of every conditional of P*."""
        return self.a0 / self.lam

    @property
    def stability_limit(self) -> float:
        """2/(a0 + s_max): the chain is stable for smaller step sizes."""
        return float(2 / self.rates.max())

    @property
    def kappa(self) -> float:
        """(lam/2) log det(I + S/a0) = N Delta_N for every N."""
        return float(self.lam / 2 * np.log1p(self.s / self.a0).sum())

    @property
    def kl(self) -> float:
        """KL(P*||mu*^N) for every N: the mean's directions have variances lam/a in place of lam/a0."""
        ratio = self.a0 / self.rates
        return float((ratio - 1 - np.log(ratio)).sum() / 2)

    @property
    def transport(self) -> float:
        """W_2^2(P*, mu*^N) = lam sum_a (a0^{-1/2} - (a0 + s_a)^{-1/2})^2 for every N."""
        return float(self.lam * ((self.a0**-0.5 - self.rates**-0.5) ** 2).sum())

    @property
    def gap_bound(self) -> float:
        """tr K/(2n) >= N Delta_N, K = (lam/a0) Z Z^T."""
        return float(self.variance * self.s.sum() / 2)


class Moments(NamedTuple):
    """Gaussian law of N exchangeable neurons, for each time (...).

    mean: E m, the same for all N, (..., d). mode: N Var(v_a.m), (..., d). orthogonal: variance in each of the other (N - 1) d
    directions, (...).
    """

    mean: Float[np.ndarray, "*times d"]
    mode: Float[np.ndarray, "*times d"]
    orthogonal: Float[np.ndarray, "*times"]


def gaussian_model(model: Model) -> GaussianModel:
    """Raises InputError unless the neuron is linear and the loss squared."""
    require(
        model.neuron is LINEAR and model.loss is SQUARED, "model must have linear neurons and squared loss, got another"
    )
    S = model.Z.T @ model.Z / model.n
    s, vectors = np.linalg.eigh(S)
    a0 = 2 * model.lamp
    theta = np.linalg.solve(S + a0 * np.eye(model.d), model.Z.T @ model.y / model.n)
    return GaussianModel(model.lam, a0, np.maximum(s, 0.0), vectors, theta)


def chain_moments(
    model: GaussianModel,
    eta: float,
    steps: Shaped[np.ndarray, "*times"],
    mean: Float[np.ndarray, " d"],
    variance: float,
) -> Moments:
    """After so many steps of size eta from N independent neurons N(mean, variance I): x - theta shrinks by 1 - eta a per step.

    Raises InputError unless 0 < eta < 2/(a0 + s_max).
    """
    _stable(model, eta)
    rates, power = model.rates, np.asarray(steps)[..., None]
    shrinkage = (1 - eta * rates) ** power, np.asarray((1 - eta * model.a0) ** power[..., 0])
    return _relaxed(model, stationary_moments(model, eta), *shrinkage, mean, variance)


def flow_moments(
    model: GaussianModel, time: Float[np.ndarray, "*times"], mean: Float[np.ndarray, " d"], variance: float
) -> Moments:
    """The limit eta -> 0 at eta steps = time: x - theta shrinks by e^{-a t}."""
    t = np.asarray(time)[..., None]
    shrinkage = np.exp(-model.rates * t), np.asarray(np.exp(-model.a0 * t[..., 0]))
    return _relaxed(model, stationary_moments(model), *shrinkage, mean, variance)


def stationary_moments(model: GaussianModel, eta: float = 0.0) -> Moments:
    """Of the chain with step size eta, of P* at eta = 0: variances lam/(a (1 - eta a/2)) and the mean theta, without bias.

    Raises InputError unless 0 <= eta < 2/(a0 + s_max).
    """
    if eta:
        _stable(model, eta)
    rates = model.rates
    orthogonal = np.array(model.lam / (model.a0 * (1 - eta * model.a0 / 2)))
    return Moments(model.theta, model.lam / (rates * (1 - eta * rates / 2)), orthogonal)


def _stable(model: GaussianModel, eta: float) -> None:
    limit = model.stability_limit
    require(0 < eta < limit, f"step size eta must lie in (0, 2/(a0 + s_max)) = (0, {limit:.6g}), got {eta}")


def _relaxed(
    model: GaussianModel,
    final: Moments,
    modes: Float[np.ndarray, "*times d"],
    orthogonal: Float[np.ndarray, "*times"],
    mean: Float[np.ndarray, " d"],
    variance: float,
) -> Moments:
    """Deviations x - theta have shrunk by these factors, and variances have come closer to the final ones by their squares."""
    e = modes * (model.vectors.T @ (mean - model.theta))
    return Moments(
        model.theta + e @ model.vectors.T,
        final.mode + (variance - final.mode) * modes**2,
        np.asarray(final.orthogonal + (variance - final.orthogonal) * orthogonal**2),
    )


def _relative_entropy(ratio: Value) -> Value:
    """Twice KL(N(0, ratio)||N(0, 1))."""
    return ratio - 1 - np.log(ratio)


def gaussian_kl(model: GaussianModel, size: Real, moments: Moments) -> Value:
    """KL(P||mu*^N) of N = size neurons with these moments, (...)."""
    q = model.variance
    e = (moments.mean - model.theta) @ model.vectors
    modes = (_relative_entropy(moments.mode / q) + np.expand_dims(size, -1) * e**2 / q).sum(-1)
    return ((size - 1) * model.d * _relative_entropy(moments.orthogonal / q) + modes) / 2


def gaussian_bregman(model: GaussianModel, size: Real, moments: Moments) -> Value:
    """E_P B(rho_X, mu*) = (1/2) sum_a s_a (e_a^2 + Var(v_a.m)), (...)."""
    e = (moments.mean - model.theta) @ model.vectors
    return (model.s * (e**2 + moments.mode / np.expand_dims(size, -1))).sum(-1) / 2


def gaussian_gap(model: GaussianModel, size: Real, moments: Moments) -> Value:
    """L^N(P)/N - L(mu*) = E_P B + (lam/N) KL(P||mu*^N), (...)."""
    return gaussian_bregman(model, size, moments) + model.lam / size * gaussian_kl(model, size, moments)


def gaussian_covariance(model: GaussianModel, size: int, moments: Moments) -> tuple[Value, Value]:
    """Cov(x^i, x^i) and Cov(x^i, x^j), i != j, (..., d, d) each."""
    mode = np.einsum("ia,...a,ja->...ij", model.vectors, moments.mode, model.vectors)
    orthogonal = moments.orthogonal[..., None, None] * np.eye(model.d)
    return (mode + (size - 1) * orthogonal) / size, (mode - orthogonal) / size


def output_variance(model: GaussianModel, moments: Moments, z: Float[np.ndarray, "m d"]) -> Value:
    """N Var h_rho(z) = sum_a (z.v_a)^2 N Var(v_a.m), (..., m)."""
    return moments.mode @ ((z @ model.vectors) ** 2).T


def excess_limit(model: GaussianModel, size: Real) -> Value:
    """lim (stationary gap - Delta_N)/eta^2 = (lam/4N) [(N - 1) d (a0/2)^2 + sum_a ((a0 + s_a)/2)^2].

    Each variance exceeds the optimal one by the factor 1 + eta a/2, and the gap is (lam/4N) (relative error)^2 to second order.
    """
    total = (size - 1) * model.d * (model.a0 / 2) ** 2 + ((model.rates / 2) ** 2).sum()
    return model.lam / (4 * size) * total


def drift_bound(model: GaussianModel, size: Real, moments: Moments) -> Value:
    """(1/N) E sum_i |b^i|^2 = [(N - 1) d a0^2 vo + sum_a a^2 (N Var(v_a.m) + N e_a^2)]/N, (...); B2 is its supremum over time."""
    e = (moments.mean - model.theta) @ model.vectors
    modes = (model.rates**2 * (moments.mode + np.expand_dims(size, -1) * e**2)).sum(-1)
    return ((size - 1) * model.d * model.a0**2 * moments.orthogonal + modes) / size


def chain_bound(
    model: GaussianModel, eta: float, steps: Shaped[np.ndarray, "*times"], initial: Real, squared_drift: float
) -> Value:
    """Bound of gap_k - Delta_N from gap_0 - Delta_N = initial > 0 and B2 = squared_drift >= (1/N) E sum_i |b^i|^2 at all steps.

    e^{-alpha lam eta k} initial + Lambda^2 (lam d eta^2/2 + eta^3 B2/6)/(1 - e^{-alpha lam eta}) (2502.05784, constants
    derived here): along a step with frozen drift, d gap/dt <= -alpha lam gap + (1/2N) E|b(X_t) - b(X_0)|^2, b is Lambda-Lipschitz,
    and E|X_t - X_0|^2/N <= t^2 B2 + 2 lam d t. Lambda = a0 + s_max, alpha lam = a0.
    """
    rate, lipschitz = model.alpha * model.lam, float(model.rates.max())
    error = lipschitz**2 * (model.lam * model.d * eta**2 / 2 + eta**3 * squared_drift / 6)
    return np.exp(-rate * eta * np.asarray(steps)) * initial - error / np.expm1(-rate * eta)


def flow_bound(model: GaussianModel, time: Real, initial: Real) -> Value:
    """e^{-2 alpha lam t} initial >= gap_t - Delta_N in continuous time, from initial = gap_0 - Delta_N."""
    return np.exp(-2 * model.a0 * np.asarray(time, dtype=np.float64))[()] * initial
