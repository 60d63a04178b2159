"""The landscape of the TAP free energy, and where message passing and natural gradient descent come to rest in it: convexity,
rates,
phase lines, the two minima of the hard phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Key

from theorysim.errors import require
from theorysim.kernels import amp, priors, tap
from theorysim.kernels.designs import PRECISE, Dense, Design
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.instance import draw, uninformed
from theorysim.papers.tap_amp.setting import U3, Atoms, LinearModel, Prior, SpikeAndSlab, model, three_point
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Bound, Check, Claim, Control, Equivalence, Identity, Ordering, Threshold
from theorysim.verify import Design as Runs
from theorysim.verify.claim import Results

PAPER = "tap-amp"
SINGLE = jnp.dtype("float32")
RECOVERED = 0.01
"""Squared error per coordinate below which beta0 counts as recovered, and mean V of fixed points where it is."""
SYMMETRIC = 0.1
"""Second moment s at the point m = 0, all s_j = s, where F_TAP is not convex."""


# --- several numbers of observations ----------------------------------------------------------------------------------


@setting
class Levels:
    """One instance by its first round(delta_k p) rows, k = 1 ... levels, so that samples are paired over delta."""

    model: LinearModel
    deltas: Float[np.ndarray, " levels"]

    def validate(self) -> None:
        p, most = self.model.p, self.model.delta
        allowed = bool((np.round(self.deltas * p) >= 1).all() and (self.deltas <= most).all())
        require(allowed, f"deltas must lie in [1/p, n/p = {most:.6g}], got {self.deltas.tolist()}")


def levels(deltas: tuple[float, ...], sigma: float, p: int) -> Levels:
    """Levels at the prior U3, rounded to whole numbers of rows."""
    rounded = np.round(np.array(deltas) * p) / p
    return Levels(model(float(rounded.max()), sigma, p), rounded)


@partial(jax.tree_util.register_dataclass, data_fields=["matrix", "weights"], meta_fields=[])
@dataclass(frozen=True)
class WeightedRows(Design):
    """diag(weights_k) X for several k, which are the batch. matrix: X, (n, p). weights: (levels, n)."""

    matrix: Float[Array, "n p"]
    weights: Float[Array, "levels n"]

    @property
    def shape(self) -> tuple[int, int]:
        n, p = self.matrix.shape
        return n, p

    def forward(self, m: Float[Array, "levels p"]) -> Float[Array, "levels n"]:
        return self.weights * jnp.matmul(m, self.matrix.T, precision=PRECISE)

    def adjoint(self, z: Float[Array, "levels n"]) -> Float[Array, "levels p"]:
        return jnp.matmul(self.weights * z, self.matrix, precision=PRECISE)


class Share(NamedTuple):
    """The TAP penalty of n_k observations written as n of them, n_k/n = share: it is proportional to their number."""

    share: Float[Array, ""]

    def energy(self, variance: Array, noise: Array, n: int) -> Array:
        return self.share * tap.Tap().energy(variance, noise, n)

    def precision(self, variance: Array, noise: Array, n: int) -> Array:
        return self.share * tap.Tap().precision(variance, noise, n)

    def curvature(self, variance: Array, noise: Array, n: int) -> Array:
        return self.share * tap.Tap().curvature(variance, noise, n)


class Limits(NamedTuple):
    """Where AMP stops at each level: m, lam (levels, p); gamma, mean V, whether it has converged (levels,). kept: 1 for the rows in
    use, 0 for the others, (levels, n). share: n_k/n, (levels,)."""

    mean: Float[Array, "levels p"]
    lam: Float[Array, "levels p"]
    gamma: Float[Array, " levels"]
    variance: Float[Array, " levels"]
    converged: Bool[Array, " levels"]
    kept: Float[Array, "levels n"]
    share: Float[Array, " levels"]


def solve_levels(
    prior: priors.Prior,
    X: Float[Array, "n p"],
    y: Float[Array, " n"],
    deltas: Float[Array, " levels"],
    noise: Float[Array, ""],
    mean: Float[Array, "..."],
    variance: Float[Array, "..."],
    *,
    tolerance: float,
    most_steps: int,
) -> Limits:
    """Bayes AMP on the first n_k = round(delta_k p) rows of an instance, all levels in one batch. mean, variance: m and V at the
    start,
    for all levels or for each.

    n_k rows count as n once multiplied by sqrt(n/n_k), the others by 0: gamma and lam are then n/n_k times those of n_k rows, which
    the denoiser takes back, and m and V are the same.
    """
    n, p = X.shape
    counts = jnp.round(deltas * p)
    share = counts / n
    kept = (jnp.arange(n) < counts[:, None]).astype(X.dtype)
    weights = kept / jnp.sqrt(share)[:, None]
    design, response = WeightedRows(X, weights), weights * y
    denoise = lambda lam, gamma: prior.moments(share[:, None] * lam, share[:, None] * gamma)
    start = amp.init(design, response, mean, variance)
    found = amp.solve(start, design, response, denoise, noise, tolerance=tolerance, most_steps=most_steps)
    state, converged = found.state, found.status == amp.Status.CONVERGED
    return Limits(state.mean, share[:, None] * state.lam, share * state.gamma, state.variance, converged, kept, share)


def prior_moments(prior: priors.Prior, like: Array) -> priors.Moments:
    """Of P0, in the dtype of `like`."""
    zero = jnp.zeros((), like.dtype)
    return prior.moments(zero, zero)


def problem_of_level(
    prior: priors.Prior, X: Float[Array, "n p"], y: Float[Array, " n"], noise: Array, kept: Array, share: Array
) -> tap.Model:
    """The TAP free energy at one level, up to a constant; kept: (n,), share: ()."""
    return tap.Model(Dense(kept[:, None] * X), kept * y, noise, prior, Share(share))


# --- convexity --------------------------------------------------------------------------------------------------------


@setting
class Surroundings:
    """Points at AMP's limits, level by level, each moved by radius_k N(0, 1) in every lam_j and gam_j."""

    levels: Levels
    radii: Float[np.ndarray, " levels"]

    def validate(self) -> None:
        count, given = np.size(self.levels.deltas), np.size(self.radii)
        require(given == count, f"radii must be as many as the {count} levels, got {given}")
        require(bool((self.radii >= 0).all()), f"radii must be at least 0, got {self.radii.tolist()}")


