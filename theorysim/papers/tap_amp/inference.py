"""What Bayes AMP and the TAP marginals say of beta0: state evolution over iterations and designs, calibration, and the price
of naive mean field."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float, Key
from scipy import stats

from theorysim.errors import require
from theorysim.kernels import amp, tap
from theorysim.kernels.designs import Dense
from theorysim.kernels.priors import Prior
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.instance import draw, uninformed
from theorysim.papers.tap_amp.setting import Atoms, Law, LinearModel, model, three_point
from theorysim.sweep import Experiment, describe, one_by_one, setting
from theorysim.verify import Check, Claim, Control, Design, Equivalence
from theorysim.verify import Law as LawJudge
from theorysim.verify.claim import Results

PAPER = "tap-amp"
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Nominal coverage of central intervals."""
SINGLE = jnp.dtype("float32")


# --- measurements -----------------------------------------------------------------------------------------------------

REACTIONS = {
    name: np.array([float(name == term) for term in ("exact", "next-precision", "previous-variance", "without-delta")])
    for name in ("exact", "none", "next-precision", "previous-variance", "without-delta")
}
"""Onsager coefficients: V' g/delta = V'/tau, or a wrong one: none; V' over the next step's tau; with the previous variance; V' g.
As weights of the four that are not zero, so that one program serves all.
"""


@setting
class Trajectory:
    """Bayes AMP over `steps` iterations.

    reaction: the Onsager coefficient, one of `REACTIONS`.
    assumed: sigma^2 of the denoiser over that of the data.
    """

    model: LinearModel
    steps: int = 30
    reaction: Float[np.ndarray, " 4"] = field(default_factory=lambda: REACTIONS["exact"])
    assumed: float = 1.0

    def validate(self) -> None:
        require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")
        require(self.assumed > 0, f"assumed must be positive, got {self.assumed}")


def trajectory(key: Key[Array, ""], setting: Trajectory) -> dict[str, Array]:
    """MSE_t and mean V_t of each step t, shape (steps,)."""
    model = setting.model
    prior, instance = model.prior.kernel(), draw(key, model, SINGLE)

    def run(prior: Prior, X: Array, beta: Array, y: Array, noise: Array, weights: Array) -> tuple[Array, Array]:
        def reaction(variance: Array, previous: Array, tau: Array) -> Array:
            exact, next_precision = variance / tau, variance / (noise + variance)
            return weights @ jnp.stack([exact, next_precision, previous / tau, variance * model.delta / tau])

        design = Dense(X)
        state = uninformed(prior, design, y)
        observe = functools.partial(amp.summary, target=beta)
        _, trace = amp.run(
            state, design, y, prior.moments, noise, steps=setting.steps, onsager=reaction, observe=observe
        )
        return trace.mse, trace.variance

    noise = jnp.asarray(setting.assumed * model.sigma**2, SINGLE)
    weights = jnp.asarray(setting.reaction, SINGLE)
    mse, variance = one_by_one(run)(prior, instance.design.matrix, instance.target, instance.response, noise, weights)
    return {"mse": mse, "variance": variance}


@setting
class Marginals:
    """Marginals of all coordinates, from AMP's fixed point (a stationary point of the TAP free energy) or naive mean field."""

    model: LinearModel
    method: Literal["tap", "mean-field"] = "tap"

    def validate(self) -> None:
        prior = self.model.prior
        atoms = isinstance(prior, Atoms) and np.size(prior.values) == 3 and prior.values[1] == 0
        require(atoms, f"prior of the marginals must have the atoms -b, 0, b, got {describe(prior)}")


