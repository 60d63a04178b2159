"""The law P* of N interacting neurons at stationarity against mu*: gap, variance, bias, marginals and distances, with their limits
and the bounds without a log-Sobolev constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Bool, Float, Int, Key
from scipy import stats

from theorysim.errors import require
from theorysim.kernels import finite_network, langevin, mean_field
from theorysim.papers.mean_field_langevin.identities import (
    GAUSSIAN_LAWS,
    PAPER,
    START,
    GaussianLaws,
    every,
    gaussians,
    model_of,
    moments_of,
    optimum_of,
    reading,
)
from theorysim.papers.mean_field_langevin.setting import Problem, rbf, tanh1d, tanhlog
from theorysim.papers.mean_field_langevin.theory import dynamics, finite_n
from theorysim.papers.mean_field_langevin.theory import gauss as linear
from theorysim.papers.mean_field_langevin.theory import mean_field as optimal
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Bound, Check, Claim, Control, Design, Equivalence, Identity, Law, Limit, Rate, Search
from theorysim.verify.claim import Results


def column(*values: float) -> Float[np.ndarray, "T 1"]:
    return np.array(values)[:, None]


def exact(settings: Callable[[str], tuple[Any, ...]] | tuple[Any, ...]) -> dict[str, Design]:
    """One seed everywhere: nothing is drawn."""
    return every(settings, quick=1, standard=1, paper=1)


def _require_line(problem: Problem, sizes: Int[np.ndarray, "..."], extent: float, least: int = 1) -> None:
    require(problem.d == 1, f"particles must be of dimension d = 1, got d = {problem.d}")
    require(bool((sizes >= least).all()), f"sizes must be at least {least}, got {sizes.tolist()}")
    require(extent > 0, f"extent must be positive, got {extent}")


# --- P* of the squared loss, exactly ----------------------------------------------------------------------------------


@setting
class Networks:
    """P* of N = sizes neurons, one after another, on `nodes` nodes of [-extent, extent]; squared loss.

    points: test inputs, shape (T, 1). unscaled: phases of the transform are divided by sqrt(lam n N^{1 - unscaled}), 0 in truth.
    """

    problem: Problem
    sizes: Int[np.ndarray, " sizes"]
    points: Float[np.ndarray, "T 1"]
    extent: float = 6.0
    nodes: int = 401
    unscaled: float = 0.0

    def validate(self) -> None:
        _require_line(self.problem, self.sizes, self.extent)


def networks(key: Key[Array, ""], setting: Networks) -> dict[str, Array]:
    """Of each N: gap Delta_N, kl = KL(P*||mu*^N), resolved, one_kl and transport, KL and W_2^2 of one neuron's law from mu*, shapes
    (sizes,); bias, variance: of h_rho at the points, shapes (T, sizes)."""

    def laws(problem: Problem, sizes: Array, points: Array, extent: Array, unscaled: Array) -> dict[str, Array]:
        model, grid = problem.kernel(), mean_field.ball_grid(extent, setting.nodes)
        best = mean_field.optimum(model, grid)
        p = mean_field.masses(grid, best.log_density)

        def law(N: Array) -> dict[str, Array]:
            factor = jnp.asarray(N, p.dtype) ** unscaled
            found = finite_network.gibbs_law(model._replace(lam=model.lam / factor), grid, best, N, points)
            marginal = jnp.maximum(found.marginal, 0)
            log_marginal = best.log_density + jnp.log(jnp.where(p > 1e-25, marginal, 1))
            return {
                "gap": factor * found.gap,
                "kl": found.kl,
                "resolved": found.resolved,
                "bias": found.bias,
                "variance": found.variance,
                "one_kl": finite_network.relative_entropy(p, marginal),
                "transport": finite_network.wasserstein2_line(grid, log_marginal, best.log_density),
            }

        found = lax.map(law, sizes)
        return {**found, "bias": found["bias"].T, "variance": found["variance"].T}

    return one_by_one(laws)(setting.problem, setting.sizes, setting.points, setting.extent, setting.unscaled)


NETWORKS = Experiment(
    f"{PAPER}/networks",
    networks,
    operations=lambda s: 4.0 * len(s.sizes) * s.nodes * 121**s.problem.n * (len(s.points) + 2),
)

SMALL = np.array([1, 2, 4, 8, 16])
LARGE = np.array([16, 32, 64, 128, 256])
POINTS = column(0.7, 2.0, 3.0)
RBF_POINTS = column(0.0, 1.5, 3.0)


def large(preset: str) -> tuple[Networks, ...]:
    tanh = Networks(tanh1d(), LARGE, POINTS)
    return (tanh,) if preset == "quick" else (tanh, Networks(rbf(0.1), LARGE, RBF_POINTS, extent=13.0))


def resolved(setting: Networks, results: Results) -> np.ndarray:
    """Whether the transform was fine enough at every N."""
    return np.logical_and.reduce(results["resolved"], axis=1)


def optimum(setting: Networks | Samples | Outputs | Pairs) -> optimal.Optimum:
    """mu* on the nodes of the measurement."""
    return optimum_of(setting.problem, setting.extent, setting.nodes)


def sizes(setting: Networks | Samples | Pairs) -> Int[np.ndarray, " sizes"]:
    """N."""
    return setting.sizes


LIMIT: dict[str, Any] = {"experiment": NETWORKS, "design": exact(large), "size": sizes, "admissible": resolved}
DOUBLINGS: dict[str, Any] = {**LIMIT, "size": lambda setting: setting.sizes[:-1]}
"""Differences between a size and its double."""


# --- gap formula ------------------------------------------------------------------------------------------------------


def _small(**changes: Any) -> Callable[[str], tuple[Networks, ...]]:
    def settings(preset: str) -> tuple[Networks, ...]:
        tanh = Networks(tanh1d(), SMALL, POINTS, **changes)
        other = Networks(rbf(0.1), SMALL, RBF_POINTS, extent=13.0, **changes)
        return (tanh,) if preset == "quick" else (tanh, other)

    return settings


def _one_and_two(setting: Networks, results: Results) -> Float[np.ndarray, "S 2 F"]:
    """Delta_N, bias and variance at N = 1, 2."""
    parts = results["gap"][:, None], results["bias"], results["variance"]
    return np.swapaxes(np.concatenate(parts, axis=1)[..., :2], 1, 2)


def _by_quadrature(setting: Networks, inputs: Results) -> Float[np.ndarray, "2 F"]:
    rows = (finite_n.direct_law(optimum(setting), N, setting.points) for N in (1, 2))
    return np.array([[law.gap, *law.bias, *law.variance] for law in rows])


# --- any loss, by importance sampling ---------------------------------------------------------------------------------


@setting
class Samples:
    """Networks of N = sizes independent neurons of law mu*, weighted for P*: `samples` of each; any loss.

    Neurons live on `nodes` nodes of [-extent, extent]. points: test inputs, shape (T, 1).
    """

    problem: Problem
    sizes: Int[np.ndarray, " sizes"]
    points: Float[np.ndarray, "T 1"]
    samples: int = 8000
    extent: float = 6.0
    nodes: int = 101

    def validate(self) -> None:
        _require_line(self.problem, self.sizes, self.extent)
        require(self.samples >= 2 and self.samples % 2 == 0, f"samples must be even and positive, got {self.samples}")


def samples(key: Key[Array, ""], setting: Samples) -> dict[str, Array]:
    """Estimates for each N: gap, shape (sizes,); bias and variance at the points, shapes (T, sizes)."""

    def estimates(key: Array, problem: Problem, sizes: Array, points: Array, extent: Array) -> dict[str, Array]:
        model, grid = problem.kernel(), mean_field.ball_grid(extent, setting.nodes)
        best = mean_field.optimum(model, grid)

        def estimate(N: Array) -> tuple[Array, Array, Array]:
            total, half = setting.samples, setting.samples // 2
            own = random.fold_in(key, N)
            sums = finite_network.accumulate(own, model, grid, best, N, points, samples=total, chunk=half)
            found, _ = finite_network.estimate(model, N, sums)
            return found.gap, found.bias, found.variance

        gap, bias, variance = lax.map(estimate, sizes)
        return {"gap": gap, "bias": bias.T, "variance": variance.T}

    return one_by_one(estimates)(key, setting.problem, setting.sizes, setting.points, setting.extent)


SAMPLES = Experiment(f"{PAPER}/samples", samples, operations=lambda s: 200.0 * s.samples * float(np.sum(s.sizes)))

FEW = np.array([1, 2, 4, 8])
MORE = np.array([4, 8, 16, 32])


def sampled(which: np.ndarray) -> tuple[Samples, ...]:
    return (Samples(tanhlog(), which, POINTS),)


SEEDS = {"quick": 64, "standard": 400, "paper": 4000}


def _logistic_gaps(power: int, setting: Samples, inputs: Results) -> Float[np.ndarray, " 2"]:
    """Delta_1 and Delta_2 = -(lam/N) log E exp(-(N/lam) B) by quadrature; N to a power in the prefactor."""
    best = optimum(setting)
    laws = (finite_n.direct_law(best, N, setting.points) for N in (1, 2))
    return np.array([law.size ** (1 - power) * law.gap for law in laws])


GAP_FORMULA = Claim(
    id=f"{PAPER}.gibbs-gap-formula",
    kind="identity",
    statement="Delta_N = L^N(P*)/N - L(mu*) = -(lam/N) log E exp(-(N/lam) B(rho, mu*)) over N independent neurons of law"
    " mu*; for the squared loss the expectation is E_zeta psi(zeta)^N, zeta ~ N(0, I_n), and so are bias and variance.",
    source="derived here",
    assumptions="convex l; squared loss for the second form; against direct quadrature of P* at N = 1, 2",
    checks=(
        Check(
            name="transform",
            experiment=NETWORKS,
            design=exact(_small()),
            observable=_one_and_two,
            predict=_by_quadrature,
            judge=Identity(tolerance=1e-12, at_least=14, scale=1.0),
            control=Control("phases over sqrt(lam n) in place of sqrt(lam n N)", design=exact(_small(unscaled=1.0))),
        ),
        Check(
            name="independent neurons, logistic loss",
            experiment=SAMPLES,
            design=every(sampled(FEW), **SEEDS),
            observable=lambda s, results: results["gap"][:, :2],
            predict=partial(_logistic_gaps, 1),
            judge=Equivalence(tolerance=0.05),
            control=Control("prefactor lam in place of lam/N", predict=partial(_logistic_gaps, 0)),
        ),
    ),
)


# --- the gap's bound and limit ----------------------------------------------------------------------------------------


@setting
class RandomNetworks:
    """P* of random problems with n data, squared loss.

    z_j ~ U(-2, 2), y_j ~ U(-1.5, 1.5), log lam ~ U(log .03, log 3), log lamp ~ U(log .03, log 2), N uniform on 1..32, test input
    ~ U(-3, 3). nodes: of the line on which neurons live. count: of each axis of zeta.
    """

    neuron: Literal["tanh", "rbf"]
    n: int = 2
    nodes: int = 201
    count: int = 121

    def validate(self) -> None:
        require(self.n in (1, 2), f"number of data n must be 1 or 2, got {self.n}")


def random_networks(key: Key[Array, ""], setting: RandomNetworks) -> dict[str, Array]:
    """The problem: Z, y, shapes (2,), of which the first n count, lam, lamp, N, point, extent of the line.

    Of P*: gap, kl, bregman; bias and second_moment of h_rho - h_{mu*} at the point; resolved.
    """
    n, keys = setting.n, random.split(key, 6)
    uniform = lambda k, low, high, shape=(): random.uniform(keys[k], shape, jnp.float64, low, high)
    instance = {
        "Z": uniform(0, -2, 2, (2,)),
        "y": uniform(1, -1.5, 1.5, (2,)),
        "lam": jnp.exp(uniform(2, np.log(0.03), np.log(3))),
        "lamp": jnp.exp(uniform(3, np.log(0.03), np.log(2))),
        "N": random.randint(keys[4], (), 1, 33),
        "point": uniform(5, -3, 3),
    }

    def law(Z: Array, y: Array, lam: Array, lamp: Array, N: Array, point: Array) -> dict[str, Array]:
        model = langevin.Model.of(setting.neuron, "squared", Z[:n, None], y[:n], lamp=lamp, lam=lam)
        extent = mean_field.sufficient_extent(model, 1.0)
        grid = mean_field.ball_grid(extent, setting.nodes)
        best = mean_field.optimum(model, grid)
        found = finite_network.gibbs_law(model, grid, best, N, point[None, None], count=setting.count)
        return {
            "extent": extent,
            "gap": found.gap,
            "kl": found.kl,
            "bregman": found.bregman,
            "bias": found.bias[0],
            "second_moment": found.second_moment[0],
            "resolved": found.resolved,
        }

    return {**instance, **one_by_one(law)(*instance.values())}


RANDOM_NETWORKS = Experiment(
    f"{PAPER}/random-networks", random_networks, operations=lambda s: 12.0 * s.nodes * s.count**s.n
)


def random_settings(preset: str) -> tuple[RandomNetworks, ...]:
    if preset == "quick":
        return (RandomNetworks("tanh"),)
    return tuple(RandomNetworks(neuron, n) for neuron in ("tanh", "rbf") for n in (1, 2))


LEAST_GAP = 1e-6
"""A gap is a difference of terms of order one, known to about 2e-15. Where the neurons are all but flat in x so little is left of
it that the 1e-9 of rounding that the bounds allow for does not cover the cancellation."""


def _comparable(setting: RandomNetworks, results: Results) -> Bool[np.ndarray, " S"]:
    """Not a gap of either sign that is too small. A negative one beyond stays in, to violate; NaN stays in, to be invalid."""
    return results["resolved"] & ~(np.abs(results["gap"]) <= LEAST_GAP)


RANDOM: dict[str, Any] = {
    "experiment": RANDOM_NETWORKS,
    "design": every(random_settings, quick=860, standard=250, paper=5000),
    "admissible": _comparable,
}
INSTANCE = ("Z", "y", "lam", "lamp", "N", "extent")


def models_of(setting: RandomNetworks, inputs: Results) -> list[optimal.Model]:
    """The drawn problems."""
    neuron = {"tanh": optimal.TANH, "rbf": optimal.RBF}[setting.neuron]
    problems = zip(*(inputs[name] for name in ("Z", "y", "lam", "lamp")), strict=True)
    n = setting.n
    return [optimal.Model(neuron, Z[:n, None], y[:n], float(lam), float(lamp)) for Z, y, lam, lamp in problems]


def _gap_bounds(share: float, setting: RandomNetworks, inputs: Results) -> Float[np.ndarray, "S 3"]:
    """0, and a share of (L/(2 n N)) tr K and of L R^2/(2N)."""
    rows = []
    for model, extent, N in zip(models_of(setting, inputs), inputs["extent"], inputs["N"], strict=True):
        best = optimal.mf_optimum(model, optimal.ball_grid(float(extent), setting.nodes))
        rows.append([0.0, share * best.gap_bound / N, share * optimal.worst_case_gap(model) / N])
    return np.array(rows)


POC_BOUND = Claim(
    id=f"{PAPER}.poc-gap-bound",
    kind="bound",
    statement="0 <= Delta_N <= (L/(2 n N)) tr K <= L R^2/(2N) for every N, lam, lamp and data, whatever the log-Sobolev constant.",
    source="Nitanda 2024 (arXiv 2405.15767), particle approximation theorem; constant rederived here",
    assumptions="convex L-smooth l, |h| <= R (random problems of one or two data, tanh and radial neurons, squared loss,"
    " |gap| > 1e-6)",
    checks=(
        Check(
            name="random problems",
            observable=lambda s, results: results["gap"][:, None] * [-1, 1, 1],
            predict=partial(_gap_bounds, 1.0),
            inputs=INSTANCE,
            judge=Bound(mass=1e-2, rounding=1e-9),
            control=Control("L/4 in place of L/2", predict=partial(_gap_bounds, 0.5)),
            search=Search(draws=True),
            **RANDOM,
        ),
    ),
)


def _scaled_gap(setting: Networks | Samples | Cooling, results: Results) -> Float[np.ndarray, "S ... sizes"]:
    """N Delta_N."""
    return setting.sizes * results["gap"]


def _without_curvature(best: optimal.Optimum) -> float:
    """(lam/2) log det(I + K/(lam n))."""
    model = best.model
    return float(model.lam / 2 * np.linalg.slogdet(np.eye(model.n) + best.K / (model.lam * model.n))[1])


POC_CONSTANT = Claim(
    id=f"{PAPER}.poc-gap-constant",
    kind="limit",
    statement="N Delta_N -> kappa = (lam/2) log det(I + D^{1/2} K D^{1/2}/(lam n)), D = diag l''(u_j), with an error of order 1/N;"
    " for linear neurons N Delta_N = kappa at every N.",
    source="O(1/N): Nitanda et al.; constant derived here",
    assumptions="convex l, mu* unique",
    checks=(
        Check(
            name="squared loss",
            observable=_scaled_gap,
            predict=lambda s, inputs: optimum(s).kappa,
            judge=Limit(tolerance=1e-3, orders=(1.0,), deterministic=True),
            control=Control("tr K/(2n), of independent neurons", predict=lambda s, inputs: optimum(s).gap_bound),
            **LIMIT,
        ),
        Check(
            name="order of the remainder",
            observable=lambda s, results: np.abs(np.diff(_scaled_gap(s, results))),
            predict=lambda s, inputs: -1.0,
            judge=Rate(tolerance=0.05, deterministic=True),
            control=Control("order N^{-1/2}", predict=lambda s, inputs: -0.5),
            **DOUBLINGS,
        ),
        Check(
            name="logistic loss",
            experiment=SAMPLES,
            design=every(sampled(MORE), **SEEDS),
            observable=_scaled_gap,
            predict=lambda s, inputs: optimum(s).kappa,
            judge=Limit(tolerance=0.05, spread_decay=0.0),
            control=Control("l'' = 1", predict=lambda s, inputs: _without_curvature(optimum(s))),
            size=sizes,
        ),
        Check(
            name="linear neurons",
            experiment=GAUSSIAN_LAWS,
            design=every(gaussians, quick=64, standard=64, paper=256),
            observable=lambda s, results: s.N * results["delta"],
            predict=lambda s, inputs: linear.gaussian_model(model_of(s.problem)).kappa,
            judge=Identity(tolerance=1e-11, at_least=1, kind="limit"),
            control=Control(
                "tr K/(2n), of independent neurons",
                predict=lambda s, inputs: linear.gaussian_model(model_of(s.problem)).gap_bound,
            ),
        ),
    ),
)


# --- no log-Sobolev constant ------------------------------------------------------------------------------------------

TEMPERATURES = np.array([0.1, 0.05, 0.02, 0.01, 0.005])


@setting
class Cooling:
    """P* of two radial neurons' problem at decreasing temperatures lam, for each N = sizes, and mu* itself, ever more bimodal."""

    problem: Problem
    lam: Float[np.ndarray, " temperatures"]
    sizes: Int[np.ndarray, " sizes"]
    extent: float = 9.0
    nodes: int = 401

    def validate(self) -> None:
        falling = len(self.lam) >= 2 and bool((np.diff(self.lam) < 0).all()) and self.lam[-1] > 0
        require(falling, f"temperatures lam must be positive and decrease, got {self.lam.tolist()}")
        _require_line(self.problem, self.sizes, self.extent)


