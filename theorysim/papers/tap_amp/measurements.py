"""Measurements that figures ask for and no claim: whole trajectories, spectra and marginals in place of their summaries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Key

from theorysim.errors import require
from theorysim.kernels import amp, gibbs, tap
from theorysim.kernels.designs import Dense
from theorysim.kernels.priors import Prior
from theorysim.papers.tap_amp.inference import PAPER, SINGLE
from theorysim.papers.tap_amp.instance import draw, uninformed
from theorysim.papers.tap_amp.landscape import whitened_spectrum
from theorysim.papers.tap_amp.setting import LinearModel
from theorysim.sweep import Experiment, one_by_one, setting

CYCLING = 0.01
"""Change |m' - m|/sqrt(p) of message passing, after all its steps, above which it counts as cycling."""


# --- marginals against the exact posterior ----------------------------------------------------------------------------


@setting
class Posterior:
    """TAP and naive mean field beside Gibbs sampling, `chains` chains of `sweeps` sweeps, the first `burn_in` left out."""

    model: LinearModel
    chains: int = 64
    sweeps: int = 160
    burn_in: int = 40

    def validate(self) -> None:
        require(self.chains >= 2, f"chains must be at least 2, got {self.chains}")
        require(0 <= self.burn_in < self.sweeps, f"burn_in must lie in 0 ... {self.sweeps - 1}, got {self.burn_in}")


def posterior(key: Key[Array, ""], setting: Posterior) -> dict[str, Array]:
    """Marginal means of one instance.

    sampled, tap, mean_field: means, shape (p,). error: |m - m_posterior|^2/p of TAP and of naive mean field less the
    variance of the sampled m_posterior, shape (2,). converged: whether AMP has.
    """
    model = setting.model
    prior, instance = model.prior.kernel(), draw(key, model, SINGLE)
    of_chains = random.key_data(random.fold_in(key, 5))

    def infer(prior: Prior, X: Array, y: Array, noise: Array, of_chains: Array) -> dict[str, Array]:
        design = Dense(X)
        found = amp.solve(uninformed(prior, design, y), design, y, prior.moments, noise, tolerance=1e-5, most_steps=300)
        problem = tap.Model(design, y, noise, prior, tap.mean_field(design))
        origin = tap.Point(jnp.zeros(model.p, SINGLE), jnp.zeros(model.p, SINGLE))
        ascent = tap.coordinate_ascent(problem, origin, tolerance=1e-4, most_sweeps=200)
        exact = gibbs.run(
            random.wrap_key_data(of_chains),
            X,
            y,
            noise,
            prior,
            chains=setting.chains,
            sweeps=setting.sweeps,
            burn_in=setting.burn_in,
        )
        means = jnp.stack([found.state.mean, prior.moments(ascent.point.lam, ascent.point.gam).mean])
        return {
            "sampled": exact.mean,
            "tap": means[0],
            "mean_field": means[1],
            "error": jnp.mean((means - exact.mean) ** 2 - exact.mean_variance, axis=1),
            "converged": found.status == amp.Status.CONVERGED,
        }

    noise = jnp.asarray(model.sigma**2, SINGLE)
    return one_by_one(infer)(prior, instance.design.matrix, instance.response, noise, of_chains)


# --- optimisation -----------------------------------------------------------------------------------------------------


@setting
class Trajectories:
    """AMP over `steps` iterations, and natural gradient descent over as many from its iterate `start`.

    factors: steps of the descent in units of 1/mu_max; a step of 1/L comes before them.
    """

    model: LinearModel
    factors: Float[np.ndarray, " factors"]
    steps: int = 500
    start: int = 3

    def validate(self) -> None:
        require(1 <= self.start < self.steps, f"start must lie in 1 ... {self.steps - 1}, got {self.start}")
        require(bool((self.factors > 0).all()), f"factors must be positive, got {self.factors.tolist()}")


def trajectories(key: Key[Array, ""], setting: Trajectories) -> dict[str, Array]:
    """Norms of the gradient (lam and gam residuals) over iterations.

    amp: shape (steps,). descent: shape (factors + 1, steps). eta: step sizes, shape (factors + 1,). gram: X^T X. lam, gam:
    the minimiser that the descents share, to which AMP's limit is compared as `distance` in m, per root p.
    """
    model = setting.model
    prior, instance = model.prior.kernel(), draw(key, model)

    def follow(prior: Prior, X: Array, y: Array, noise: Array, factors: Array) -> dict[str, Array]:
        design = Dense(X)
        problem = tap.Model(design, y, noise, prior)
        norm, first = _gradient_norm(problem), uninformed(prior, design, y)
        advance = lambda state, steps, observe: amp.run(
            state, design, y, prior.moments, noise, steps=steps, observe=observe
        )
        early, _ = advance(first, setting.start, lambda before, after: None)
        last, norms = advance(first, setting.steps, lambda before, after: norm(after))
        start = _point(early)
        limit = tap.minimise(problem, start, step=0.1, tolerance=1e-10, most_steps=50_000, backtrack=True)
        gram = X.T @ X
        smoothness = 1 + prior.half_range() ** 2 * jnp.linalg.eigvalsh(gram)[-1] / noise
        eta = jnp.append(1 / smoothness, factors / whitened_spectrum(problem, limit.point)[-1])
        descend = lambda eta: tap.run(problem, start, eta, steps=setting.steps)[1][1]
        return {
            "amp": norms,
            "descent": lax.map(descend, eta),
            "eta": eta,
            "gram": gram,
            "lam": limit.point.lam,
            "gam": limit.point.gam,
            "distance": jnp.sqrt(jnp.mean((last.mean - limit.evaluation.moments.mean) ** 2)),
        }

    noise, factors = jnp.asarray(model.sigma**2), jnp.asarray(setting.factors)
    return one_by_one(follow)(prior, instance.design.matrix, instance.response, noise, factors)