def marginals(key: Key[Array, ""], setting: Marginals) -> dict[str, Array]:
    """How the reported marginals P_{lam_j,gam_j} stand to beta0.

    pit: randomised probability integral transforms, shape (p,). coverage: of central intervals at `LEVELS`, shape (4,). ks:
    sqrt(p) times the distance of their empirical law from the uniform one. mse: |m - beta0|^2/p. variance: mean V. nll: mean -log
    P(beta0_j). entropy: mean entropy. event: share of coordinates in ten bins of P(beta != 0), shape (10,); reported and hits: mean
    of that probability, and of beta0 != 0, over the coordinates of the bin, times the share. converged: whether AMP did.
    """
    model = setting.model
    assert isinstance(model.prior, Atoms)
    prior, instance = model.prior.kernel(), draw(key, model, SINGLE)
    noise = jnp.asarray(model.sigma**2, SINGLE)

    def infer(prior: Prior, X: Array, y: Array, noise: Array) -> tuple[Array, Array, Array]:
        design = Dense(X)
        if setting.method == "tap":
            state = uninformed(prior, design, y)
            found = amp.solve(state, design, y, prior.moments, noise, tolerance=1e-5, most_steps=300)
            gam = jnp.broadcast_to(found.state.gamma, found.state.lam.shape)
            return found.state.lam, gam, found.status == amp.Status.CONVERGED
        problem = tap.Model(design, y, noise, prior, tap.mean_field(design))
        origin = tap.Point(jnp.zeros(model.p, SINGLE), jnp.zeros(model.p, SINGLE))
        ascent = tap.coordinate_ascent(problem, origin, tolerance=1e-3, most_sweeps=100)
        return ascent.point.lam, ascent.point.gam, ascent.change <= 1e-3

    lam, gam, converged = one_by_one(infer)(prior, instance.design.matrix, instance.response, noise)
    reported = prior.moments(lam, gam)
    below, at = prior.cdf(instance.target, lam, gam)
    pit = jnp.sort(below + random.uniform(key, (model.p,), SINGLE) * at)
    ranks = jnp.arange(model.p, dtype=SINGLE) / model.p
    p = prior.probabilities(lam, gam)
    nonzero = 1 - p[..., 1]
    bins = jnp.clip((10 * nonzero).astype(jnp.int32), 0, 9)[:, None] == jnp.arange(10)
    return {
        "pit": pit,
        "coverage": jnp.stack([jnp.mean(jnp.abs(pit - 0.5) < level / 2) for level in LEVELS]),
        "ks": jnp.maximum((pit - ranks).max(), (ranks + 1 / model.p - pit).max()) * model.p**0.5,
        "mse": jnp.mean((reported.mean - instance.target) ** 2),
        "variance": jnp.mean(reported.variance),
        "nll": -jnp.mean(jnp.log(at)),
        "entropy": -jnp.mean(jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0), axis=-1)),
        "event": jnp.mean(bins, axis=0),
        "reported": jnp.mean(bins * nonzero[:, None], axis=0),
        "hits": jnp.mean(bins * (instance.target != 0)[:, None], axis=0),
        "converged": converged,
    }


TRAJECTORY = Experiment(
    f"{PAPER}/trajectory", trajectory, operations=lambda s: s.model.n * s.model.p * (4.0 * s.steps + 40)
)
MARGINALS = Experiment(
    f"{PAPER}/marginals",
    marginals,
    operations=lambda s: s.model.n * s.model.p * (1000.0 if s.method == "tap" else 3000.0),
)


# --- shared readings --------------------------------------------------------------------------------------------------


def every(settings: Callable[[str], tuple[Any, ...]] | tuple[Any, ...], **seeds: int) -> dict[str, Design]:
    """A design a preset, from its settings and number of seeds."""
    return {preset: Design(settings(preset) if callable(settings) else settings, n) for preset, n in seeds.items()}


def size(setting: Any) -> float:
    """p."""
    return setting.model.p


def prior_of(model: LinearModel) -> theory.Discrete:
    """The prior of the predictions."""
    assert isinstance(model.prior, Atoms)
    return theory.Discrete(tuple(model.prior.values.tolist()), tuple(model.prior.weights.tolist()))


def converged(setting: Any, results: Results) -> np.ndarray:
    """Runs that have reached a fixed point; others, cycles mostly, have no marginals."""
    return results["converged"]


# --- state evolution --------------------------------------------------------------------------------------------------

TIMES = (0, 1, 2, 5, 29)


def _errors(setting: Trajectory, results: Results) -> Float[np.ndarray, "S 10"]:
    """MSE_t and V_t at `TIMES`."""
    return np.concatenate([results["mse"][:, TIMES], results["variance"][:, TIMES]], axis=1)


@functools.lru_cache
def _state_evolution(prior: theory.Discrete, delta: float, sigma: float) -> Float[np.ndarray, " 10"]:
    errors = theory.state_evolution(prior, delta, sigma, max(TIMES) + 1).mse
    return np.tile(errors[list(TIMES)], 2)


def _predicted_errors(setting: Trajectory, inputs: Results) -> Float[np.ndarray, " 10"]:
    return _state_evolution(prior_of(setting.model), setting.model.delta, setting.model.sigma)


def _trajectories(p: int, entries: Law = "gaussian", **changes: Any) -> tuple[Trajectory, ...]:
    return tuple(Trajectory(model(d, s, p, entries=entries), **changes) for d, s in ((1.0, 0.3), (1.5, 0.4)))


def _halved(p: int, **changes: Any) -> tuple[Trajectory, ...]:
    """A sparse prior at delta = 1/2, where a wrong factor of delta shows."""
    return (Trajectory(model(0.5, 0.2, p, three_point(0.1)), **changes),)