def cooling(key: Key[Array, ""], setting: Cooling) -> dict[str, Array]:
    """gap: Delta_N, shape (temperatures, sizes). poincare: constant of mu*, at least its log-Sobolev constant, (temperatures,).
    resolved: whether the transform was fine enough everywhere."""

    def sweep(problem: Problem, lams: Array, sizes: Array, extent: Array) -> dict[str, Array]:
        grid = mean_field.ball_grid(extent, setting.nodes)

        def at(lam: Array) -> dict[str, Array]:
            model = problem.kernel()._replace(lam=lam)
            best = mean_field.optimum(model, grid)

            def law(N: Array) -> dict[str, Array]:
                found = finite_network.gibbs_law(model, grid, best, N)
                return {"gap": found.gap, "resolved": found.resolved}

            return {"poincare": _poincare(grid, best.log_density), **lax.map(law, sizes)}

        found = lax.map(at, lams)
        return {**found, "resolved": found["resolved"].all()}

    return one_by_one(sweep)(setting.problem, setting.lam, setting.sizes, setting.extent)


def _poincare(grid: mean_field.Grid, log_density: Float[Array, " G"]) -> Float[Array, ""]:
    """Smallest nonzero eigenvalue of f -> -(mu f')'/mu by differences, mu between nodes being the geometric mean."""
    spacing = grid.nodes[1, 0] - grid.nodes[0, 0]
    rise = (log_density[1:] - log_density[:-1]) / 2
    zero = jnp.zeros(1)
    away = jnp.concatenate([jnp.exp(rise), zero]) + jnp.concatenate([zero, jnp.exp(-rise)])
    edges = jnp.ones(len(rise))
    matrix = jnp.diag(away) - jnp.diag(edges, 1) - jnp.diag(edges, -1)
    return jnp.linalg.eigvalsh(matrix)[1] / spacing**2