@setting
class Rescue:
    """AMP over `steps` iterations; where it cycles, natural gradient descent over `stretches` of `length` iterations each.

    The descents start at AMP's iterate of the smallest change among the first 30.
    """

    model: LinearModel
    steps: int = 400
    stretches: int = 150
    length: int = 100


def rescue(key: Key[Array, ""], setting: Rescue) -> dict[str, Array]:
    """Norms of the gradient where AMP cycles; NaN for descents where it does not.

    amp: shape (steps,). change: |m' - m|/sqrt(p) at AMP's last step. backtracking, fixed: after each stretch, of steps with
    backtracking from 1/L and of steps 1/L, shape (stretches + 1,), the first at the start. rise: largest increase of F of the first
    from stretch to stretch, over |F|. eta: the fixed step. gram: X^T X. lam, gam: where backtracking ends.
    """
    model = setting.model
    prior, instance = model.prior.kernel(), draw(key, model)

    def follow(prior: Prior, X: Array, y: Array, noise: Array) -> dict[str, Array]:
        design = Dense(X)
        problem = tap.Model(design, y, noise, prior)
        norm, first = _gradient_norm(problem), uninformed(prior, design, y)
        _, (norms, changes) = amp.run(
            first,
            design,
            y,
            prior.moments,
            noise,
            steps=setting.steps,
            observe=lambda before, after: (norm(after), amp.summary(before, after).change),
        )
        best = amp.solve(first, design, y, prior.moments, noise, tolerance=1e-9, most_steps=30).best
        gram = X.T @ X
        eta = noise / (noise + prior.half_range() ** 2 * jnp.linalg.eigvalsh(gram)[-1])
        start = _point(best)

        def descend(backtrack: bool) -> tuple[tap.Point, Array, Array]:
            def stretch(carry: tuple[tap.Point, Array], _: None) -> tuple[tuple[tap.Point, Array], tuple[Array, Array]]:
                point, step = carry
                run = tap.minimise(
                    problem, point, step=step, tolerance=0.0, most_steps=setting.length, backtrack=backtrack
                )
                return (run.point, run.step), (run.evaluation.gradient_norm, run.evaluation.energy)

            (point, _), (norms, energies) = lax.scan(stretch, (start, eta), length=setting.stretches)
            at_start = tap.evaluate(problem, start)
            energies = jnp.append(at_start.energy, energies)
            rise = jnp.max(jnp.diff(energies) / jnp.abs(energies[1:]))
            return point, jnp.append(at_start.gradient_norm, norms), rise

        def both() -> dict[str, Array]:
            point, backtracking, rise = descend(backtrack=True)
            _, fixed, _ = descend(backtrack=False)
            return {"backtracking": backtracking, "fixed": fixed, "rise": rise, "lam": point.lam, "gam": point.gam}

        def neither() -> dict[str, Array]:
            return jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), jax.eval_shape(both))

        found = lax.cond(changes[-1] > CYCLING, both, neither)
        return {"amp": norms, "change": changes[-1], "eta": eta, "gram": gram, **found}

    return one_by_one(follow)(prior, instance.design.matrix, instance.response, jnp.asarray(model.sigma**2))


def _point(state: amp.State) -> tap.Point:
    return tap.Point(state.lam, jnp.broadcast_to(state.gamma, state.lam.shape))


def _gradient_norm(problem: tap.Model):
    """Of the marginals that an iterate was denoised to."""
    return lambda state: tap.evaluate(problem, _point(state)).gradient_norm


# --- curvature --------------------------------------------------------------------------------------------------------


@setting
class AtLimit:
    """Where AMP stops."""

    model: LinearModel


def spectrum(key: Key[Array, ""], setting: AtLimit) -> dict[str, Array]:
    """eigenvalues: of C^{1/2} Hess F C^{1/2} at AMP's limit, shape (2p,), increasing. variance, converged: of that limit."""
    model = setting.model
    prior, instance = model.prior.kernel(), draw(key, model)

    def find(prior: Prior, X: Array, y: Array, noise: Array) -> dict[str, Array]:
        design = Dense(X)
        start = uninformed(prior, design, y)
        found = amp.solve(start, design, y, prior.moments, noise, tolerance=1e-8, most_steps=500)
        return {
            "eigenvalues": whitened_spectrum(tap.Model(design, y, noise, prior), _point(found.state)),
            "variance": found.state.variance,
            "converged": found.status == amp.Status.CONVERGED,
        }

    noise = jnp.asarray(model.sigma**2)
    return one_by_one(find)(prior, instance.design.matrix, instance.response, noise)


# --- experiments ------------------------------------------------------------------------------------------------------


def _entries(model: LinearModel) -> float:
    return float(model.n * model.p)


POSTERIOR_MEANS = Experiment(
    f"{PAPER}/posterior-means",
    posterior,
    operations=lambda s: s.chains * s.sweeps * s.model.p * (4.0 * s.model.p + 300),
)
TRAJECTORIES = Experiment(
    f"{PAPER}/trajectories",
    trajectories,
    operations=lambda s: (4.0 * s.steps * (np.size(s.factors) + 2) + 8000) * _entries(s.model) + 100.0 * s.model.p**3,
)
RESCUE = Experiment(
    f"{PAPER}/rescue", rescue, operations=lambda s: 8.0 * s.stretches * s.length * _entries(s.model) / 10
)
SPECTRUM = Experiment(
    f"{PAPER}/spectrum", spectrum, operations=lambda s: 2000.0 * _entries(s.model) + 100.0 * s.model.p**3
)