def _se_check(
    name: str, settings: Callable[..., tuple[Trajectory, ...]], seeds: int, breaks: str, **wrong: Any
) -> Check:
    def design(**changes: Any) -> dict[str, Design]:
        return {
            "quick": Design(settings(400, **changes)[:1], 5 * seeds // 8),
            "standard": Design(settings(1000, **changes), seeds),
            "paper": Design(settings(4000, **changes), seeds),
        }

    return Check(
        name=name,
        experiment=TRAJECTORY,
        design=design(),
        observable=_errors,
        predict=_predicted_errors,
        judge=Equivalence(tolerance=0.05, kind="limit"),
        control=Control(breaks, design=design(**wrong)),
        size=size,
    )


SE = Claim(
    id=f"{PAPER}.se",
    kind="limit",
    statement="After step t of Bayes AMP, the squared error and the mean reported variance per coordinate both tend"
    " to mmse(gamma_t), where gamma_0 = delta/(sigma^2 + Var P0), gamma_{t+1} = delta/(sigma^2 + mmse(gamma_t)).",
    source="Bayati, Montanari 2011; used throughout the paper",
    assumptions="X of independent entries of variance 1/p, prior known, t fixed as p grows",
    checks=(
        _se_check("uniform prior", _trajectories, 512, "no Onsager term", reaction=REACTIONS["none"]),
        _se_check(
            "sparse prior, delta = 1/2",
            _halved,
            1024,
            "Onsager coefficient V' g, without 1/delta",
            reaction=REACTIONS["without-delta"],
        ),
    ),
)


def _entries(p: int, wrong: bool = False) -> tuple[Trajectory, ...]:
    laws: tuple[Law, ...] = ("shifted",) if wrong else ("rademacher", "uniform", "sparse-signs", "student-t5")
    return tuple(Trajectory(model(1.0, 0.3, p, entries=law)) for law in laws)


UNIVERSALITY = Claim(
    id=f"{PAPER}.universality",
    kind="limit",
    statement="State evolution is the same for every law of independent entries of mean 0, variance 1/p and light tails.",
    source="universality of AMP (Bayati, Lelarge, Montanari 2015; Chen, Lam 2021)",
    assumptions="Rademacher, 10 % sparse signs, uniform, Student t with 5 degrees of freedom; U3, delta = 1, sigma = .3",
    checks=(
        Check(
            name="four laws",
            experiment=TRAJECTORY,
            design={
                "quick": Design(_entries(400)[:1], 256),
                "standard": Design(_entries(1000), 512),
                "paper": Design(_entries(4000), 512),
            },
            observable=_errors,
            predict=_predicted_errors,
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control(
                "entries of mean 1/2 (before scaling)",
                design={
                    "quick": Design(_entries(400, wrong=True), 256),
                    "standard": Design(_entries(1000, wrong=True), 512),
                    "paper": Design(_entries(4000, wrong=True), 512),
                },
            ),
            size=size,
        ),
    ),
)


# --- calibration ------------------------------------------------------------------------------------------------------

EASY = (model(1.0, 0.3, 1), model(0.5, 0.2, 2, three_point(0.1)))
HARD = (model(0.65, 0.1, 20),)
HARD_SEEDS = {"quick": 576, "standard": 320, "paper": 100}
SIZES = {"quick": 400, "standard": 1000, "paper": 8000}


def _at(
    models: tuple[LinearModel, ...], seeds: dict[str, int], method: Literal["tap", "mean-field"] = "tap"
) -> dict[str, Design]:
    """The models at each preset's number of coefficients; the first alone at `quick`."""
    return {
        preset: Design(
            tuple(
                Marginals(model(m.delta, m.sigma, p, m.prior), method)
                for m in (models[:1] if preset == "quick" else models)
            ),
            seeds[preset],
        )
        for preset, p in SIZES.items()
    }


def _gap(setting: Marginals, results: Results) -> Float[np.ndarray, "S 2"]:
    """Mean -log probability less mean entropy, and reported variance less squared error, per instance."""
    return np.stack([results["nll"] - results["entropy"], results["variance"] - results["mse"]], axis=1)


def _calibration_checks(
    models: tuple[LinearModel, ...], seeds: dict[str, int], admissible: Any = None
) -> tuple[Check, ...]:
    # A quarter of the seeds refutes naive mean field, and one instance of it costs ten of TAP.
    bad = _at(models, {preset: count // 4 for preset, count in seeds.items()}, "mean-field")
    common: dict[str, Any] = {
        "experiment": MARGINALS,
        "design": _at(models, seeds),
        "control": Control("naive mean field in place of TAP", design=bad),
        "size": size,
        "admissible": admissible,
    }
    return (
        Check(
            name="coverage",
            observable=lambda s, results: results["coverage"],
            predict=lambda s, inputs: np.array(LEVELS),
            judge=Equivalence(tolerance=0.02, absolute=True, kind="law"),
            **common,
        ),
        Check(
            name="probability integral transforms",
            observable=lambda s, results: results["pit"],
            predict=lambda s, inputs: stats.uniform(),
            judge=LawJudge(tolerance=0.04),
            **common,
        ),
        Check(
            name="sharpness",
            observable=_gap,
            predict=lambda s, inputs: np.zeros(2),
            judge=Equivalence(tolerance=0.02, absolute=True, kind="law"),
            **common,
        ),
    )


CALIBRATION = Claim(
    id=f"{PAPER}.calibration",
    kind="law",
    statement="The marginals P_{lam_j,gam_j} of the TAP minimiser are calibrated: the randomised probability"
    " integral transforms of beta0_j are uniform, intervals cover as announced, mean V is the squared error, mean"
    " -log probability the mean entropy.",
    source="paper, Theorem 3.2 and its corollary",
    assumptions="easy phase, gamma_alg = gamma_stat",
    checks=_calibration_checks(EASY, {"quick": 160, "standard": 192, "paper": 50}),
)

HARD_CALIBRATED = Claim(
    id=f"{PAPER}.hard-calibrated",
    kind="law",
    statement="In the hard phase the TAP minimiser next to AMP's limit is calibrated as well, at the error mmse(gamma_alg)"
    " far from the Bayes one.",
    source="paper, theorem on the hard phase",
    assumptions="delta_IT < delta < delta_alg (U3, delta = .65, sigma = .1); runs that converge",
    checks=(
        *_calibration_checks(HARD, HARD_SEEDS, converged),
        Check(
            name="squared error",
            experiment=MARGINALS,
            design=_at(HARD, HARD_SEEDS),
            observable=lambda s, results: np.stack([results["mse"], results["variance"]], axis=1),
            predict=lambda s, inputs: np.full(2, theory.mmse(prior_of(s.model), _gamma(s.model, "alg"))),
            judge=Equivalence(tolerance=0.05, kind="law"),
            control=Control(
                "gamma_stat in place of gamma_alg",
                predict=lambda s, inputs: np.full(2, theory.mmse(prior_of(s.model), _gamma(s.model, "stat"))),
            ),
            size=size,
            admissible=converged,
        ),
    ),
)


def _gamma(m: LinearModel, which: Literal["alg", "stat"]) -> float:
    solve = theory.gamma_alg if which == "alg" else theory.gamma_stat
    return float(solve(prior_of(m), m.delta, m.sigma))


# --- naive mean field -------------------------------------------------------------------------------------------------

CONVEX = (model(1.0, 0.5, 1),)


@functools.lru_cache
def _mean_field(prior: theory.Discrete, delta: float, sigma: float) -> theory.MarginalLaw:
    return theory.mean_field(prior, delta, sigma).marginals


def _reported(setting: Marginals, results: Results) -> Float[np.ndarray, "S 6"]:
    """Squared error, reported variance, and coverage at `LEVELS`."""
    return np.column_stack([results["mse"], results["variance"], results["coverage"]])


def _predicted_report(m: LinearModel, law: theory.MarginalLaw) -> Float[np.ndarray, " 6"]:
    return np.concatenate([[law.mse, law.variance], law.coverage(np.array(LEVELS))])


UNDERDISPERSION = Claim(
    id=f"{PAPER}.mf-underdispersion",
    kind="limit",
    statement="Naive mean field has a predictable fault: its error, the smaller variance that it reports and its"
    " coverage below nominal tend to those of a separable M-estimator's state evolution.",
    source="derived here; the paper proves that naive mean field is inconsistent",
    assumptions="convex regime (U3, delta = 1, sigma = .5)",
    checks=(
        Check(
            name="error, variance and coverage",
            experiment=MARGINALS,
            design=_at(CONVEX, {"quick": 128, "standard": 128, "paper": 50}, "mean-field"),
            observable=_reported,
            predict=lambda s, inputs: _predicted_report(
                s.model, _mean_field(prior_of(s.model), s.model.delta, s.model.sigma)
            ),
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control(
                "the TAP marginals' prediction",
                predict=lambda s, inputs: _predicted_report(
                    s.model, theory.bayes_marginals(prior_of(s.model), _gamma(s.model, "alg"))
                ),
            ),
            size=size,
        ),
    ),
)

CLAIMS = (SE, UNIVERSALITY, CALIBRATION, HARD_CALIBRATED, UNDERDISPERSION)