COOLING = Experiment(f"{PAPER}/cooling", cooling, operations=lambda s: 1e6 * len(s.lam) * s.nodes * (4 + len(s.sizes)))
COOLED: dict[str, Any] = {
    "experiment": COOLING,
    "design": exact((Cooling(rbf(0.1), TEMPERATURES, np.array([8, 64])),)),
    "admissible": reading("resolved"),
}
COLLAPSE = 1000.0
"""The Poincare constant falls by more than this over the sweep."""


def _sweep(setting: Cooling) -> list[optimal.Optimum]:
    problems = (dataclasses.replace(setting.problem, lam=lam) for lam in setting.lam.tolist())
    return [optimum_of(problem, setting.extent, setting.nodes) for problem in problems]


def _inverse_to_poincare(setting: Cooling, inputs: Results) -> Float[np.ndarray, " temperatures"]:
    """c/alpha, alpha the Poincare constant, with c from the highest temperature."""
    constants = np.array([dynamics.poincare(best) for best in _sweep(setting)])
    return _sweep(setting)[0].kappa * constants[0] / constants


def _independent(share: float, setting: Cooling, inputs: Results) -> Float[np.ndarray, "temperatures 1"]:
    """A share of tr K/(2n), or of L R^2/2 where it is less."""
    return share * np.array([[min(best.gap_bound, optimal.worst_case_gap(best.model))] for best in _sweep(setting)])


