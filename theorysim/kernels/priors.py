"""Separable priors P0 and their exponentially tilted laws, with the same functions for each prior.

    P_{lam,gam}(d beta) = exp(lam beta - gam beta^2/2) P0(d beta) / Z(lam, gam)

is the posterior of beta ~ P0 observed in Gaussian noise, lam = gamma beta + sqrt(gamma) N(0, 1), gam = gamma. Its means are the
Bayes denoiser of approximate message passing; log Z is the cumulant function of the family with sufficient statistic
(beta, beta^2), whose dual variables (m, s) are those of the TAP and mean-field free energies (Celentano, Fan, Lin, Mei,
arXiv 2311.08442). A prior is a pytree of NumPy float64 arrays or scalars; results have the dtype of (lam, gam).

>>> prior = three_point(0.1)
>>> prior.moments(lam, gam).mean
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Key

from theorysim.errors import require
from theorysim.kernels.elementary import softplus_sigmoid

Values = Float[Array, "..."]
Vector = Float[Array, " K"] | Float[np.ndarray, " K"]
Scalar = Float[Array, ""] | Float[np.ndarray, ""] | float

NODES = 801
"""Nodes of the channel's quadrature: error below 1e-11 of mmse where this is above 1e-20, for slabs at gamma v up to 1e8."""


class Moments(NamedTuple):
    """Of P_{lam,gam}, each of the broadcast shape of (lam, gam).

    log_partition: log Z. mean: m. second_moment: s = <beta^2>. variance: V = s - m^2, without that cancellation.
    divergence: KL(P_{lam,gam} || P0) = lam m - gam s/2 - log Z = D(m, s), the Legendre dual of log Z.
    """

    log_partition: Values
    mean: Values
    second_moment: Values
    variance: Values
    divergence: Values


class Covariance(NamedTuple):
    """C = Cov(beta, beta^2) under P_{lam,gam}: the Hessian of log Z in (lam, -gam/2), the inverse Hessian of D in (m, s).

    c11: V. c12: Cov(beta, beta^2). c22: Var(beta^2).
    schur: c22 - c12^2/c11, the variance of beta^2 that beta does not explain, computed without that cancellation.
    """

    c11: Values
    c12: Values
    c22: Values
    schur: Values


class Channel(NamedTuple):
    """The scalar channel lam = gamma beta + sqrt(gamma) Z, beta ~ P0, Z ~ N(0, 1), each of the shape of gamma.

    mmse: E V(lam, gamma). variance2: E V^2 = -mmse'. information: I(beta; lam) in nats, whose derivative is mmse/2.
    """

    mmse: Values
    variance2: Values
    information: Values


@runtime_checkable
class Prior(Protocol):
    """What algorithms ask of a prior. lam and gam are of one floating dtype, real, of shapes that broadcast."""

    def moments(self, lam: Values, gam: Values) -> Moments:
        """Moments of P_{lam,gam}; those of P0 itself at (0, 0)."""
        ...

    def covariance(self, lam: Values, gam: Values) -> Covariance:
        """Covariance of (beta, beta^2) under P_{lam,gam}."""
        ...

    def transform(self, uniform: Values, lam: Values, gam: Values) -> Values:
        """A draw from P_{lam,gam} made of one uniform variable on (0, 1)."""
        ...

    def cdf(self, beta: Values, lam: Values, gam: Values) -> tuple[Values, Values]:
        """(P_{lam,gam}(beta' < beta), P_{lam,gam}(beta' = beta)), as a randomised probability integral transform needs them."""
        ...

    def channel_nodes(self, gamma: Values, nodes: int = NODES) -> tuple[Float[Array, "... N"], Float[Array, "... N"]]:
        """Quadrature of the scalar channel: E f(lam) is the sum over the last axis of weight * f(lam); (lam, weight)."""
        ...

    def half_range(self) -> Scalar:
        """Half the length of the smallest interval that holds the support: its square bounds every V."""
        ...


# --- atoms ------------------------------------------------------------------------------------------------------------


