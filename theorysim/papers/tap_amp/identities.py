"""What holds at every finite size, or shows at small ones: the scalar channel, first and second derivatives of the TAP free energy,
the Gaussian prior, the evidence and the exact posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Key
from scipy.optimize import brentq

from theorysim.errors import require
from theorysim.kernels import amp, gibbs, priors, tap
from theorysim.kernels.designs import Dense, gaussian
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.inference import PAPER, every, prior_of, size
from theorysim.papers.tap_amp.instance import draw, uninformed
from theorysim.papers.tap_amp.setting import U3, Atoms, LinearModel, SpikeAndSlab, model, three_point
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Bound, Check, Claim, Control, Design, Equivalence, Identity, Limit, Range, Rate, Search
from theorysim.verify.claim import Results

# --- the scalar channel -----------------------------------------------------------------------------------------------


@setting
class RandomChannel:
    """Atoms uniform on [-2, 2], weights proportional to uniform variables on [.1, 1], log gamma uniform on [log .02, log 60].

    difference: of central difference quotients, relative to gamma.
    """

    atoms: int = 4
    difference: float = 1e-4

    def validate(self) -> None:
        require(self.atoms >= 2, f"atoms must be at least 2, got {self.atoms}")
        require(0 < self.difference < 1, f"difference must lie in (0, 1), got {self.difference}")


def random_channel(key: Key[Array, ""], setting: RandomChannel) -> dict[str, Array]:
    """Averages over the channel of a random prior, by the quadrature of the algorithms.

    atoms, increasing, and weights: shape (K,). gamma, mmse. slopes: difference quotients of information and mmse, shape (2,).
    overlap: E[m beta].
    """
    K, h = setting.atoms, setting.difference
    uniform = random.uniform(key, (2 * K + 1,), jnp.float64)
    weights = 0.1 + 0.9 * uniform[K : 2 * K]
    atoms, weights = jnp.sort(4 * uniform[:K] - 2), weights / jnp.sum(weights)
    prior = priors.Discrete(atoms, weights)
    gamma = 0.02 * 3000 ** uniform[-1]
    channel = priors.channel(prior, gamma * (1 + h * jnp.arange(-1.0, 2.0)))
    low, _, high = jnp.stack([channel.information, channel.mmse], axis=1)
    lam, weight = prior.channel_nodes(gamma)
    by_atom = jnp.sum((weight * prior.moments(lam, gamma).mean).reshape(K, -1), axis=1)
    return {
        "atoms": atoms,
        "weights": weights,
        "gamma": gamma,
        "mmse": channel.mmse[1],
        "slopes": (high - low) / (2 * h * gamma),
        "overlap": atoms @ by_atom,
    }


CHANNEL_EXPERIMENT = Experiment(
    f"{PAPER}/channel", random_channel, operations=lambda s: 4 * priors.NODES * s.atoms**2 * 30.0
)


def reading(name: str) -> Callable[[Any, Results], np.ndarray]:
    """An observable that is one of the results."""
    return lambda setting, results: results[name]


def _drawn(inputs: Results) -> list[theory.Discrete]:
    pairs = zip(inputs["atoms"].tolist(), inputs["weights"].tolist(), strict=True)
    return [theory.Discrete(tuple(atoms), tuple(weights)) for atoms, weights in pairs]


def _channel_readings(setting: RandomChannel, results: Results) -> Float[np.ndarray, "S 3"]:
    """i', mmse', E[m beta]."""
    return np.column_stack([results["slopes"], results["overlap"]])


def _channel_prediction(of_information: float, setting: RandomChannel, inputs: Results) -> Float[np.ndarray, "S 3"]:
    """A multiple of mmse, -E V^2, and E[m^2] = E[beta^2] - mmse."""
    rows = []
    for prior, gamma in zip(_drawn(inputs), inputs["gamma"], strict=True):
        found = theory.scalar_channel(prior, gamma)
        rows.append([of_information * found.mmse, -found.mean_square_variance, prior.second_moment - found.mmse])
    return np.array(rows)


def _linear_error(share: float, setting: RandomChannel, inputs: Results) -> Float[np.ndarray, " S"]:
    """min(Var P0, 1/gamma), the errors of a constant and of lam/gamma, times a share."""
    variances = np.array([prior.variance for prior in _drawn(inputs)])
    return share * np.minimum(variances, 1 / inputs["gamma"])


PRIOR_INPUTS = ("atoms", "weights", "gamma")
_CHANNELS = every((RandomChannel(),), quick=880, standard=2000, paper=9000)

CHANNEL = Claim(
    id=f"{PAPER}.channel",
    kind="identity",
    statement="For the scalar channel lam = gamma beta + sqrt(gamma) Z: i' = mmse/2, mmse' = -E V^2, E[m beta] ="
    " E[m^2], and mmse <= min(Var P0, 1/gamma).",
    source="Guo, Shamai, Verdu 2005 (I-MMSE)",
    assumptions="any prior and gamma > 0 (random priors of four atoms on [-2, 2], gamma in [.02, 60])",
    checks=(
        Check(
            name="derivatives",
            experiment=CHANNEL_EXPERIMENT,
            design=_CHANNELS,
            observable=_channel_readings,
            predict=partial(_channel_prediction, 0.5),
            inputs=PRIOR_INPUTS,
            judge=Identity(tolerance=1e-7, scale=1.0),
            control=Control("i' = mmse, without 1/2", predict=partial(_channel_prediction, 1.0)),
        ),
        Check(
            name="mmse below the linear errors",
            experiment=CHANNEL_EXPERIMENT,
            design=_CHANNELS,
            observable=reading("mmse"),
            predict=partial(_linear_error, 1.0),
            inputs=PRIOR_INPUTS,
            judge=Bound(mass=1e-2, kind="identity"),
            control=Control("half of the bound", predict=partial(_linear_error, 0.5)),
            search=Search(draws=True),
        ),
    ),
)


# --- derivatives of the TAP free energy -------------------------------------------------------------------------------


@setting
class Landscape:
    """A linear model, and AMP on it over `steps` iterations with the Onsager coefficient `reaction` times V' gamma/delta."""

    model: LinearModel
    steps: int = 400
    reaction: float = 1.0

    def validate(self) -> None:
        require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")