def _before(setting: Cooling, results: Results) -> Float[np.ndarray, "S C"]:
    """N Delta_N at each temperature but the last, and the first Poincare constant."""
    gap = _scaled_gap(setting, results)[:, :-1]
    return np.column_stack([gap.reshape(len(gap), -1), results["poincare"][:, 0]])


def _after(rescaled: bool, setting: Cooling, inputs: Results) -> Float[np.ndarray, "S C"]:
    """N Delta_N at the next temperature, and `COLLAPSE` times the last Poincare constant."""
    gap, alpha = _scaled_gap(setting, inputs)[:, 1:], inputs["poincare"]
    if rescaled:
        gap = gap * (alpha[:, :-1] / alpha[:, 1:])[..., None]
    return np.column_stack([gap.reshape(len(gap), -1), COLLAPSE * alpha[:, -1]])


LSI_FREE = Claim(
    id=f"{PAPER}.lsi-free",
    kind="ordering",
    statement="As lam falls from .1 to .005 the Poincare constant of mu*, at least its log-Sobolev constant, collapses from"
    " .41 to 1.5e-4, while N Delta_N falls with lam, follows kappa and stays below tr K/(2n) and L R^2/2.",
    source="abstracts of arXiv 2502.05784 and 2405.15767",
    assumptions="two data for radial neurons, for which mu* is bimodal",
    checks=(
        Check(
            name="falls while the Poincare constant collapses",
            observable=_before,
            predict=partial(_after, False),
            inputs=("gap", "poincare"),
            judge=Bound(sense=">=", exhaustive=True, kind="ordering"),
            control=Control("gaps in proportion to the inverse Poincare constant", predict=partial(_after, True)),
            **COOLED,
        ),
        Check(
            name="follows kappa",
            observable=lambda s, results: _scaled_gap(s, results)[..., -1],
            predict=lambda s, inputs: np.array([best.kappa for best in _sweep(s)]),
            judge=Identity(tolerance=0.01, at_least=5, kind="ordering"),
            control=Control("c over the Poincare constant", predict=_inverse_to_poincare),
            **COOLED,
        ),
        Check(
            name="below independent neurons",
            observable=lambda s, results: _scaled_gap(s, results),
            predict=partial(_independent, 1.0),
            judge=Bound(exhaustive=True, kind="ordering"),
            control=Control("L/4 in place of L/2", predict=partial(_independent, 0.5)),
            **COOLED,
        ),
    ),
)