class Discrete(NamedTuple):
    """P0 = sum_k w_k delta_{b_k}; `discrete` checks its arguments. Programs are unrolled over the K atoms: some dozens at most.

    atoms: b_k, shape (K,), distinct. weights: w_k > 0, shape (K,), summing to one.
    """

    atoms: Vector
    weights: Vector

    def _tilted(self, lam: Values, gam: Values) -> tuple[list[Values], list[Values], Values, list[Values]]:
        """Atoms, their probabilities under P_{lam,gam}, log Z, and log(p_k / w_k)."""
        dtype = jnp.result_type(lam, gam)
        b, w = jnp.asarray(self.atoms, dtype), jnp.log(jnp.asarray(self.weights, dtype))
        # Exponents are counted from that of the middle of the support: a prior far from zero loses no digits.
        centre = (jnp.min(b) + jnp.max(b)) / 2
        exponents = [(atom - centre) * (lam - gam * ((atom + centre) / 2)) for atom in b]
        logits = [log_weight + exponent for log_weight, exponent in zip(w, exponents, strict=True)]
        top = lax.stop_gradient(reduce(jnp.maximum, logits))
        # The compiler's own exponential: one written out would be computed again for every moment that is asked for.
        weights = [jnp.exp(logit - top) for logit in logits]
        total = _total(weights)
        log_total = jnp.log(total)
        # Differences first: that of the atom which holds the mass is zero, whatever the size of its exponent.
        log_ratios = [(logit - top) - log_total - log_weight for logit, log_weight in zip(logits, w, strict=True)]
        log_partition = top + log_total + centre * (lam - gam * (centre / 2))
        return list(b), [weight / total for weight in weights], log_partition, log_ratios

    def moments(self, lam: Values, gam: Values) -> Moments:
        atoms, probabilities, log_partition, log_ratios = self._tilted(lam, gam)
        mean = _mean(probabilities, atoms)
        second_moment = _mean(probabilities, [b**2 for b in atoms])
        variance = _mean(probabilities, [(b - mean) ** 2 for b in atoms])
        return Moments(log_partition, mean, second_moment, variance, _mean(probabilities, log_ratios))

    def covariance(self, lam: Values, gam: Values) -> Covariance:
        atoms, probabilities, *_ = self._tilted(lam, gam)
        mean = _mean(probabilities, atoms)
        d = [b - mean for b in atoms]
        c11 = _mean(probabilities, [x**2 for x in d])
        # beta^2 - s = d^2 - V + 2 m d with d = beta - m
        e = [x**2 - c11 + 2 * mean * x for x in d]
        c12 = _mean(probabilities, [x * y for x, y in zip(d, e, strict=True)])
        c22 = _mean(probabilities, [y**2 for y in e])
        slope = _ratio(c12, c11)
        schur = _mean(probabilities, [(y - slope * x) ** 2 for x, y in zip(d, e, strict=True)])
        return Covariance(c11, c12, c22, schur)

    def probabilities(self, lam: Values, gam: Values) -> Float[Array, "... K"]:
        """P_{lam,gam}(b_k) along the last axis."""
        return jnp.stack(self._tilted(lam, gam)[1], axis=-1)

    def transform(self, uniform: Values, lam: Values, gam: Values) -> Values:
        atoms, probabilities, *_ = self._tilted(lam, gam)
        draw, below = atoms[0], jnp.zeros_like(uniform)
        for atom, probability in zip(atoms[1:], probabilities[:-1], strict=True):
            below = below + probability
            draw = jnp.where(uniform >= below, atom, draw)
        return jnp.broadcast_to(draw, below.shape)

    def cdf(self, beta: Values, lam: Values, gam: Values) -> tuple[Values, Values]:
        atoms, probabilities, *_ = self._tilted(lam, gam)
        below = _mean(probabilities, [jnp.asarray(b < beta, b.dtype) for b in atoms])
        at = _mean(probabilities, [jnp.asarray(b == beta, b.dtype) for b in atoms])
        return below, at

    def channel_nodes(self, gamma: Values, nodes: int = NODES) -> tuple[Float[Array, "... N"], Float[Array, "... N"]]:
        # Posterior means change on the scale z ~ 1/(sqrt(gamma) gap), halfway to the next atom, z ~ sqrt(gamma) gap/2: what this
        # grid does not resolve lies outside it and weighs less than exp(-50).
        z, weights = _normal_nodes(nodes, gamma.dtype)
        gamma = gamma[..., None, None]
        lam = gamma * jnp.asarray(self.atoms, gamma.dtype)[:, None] + jnp.sqrt(gamma) * z
        weights = jnp.asarray(self.weights, gamma.dtype)[:, None] * weights
        shape = (*lam.shape[:-2], lam.shape[-2] * nodes)
        return lam.reshape(shape), jnp.broadcast_to(weights.ravel(), shape)

    def half_range(self) -> Scalar:
        atoms = jnp.asarray(self.atoms)
        return (jnp.max(atoms) - jnp.min(atoms)) / 2