def landscape(key: Key[Array, ""], setting: Landscape) -> dict[str, Array]:
    """First and second derivatives of F_TAP at a random point, and the stationary point that AMP finds. theta = (lam, -gam/2).

    X, y: the instance. theta: the random point, direction: a random one, shapes (2, p).
    gradient: dF/dlam and dF/dgam, by automatic differentiation, shape (2, p).
    change: derivative of the gradient in (m, s) along `direction`. curvature: L^T Hess F L times `direction`, C = L L^T. (2, p).
    s: second moment in (.05, .15) of a symmetric point, m = 0 and all s_j = s. alike: Hess F there times the direction in which all
        s_j change by one, shape (2, p).
    lam, gamma: what AMP's last estimate was denoised from. last_step: its distance from the one before, per root p.
    """
    p = setting.model.p
    prior, instance = setting.model.prior.kernel(), draw(key, setting.model)
    assert isinstance(prior, priors.Discrete)
    noise = jnp.asarray(setting.model.sigma**2)
    problem = tap.Model(instance.design, instance.response, noise, prior)

    draws = random.normal(random.fold_in(key, 3), (5 * p + 1,))
    uniform = ndtr(draws[4 * p :])
    theta = jnp.stack([4 * draws[:p], -(15 * uniform[:p] - 3) / 2])
    direction, s = draws[2 * p : 4 * p].reshape(2, p), 0.05 + 0.1 * uniform[-1]
    at = lambda theta: tap.Point(theta[0], -2 * theta[1])

    def gradient(theta: Array) -> Array:
        now = tap.evaluate(problem, at(theta))
        return jnp.stack([now.lam_residual, -now.gam_residual / 2])

    by_differentiation = jax.grad(lambda point: tap.free_energy(problem, point))(at(theta))
    _, change = jax.jvp(gradient, (theta,), (direction,))

    # atoms -1, 0, 1 of weights w, w0, w: s is the probability of the outer two
    outer, middle = jnp.asarray(prior.weights)[-1], jnp.asarray(prior.weights)[1]
    gam = 2 * jnp.log((1 - s) / middle) - 2 * jnp.log(s / (2 * outer))
    symmetric = jnp.stack([jnp.zeros(p), jnp.full(p, -gam / 2)])
    all_alike = jnp.stack([jnp.zeros(p), jnp.ones(p)])

    def products(theta: Array, v: Array) -> tuple[Array, Array]:
        hessian = tap.hessian(problem, at(theta))
        return hessian.product(v), hessian.whitened_product(v)

    plain, whitened = jax.vmap(products)(jnp.stack([symmetric, theta]), jnp.stack([all_alike, direction]))

    state, trace = amp.run(
        uninformed(prior, instance.design, instance.response),
        instance.design,
        instance.response,
        prior.moments,
        noise,
        steps=setting.steps,
        onsager=lambda variance, previous, tau: setting.reaction * amp.onsager(variance, previous, tau),
    )
    return {
        "X": instance.design.matrix,
        "y": instance.response,
        "theta": theta,
        "direction": direction,
        "gradient": jnp.stack(by_differentiation),
        "change": change,
        "curvature": whitened[1],
        "s": s,
        "alike": plain[0],
        "lam": state.lam,
        "gamma": state.gamma,
        "last_step": trace.change[-1],
    }


LANDSCAPE = Experiment(
    f"{PAPER}/landscape",
    landscape,
    operations=lambda s: s.model.n * s.model.p * 4.0 * s.steps + 100.0 * s.model.p**3,
)


class Marginal(NamedTuple):
    """Of all tilted laws at theta, from the probabilities of the atoms, shapes (p,), and L with C = L L^T, shape (p, 2, 2)."""

    mean: Float[np.ndarray, " p"]
    variance: Float[np.ndarray, " p"]
    factor: Float[np.ndarray, "p 2 2"]


def _marginal(prior: theory.Discrete, theta: Float[np.ndarray, "2 p"]) -> Marginal:
    """Gram-Schmidt on (beta, beta^2), which does not cancel where a law is close to a single atom."""
    b = np.array(prior.atoms)[:, None]
    weight = np.exp(prior.log_probabilities(theta[0], -2 * theta[1])[1])
    average = lambda values: np.sum(weight * values, axis=0)
    mean = average(b)
    first, second = b - mean, b**2 - average(b**2)
    variance = average(first**2)
    slope = average(first * second) / variance
    left = np.sqrt(average((second - slope * first) ** 2))
    root = np.sqrt(variance)
    factor = np.stack([[root, np.zeros_like(root)], [slope * root, left]])
    return Marginal(mean, variance, np.moveaxis(factor, -1, 0))