def convexity(key: Key[Array, ""], setting: Surroundings) -> dict[str, Array]:
    """smallest: the least eigenvalue of Hess F_TAP in (m, s) at each point, shape (levels,), NaN where AMP has not converged or has
    recovered beta0, which leaves no variance to divide by. symmetric: the same at m = 0, s_j = `SYMMETRIC`, at the last level.
    variance, converged: of AMP's limits, shape (levels,).
    """
    model = setting.levels.model
    p, prior, instance = model.p, model.prior.kernel(), draw(key, model)
    normals = random.normal(random.fold_in(key, 3), (4, p))
    # Of a prior with weights 1/3: p_0 = 1 - s, p_+ = p_- = s/2.
    gam_symmetric = 2 * np.log(2 * (1 - SYMMETRIC) / SYMMETRIC)

    def find(
        prior: priors.Prior, X: Array, y: Array, deltas: Array, radii: Array, noise: Array, normals: Array
    ) -> tuple[Array, Array, Array]:
        start = prior_moments(prior, X)
        limits = solve_levels(prior, X, y, deltas, noise, start.mean, start.variance, tolerance=1e-8, most_steps=500)
        lam = limits.lam + radii[:, None] * normals[0]
        gam = limits.gamma[:, None] + radii[:, None] * normals[1]
        usable = limits.converged & (limits.variance > RECOVERED)

        def smallest(place: tuple[Array, ...]) -> Array:
            usable, kept, share, lam, gam = place

            def solve() -> Array:
                problem = problem_of_level(prior, X, y, noise, kept, share)
                hessian = tap.hessian(problem, tap.Point(lam, gam))
                return tap.smallest_eigenvalue(hessian, normals[2:], tolerance=1e-3).value

            return lax.cond(usable, solve, lambda: jnp.full((), jnp.nan))

        last = lambda a: jnp.concatenate([a, a[-1:]])
        places = (
            jnp.append(usable, True),
            last(limits.kept),
            last(limits.share),
            jnp.concatenate([lam, jnp.zeros((1, p))]),
            jnp.concatenate([gam, jnp.full((1, p), gam_symmetric)]),
        )
        return lax.map(smallest, places), limits.variance, limits.converged

    traced = (setting.levels.deltas, setting.radii, model.sigma**2)
    smallest, variance, converged = one_by_one(find)(
        prior, instance.design.matrix, instance.response, *map(jnp.asarray, traced), normals
    )
    return {"smallest": smallest[:-1], "symmetric": smallest[-1:], "variance": variance, "converged": converged}


# --- natural gradient descent -----------------------------------------------------------------------------------------


def whitened_spectrum(model: tap.Model, point: tap.Point) -> Float[Array, " 2p"]:
    """Eigenvalues of C^{1/2} Hess F C^{1/2}, increasing, from the matrix itself."""
    hessian, shape = tap.hessian(model, point), (2, point.lam.size)
    product = lambda v: hessian.whitened_product(v.reshape(shape)).ravel()
    return jnp.linalg.eigvalsh(jax.vmap(product)(jnp.eye(2 * point.lam.size)))


@setting
class LocalDescent:
    """Natural gradient descent around its limit with steps of `factors`/mu_max."""

    model: LinearModel
    factors: Float[np.ndarray, " steps"]