# --- variance and bias of the outputs ---------------------------------------------------------------------------------


@setting
class Outputs:
    """`draws` networks of N = size neurons of law P*, from `samples` weighted ones. point: test input.

    Neurons live on `nodes` nodes of [-extent, extent].
    """

    problem: Problem
    size: Int[np.ndarray, ""]
    point: float
    samples: int = 4000
    draws: int = 1000
    extent: float = 6.0
    nodes: int = 101

    def validate(self) -> None:
        _require_line(self.problem, self.size, self.extent)
        require(1 <= self.draws <= self.samples, f"draws must lie between 1 and {self.samples}, got {self.draws}")


def outputs(key: Key[Array, ""], setting: Outputs) -> dict[str, Array]:
    """deviation: sqrt(N) (h_rho - h_{mu*}) at the point, shape (draws,)."""

    def sample(key: Array, problem: Problem, N: Array, point: Array, extent: Array) -> Array:
        model, grid = problem.kernel(), mean_field.ball_grid(extent, setting.nodes)
        best, (first, second) = mean_field.optimum(model, grid), random.split(key)
        weighted = finite_network.sample(
            first, model, grid, best, N, point[None, None], samples=setting.samples, chunk=setting.samples
        )
        return finite_network.resample(second, weighted, setting.draws)[:, 0]

    point = jnp.asarray(setting.point, jnp.float64)
    return {"deviation": one_by_one(sample)(key, setting.problem, setting.size, point, setting.extent)}