def _tap_precision(model: LinearModel, X: np.ndarray, variance: np.ndarray) -> float:
    """g = delta/(sigma^2 + mean V)."""
    return model.delta / (model.sigma**2 + variance.mean())


def _mean_field_precision(model: LinearModel, X: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """g_j = |X_j|^2/sigma^2."""
    return (X**2).sum(0) / model.sigma**2


def _gradients(precision: Callable[..., Any], setting: Landscape, inputs: Results) -> Float[np.ndarray, "S 2 p"]:
    """dF/dlam = C11 G_m + C12 G_s and dF/dgam = -(C12 G_m + C22 G_s)/2 from the gradient (G_m, G_s) in (m, s)."""
    model, rows = setting.model, []
    for X, y, theta in zip(inputs["X"], inputs["y"], inputs["theta"], strict=True):
        at = _marginal(prior_of(model), theta)
        g = precision(model, X, at.variance)
        of_m = theta[0] - g * at.mean - X.T @ (y - X @ at.mean) / model.sigma**2
        of_theta = np.einsum("jab,jcb,cj->aj", at.factor, at.factor, np.stack([of_m, theta[1] + g / 2]))
        rows.append(of_theta * [[1], [-0.5]])
    return np.array(rows)


def _second_derivatives(
    rank_one: bool, setting: Landscape, inputs: Results
) -> tuple[Float[np.ndarray, "S 2 p"], Float[np.ndarray, "S 2 p"]]:
    """Hess F C and L^T Hess F L times `direction`, with Hess F = C^{-1} + A and the dense matrix

    A = [[X^T X/sigma^2 - g I, 0], [0, 0]] - delta/(2 p tau^2) u u^T, u = (2m, -1), tau = sigma^2 + mean V.
    """
    model, along_theta, whitened = setting.model, [], []
    p, noise = model.p, model.sigma**2
    for X, theta, v in zip(inputs["X"], inputs["theta"], inputs["direction"], strict=True):
        at = _marginal(prior_of(model), theta)
        A = np.zeros((2 * p, 2 * p))
        A[:p, :p] = X.T @ X / noise - _tap_precision(model, X, at.variance) * np.eye(p)
        if rank_one:
            u = np.concatenate([2 * at.mean, -np.ones(p)])
            A -= model.delta / (2 * p * (noise + at.variance.mean()) ** 2) * np.outer(u, u)
        times = lambda v, A=A: (A @ v.ravel()).reshape(2, p)
        L = lambda v, f=at.factor: np.einsum("jab,bj->aj", f, v)
        L_transposed = lambda v, f=at.factor: np.einsum("jab,aj->bj", f, v)
        along_theta.append(v + times(L(L_transposed(v))))
        whitened.append(v + L_transposed(times(L(v))))
    return np.array(along_theta), np.array(whitened)


def _hessian_products(rank_one: bool, setting: Landscape, inputs: Results) -> Float[np.ndarray, "S 2 2 p"]:
    return np.stack(_second_derivatives(rank_one, setting, inputs), axis=1)


def _symmetric_direction(
    eigenvalue: Callable[..., np.ndarray], setting: Landscape, inputs: Results
) -> Float[np.ndarray, "S 2 1"]:
    """The eigenvalue in all s_j, nothing in m."""
    values = eigenvalue(inputs["s"], setting.model.delta, setting.model.sigma)
    return np.stack([np.zeros_like(values), values], axis=1)[..., None]


def _stationary(setting: Landscape, inputs: Results) -> Float[np.ndarray, "S unknowns"]:
    """lam and gamma that the stationarity of F_TAP asks for, given the marginals."""
    model, rows = setting.model, []
    for X, y, lam, gamma in zip(inputs["X"], inputs["y"], inputs["lam"], inputs["gamma"], strict=True):
        at = prior_of(model).tilted(lam, gamma)
        g = _tap_precision(model, X, at.variance)
        rows.append([*(g * at.mean + X.T @ (y - X @ at.mean) / model.sigma**2), g])
    return np.array(rows)


def _landscapes(**changes: Any) -> dict[str, Design]:
    """At delta = .65, where a wrong factor of delta shows: a sparse prior, easy, and the uniform one at less noise."""
    models = model(0.65, 0.2, 40, three_point(0.1)), model(0.65, 0.1, 40)
    return every(tuple(Landscape(m, **changes) for m in models), quick=16, standard=128, paper=1000)


GRADIENT = Claim(
    id=f"{PAPER}.gradient",
    kind="identity",
    statement="The gradient of F_TAP in (m, s) is lam - g m - X^T(y - X m)/sigma^2 and (g - gam)/2, g ="
    " delta/(sigma^2 + mean V); fixed points of Bayes AMP are its zeros.",
    source="paper, stationarity of the TAP free energy",
    assumptions="any (lam, gam); AMP runs whose last step is below 1e-12",
    checks=(
        Check(
            name="random points",
            experiment=LANDSCAPE,
            design=_landscapes(),
            observable=reading("gradient"),
            predict=partial(_gradients, _tap_precision),
            inputs=("X", "y", "theta"),
            judge=Identity(tolerance=1e-7, scale="sample"),
            control=Control(
                "the precision of naive mean field's penalty", predict=partial(_gradients, _mean_field_precision)
            ),
        ),
        Check(
            name="fixed points of AMP",
            experiment=LANDSCAPE,
            design=_landscapes(),
            observable=lambda s, results: np.column_stack([results["lam"], results["gamma"]]),
            predict=_stationary,
            inputs=("X", "y", "lam", "gamma"),
            judge=Identity(tolerance=1e-9, scale=1.0),
            control=Control(
                "Onsager coefficient V' gamma, without 1/delta",
                design=_landscapes(reaction=0.65),
                admissible=lambda s, results: np.isfinite(results["lam"]).all(axis=1),
            ),
            admissible=lambda s, results: ~(results["last_step"] >= 1e-12),  # NaN stays in, to be invalid
        ),
    ),
)

HESSIAN = Claim(
    id=f"{PAPER}.hessian",
    kind="identity",
    statement="Hess F_TAP = C^{-1} + diag(X^T X/sigma^2 - g I, 0) - delta/(2 p tau^2) u u^T, u = (2m, -1), C ="
    " Cov(beta, beta^2); at m = 0 and all s_j = s the direction of equal ds_j has eigenvalue 1/(s(1-s)) -"
    " delta/(2(sigma^2+s)^2), negative for small s: F_TAP is not convex.",
    source="derived here",
    assumptions="any (lam, gam); the eigenvalue for priors on -1, 0, 1",
    checks=(
        Check(
            name="random points",
            experiment=LANDSCAPE,
            design=_landscapes(),
            observable=lambda s, results: np.stack([results["change"], results["curvature"]], axis=1),
            predict=partial(_hessian_products, True),
            inputs=("X", "theta", "direction"),
            judge=Identity(tolerance=1e-7, scale="sample"),
            control=Control("no rank-one term", predict=partial(_hessian_products, False)),
        ),
        Check(
            name="symmetric point",
            experiment=LANDSCAPE,
            design=_landscapes(),
            observable=reading("alike"),
            predict=partial(_symmetric_direction, theory.symmetric_point_eigenvalue),
            inputs=("s",),
            judge=Identity(tolerance=1e-9, scale=1.0),
            control=Control(
                "no rank-one term: a positive eigenvalue",
                predict=partial(_symmetric_direction, lambda s, delta, sigma: 1 / (s * (1 - s))),
            ),
        ),
    ),
)


# --- Gaussian prior ---------------------------------------------------------------------------------------------------


@setting
class Ridge:
    """A linear model with a Gaussian prior, N(0, v)."""

    model: LinearModel
    steps: int = 400

    def validate(self) -> None:
        prior = self.model.prior
        require(isinstance(prior, SpikeAndSlab) and prior.rho == 1, f"prior must have rho = 1, got {prior}")
        require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")


def ridge(key: Key[Array, ""], setting: Ridge) -> dict[str, Array]:
    """TAP from AMP, naive mean field from its fixed-point equations at the same mean, and the exact posterior covariance.

    X, y: the instance. mean: of TAP, shape (p,). variance, energy: V and F of TAP. mean_field_energy: F of naive mean field.
    trace: of the posterior covariance, over p.
    """
    model = setting.model
    assert isinstance(model.prior, SpikeAndSlab)
    prior, (design, _, y) = model.prior.kernel(), draw(key, model)
    noise = jnp.asarray(model.sigma**2)
    # Undamped, AMP diverges for one instance in thirty at n = 50, p = 100.
    start = uninformed(prior, design, y)
    state, _ = amp.run(start, design, y, prior.moments, noise, steps=setting.steps, damping=0.3)
    marginals = tap.Point(state.lam, jnp.broadcast_to(state.gamma, state.lam.shape))
    penalty = tap.mean_field(design)
    precision = penalty.squared_norms / noise
    separate = tap.Point((precision + 1 / model.prior.v) * state.mean, precision)
    gram = jnp.matmul(design.matrix.T, design.matrix, precision=jax.lax.Precision.HIGHEST)
    trace = one_by_one(lambda precision: jnp.trace(jnp.linalg.inv(precision)))
    return {
        "X": design.matrix,
        "y": y,
        "mean": state.mean,
        "variance": state.variance,
        "energy": tap.free_energy(tap.Model(design, y, noise, prior), marginals),
        "mean_field_energy": tap.free_energy(tap.Model(design, y, noise, prior, penalty), separate),
        "trace": trace(gram / noise + jnp.eye(model.p) / model.prior.v) / model.p,
    }


RIDGE = Experiment(
    f"{PAPER}/ridge", ridge, operations=lambda s: s.model.n * s.model.p * (4.0 * s.steps + 40) + 3.0 * s.model.p**3
)


def _slab(setting: Ridge) -> SpikeAndSlab:
    assert isinstance(setting.model.prior, SpikeAndSlab)
    return setting.model.prior


def _posteriors(setting: Ridge, inputs: Results, noise: float = 1.0) -> list[theory.RidgePosterior]:
    """Of each sample, at `noise` times the noise variance."""
    v, sigma = _slab(setting).v, setting.model.sigma * noise**0.5
    return [theory.ridge_posterior(X, y, v, sigma) for X, y in zip(inputs["X"], inputs["y"], strict=True)]


def _ridge_means(noise: float, setting: Ridge, inputs: Results) -> Float[np.ndarray, "S p"]:
    return np.stack([posterior.mean for posterior in _posteriors(setting, inputs, noise)])


def _gaussian(formula: Callable[..., Any]) -> Callable[[Ridge, Results], float]:
    return lambda s, inputs: float(formula(_slab(s).v, s.model.delta, s.model.sigma))


def _ridge_surprise(setting: Ridge, inputs: Results) -> Float[np.ndarray, " S"]:
    return np.array([-posterior.log_evidence for posterior in _posteriors(setting, inputs)])


_RIDGES = {
    preset: Design((Ridge(model(0.5, 0.3, p, SpikeAndSlab(1.0))),), seeds)
    for preset, p, seeds in (("quick", 60, 128), ("standard", 200, 192), ("paper", 800, 1000))
}

GAUSSIAN = Claim(
    id=f"{PAPER}.gaussian",
    kind="identity",
    statement="For P0 = N(0, v) the TAP mean is that of ridge regression at every n and p; V solves V^2/v +"
    " V(sigma^2/v + delta - 1) = sigma^2 and is the limit of the posterior covariance's trace over p, which naive"
    " mean field's 1/(1/v + delta/sigma^2) is not.",
    source="derived here",
    assumptions="v, sigma > 0",
    checks=(
        Check(
            name="mean",
            experiment=RIDGE,
            design=_RIDGES,
            observable=reading("mean"),
            predict=partial(_ridge_means, 1.0),
            inputs=("X", "y"),
            judge=Identity(tolerance=1e-10, scale=1.0),
            control=Control("noise variance 1 % larger", predict=partial(_ridge_means, 1.01)),
        ),
        Check(
            name="variance",
            experiment=RIDGE,
            design=_RIDGES,
            observable=reading("variance"),
            predict=_gaussian(theory.gaussian_tap_variance),
            judge=Identity(tolerance=1e-10),
            control=Control("that of naive mean field", predict=_gaussian(theory.gaussian_mean_field_variance)),
        ),
        Check(
            name="posterior covariance",
            experiment=RIDGE,
            design=_RIDGES,
            observable=reading("trace"),
            predict=_gaussian(theory.gaussian_tap_variance),
            judge=Equivalence(tolerance=0.05),
            control=Control("the variance of naive mean field", predict=_gaussian(theory.gaussian_mean_field_variance)),
        ),
    ),
)


# --- evidence and exact posterior -------------------------------------------------------------------------------------


@setting
class Small:
    """X of n = p = `size` inside a room of that many rows and columns, the rest zero: models of several sizes share a program."""

    size: float
    room: int
    sigma: float
    prior: Atoms

    def validate(self) -> None:
        fits = 1 <= self.size <= self.room and self.size == int(self.size)
        require(fits, f"size must be an integer from 1 to room = {self.room}, got {self.size}")
        require(0 < self.sigma < np.inf, f"noise sigma must be positive and finite, got {self.sigma}")


class _Sized(NamedTuple):
    """The penalty of TAP, or of naive mean field, for a model of which only some coordinates, as many as observations, exist.

    exists: shape (p,). squared_norms: of columns, shape (p,). onsager: whether it is TAP's.
    """

    exists: Bool[Array, " p"]
    squared_norms: Float[Array, " p"]
    onsager: Bool[Array, "*both"]

    def energy(self, variance: Array, noise: Array, n: int) -> Array:
        size = jnp.sum(self.exists)
        reaction = size / 2 * jnp.log1p(jnp.sum(self.exists * variance) / (size * noise))
        return jnp.where(self.onsager, reaction, jnp.sum(self.squared_norms * variance) / (2 * noise))

    def precision(self, variance: Array, noise: Array, n: int) -> Array:
        of_tap = self.exists / (noise + jnp.sum(self.exists * variance) / jnp.sum(self.exists))
        return jnp.where(self.onsager, of_tap, self.squared_norms / noise)

    def curvature(self, variance: Array, noise: Array, n: int) -> Array:
        raise NotImplementedError("a model of which only some coordinates exist has no Hessian here")


class _Instance(NamedTuple):
    """exists: which rows and columns do, shape (room,). X: (room, room). y: (room,). noise: sigma^2."""

    prior: priors.Discrete
    exists: Bool[Array, " room"]
    X: Float[Array, "room room"]
    y: Float[Array, " room"]
    noise: Float[Array, ""]

    def both(self) -> tap.Model:
        """TAP and naive mean field, along the leading axis of the penalty's flag."""
        penalty = _Sized(self.exists, jnp.sum(self.X**2, axis=0), jnp.arange(2) == 0)
        return tap.Model(Dense(self.X), self.y, self.noise, self.prior, penalty)

    def of_existing(self, energies: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """Free energies less the constant of rows that do not exist."""
        return energies - jnp.sum(~self.exists) / 2 * jnp.log(2 * np.pi * self.noise)


BOTH: Any = tap.Model(None, None, None, None, _Sized(None, None, 0))  # type: ignore[arg-type]
"""Axes of a model made by `_Instance.both`."""


def _instance(key: Key[Array, ""], setting: Small) -> _Instance:
    p, room = setting.size, setting.room
    prior, exists = setting.prior.kernel(), jnp.arange(room) < setting.size
    normals = gaussian(key, (room + 2, room), jnp.dtype(float))
    X = jnp.where(exists & exists[:, None], normals[:room] / jnp.sqrt(p), 0)
    zero = jnp.zeros(room)
    beta = prior.transform(ndtr(normals[room]), zero, zero)
    y = X @ beta + setting.sigma * jnp.where(exists, normals[room + 1], 0)
    return _Instance(prior, exists, X, y, jnp.asarray(setting.sigma**2))


@one_by_one
def _minima(instance: _Instance) -> tuple[Float[Array, " 2"], Float[Array, "2 room"]]:
    """Least free energies and means there, of TAP and of naive mean field."""
    origin = tap.Point(jnp.zeros_like(instance.y), jnp.zeros_like(instance.y))
    descent = partial(tap.minimise, point=origin, step=0.3, tolerance=1e-4, most_steps=2000, backtrack=True)
    found = jax.vmap(descent, in_axes=(BOTH,))(instance.both()).evaluation
    return found.energy, found.moments.mean


def energies(key: Key[Array, ""], setting: Small) -> dict[str, Array]:
    """F of TAP and of naive mean field at a random point and at their minima.

    X, y: the instance, with zeros beyond its size. lam, gam: the random point, shapes (room,). at_random, at_minimum: shape (2,).
    """
    instance = _instance(key, setting)
    draws = random.normal(random.fold_in(key, 1), (2, setting.room))
    lam = jnp.where(instance.exists, 4 * draws[0], 0)
    gam = jnp.where(instance.exists, 15 * ndtr(draws[1]) - 3, 0)
    at_random = jax.vmap(tap.free_energy, in_axes=(BOTH, None))(instance.both(), tap.Point(lam, gam))
    return {
        "X": instance.X,
        "y": instance.y,
        "lam": lam,
        "gam": gam,
        "at_random": instance.of_existing(at_random),
        "at_minimum": instance.of_existing(_minima(instance)[0]),
    }


@setting
class Sampled:
    """An instance, and Gibbs sampling of its posterior by `chains` chains of `sweeps` sweeps, the first `burn_in` left out."""

    instance: Small
    chains: int = 64
    sweeps: int = 160
    burn_in: int = 40

    def validate(self) -> None:
        require(self.chains >= 2, f"chains must be at least 2, got {self.chains}")
        require(0 <= self.burn_in < self.sweeps, f"burn_in must lie in 0 ... {self.sweeps - 1}, got {self.burn_in}")


def posterior_errors(key: Key[Array, ""], setting: Sampled) -> dict[str, Array]:
    """error: |m - m_posterior|^2/p of TAP and of naive mean field, less the variance of the sampled m_posterior, shape (2,).

    energy: least F_TAP, over p.
    """
    instance = _instance(key, setting.instance)
    energy, means = _minima(instance)
    posterior = gibbs.run(
        random.fold_in(key, 1),
        instance.X.astype(jnp.float32),
        instance.y.astype(jnp.float32),
        instance.noise,
        instance.prior,
        chains=setting.chains,
        sweeps=setting.sweeps,
        burn_in=setting.burn_in,
    )
    squares = (means - posterior.mean) ** 2 - posterior.mean_variance
    p = setting.instance.size
    return {
        "error": jnp.sum(jnp.where(instance.exists, squares, 0), axis=1) / p,
        "energy": instance.of_existing(energy)[0] / p,
    }


ENERGIES = Experiment(f"{PAPER}/energies", energies, operations=lambda s: 2000.0 * s.room**2)
POSTERIOR = Experiment(
    f"{PAPER}/posterior",
    posterior_errors,
    operations=lambda s: s.chains * s.sweeps * s.instance.room * (4.0 * s.instance.room + 300),
)


def _three_points(setting: Small) -> theory.Discrete:
    return theory.Discrete(tuple(setting.prior.values.tolist()), tuple(setting.prior.weights.tolist()))


def _surprise(shift: float, setting: Small, inputs: Results) -> Float[np.ndarray, " S"]:
    """-log p(y|X) of each sample by enumeration, plus a constant."""
    X, y = (np.ascontiguousarray(inputs[name]).tobytes() for name in ("X", "y"))
    return _enumerated(setting, X, y) + shift


STATES = 2**22
"""Vectors beta, of all samples, that are enumerated together: 32 MiB for each of a few arrays."""


@lru_cache(maxsize=16)
def _enumerated(setting: Small, X: bytes, y: bytes) -> Float[np.ndarray, " S"]:
    """Kept: several checks and controls ask for the same samples."""
    prior, room, p = _three_points(setting), setting.room, int(setting.size)
    designs, responses = np.frombuffer(X).reshape(-1, room, room), np.frombuffer(y).reshape(-1, room)
    blocks = math.ceil(len(designs) * len(prior.atoms) ** p / STATES)
    pairs = zip(np.array_split(designs[:, :p, :p], blocks), np.array_split(responses[:, :p], blocks), strict=True)
    return np.concatenate([-theory.exact_posterior(prior, X, y, setting.sigma).log_evidence for X, y in pairs])


def _averaged_bound(share: float, setting: Small, inputs: Results) -> Float[np.ndarray, " S"]:
    """F at the random point with a share of the penalty n mean(V)/(2 sigma^2), that of columns of squared norm n/p."""
    noise, p = setting.sigma**2, int(setting.size)
    X, y, lam, gam = (inputs[name][:, :p] for name in ("X", "y", "lam", "gam"))
    at = _three_points(setting).tilted(lam, gam)
    divergence = lam * at.mean - gam * at.second_moment / 2 - at.log_partition
    residual = y - np.einsum("sij,sj->si", X[..., :p], at.mean)
    terms = divergence + (residual**2 + share * at.variance) / (2 * noise)
    return p / 2 * np.log(2 * np.pi * noise) + terms.sum(1)


def _smalls(room: int, *sizes: int) -> tuple[Small, ...]:
    return tuple(Small(float(p), room, 0.5, U3) for p in sizes)


_ENUMERATED = {
    "quick": Design(_smalls(6, 4, 6), 4300),
    "standard": Design(_smalls(8, 4, 6, 8), 2900),
    "paper": Design(_smalls(8, 4, 6, 8), 8600),
}

ELBO_BOUND = Claim(
    id=f"{PAPER}.elbo-bound",
    kind="bound",
    statement="The naive mean-field free energy is never below -log p(y|X); F_TAP, which is no bound, is never above"
    " its version with all |X_j|^2 = n/p.",
    source="Gibbs variational principle; log(1 + x) <= x",
    assumptions="any X, discrete prior, any (lam, gam) (X Gaussian, n = p <= 8, U3, sigma = .5)",
    checks=(
        Check(
            name="evidence",
            experiment=ENERGIES,
            design=_ENUMERATED,
            observable=lambda s, results: results["at_random"][:, 1],
            predict=partial(_surprise, 0.0),
            inputs=("X", "y"),
            judge=Bound(sense=">="),
            control=Control("F_TAP, at its minimum", observable=lambda s, results: results["at_minimum"][:, 0]),
            search=Search(draws=True, ranges={"sigma": Range(0.1, 3, log=True)}),
        ),
        Check(
            name="TAP below averaged mean field",
            experiment=ENERGIES,
            design=_ENUMERATED,
            observable=lambda s, results: results["at_random"][:, 0],
            predict=partial(_averaged_bound, 1.0),
            inputs=("X", "y", "lam", "gam"),
            judge=Bound(),
            control=Control("half of the penalty", predict=partial(_averaged_bound, 0.5)),
            search=Search(draws=True, ranges={"sigma": Range(0.1, 3, log=True)}),
        ),
    ),
)

_LARGER = {
    "quick": _ENUMERATED["quick"],
    "standard": Design(_smalls(10, 6, 8, 10), 256),
    "paper": Design(_smalls(10, 6, 8, 10), 1000),
}


def _sampled(*sizes: int, room: int | None = None, **gibbs: int) -> tuple[Sampled, ...]:
    return tuple(Sampled(Small(float(p), room or p, 0.5, U3), **gibbs) for p in sizes)


_SIZES = {
    "quick": Design(_sampled(4, 8, 16, 64, room=64, chains=16, sweeps=100, burn_in=30), 192),
    "standard": Design(_sampled(50, 100, 200, 400), 64),
    "paper": Design(_sampled(50, 100, 200, 400, 800), 256),
}


def _sampled_size(setting: Sampled) -> float:
    return setting.instance.size


def _evidence_rate(setting: Sampled, inputs: Results) -> float:
    return float(theory.evidence_rate(_three_points(setting.instance), 1.0, setting.instance.sigma))


ENERGY = Claim(
    id=f"{PAPER}.energy",
    kind="limit",
    statement="At the TAP minimiser F_TAP is -log p(y|X) up to a number that stays bounded as p grows: its mean is"
    " in [-.1, .45] for U3 and in [-.6, .6] for a Gaussian prior. So F_TAP/p tends to min phi + (delta/2) log(2 pi e"
    " sigma^2).",
    source="paper, theorem on the evidence; that the difference is bounded was observed here",
    assumptions="easy phase (U3, delta = 1, sigma = .5; N(0, 1), delta = .5, sigma = .3)",
    checks=(
        Check(
            name="enumerated evidence",
            experiment=ENERGIES,
            design=_LARGER,
            observable=lambda s, results: results["at_minimum"][:, 0],
            predict=partial(_surprise, 0.175),
            inputs=("X", "y"),
            judge=Equivalence(tolerance=0.275, absolute=True, kind="limit"),
            control=Control("naive mean field", observable=lambda s, results: results["at_minimum"][:, 1]),
            size=lambda s: s.size,
        ),
        Check(
            name="Gaussian prior",
            experiment=RIDGE,
            design=_RIDGES,
            observable=reading("energy"),
            predict=_ridge_surprise,
            inputs=("X", "y"),
            judge=Equivalence(tolerance=0.6, absolute=True, kind="limit"),
            control=Control("naive mean field", observable=reading("mean_field_energy")),
            size=size,
        ),
        Check(
            name="limit",
            experiment=POSTERIOR,
            design=_SIZES,
            observable=reading("energy"),
            predict=_evidence_rate,
            judge=Limit(tolerance=0.05),
            control=Control(
                "without the entropy of the noise, (delta/2) log(2 pi e sigma^2)",
                predict=lambda s, inputs: (
                    _evidence_rate(s, inputs) - float(theory.noise_entropy(1.0, s.instance.sigma))
                ),
            ),
            size=_sampled_size,
        ),
    ),
)

POSTERIOR_RATE = Claim(
    id=f"{PAPER}.posterior-rate",
    kind="rate",
    statement="|m_TAP - m_posterior|^2/p tends to 0, like 1/p; for naive mean field it does not.",
    source="paper, Theorem 3.2 (consistency); the rate 1/p was observed here",
    assumptions="easy phase (U3, delta = 1, sigma = .5)",
    checks=(
        Check(
            name="posterior means",
            experiment=POSTERIOR,
            design=_SIZES,
            observable=lambda s, results: results["error"][:, 0],
            predict=lambda s, inputs: -1.0,
            judge=Rate(tolerance=0.3),
            control=Control("naive mean field", observable=lambda s, results: results["error"][:, 1]),
            size=_sampled_size,
        ),
    ),
)


# --- a Bernoulli-Gaussian prior without noise -------------------------------------------------------------------------


@setting
class Transition:
    """Phase lines at noise sigma >= 0 from `points` values of log gamma; below sigma = 1e-7 as far as gamma = 1e8 only."""

    prior: SpikeAndSlab
    sigma: float = 0.0
    points: int = 2400

    def validate(self) -> None:
        require(0 <= self.sigma < 1, f"noise sigma must lie in [0, 1), got {self.sigma}")
        require(self.points >= 100, f"points must be at least 100, got {self.points}")


def transition(key: Key[Array, ""], setting: Transition) -> dict[str, Array]:
    """algorithmic: the local maximum delta_alg of D(gamma) = gamma (sigma^2 + mmse(gamma)), by a parabola through three points.

    information: delta_IT, where the integral of D - delta over log gamma between its outer zeros vanishes, because
        phi' = (D - delta)/(2 gamma).
    """
    noise = jnp.asarray(setting.sigma**2)
    last = jnp.where(setting.sigma > 1e-7, 1e3 / jnp.maximum(noise, 1e-14), 1e8)
    x = jnp.log(0.1) + (jnp.log(last) - jnp.log(0.1)) * jnp.linspace(0, 1, setting.points)
    gamma, index = jnp.exp(x), jnp.arange(setting.points)
    mmse = jax.lax.map(lambda g: priors.channel(setting.prior.kernel(), g).mmse, gamma, batch_size=100)
    D = gamma * (noise + mmse)

    peak = jnp.argmax(D[1:] < D[:-1])
    before, top, after = D[peak - 1], D[peak], D[peak + 1]
    algorithmic = top + (after - before) ** 2 / (8 * (2 * top - before - after))
    beyond = jnp.where(index > peak, D, jnp.inf)
    valley = jnp.argmin(beyond)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        delta = (low + high) / 2
        outside = (index < peak) & (delta > D) | (index > valley) & (delta < D)
        below = jnp.sum(jnp.where(outside, 0, D - delta)) > 0
        return jnp.where(below, delta, low), jnp.where(below, high, delta)

    low, high = jax.lax.fori_loop(0, 50, halve, (beyond[valley], top))
    return {"algorithmic": algorithmic, "information": (low + high) / 2}


TRANSITION = Experiment(f"{PAPER}/transition", transition, operations=lambda s: s.points * priors.NODES * 2 * 60.0)


def _prediction(name: str) -> Callable[[Transition, Results], float]:
    """A phase line of the setting."""

    def predict(setting: Transition, inputs: Results) -> float:
        prior = theory.BernoulliGaussian(setting.prior.rho, setting.prior.v)
        lines = theory.phase_lines(prior, setting.sigma) if setting.sigma > 0 else theory.noiseless_lines(prior)
        return float(getattr(lines, name))

    return predict


def _lasso_threshold(setting: Transition, inputs: Results) -> float:
    """delta at which l1 minimisation begins to recover a signal of density rho: rho_DT(delta) delta = rho."""
    rho = setting.prior.rho
    return float(brentq(lambda delta: theory.donoho_tanner(delta).rho * delta - rho, rho, 1 - 1e-9))  # pyright: ignore[reportArgumentType]


def _approach(share: float, setting: Transition, results: Results) -> np.ndarray:
    """(delta_IT - share rho) log(1/sigma^2), from the middle of [.95, 1.25]."""
    return np.abs((results["information"] - share * setting.prior.rho) * np.log(1 / setting.sigma**2) - 1.1)


_NOISELESS = every(tuple(Transition(SpikeAndSlab(rho)) for rho in (0.1, 0.2, 0.4)), quick=1, standard=1, paper=1)
_NEARLY = every(
    tuple(Transition(SpikeAndSlab(0.2), sigma) for sigma in (1e-2, 1e-3, 1e-4, 1e-6)), quick=1, standard=1, paper=1
)

BG_NOISELESS = Claim(
    id=f"{PAPER}.bg-noiseless",
    kind="threshold",
    statement="For (1 - rho) delta_0 + rho N(0, v) and sigma -> 0, delta_alg is the local maximum of gamma"
    " mmse(gamma), and delta_IT - rho falls like 1/log(1/sigma^2).",
    source="derived here from the replica-symmetric potential",
    assumptions="rho in (0, 1)",
    checks=(
        Check(
            name="delta_alg",
            experiment=TRANSITION,
            design=_NOISELESS,
            observable=reading("algorithmic"),
            predict=_prediction("algorithmic"),
            judge=Identity(tolerance=1e-5, at_least=3, kind="threshold"),
            control=Control("the threshold of l1 minimisation (Donoho-Tanner)", predict=_lasso_threshold),
        ),
        Check(
            name="delta_IT",
            experiment=TRANSITION,
            design=_NEARLY,
            observable=reading("information"),
            predict=_prediction("information"),
            judge=Identity(tolerance=1e-5, at_least=4, kind="threshold"),
            control=Control("delta_alg", predict=_prediction("algorithmic")),
        ),
        Check(
            name="approach to rho",
            experiment=TRANSITION,
            design=_NEARLY,
            observable=partial(_approach, 1.0),
            predict=lambda s, inputs: 0.15,
            judge=Bound(exhaustive=True, kind="threshold"),
            control=Control("delta_IT tends to rho/2", observable=partial(_approach, 0.5)),
        ),
    ),
)

CLAIMS = (CHANNEL, GRADIENT, HESSIAN, GAUSSIAN, ELBO_BOUND, ENERGY, POSTERIOR_RATE, BG_NOISELESS)
"""Mean-field variational inference with the TAP free energy (Celentano, Fan, Lin, Mei, 2023, arXiv 2311.08442)."""