def local_descent(key: Key[Array, ""], setting: LocalDescent) -> dict[str, Array]:
    """contraction: 1 - (factor by which a step shrinks the gradient), on the way of its norm from 1e-9 to 1e-11 or, where it
    does not
    get there, in the last of 3000 steps each, shape (steps,). eta: the step sizes. gram, lam, gam: X^T X and the limit.
    """
    model = setting.model
    p, prior, instance = model.p, model.prior.kernel(), draw(key, model)

    def descend(
        prior: priors.Prior, X: Array, y: Array, noise: Array, factors: Array, normals: Array
    ) -> dict[str, Array]:
        problem = tap.Model(Dense(X), y, noise, prior)
        origin = tap.Point(jnp.zeros(p), jnp.zeros(p))
        limit = tap.minimise(problem, origin, step=0.1, tolerance=1e-10, most_steps=50_000, backtrack=True).point
        near = tap.Point(limit.lam + 0.3 * normals[0], limit.gam + 0.3 * normals[1])
        eta = factors / whitened_spectrum(problem, limit)[-1]

        def contraction(eta: Array) -> Array:
            def stretch(point: tap.Point, tolerance: Array) -> tuple[tap.Point, tuple[Array, Array]]:
                run = tap.minimise(problem, point, step=eta, tolerance=tolerance, most_steps=3000)
                return run.point, (run.evaluation.gradient_norm, run.steps)

            _, (norms, steps) = lax.scan(stretch, near, jnp.array([1e-9, 1e-11]))
            return -jnp.expm1(jnp.log(norms[1] / norms[0]) / steps[1])

        rates = lax.map(contraction, eta)
        return {"contraction": rates, "eta": eta, "gram": X.T @ X, "lam": limit.lam, "gam": limit.gam}

    noise, factors = jnp.asarray(model.sigma**2), jnp.asarray(setting.factors)
    normals = random.normal(random.fold_in(key, 3), (2, p))
    return one_by_one(descend)(prior, instance.design.matrix, instance.response, noise, factors, normals)


@setting
class Monotone:
    """Natural gradient descent from random starts, lam_j ~ 4 N(0, 1), gam_j uniform on (-3, 12), with steps of `factor`/L."""

    model: LinearModel
    factor: float = 1.0
    steps: int = 100


def monotone(key: Key[Array, ""], setting: Monotone) -> dict[str, Array]:
    """rise: the largest increase of F in a step, over |F|. largest: mu_max at the start. gram: X^T X."""
    model = setting.model
    p, prior, instance = model.p, model.prior.kernel(), draw(key, model)
    normals = random.normal(random.fold_in(key, 3), (2, p))

    # One after another: batched eigenvalue problems of two programs at a time can wait for each other for ever (jaxlib 0.10).
    def descend(
        prior: priors.Prior, X: Array, y: Array, noise: Array, factor: Array, normals: Array
    ) -> dict[str, Array]:
        problem = tap.Model(Dense(X), y, noise, prior)
        start = tap.Point(4 * normals[0], -3 + 15 * ndtr(normals[1]))
        gram = X.T @ X
        smoothness = 1 + prior.half_range() ** 2 * jnp.linalg.eigvalsh(gram)[-1] / noise
        _, (energy, _) = tap.run(problem, start, factor / smoothness, steps=setting.steps + 1)
        rise = jnp.max(jnp.diff(energy) / jnp.abs(energy[:-1]))
        return {"rise": rise, "largest": whitened_spectrum(problem, start)[-1], "gram": gram}

    noise, factor = jnp.asarray(model.sigma**2), jnp.asarray(setting.factor)
    return one_by_one(descend)(prior, instance.design.matrix, instance.response, noise, factor, normals)


@setting
class Descent:
    """Bayes AMP, and natural gradient descent from its iterate of the smallest change among the first 30.

    step: first step size of the descent with backtracking, the only one of that without.
    """

    model: LinearModel
    step: float


def descent(key: Key[Array, ""], setting: Descent) -> dict[str, Array]:
    """Norms of the gradient: amp, after 480 steps or once the change is below 1e-9; backtracking, once it is below 1e-6 or after
    40 000
    steps; fixed, after as many steps of fixed size. converged: whether AMP has.
    """
    model = setting.model
    p, prior, instance = model.p, model.prior.kernel(), draw(key, model)

    def compare(prior: priors.Prior, X: Array, y: Array, noise: Array, step: Array) -> dict[str, Array]:
        design = Dense(X)
        problem = tap.Model(design, y, noise, prior)

        def thirty(state: amp.State, _: None) -> tuple[amp.State, amp.Solution]:
            found = amp.solve(state, design, y, prior.moments, noise, tolerance=1e-9, most_steps=30)
            return found.state, found

        last, runs = lax.scan(thirty, uninformed(prior, design, y), length=16)
        best = jax.tree.map(lambda a: a[0], runs.best)
        start, stopped = (tap.Point(state.lam, jnp.full(p, state.gamma)) for state in (best, last))
        run = tap.minimise(problem, start, step=step, tolerance=1e-6, most_steps=40_000, backtrack=True)
        fixed = lax.fori_loop(0, run.steps, lambda _, a: tap.descend(a, tap.evaluate(problem, a), step), start)
        norm = lambda point: tap.evaluate(problem, point).gradient_norm
        of_amp, of_fixed = jax.vmap(norm)(jax.tree.map(lambda *a: jnp.stack(a), stopped, fixed))
        return {
            "amp": of_amp,
            "backtracking": run.evaluation.gradient_norm,
            "fixed": of_fixed,
            "converged": runs.status[-1] == amp.Status.CONVERGED,
        }

    noise, step = jnp.asarray(model.sigma**2), jnp.asarray(setting.step)
    return one_by_one(compare)(prior, instance.design.matrix, instance.response, noise, step)


# --- phases -----------------------------------------------------------------------------------------------------------