def discrete(
    atoms: Sequence[float] | Float[np.ndarray, " K"], weights: Sequence[float] | Float[np.ndarray, " K"]
) -> Discrete:
    """P0 = sum_k w_k delta_{b_k}. Atoms of weight zero are left out; weights are scaled to sum to one in float64.

    Raises InputError unless the atoms, one or more, are finite and distinct, and the weights are as many, finite, not negative
    and sum to one within 1e-6.
    """
    b, w = np.asarray(atoms, np.float64), np.asarray(weights, np.float64)
    require(b.ndim == 1 and b.size >= 1, f"atoms must be a vector of one or more, got shape {b.shape}")
    require(w.shape == b.shape, f"weights must be as many as the {b.size} atoms, got shape {w.shape}")
    require(bool(np.isfinite(b).all()), f"atoms must be finite, got {b.tolist()}")
    require(np.unique(b).size == b.size, f"atoms must be distinct, got {b.tolist()}")
    require(bool((w >= 0).all() and np.isfinite(w).all()), f"weights must be finite and not negative, got {w.tolist()}")
    require(abs(w.sum() - 1) < 1e-6, f"weights must sum to one, got the sum {w.sum():.9g}")
    return Discrete(b[w > 0], w[w > 0] / w.sum())


def two_point(weight: float = 0.5, atoms: tuple[float, float] = (-1.0, 1.0)) -> Discrete:
    """Two atoms, the second of the given weight in (0, 1): signs by default, `two_point(rho, (0, 1))` a Bernoulli variable.

    beta^2 is then an affine function of beta: C is singular, and there are no coordinates (m, s).
    """
    require(0 < weight < 1, f"weight of the second atom must lie in (0, 1), got {weight}")
    return discrete(atoms, [1 - weight, weight])


def three_point(density: float = 2 / 3) -> Discrete:
    """Atoms -1, 0, 1 of weights (density/2, 1 - density, density/2), density in (0, 1); uniform by default."""
    require(0 < density < 1, f"density of the non-zero atoms must lie in (0, 1), got {density}")
    return discrete([-1.0, 0.0, 1.0], [density / 2, 1 - density, density / 2])


# --- a Gaussian, with or without a spike at zero ------------------------------------------------------------------------


class BernoulliGaussian(NamedTuple):
    """P0 = (1 - rho) delta_0 + rho N(0, v), 0 < rho <= 1; `bernoulli_gaussian` checks its arguments. Needs 1 + gam v > 0.

    rho: weight of the slab, shape (). slab_variance: v, shape ().
    """

    rho: Scalar
    slab_variance: Scalar

    def _parts(self, lam: Values, gam: Values) -> _SpikeAndSlab:
        dtype = jnp.result_type(lam, gam)
        rho, v = jnp.asarray(self.rho, dtype), jnp.asarray(self.slab_variance, dtype)
        inflation = 1 + gam * v
        variance = v / inflation
        mean = variance * lam
        log_slab = jnp.log(rho) - jnp.log(inflation) / 2 + mean * lam / 2
        # Where there is no spike, its logarithm is far below every other, but finite, as derivatives need it.
        log_spike = jnp.maximum(jnp.log1p(-rho), -1e5)
        log_inverse_slab, spike = softplus_sigmoid(log_spike - log_slab)
        log_inverse_spike, slab = softplus_sigmoid(log_slab - log_spike)
        log_partition = log_slab + log_inverse_slab
        # KL of the two-component law: of the choice of component, and of the slab from N(0, v)
        of_choice = -slab * (log_inverse_slab + jnp.log(rho)) - spike * (log_inverse_spike + log_spike)
        of_slab = (1 / inflation - 1 + jnp.log(inflation) + mean**2 / v) / 2
        return _SpikeAndSlab(slab, spike, mean, variance, log_partition, of_choice + slab * of_slab)

    def moments(self, lam: Values, gam: Values) -> Moments:
        slab, spike, mu, variance, log_partition, divergence = self._parts(lam, gam)
        return Moments(
            log_partition=log_partition,
            mean=slab * mu,
            second_moment=slab * (variance + mu**2),
            variance=slab * (variance + spike * mu**2),
            divergence=divergence,
        )

    def covariance(self, lam: Values, gam: Values) -> Covariance:
        slab, spike, mu, variance, *_ = self._parts(lam, gam)
        square = variance + mu**2
        # Laws of total covariance: every sum has terms of one sign.
        c11 = slab * (variance + spike * mu**2)
        c12 = slab * mu * (spike * square + 2 * variance)
        c22 = slab * (spike * square**2 + 4 * mu**2 * variance + 2 * variance**2)
        slope = _ratio(c12, c11)
        within = 2 * variance**2 + variance * (2 * mu - slope) ** 2
        return Covariance(c11, c12, c22, slab * (within + spike * (square - slope * mu) ** 2))

    def transform(self, uniform: Values, lam: Values, gam: Values) -> Values:
        slab, _, mu, variance, *_ = self._parts(lam, gam)
        tiny, eps = jnp.finfo(mu.dtype).tiny, jnp.finfo(mu.dtype).eps
        z = ndtri(jnp.clip(uniform / slab, tiny, 1 - eps))
        return jnp.where(uniform < slab, mu + jnp.sqrt(variance) * z, 0)

    def cdf(self, beta: Values, lam: Values, gam: Values) -> tuple[Values, Values]:
        slab, spike, mu, variance, *_ = self._parts(lam, gam)
        below = slab * ndtr((beta - mu) / jnp.sqrt(variance)) + jnp.where(beta > 0, spike, 0)
        return below, jnp.where(beta == 0, spike, 0) + jnp.zeros_like(below)

    def channel_nodes(self, gamma: Values, nodes: int = NODES) -> tuple[Float[Array, "... N"], Float[Array, "... N"]]:
        rho, v = jnp.asarray(self.rho, gamma.dtype), jnp.asarray(self.slab_variance, gamma.dtype)
        z, weights = _normal_nodes(nodes, gamma.dtype)
        gamma = gamma[..., None]
        spike = jnp.sqrt(gamma) * z
        # In the slab's own units the posterior changes at z ~ 1/sqrt(1 + gamma v): nodes z = c sinh(x) are denser there.
        c = jnp.minimum(3, 3 / jnp.sqrt(1 + gamma * v))
        x = jnp.arcsinh(10 / c) * jnp.linspace(-1, 1, nodes, dtype=gamma.dtype)
        dense = c * jnp.sinh(x)
        density = jnp.exp(-(dense**2) / 2) * jnp.cosh(x)
        slab = jnp.sqrt(gamma * (1 + gamma * v)) * dense
        weights = jnp.broadcast_to((1 - rho) * weights, spike.shape)
        return (
            jnp.concatenate([spike, slab], axis=-1),
            jnp.concatenate([weights, rho * density / jnp.sum(density, axis=-1, keepdims=True)], axis=-1),
        )

    def half_range(self) -> Scalar:
        return jnp.asarray(jnp.inf)