OUTPUTS = Experiment(f"{PAPER}/outputs", outputs, operations=lambda s: 200.0 * s.samples * float(s.size))


def _normal(iid: bool, setting: Outputs, inputs: Results) -> Any:
    """N(0, v), or N(0, K_zz) of independent neurons."""
    found = optimal.predict(optimum(setting), column(setting.point))
    return stats.norm(scale=float((found.iid_variance if iid else found.variance)[0]) ** 0.5)


def _normals(preset: str) -> tuple[Outputs, ...]:
    first = Outputs(tanh1d(), np.array(16), 2.0)
    more = Outputs(tanh1d(), np.array(64), 2.0), Outputs(tanh1d(), np.array(64), 0.7)
    return (first,) if preset == "quick" else (first, *more)


def _scaled(name: str) -> Callable[[Any, Results], np.ndarray]:
    """N times a result at each point and size."""
    return lambda setting, results: setting.sizes * results[name]


def _at_points(name: str) -> Callable[[Any, Results], np.ndarray]:
    """A field of the prediction at the points, for every size."""
    return lambda setting, inputs: getattr(optimal.predict(optimum(setting), setting.points), name)[:, None]


VARIANCE = Claim(
    id=f"{PAPER}.prediction-variance",
    kind="limit",
    statement="N Var h_rho(z) -> v(z) = K_zz - K_z G K_z^T under P*, the posterior variance of a Gaussian process with covariance"
    " Cov_{mu*}(h_z, h_z') and noise lam n/l''; sqrt(N) (h_rho - h*)/sqrt(v) -> N(0, 1).",
    source="derived here (the papers have the order 1/N)",
    assumptions="any convex smooth loss",
    checks=(
        Check(
            name="squared loss",
            observable=_scaled("variance"),
            predict=_at_points("variance"),
            judge=Limit(tolerance=1e-2, orders=(1.0,), deterministic=True),
            control=Control("K_zz, of independent neurons", predict=_at_points("iid_variance")),
            **LIMIT,
        ),
        Check(
            name="logistic loss",
            experiment=SAMPLES,
            design=every(sampled(MORE), **SEEDS),
            observable=_scaled("variance"),
            predict=_at_points("variance"),
            judge=Limit(tolerance=0.05, spread_decay=0.0),
            control=Control("K_zz, of independent neurons", predict=_at_points("iid_variance")),
            size=sizes,
        ),
        Check(
            name="normal law",
            experiment=OUTPUTS,
            design=every(_normals, quick=128, standard=400, paper=2000),
            observable=reading("deviation"),
            predict=partial(_normal, False),
            judge=Law(tolerance=0.02, second_tolerance=0.05),
            control=Control("variance K_zz, of independent neurons", predict=partial(_normal, True)),
        ),
    ),
)


def _flat(setting: Samples, inputs: Results) -> Float[np.ndarray, "T 1"]:
    """b at the points without the loss's third derivative."""
    best = optimum(setting)
    loss = dataclasses.replace(best.model.loss, third=lambda u, y: np.zeros_like(u))
    flat = dataclasses.replace(best, model=dataclasses.replace(best.model, loss=loss))
    return optimal.predict(flat, setting.points).bias[:, None]


HOT = dataclasses.replace(tanhlog(), lam=0.2)
"""At this temperature an eighth of the bias comes from l'''."""