def success(key: Key[Array, ""], setting: Levels) -> dict[str, Array]:
    """mse: |m - beta0|^2/p where AMP stops, after 250 steps at most, in float32, shape (levels,)."""
    prior, instance = setting.model.prior.kernel(), draw(key, setting.model, SINGLE)

    def errors(prior: priors.Prior, X: Array, beta: Array, y: Array, deltas: Array, noise: Array) -> Array:
        start = prior_moments(prior, X)
        found = solve_levels(prior, X, y, deltas, noise, start.mean, start.variance, tolerance=1e-4, most_steps=250)
        return jnp.mean((found.mean - beta) ** 2, axis=-1)

    deltas, noise = jnp.asarray(setting.deltas, SINGLE), jnp.asarray(setting.model.sigma**2, SINGLE)
    mse = one_by_one(errors)(prior, instance.design.matrix, instance.target, instance.response, deltas, noise)
    return {"mse": mse}


@setting
class Transition:
    """A prior with one first-order transition, at a noise level below its cusp."""

    prior: Prior
    sigma: float


def phase_lines(key: Key[Array, ""], setting: Transition) -> dict[str, Array]:
    """lines: delta_low, delta_IT, delta_alg at sigma, and sigma and delta of the cusp, shape (5,), by bisection in u = log gamma.

    At fixed sigma the fixed points lie where delta = D(gamma) = gamma (sigma^2 + mmse(gamma)), derived here.
    """
    prior, noise = setting.prior.kernel(), setting.sigma**2

    def curves(u: Array) -> tuple[Array, Array]:
        """D - gamma sigma^2 = gamma mmse; and gamma E V^2 - mmse, equal to sigma^2 where D' = 0."""
        gamma = jnp.exp(u)
        channel = priors.channel(prior, gamma)
        return gamma * channel.mmse, gamma * channel.variance2 - channel.mmse

    u = jnp.linspace(np.log(0.1), np.log(1e4), 600)
    excess = curves(u)[1]
    falling, peak = excess > noise, jnp.argmax(excess)
    first, last = jnp.argmax(falling), falling.size - jnp.argmax(falling[::-1])
    ends = jnp.stack([first, last])
    sides = jnp.array([1.0, -1.0])
    spinodals = _bisect(lambda x: sides * (curves(x)[1] - noise), u[ends - 1], u[ends])
    golden = (5**0.5 - 1) / 2

    def shrink(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = bracket
        inner = jnp.stack([right - golden * (right - left), left + golden * (right - left)])
        values = curves(inner)[1]
        rises = values[1] > values[0]
        return jnp.where(rises, inner[0], left), jnp.where(rises, right, inner[1])

    cusp, _ = lax.fori_loop(0, 50, shrink, (u[peak - 1], u[peak + 1]))
    places = jnp.append(spinodals, cusp)
    products, excesses = curves(places)
    level = excesses[2]
    algorithmic, low, at_cusp = products + jnp.exp(places) * jnp.stack([noise, noise, level])

    def gap(delta: Array) -> Array:
        """phi at the first fixed point less phi at the last."""
        highest = jnp.stack([spinodals[0], jnp.log(delta / noise)])
        roots = _bisect(lambda x: curves(x)[0] + noise * jnp.exp(x) - delta, jnp.stack([u[0], spinodals[1]]), highest)
        gamma = jnp.exp(roots)
        potential = priors.channel(prior, gamma).information + noise * gamma / 2 - delta / 2 * roots
        return potential[0] - potential[1]

    lines = (low, _bisect(gap, low, algorithmic), algorithmic, jnp.sqrt(level), at_cusp)
    return {"lines": jnp.stack(lines)}


def _bisect(rising: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Zero of an increasing function, elementwise."""

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = rising(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = lax.fori_loop(0, 50, halve, (low, high))
    return (low + high) / 2


# --- two minima -------------------------------------------------------------------------------------------------------


def minima(key: Key[Array, ""], setting: Levels) -> dict[str, Array]:
    """From the prior's mean and variance and from m = .99 beta0, V = 1e-4, at the first level: energy, F_TAP/p up to a constant
    where
    AMP stops; variance, mean V; converged, to a change of 1e-6, shape (2,). noise: (|eps|^2/sigma^2 - n)/p.
    """
    model = setting.model
    p, prior, instance = model.p, model.prior.kernel(), draw(key, model)

    def find(prior: priors.Prior, X: Array, beta: Array, y: Array, delta: Array, noise: Array) -> dict[str, Array]:
        start = prior_moments(prior, X)
        mean = jnp.stack([jnp.full(p, start.mean), 0.99 * beta])
        variance = jnp.stack([start.variance, jnp.asarray(1e-4)])
        limits = solve_levels(
            prior, X, y, jnp.stack([delta, delta]), noise, mean, variance, tolerance=1e-6, most_steps=300
        )
        kept, share = limits.kept[0], limits.share[0]
        problem = problem_of_level(prior, X, y, noise, kept, share)
        energy = lambda lam, gamma: tap.free_energy(problem, tap.Point(lam, jnp.full(p, gamma)))
        return {
            "energy": jax.vmap(energy)(limits.lam, limits.gamma) / p,
            "variance": limits.variance,
            "converged": limits.converged,
            "noise": jnp.sum(kept * (y - X @ beta) ** 2 / noise - kept) / p,
        }

    X, beta, y = instance.design.matrix, instance.target, instance.response
    return one_by_one(find)(prior, X, beta, y, jnp.asarray(setting.deltas)[0], jnp.asarray(model.sigma**2))


# --- experiments ------------------------------------------------------------------------------------------------------

CONVEXITY = Experiment(
    f"{PAPER}/convexity",
    convexity,
    operations=lambda s: np.size(s.radii) * s.levels.model.n * s.levels.model.p * 2000.0,
)
LOCAL_DESCENT = Experiment(
    f"{PAPER}/local-descent",
    local_descent,
    operations=lambda s: 5000.0 * np.size(s.factors) * s.model.n * s.model.p + 100.0 * s.model.p**3,
)
MONOTONE = Experiment(f"{PAPER}/monotone", monotone, operations=lambda s: 4.0 * s.steps * s.model.n * s.model.p)
DESCENT = Experiment(f"{PAPER}/descent", descent, operations=lambda s: 5e4 * s.model.n * s.model.p)
SUCCESS = Experiment(
    f"{PAPER}/success", success, operations=lambda s: 1000.0 * np.size(s.deltas) * s.model.n * s.model.p
)
PHASE_LINES = Experiment(f"{PAPER}/phase-lines", phase_lines, operations=lambda s: 1e9)
MINIMA = Experiment(f"{PAPER}/minima", minima, operations=lambda s: 2000.0 * s.model.n * s.model.p)


# --- convexity --------------------------------------------------------------------------------------------------------

BALL = (0.0, 0.3, 0.6, 1.0, 1.5)
"""Radii: the limit itself, and |m - m_limit|^2/p from .004 to .08."""
APPROACH = (0.5, 0.6, 0.65, 0.68, 0.7)
"""delta on the way to delta_alg = .708 of sigma = .1."""


def _easy(p: int, radii: tuple[float, ...]) -> tuple[Surroundings, ...]:
    return (Surroundings(levels((1.0,) * len(radii), 0.3, p), np.array(radii)),)


def _approach(p: int, deltas: tuple[float, ...]) -> tuple[Surroundings, ...]:
    return (Surroundings(levels(deltas, 0.1, p), np.zeros(len(deltas))),)


def _converged(setting: Any, results: Results) -> Bool[np.ndarray, " S"]:
    return np.asarray(results["converged"].all(axis=1))


def _unrecovered(setting: Any, results: Results) -> Bool[np.ndarray, " S"]:
    return np.asarray((results["converged"] & (results["variance"] > RECOVERED)).all(axis=1))


def _descending(setting: Surroundings, results: Results) -> Float[np.ndarray, "S levels"]:
    """Differences of the eigenvalue from level to level, and its last value."""
    return -np.diff(results["smallest"], axis=1, append=0.0)


LOCAL_CONVEXITY = Claim(
    id=f"{PAPER}.local-convexity",
    kind="bound",
    statement="Hess F_TAP >= c > 0 in (m, s) at AMP's limit and in a ball of radius of order sqrt(p) around it; the"
    " smallest eigenvalue falls, and stays positive, as delta rises towards the spinodal delta_alg, where"
    " phi''(gamma_alg) vanishes.",
    source="paper, theorem on local convexity",
    assumptions="phi''(gamma_alg) > 0; runs of AMP that converge; for the approach to delta_alg, to the fixed point"
    " that does not recover beta0",
    checks=(
        Check(
            name="at AMP's limit and around it",
            experiment=CONVEXITY,
            design={
                "quick": Runs(_easy(150, (0.0, 1.0)), 192),
                "standard": Runs(_easy(300, BALL), 192),
                "paper": Runs(_easy(600, BALL), 400),
            },
            observable=lambda setting, results: results["smallest"],
            predict=lambda setting, inputs: 0.0,
            judge=Bound(mass=0.05, sense=">="),
            control=Control(
                f"at m = 0, all s_j = {SYMMETRIC}, far from any limit",
                observable=lambda setting, results: results["symmetric"],
            ),
            admissible=_converged,
            size=lambda setting: setting.levels.model.p,
        ),
        Check(
            name="towards the spinodal",
            experiment=CONVEXITY,
            design={
                "quick": Runs(_approach(150, (0.5, 0.65)), 48),
                "standard": Runs(_approach(300, APPROACH), 192),
                "paper": Runs(_approach(600, APPROACH), 400),
            },
            observable=_descending,
            predict=lambda setting, inputs: 0.0,
            judge=Ordering(kind="bound"),
            control=Control(
                "delta falls, away from the spinodal",
                design={
                    "quick": Runs(_approach(150, (0.65, 0.5)), 48),
                    "standard": Runs(_approach(300, APPROACH[::-1]), 192),
                    "paper": Runs(_approach(600, APPROACH[::-1]), 400),
                },
            ),
            admissible=_unrecovered,
            size=lambda setting: setting.levels.model.p,
        ),
    ),
)


# --- natural gradient descent -----------------------------------------------------------------------------------------

FACTORS = np.array([1.0, 1.8, 1.97, 2.03])
"""Step sizes in units of 1/mu_max: the slowest mode limits the first two, the fastest the third, and the last is unstable."""


def _local(p: int, *places: tuple[float, float]) -> tuple[LocalDescent, ...]:
    return tuple(LocalDescent(model(delta, sigma, p), FACTORS) for delta, sigma in places)


def _hessian(
    setting: LocalDescent, gram: np.ndarray, lam: np.ndarray, gam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hess F_TAP less C^{-1}, and L with L L^T = C, in (m, s), from their formulas; shapes (2p, 2p)."""
    law, p, noise = theory.U3.tilted(lam, gam), setting.model.p, setting.model.sigma**2
    tau = noise + law.variance.mean()
    coupling = np.zeros((2 * p, 2 * p))
    coupling[:p, :p] = gram / noise - setting.model.delta / tau * np.eye(p)
    u = np.concatenate([2 * law.mean, -np.ones(p)])
    coupling -= setting.model.delta / (2 * p * tau**2) * np.outer(u, u)
    first = np.sqrt(law.variance)
    cross = law.cross_covariance / first
    second = np.sqrt(law.square_variance - cross**2)
    return coupling, np.block([[np.diag(first), np.zeros((p, p))], [np.diag(cross), np.diag(second)]])


def _extremes(
    setting: LocalDescent, inputs: Results, whitened: bool = True
) -> tuple[Float[np.ndarray, "S 1"], Float[np.ndarray, "S 1"]]:
    """Extreme eigenvalues of C^{1/2} Hess F C^{1/2}, or of Hess F itself."""
    found = []
    for gram, lam, gam in zip(inputs["gram"], inputs["lam"], inputs["gam"], strict=True):
        coupling, factor = _hessian(setting, gram, lam, gam)
        white = np.eye(len(factor)) + factor.T @ coupling @ factor
        matrix = white if whitened else np.linalg.inv(factor @ factor.T) + coupling
        found.append(np.linalg.eigvalsh(matrix)[[0, -1]])
    smallest, largest = np.array(found).T
    return smallest[:, None], largest[:, None]


def _predicted_contraction(whitened: bool = True) -> Callable[[LocalDescent, Results], np.ndarray]:
    def predict(setting: LocalDescent, inputs: Results) -> Float[np.ndarray, "S stable"]:
        eta = inputs["eta"][:, setting.factors < 2]
        return 1 - theory.ngd_rate(eta, *_extremes(setting, inputs, whitened))

    return predict


def _bracket(setting: LocalDescent, results: Results) -> Float[np.ndarray, "S 2"]:
    """The largest step size with which the gradient shrinks, and the smallest with which it does not."""
    eta, shrinks = results["eta"], results["contraction"] > 1e-3
    return np.stack([np.where(shrinks, eta, 0).max(1), np.where(shrinks, np.inf, eta).min(1)], axis=1)


def _spectral_norm(inputs: Results) -> Float[np.ndarray, " S"]:
    """|X|, from X^T X."""
    return np.sqrt(np.linalg.eigvalsh(inputs["gram"])[:, -1])


def _smoothness(setting: LocalDescent | Monotone, inputs: Results) -> Float[np.ndarray, " S"]:
    return theory.smoothness(theory.U3, setting.model.sigma, _spectral_norm(inputs))


LOCAL = {
    "quick": Runs(_local(80, (1.5, 0.4)), 24),
    "standard": Runs(_local(160, (1.0, 0.3), (1.0, 0.5), (0.5, 0.3), (0.7, 0.3), (1.5, 0.4)), 48),
    "paper": Runs(_local(400, (1.0, 0.3), (1.0, 0.5), (0.5, 0.3), (0.7, 0.3), (1.5, 0.4)), 48),
}
LIMIT = ("gram", "lam", "gam")


def _monotone(factor: float = 1.0) -> dict[str, Runs]:
    settings = tuple(Monotone(model(0.65, sigma, 16), factor) for sigma in (0.1, 0.3))
    return {preset: Runs(settings, seeds) for preset, seeds in {"quick": 424, "standard": 2000, "paper": 5000}.items()}


NGD_RATE = Claim(
    id=f"{PAPER}.ngd-rate",
    kind="rate",
    statement="Natural gradient descent of step eta converges like max(|1 - eta mu_min|, |1 - eta mu_max|)^t, mu the"
    " spectrum of C^{1/2} Hess F_TAP C^{1/2} at its limit, so for eta < 2/mu_max; with eta <= 1/L, L = 1 +"
    " (width/2)^2 |X|^2/sigma^2, F never rises, from any start.",
    source="paper, theorem on natural gradient descent; rate, L and 2/mu_max derived here",
    assumptions="bounded support (U3)",
    checks=(
        Check(
            name="rate",
            experiment=LOCAL_DESCENT,
            design=LOCAL,
            observable=lambda setting, results: results["contraction"][:, setting.factors < 2],
            predict=_predicted_contraction(),
            inputs=("eta", *LIMIT),
            judge=Equivalence(tolerance=0.05, kind="rate"),
            control=Control("spectrum of Hess F, not whitened by C", predict=_predicted_contraction(whitened=False)),
            size=lambda setting: setting.model.p,
        ),
        Check(
            name="largest stable step",
            experiment=LOCAL_DESCENT,
            design=LOCAL,
            observable=_bracket,
            predict=lambda setting, inputs: 2 / _extremes(setting, inputs)[1],
            inputs=LIMIT,
            judge=Threshold(tolerance=0.05, deterministic=True, kind="rate"),
            control=Control(
                "L in place of mu_max", predict=lambda setting, inputs: 2 / _smoothness(setting, inputs)[:, None]
            ),
            size=lambda setting: setting.model.p,
        ),
        Check(
            name="no rise with 1/L",
            experiment=MONOTONE,
            design=_monotone(),
            observable=lambda setting, results: results["rise"],
            predict=lambda setting, inputs: 1e-12,
            judge=Bound(mass=0.01, kind="rate"),
            control=Control("steps of 20/L", design=_monotone(20.0)),
            size=lambda setting: setting.model.p,
        ),
        Check(
            name="mu_max below L",
            experiment=MONOTONE,
            design=_monotone(),
            observable=lambda setting, results: results["largest"],
            predict=_smoothness,
            inputs=("gram",),
            judge=Bound(mass=0.01, kind="rate"),
            control=Control(
                "E V in place of its largest value",
                predict=lambda setting, inputs: 1 + 0 * _smoothness(setting, inputs),
            ),
            size=lambda setting: setting.model.p,
        ),
    ),
)


# --- phases -----------------------------------------------------------------------------------------------------------


def _prior(prior: Prior) -> theory.Prior:
    """A prior of the predictions."""
    if isinstance(prior, SpikeAndSlab):
        return theory.BernoulliGaussian(prior.rho, prior.v)
    assert isinstance(prior, Atoms)
    return theory.Discrete(tuple(prior.values.tolist()), tuple(prior.weights.tolist()))


def _predicted_lines(factor: float = 1.0) -> Callable[[Transition, Results], np.ndarray]:
    def predict(setting: Transition, inputs: Results) -> Float[np.ndarray, " 5"]:
        prior = _prior(setting.prior)
        cusp = theory.cusp(prior)
        assert cusp is not None
        return np.array([*theory.phase_lines(prior, factor * setting.sigma), cusp.sigma, cusp.delta])

    return predict


def _phase_line(name: str) -> Callable[[Levels, Results], float]:
    return lambda setting, inputs: float(getattr(theory.phase_lines(theory.U3, setting.model.sigma), name))


THREE_POINTS = tuple(
    Transition(prior, sigma)
    for prior, sigmas in ((U3, (0.05, 0.1, 0.15)), (three_point(0.1), (0.05, 0.1)))
    for sigma in sigmas
)
SLABS = (Transition(SpikeAndSlab(0.2), 0.02), Transition(SpikeAndSlab(0.1), 0.012724))


def _success(p: int, low: float, high: float) -> tuple[Levels, ...]:
    return (levels(tuple(np.linspace(low, high, 9)), 0.1, p),)


PHASE_DIAGRAM = Claim(
    id=f"{PAPER}.phase-diagram",
    kind="threshold",
    statement="Bayes AMP recovers beta0 above delta_alg, where the smallest fixed point of gamma = delta/(sigma^2 +"
    " mmse(gamma)) vanishes, not from delta_IT on, where a better one has the smaller phi; below delta_low there is"
    " no better one, and the lines meet in a cusp.",
    source="paper, hard and easy phase; the lines as extrema of gamma (sigma^2 + mmse(gamma)) derived here",
    assumptions="a prior with one first-order transition, sigma below that of the cusp",
    checks=(
        Check(
            name="lines and cusp",
            experiment=PHASE_LINES,
            design={
                "quick": Runs(THREE_POINTS),
                "standard": Runs(THREE_POINTS + SLABS),
                "paper": Runs(THREE_POINTS + SLABS),
            },
            observable=lambda setting, results: results["lines"],
            predict=_predicted_lines(),
            judge=Identity(at_least=5 * len(THREE_POINTS), kind="threshold"),
            control=Control("sigma 1 % larger", predict=_predicted_lines(1.01)),
        ),
        Check(
            name="success of AMP",
            experiment=SUCCESS,
            design={
                "quick": Runs(_success(500, 0.62, 0.82), 64),
                "standard": Runs(_success(1500, 0.67, 0.77), 48),
                "paper": Runs(_success(4000, 0.68, 0.74), 48),
            },
            observable=lambda setting, results: (results["mse"] < RECOVERED).astype(float),
            predict=_phase_line("algorithmic"),
            judge=Threshold(tolerance=0.03, absolute=True, levels=lambda setting: setting.deltas),
            control=Control("delta_IT in place of delta_alg", predict=_phase_line("information")),
            size=lambda setting: setting.model.p,
        ),
    ),
)


# --- two minima -------------------------------------------------------------------------------------------------------


def _minima(delta: float) -> dict[str, Runs]:
    """The instances have .65 p rows; those beyond delta p are left out."""
    sizes = {"quick": (300, 448), "standard": (400, 800), "paper": (2000, 200)}
    return {
        preset: Runs((Levels(model(0.65, 0.1, p), np.array([delta])),), seeds) for preset, (p, seeds) in sizes.items()
    }


def _gap(setting: Levels, results: Results) -> Float[np.ndarray, " S"]:
    return results["energy"][:, 0] - results["energy"][:, 1]


def _both_minima(setting: Levels, results: Results) -> Bool[np.ndarray, " S"]:
    return results["converged"].all(axis=1) & (results["variance"][:, 0] > RECOVERED)


def _predicted_gap(upper: int) -> Callable[[Levels, Results], np.ndarray]:
    """phi at the fixed point `upper`, counted from the smallest gamma, less phi at the largest; to first order in the noise drawn.

    F_TAP/p at a fixed point moves by (sigma^2/tau)/2 per unit of (|eps|^2/sigma^2 - n)/p, tau = delta/gamma: by the chain rule
    eps.(y - X m)/(2 sigma^2), and y - X m is (sigma^2/tau) z with z correlated with eps like eps itself.
    """

    def predict(setting: Levels, inputs: Results) -> Float[np.ndarray, " S"]:
        delta, sigma = float(setting.deltas[0]), setting.model.sigma
        gamma = theory.fixed_points(theory.U3, delta, sigma)
        potential = theory.rs_potential(theory.U3, delta, sigma, gamma)
        response = sigma**2 * gamma / (2 * delta)
        return potential[upper] - potential[-1] + (response[upper] - response[-1]) * inputs["noise"]

    return predict


TWO_MINIMA = Claim(
    id=f"{PAPER}.two-minima",
    kind="ordering",
    statement="In the hard phase F_TAP has a lower minimum near beta0 than at AMP's limit, found by an informed"
    " start only; the energies per coordinate differ by phi(gamma_alg) - phi(gamma_stat), .120862 at U3, delta ="
    " .65, sigma = .1.",
    source="paper, replica-symmetric potential; the fluctuation with |eps|^2 derived here",
    assumptions="delta_IT < delta < delta_alg; instances in which AMP converges from both starts, and not to beta0 from the"
    " uninformed one",
    checks=(
        Check(
            name="order",
            experiment=MINIMA,
            design=_minima(0.65),
            observable=_gap,
            predict=lambda setting, inputs: 0.0,
            judge=Ordering(),
            control=Control("delta = .5, below delta_IT", design=_minima(0.5)),
            admissible=_both_minima,
            size=lambda setting: setting.model.p,
        ),
        Check(
            name="energy gap",
            experiment=MINIMA,
            design=_minima(0.65),
            observable=_gap,
            predict=_predicted_gap(0),
            inputs=("noise",),
            judge=Equivalence(tolerance=0.05, kind="ordering"),
            control=Control("the unstable fixed point in place of AMP's", predict=_predicted_gap(1)),
            admissible=_both_minima,
            size=lambda setting: setting.model.p,
        ),
    ),
)


# --- descent where message passing fails ------------------------------------------------------------------------------


def _descents(*sizes: int) -> tuple[Descent, ...]:
    """First steps of 20/L."""
    step = 20 / theory.smoothness(theory.U3, 0.1, theory.spectral_norm_limit(0.65))
    return tuple(Descent(model(0.65, 0.1, p), float(step)) for p in sizes)


DESCENTS = {
    "quick": Runs(_descents(200), 84),
    "standard": Runs(_descents(200, 400), 120),
    "paper": Runs(_descents(200, 400, 800), 200),
}


def _decades(name: str) -> Callable[[Descent, Results], np.ndarray]:
    """log10 of AMP's last gradient norm over that of a descent."""
    return lambda setting, results: np.log10(results["amp"] / results[name])


AMP_VS_NGD = Claim(
    id=f"{PAPER}.amp-vs-ngd",
    kind="ordering",
    statement="At finite p AMP can end in a cycle though state evolution converges; natural gradient descent with"
    " backtracking, from the best of AMP's first 30 iterates, reaches a stationary point from every one of them.",
    source="motivation of natural gradient descent in the paper; observed here",
    assumptions="hard phase (U3, delta = .65, sigma = .1)",
    checks=(
        Check(
            name="descent converges",
            experiment=DESCENT,
            design=DESCENTS,
            observable=lambda setting, results: results["backtracking"],
            predict=lambda setting, inputs: 1e-6,
            judge=Bound(mass=0.1, kind="ordering"),
            control=Control("no backtracking: all steps 20/L", observable=lambda setting, results: results["fixed"]),
            size=lambda setting: setting.model.p,
        ),
        Check(
            name="where AMP does not",
            experiment=DESCENT,
            design=DESCENTS,
            observable=_decades("backtracking"),
            predict=lambda setting, inputs: 0.0,
            judge=Ordering(at_least=3.0),
            control=Control("no backtracking: all steps 20/L", observable=_decades("fixed")),
            admissible=lambda setting, results: ~results["converged"],
            size=lambda setting: setting.model.p,
        ),
    ),
)

CLAIMS = (LOCAL_CONVEXITY, NGD_RATE, PHASE_DIAGRAM, TWO_MINIMA, AMP_VS_NGD)