class _SpikeAndSlab(NamedTuple):
    """Of P_{lam,gam}: probability of slab and spike, mean and variance of the slab, log Z, KL from P0."""

    slab: Values
    spike: Values
    mean: Values
    variance: Values
    log_partition: Values
    divergence: Values


def bernoulli_gaussian(rho: float, variance: float = 1.0) -> BernoulliGaussian:
    """P0 = (1 - rho) delta_0 + rho N(0, variance). Raises InputError unless 0 < rho <= 1 and variance is positive and finite."""
    require(0 < rho <= 1, f"weight rho of the Gaussian must lie in (0, 1], got {rho}")
    require(0 < variance < np.inf, f"variance must be positive and finite, got {variance}")
    return BernoulliGaussian(float(rho), float(variance))


def gaussian(variance: float = 1.0) -> BernoulliGaussian:
    """P0 = N(0, variance), the Bernoulli-Gaussian law without a spike. Raises InputError unless variance is positive and finite."""
    return bernoulli_gaussian(1.0, variance)


# --- functions of any prior -------------------------------------------------------------------------------------------


def sample(key: Key[Array, ""], prior: Prior, lam: Values, gam: Values) -> Values:
    """Independent draws from P_{lam,gam}, of the broadcast shape of (lam, gam): from P0 where both are zero."""
    shape, dtype = jnp.broadcast_shapes(jnp.shape(lam), jnp.shape(gam)), jnp.result_type(lam, gam)
    uniform = random.uniform(key, shape, dtype, minval=float(jnp.finfo(dtype).eps) / 2)
    return prior.transform(uniform, lam, gam)


def channel(prior: Prior, gamma: Values, nodes: int = NODES) -> Channel:
    """mmse and its companions at signal-to-noise ratio gamma > 0, by quadrature over `nodes` nodes a component.

    float64 is for the information, gamma E[beta^2]/2 - E log Z, which loses what these two are larger than their difference.
    """
    lam, weights = prior.channel_nodes(gamma, nodes)
    moments = prior.moments(lam, gamma[..., None])
    second_moment = prior.moments(jnp.zeros_like(gamma), jnp.zeros_like(gamma)).second_moment
    average = lambda values: jnp.sum(weights * values, axis=-1)
    information = gamma * second_moment / 2 - average(moments.log_partition)
    return Channel(average(moments.variance), average(moments.variance**2), information)


# --- parts ------------------------------------------------------------------------------------------------------------


def _total(terms: Iterable[Values]) -> Values:
    return reduce(operator.add, terms)


def _mean(probabilities: list[Values], values: list[Values]) -> Values:
    return _total(q * value for q, value in zip(probabilities, values, strict=True))


def _ratio(numerator: Values, denominator: Values) -> Values:
    """numerator / denominator; zero where the denominator has underflown."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def _normal_nodes(nodes: int, dtype: jnp.dtype) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Nodes and weights of E f(Z), Z ~ N(0, 1): the trapezoid rule on [-10, 10], whose error falls faster than any power."""
    z = np.linspace(-10, 10, nodes)
    weights = np.exp(-(z**2) / 2)
    return jnp.asarray(z, dtype), jnp.asarray(weights / weights.sum(), dtype)