BIAS = Claim(
    id=f"{PAPER}.prediction-bias",
    kind="limit",
    statement="N (E h_rho(z) - h*(z)) -> b(z) = -(1/2) [t_z - K_z.G t] under P*, t_j = E[phi_j phi^T G phi] + (K c')_j, t_z ="
    " E[phi_z phi^T G phi] + K_z.c', c'_j = l'''_j Sigma_jj/(lam n).",
    source="derived here",
    assumptions="any convex smooth loss",
    checks=(
        Check(
            name="squared loss",
            observable=_scaled("bias"),
            predict=_at_points("bias"),
            judge=Limit(tolerance=1e-2, orders=(1.0,), deterministic=True),
            control=Control("sign", predict=lambda s, inputs: -_at_points("bias")(s, inputs)),
            **LIMIT,
        ),
        Check(
            name="logistic loss",
            experiment=SAMPLES,
            design=every((Samples(HOT, MORE // 2, POINTS, extent=12.0),), quick=384, standard=2048, paper=16384),
            observable=_scaled("bias"),
            predict=_at_points("bias"),
            judge=Limit(tolerance=0.05, spread_decay=-0.5),
            control=Control("l''' = 0", predict=_flat),
            size=sizes,
        ),
    ),
)


# --- local chaos ------------------------------------------------------------------------------------------------------


@setting
class Pairs:
    """The law of two of N = sizes neurons under P*, on nodes^2 nodes of [-extent, extent]^2; squared loss."""

    problem: Problem
    sizes: Int[np.ndarray, " sizes"]
    extent: float = 5.5
    nodes: int = 161

    def validate(self) -> None:
        _require_line(self.problem, self.sizes, self.extent, least=2)


def pairs(key: Key[Array, ""], setting: Pairs) -> dict[str, Array]:
    """kl: KL(P*^{(2)}||mu*^2) for each N, shape (sizes,)."""

    def distances(problem: Problem, sizes: Array, extent: Array) -> Array:
        model, grid = problem.kernel(), mean_field.ball_grid(extent, setting.nodes)
        best = mean_field.optimum(model, grid)
        p = mean_field.masses(grid, best.log_density)

        def distance(N: Array) -> Array:
            density = jnp.maximum(finite_network.gibbs_pairs(model, grid, best, N), 0)
            return finite_network.relative_entropy(p[:, None] * p, density)

        return lax.map(distance, sizes)

    return {"kl": one_by_one(distances)(setting.problem, setting.sizes, setting.extent)}


PAIRS = Experiment(f"{PAPER}/pairs", pairs, operations=lambda s: 8.0 * len(s.sizes) * s.nodes**2 * 121**s.problem.n)


def _distances_to_product(setting: Networks, results: Results) -> Float[np.ndarray, "S 3 sizes"]:
    """N^2 KL of one neuron, KL of all, N^2 W_2^2 of one neuron."""
    squares = setting.sizes**2
    return np.stack([squares * results["one_kl"], results["kl"], squares * results["transport"]], axis=1)


def _local_chaos(setting: Networks, inputs: Results) -> Float[np.ndarray, "3 1"]:
    found = optimal.local_chaos(optimum(setting))
    return np.array([[found.single], [found.joint], [found.transport]])


def _rigid_chaos(setting: Networks, inputs: Results) -> Float[np.ndarray, "3 1"]:
    """With G = I/(lam n), which leaves K out of (lam n + K)^{-1}: the outputs do not answer to a neuron."""
    best = dataclasses.replace(optimum(setting))
    best.__dict__["G"] = np.eye(best.model.n) / (best.model.lam * best.model.n)
    found, A = optimal.local_chaos(best), best.A
    return np.array([[found.single], [np.trace(A @ A) / 4], [found.transport]])


def _pair_limit(correlated: bool, setting: Pairs, inputs: Results) -> float:
    """E r^2 + tr((K G)^2)/2, or without the second term, of independent neurons with the right law."""
    found = optimal.local_chaos(optimum(setting))
    return found.pair if correlated else 2 * found.single


CHAOS = Claim(
    id=f"{PAPER}.local-chaos",
    kind="limit",
    statement="With r = -(1/2) [phi^T G phi - E phi^T G phi - phi.G t]: N^2 KL(P*^{(1)}||mu*) -> E r^2/2, N^2 KL(P*^{(2)}||mu*^2)"
    " -> E r^2 + tr((K G)^2)/2, KL(P*||mu*^N) -> log det(I + A)/2 - tr(A (I + A)^{-1})/2, N^2 W_2^2(P*^{(1)}, mu*) ->"
    " E[(int_{-inf}^x r mu*/mu*(x))^2].",
    source="sharp local chaos (Lacker 2023 for other models), derived here for P*",
    assumptions="squared loss; transport for d = 1",
    checks=(
        Check(
            name="one neuron and all",
            observable=_distances_to_product,
            predict=_local_chaos,
            judge=Limit(tolerance=1e-2, orders=(1.0,), deterministic=True),
            control=Control("G = I/(lam n), without K", predict=_rigid_chaos),
            **LIMIT,
        ),
        Check(
            name="two neurons",
            experiment=PAIRS,
            design=exact((Pairs(tanh1d(), np.array([16, 32, 64, 128])),)),
            observable=lambda s, results: s.sizes**2 * results["kl"],
            predict=partial(_pair_limit, True),
            judge=Limit(tolerance=1e-2, orders=(1.0,), deterministic=True),
            control=Control("uncorrelated neurons", predict=partial(_pair_limit, False)),
            size=sizes,
        ),
        Check(
            name="order",
            observable=reading("one_kl"),
            predict=lambda s, inputs: -2.0,
            judge=Rate(tolerance=0.05, deterministic=True),
            control=Control("order 1/N, the joint divergence over N", predict=lambda s, inputs: -1.0),
            **LIMIT,
        ),
    ),
)


# --- Wasserstein distance, and bounds of the outputs ------------------------------------------------------------------


def _distances(setting: GaussianLaws, results: Results) -> Float[np.ndarray, "S C"]:
    """W_2^2/N and 2 KL/(alpha N) of the chain's laws and of P*, and 2 Delta_N/(alpha lam)."""
    model, N = linear.gaussian_model(model_of(setting.problem)), setting.N
    transport = np.column_stack([results["transport"], results["gibbs_transport"]])
    kl = np.column_stack([results["kl"], results["gibbs_kl"]])
    gap = results["delta"] / model.lam
    return np.column_stack([transport / N, 2 / model.alpha * np.column_stack([kl / N, gap])])


def _distance_bounds(factor: float, setting: GaussianLaws, inputs: Results) -> Float[np.ndarray, "S C"]:
    """2 KL/(alpha N) and 2 gap/(alpha lam) of the same, and L tr K/(alpha lam n N); alpha times a factor."""
    best, N = optimum_of(setting.problem, 6.0, 41), setting.N
    model = linear.gaussian_model(best.model)
    rows = []
    for moments in moments_of(setting, inputs):
        kl = np.append(linear.gaussian_kl(model, N, moments), model.kl)
        gap = np.append(linear.gaussian_gap(model, N, moments), model.kappa / N)
        transport, entropy, trace = optimal.transport_bounds(best, N, factor * model.alpha, kl, gap)
        rows.append([*transport, *entropy, trace])
    return np.array(rows)


WASSERSTEIN = Claim(
    id=f"{PAPER}.wasserstein-poc",
    kind="bound",
    statement="W_2^2(P, mu*^N)/N <= (2/(alpha N)) KL(P||mu*^N) <= (2/(alpha lam)) gap_N(P), alpha the log-Sobolev constant of"
    " mu*, for the law P of the chain at every step and for P*; and (2/(alpha lam)) Delta_N <= L tr K/(alpha lam n N).",
    source="Nitanda 2024 (arXiv 2405.15767), Talagrand's inequality",
    assumptions="linear neurons, where every term is exact; random Gaussian starts",
    checks=(
        Check(
            name="linear neurons",
            experiment=GAUSSIAN_LAWS,
            design=every(gaussians, quick=860, standard=430, paper=1000),
            observable=_distances,
            predict=partial(_distance_bounds, 1.0),
            inputs=START,
            judge=Bound(mass=1e-2),
            control=Control("6 alpha in place of alpha", predict=partial(_distance_bounds, 6.0)),
            search=Search(draws=True),
        ),
    ),
)

MERGED = 16
"""Networks of an ensemble."""


def _output_errors(setting: RandomNetworks, results: Results) -> Float[np.ndarray, "S 6"]:
    """Squared bias (twice), mean square (twice) and error of merged networks at the point, and the mean square over the data."""
    bias, square = results["bias"] ** 2, results["second_moment"]
    merged = bias + (square - bias) / MERGED
    return np.column_stack([bias, bias, square, square, merged, 2 * results["bregman"]])


def _output_bounds(factor: float, setting: RandomNetworks, inputs: Results) -> Float[np.ndarray, "S 6"]:
    """Of bias and mean square by KL(P||mu*^N) and by the gap q, of the others by q; of the last `factor` times q."""
    rows = []
    for model, N, q, kl in zip(models_of(setting, inputs), inputs["N"], inputs["gap"], inputs["kl"], strict=True):
        bias, square = optimal.output_bounds_kl(model, N, kl)
        by_gap = optimal.output_bounds(model, N, q)
        training = factor / 2 * by_gap.training
        rows.append([bias, by_gap.bias, square, by_gap.mean_square, by_gap.ensemble(MERGED), training])
    return np.array(rows)


ENSEMBLE_BOUND = Claim(
    id=f"{PAPER}.ensemble-bound",
    kind="bound",
    statement="For an exchangeable law P of N neurons with gap q: (E h_rho(z) - h*(z))^2 <= 2 R^2 KL/N <= (2 R^2/lam) q;"
    " E (h_rho(z) - h*(z))^2 <= (4 R^2/N) (KL + log(2)/2) <= 4 R^2 q/lam + 2 log 2 R^2/N; M merged networks have a mean squared"
    " error of at most the former plus 1/M of the latter; (1/n) sum_j E (h_rho(z_j) - h*(z_j))^2 <= 2 q for the squared loss.",
    source="Nitanda et al. 2025 (arXiv 2502.05784), approximation and ensemble theorems; constants derived here",
    assumptions="|h| <= R, KL = KL(P||mu*^N) (P = P* of random problems of one or two data, tanh and radial neurons,"
    " |gap| > 1e-6)",
    checks=(
        Check(
            name="random problems",
            observable=_output_errors,
            predict=partial(_output_bounds, 2.0),
            inputs=("Z", "y", "lam", "lamp", "N", "gap", "kl"),
            judge=Bound(mass=1e-2, rounding=1e-9),
            control=Control("q/2 in place of 2 q over the data", predict=partial(_output_bounds, 0.5)),
            search=Search(draws=True),
            **RANDOM,
        ),
    ),
)

CLAIMS = (
    GAP_FORMULA,
    POC_BOUND,
    POC_CONSTANT,
    LSI_FREE,
    VARIANCE,
    BIAS,
    CHAOS,
    WASSERSTEIN,
    ENSEMBLE_BOUND,
)
