"""What holds for every law of neurons: duality, free energies as relative entropies, and a log-Sobolev inequality."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Key
from scipy.special import logsumexp

from theorysim.errors import require
from theorysim.kernels import finite_network, gaussian_chain, mean_field
from theorysim.papers.mean_field_langevin.setting import RADIUS, Problem, circles, gauss, rbf, tanh1d, tanhlog
from theorysim.papers.mean_field_langevin.theory import finite_n
from theorysim.papers.mean_field_langevin.theory import gauss as linear
from theorysim.papers.mean_field_langevin.theory import mean_field as optimal
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Bound, Check, Claim, Control, Design, Identity, Search
from theorysim.verify.claim import Results

PAPER = "mean-field-langevin"


# --- shared readings --------------------------------------------------------------------------------------------------


def every(settings: Callable[[str], tuple[Any, ...]] | tuple[Any, ...], **seeds: int) -> dict[str, Design]:
    """A design a preset, from its settings and number of seeds."""
    return {preset: Design(settings(preset) if callable(settings) else settings, n) for preset, n in seeds.items()}


def reading(name: str) -> Callable[[Any, Results], np.ndarray]:
    """An observable that is one of the results."""
    return lambda setting, results: results[name]


NEURONS = {
    "tanh": optimal.TANH,
    "rbf": optimal.RBF,
    "linear": optimal.LINEAR,
    "tanh-with-bias": optimal.tanh_with_bias(RADIUS),
}
LOSSES = {"squared": optimal.SQUARED, "logistic": optimal.LOGISTIC}


def model_of(problem: Problem) -> optimal.Model:
    """The model of the predictions."""
    return optimal.Model(NEURONS[problem.neuron], problem.Z, problem.y, problem.lam, problem.lamp, LOSSES[problem.loss])


@lru_cache(maxsize=64)
def optimum_of(problem: Problem, extent: float, count: int) -> optimal.Optimum:
    """mu* on the nodes that a measurement uses: what holds for neurons on them holds exactly."""
    return optimal.mf_optimum(model_of(problem), optimal.ball_grid(extent, count, problem.d))


# --- laws of one neuron -----------------------------------------------------------------------------------------------

COMPONENTS = 3


@setting
class Laws:
    """Two random laws of a neuron, on the nodes in |x| <= extent of a lattice with `count` nodes on an axis.

    Each is a geometric mean of mu* and a Gaussian mixture. regulariser: what the optimum is solved with, in units of lamp.
    """

    problem: Problem
    extent: float
    count: int
    regulariser: float = 1.0

    def validate(self) -> None:
        require(self.extent > 0, f"extent must be positive, got {self.extent}")
        require(self.count % 2 == 1 and self.count >= 3, f"count must be odd and at least 3, got {self.count}")
        require(self.regulariser > 0, f"regulariser must be positive, got {self.regulariser}")


def laws(key: Key[Array, ""], setting: Laws) -> dict[str, Array]:
    """mu and nu, mu ∝ mixture^t mu*^{1-t}, and functionals of them.

    weights, variances: shapes (2, 3), means: (2, 3, 3), of which the first d columns count, power: (2,); of both mixtures and t.
    optimum: L(mu*). certificate: D(l'(u*)). value: L(mu). dual: D(l'(h_nu)).
    to_optimum, to_gibbs: KL(mu || mu*), KL(mu || muhat_mu).
    """
    problem, keys = setting.problem, random.split(key, 4)
    q = problem.lam / (2 * problem.lamp)
    weights = random.uniform(keys[0], (2, COMPONENTS), jnp.float64, 0.1, 1.0)
    means = 1.5 * jnp.sqrt(q) * random.normal(keys[1], (2, COMPONENTS, 3), jnp.float64)
    variances = q * random.uniform(keys[2], (2, COMPONENTS), jnp.float64, 0.05, 1.0)
    power = random.uniform(keys[3], (2,), jnp.float64)

    def functionals(problem: Problem, extent: Array, share: Array, *mixtures: Array) -> dict[str, Array]:
        model, grid = problem.kernel(), mean_field.ball_grid(extent, setting.count, problem.d)
        best = mean_field.optimum(model._replace(lamp=share * model.lamp), grid)
        log_optimum = best.log_density

        def law(weights: Array, means: Array, variances: Array, power: Array) -> Array:
            mixture = mean_field.gaussian_mixture(grid, weights, means[:, : problem.d], variances)
            return mean_field.normalise(grid, power * mixture + (1 - power) * log_optimum)

        mu, nu = jax.vmap(law)(*mixtures)
        slopes = lambda u: model.loss.slope(u, model.y)
        return {
            "optimum": mean_field.free_energy(model, grid, log_optimum),
            "certificate": mean_field.dual(model, grid, slopes(best.u)),
            "value": mean_field.free_energy(model, grid, mu),
            "dual": mean_field.dual(model, grid, slopes(mean_field.predictions(model, grid, nu))),
            "to_optimum": mean_field.kl(grid, mu, log_optimum),
            "to_gibbs": mean_field.kl(grid, mu, mean_field.proximal_gibbs(model, grid, mu)),
        }

    instance = {"weights": weights, "means": means, "variances": variances, "power": power}
    found = one_by_one(functionals)(problem, setting.extent, setting.regulariser, *instance.values())
    return {**instance, **found}


LAWS = Experiment(
    f"{PAPER}/laws",
    laws,
    operations=lambda s: 20.0 * s.count**s.problem.d * s.problem.n * (s.problem.n + 20),
)
MIXTURES = ("weights", "means", "variances", "power")


class Law(NamedTuple):
    """A density on the grid of the optimum, its outputs, and its proximal Gibbs law."""

    density: Float[np.ndarray, " g"]
    u: Float[np.ndarray, " n"]
    gibbs: Float[np.ndarray, " g"]


def _optimum(setting: Laws) -> optimal.Optimum:
    return optimum_of(setting.problem, setting.extent, setting.count)


def _drawn(setting: Laws, inputs: Results, which: int) -> list[Law]:
    """mu (which = 0) or nu (1) of each sample."""
    return _made(setting, *(np.ascontiguousarray(inputs[name][:, which]).tobytes() for name in MIXTURES))


@lru_cache(maxsize=4)
def _made(setting: Laws, weights: bytes, means: bytes, variances: bytes, power: bytes) -> list[Law]:
    best, shapes = _optimum(setting), ((COMPONENTS,), (COMPONENTS, 3), (COMPONENTS,), ())
    model, grid = best.model, best.grid
    # -U/lam in place of log mu*, which is not finite where mu* underflows
    log_optimum = -model.potential(grid.nodes, model.loss.slope(best.u, model.y)) / model.lam
    columns = (
        np.frombuffer(b).reshape(-1, *n) for b, n in zip((weights, means, variances, power), shapes, strict=True)
    )
    rows = []
    for w, m, v, t in zip(*columns, strict=True):
        squares = ((grid.nodes[:, None] - m[:, : model.d]) ** 2).sum(2)
        mixture = logsumexp(-squares / (2 * v) - model.d / 2 * np.log(v), axis=1, b=w)
        density = optimal.normalised(grid, t * mixture + (1 - t) * log_optimum)
        u = optimal.outputs(model, grid, density)
        rows.append(Law(density, u, optimal.proximal_gibbs(model, grid, u)))
    return rows


def _over_laws(formula: Callable[[optimal.Optimum, Law], Any], which: int = 0) -> Callable[[Laws, Results], np.ndarray]:
    """A prediction for each sample from mu (or nu) alone."""
    return lambda setting, inputs: np.array([formula(_optimum(setting), law) for law in _drawn(setting, inputs, which)])


def _same(model: optimal.Model) -> optimal.Model:
    return model


def _flipped(model: optimal.Model) -> optimal.Model:
    """-y in place of y in the conjugate l*(g) = g^2/2 + g y."""
    return dataclasses.replace(model, loss=dataclasses.replace(model.loss, conjugate=lambda g, y: g**2 / 2 - g * y))


def _doubled(model: optimal.Model) -> optimal.Model:
    return dataclasses.replace(model, lamp=2 * model.lamp)


Change = Callable[[optimal.Model], optimal.Model]


def _duality_gap(change: Change, best: optimal.Optimum, mu: Law) -> float:
    """L(mu) - D(l'(h_mu))."""
    return optimal.objective(best.model, best.grid, mu.density) - _dual(change, best, mu)


def _dual(change: Change, best: optimal.Optimum, nu: Law) -> float:
    """D(l'(h_nu))."""
    model = change(best.model)
    return optimal.dual(model, best.grid, model.loss.slope(nu.u, model.y))


SEEDS = {"quick": 860, "standard": 200, "paper": 1000}


def _laws(**changes: Any) -> Callable[[str], tuple[Laws, ...]]:
    def settings(preset: str) -> tuple[Laws, ...]:
        line = Laws(tanh1d(), 6.0, 201, **changes)
        if preset == "quick":
            return (line,)
        others = Laws(tanhlog(), 6.0, 401, **changes), Laws(rbf(0.1), 13.0, 401, **changes)
        count = {"standard": 11, "paper": 25}[preset]
        return line, *others, Laws(gauss(), 6.0, count, **changes), Laws(circles(), 5.0, count, **changes)

    return settings


CERTIFICATE = Claim(
    id=f"{PAPER}.optimum-certificate",
    kind="identity",
    statement="With D(g) = -(1/n) sum_j l*(g_j) - lam log int exp(-U_g/lam): D(g) <= L(mu) for all g and mu; D(l'(u*)) ="
    " L(mu*); and L(mu) - D(l'(h_mu)) = lam KL(mu||muhat_mu), muhat_mu the proximal Gibbs law.",
    source="Oko, Suzuki, Nitanda, Wu 2022 (duality); identity derived here",
    assumptions="convex l; laws on the nodes of a quadrature (random mixtures, and their geometric means with mu*)",
    checks=(
        Check(
            name="optimum",
            experiment=LAWS,
            design=every(_laws(), **SEEDS),
            observable=reading("certificate"),
            predict=lambda s, inputs: _optimum(s).value,
            judge=Identity(tolerance=1e-12, at_least=1, scale=1.0),
            control=Control("Gibbs law of the solution with lamp/2", design=every(_laws(regulariser=0.5), **SEEDS)),
        ),
        Check(
            name="gap of any law",
            experiment=LAWS,
            design=every(_laws(), **SEEDS),
            observable=lambda s, results: s.problem.lam * results["to_gibbs"],
            predict=_over_laws(partial(_duality_gap, _same)),
            inputs=MIXTURES,
            judge=Identity(tolerance=1e-12, scale=1.0),
            control=Control(
                "-y in the conjugate of the squared loss", predict=_over_laws(partial(_duality_gap, _flipped))
            ),
        ),
        Check(
            name="weak duality",
            experiment=LAWS,
            design=every(_laws(), **SEEDS),
            observable=reading("value"),
            predict=_over_laws(partial(_dual, _same), which=1),
            inputs=MIXTURES,
            judge=Bound(mass=1e-2, sense=">=", kind="identity"),
            control=Control("regulariser 2 lamp in the dual", predict=_over_laws(partial(_dual, _doubled), which=1)),
            search=Search(draws=True),
        ),
    ),
)


# --- the sandwich -----------------------------------------------------------------------------------------------------


def _excess(bregman: bool, best: optimal.Optimum, mu: Law) -> float:
    """lam KL(mu||mu*) + B(mu, mu*)."""
    divergence = best.model.bregman(mu.u, best.u) if bregman else 0.0
    return best.model.lam * optimal.kl(best.grid, mu.density, best.density) + float(divergence)


def _proximal(bregman: bool, best: optimal.Optimum, mu: Law) -> float:
    """L(mu) - L(mu*) + B(mu*, mu) + lam KL(mu*||muhat_mu)."""
    model, grid = best.model, best.grid
    divergence = model.bregman(best.u, mu.u) if bregman else 0.0
    gap = optimal.objective(model, grid, mu.density) - best.value
    return gap + float(divergence) + model.lam * optimal.kl(grid, best.density, mu.gibbs)


def _sandwich(swapped: bool, best: optimal.Optimum, mu: Law) -> tuple[float, float]:
    """L(mu) - L(mu*) and lam KL(mu||muhat_mu)."""
    model, grid = best.model, best.grid
    pair = (mu.gibbs, mu.density) if swapped else (mu.density, mu.gibbs)
    return optimal.objective(model, grid, mu.density) - best.value, model.lam * optimal.kl(grid, *pair)


def _sandwiched(setting: Laws, results: Results) -> Float[np.ndarray, "S 2"]:
    """lam KL(mu||mu*) and L(mu) - L(mu*)."""
    return np.column_stack([setting.problem.lam * results["to_optimum"], results["value"] - results["optimum"]])


@setting
class PairLaws:
    """Random exchangeable laws of two neurons on a line, on count^2 nodes of [-extent, extent]^2.

    A symmetrised mixture of Gaussian products, and in every second sample a geometric mean of it and P*. kept: whether the density
    itself is among the results.
    """

    problem: Problem
    extent: float
    count: int
    kept: bool = False

    def validate(self) -> None:
        require(self.problem.d == 1, f"particles must be of dimension d = 1, got d = {self.problem.d}")
        require(self.extent > 0, f"extent must be positive, got {self.extent}")
        require(self.count % 2 == 1 and self.count >= 7, f"count must be odd and at least 7, got {self.count}")


def pair_laws(key: Key[Array, ""], setting: PairLaws) -> dict[str, Array]:
    """gap = L^2(P)/2 - L(mu*), fisher = FI(P || P*), delta = Delta_2; log_density: of P, shape (count, count), where it is kept."""

    def functionals(problem: Problem, extent: Array, key: Array) -> dict[str, Array]:
        model, grid = problem.kernel(), mean_field.ball_grid(extent, setting.count)
        best = mean_field.optimum(model, grid)
        gibbs = finite_network.pair_gibbs(model, grid)
        coin, own, exponent = random.split(key, 3)
        power = jnp.where(random.bernoulli(coin), random.uniform(exponent, (), jnp.float64) ** 2, 1)
        mixture = finite_network.random_pair_law(own, grid)
        log_density = finite_network.normalise_pair(grid, power * mixture + (1 - power) * gibbs)
        objective = lambda law: finite_network.pair_objective(model, grid, law) - best.free_energy
        found = {
            "gap": objective(log_density),
            "delta": objective(gibbs),
            "fisher": finite_network.pair_fisher(grid, log_density, gibbs),
        }
        return {**found, "log_density": log_density} if setting.kept else found

    return one_by_one(functionals)(setting.problem, setting.extent, key)


PAIR_LAWS = Experiment(f"{PAPER}/pair-laws", pair_laws, operations=lambda s: 400.0 * s.count**2)


def _gap_identities(bregman: bool, setting: PairLaws, inputs: Results) -> Float[np.ndarray, "S 2"]:
    """E_P B(rho, mu*) + (lam/2) KL(P||mu*^2) and Delta_2 + (lam/2) KL(P||P*)."""
    best = optimum_of(setting.problem, setting.extent, setting.count)
    grid, lam = best.grid, best.model.lam
    product = best.density[:, None] * best.density
    gibbs = finite_n.normalised_pair(grid, finite_n.pair_gibbs(best.model, grid))
    delta = finite_n.direct_law(best, 2, best.model.Z[:1]).gap
    rows = []
    for log_density in inputs["log_density"]:
        P = np.exp(log_density)
        divergence = finite_n.pair_bregman(best, P) if bregman else 0.0
        rows.append(
            [
                divergence + lam / 2 * finite_n.pair_kl(grid, P, product),
                delta + lam / 2 * finite_n.pair_kl(grid, P, gibbs),
            ]
        )
    return np.array(rows)


@setting
class GaussianLaws:
    """N linear neurons, first independent N(m, v I), m ~ N(0, 2 I), log v ~ U(log q/4, log 4q), over `steps` steps of size eta."""

    problem: Problem
    N: int
    steps: int = 6
    eta: float = 0.2

    def validate(self) -> None:
        require(self.problem.neuron == "linear", f"neuron must be linear, got {self.problem.neuron}")
        require(self.N >= 1, f"N must be at least 1, got {self.N}")
        require(self.steps >= 1, f"steps must be at least 1, got {self.steps}")
        require(self.eta > 0, f"step size eta must be positive, got {self.eta}")


def gaussian_laws(key: Key[Array, ""], setting: GaussianLaws) -> dict[str, Array]:
    """Laws P_k of the chain at k = 0 ... steps, from their means and covariances.

    mean: m, shape (d,). variance: v. gap, kl, kl_gibbs, transport: of P_k, with KL from mu*^N and from P*, W_2^2 from mu*^N, shapes
    (steps + 1,); delta, gibbs_kl, gibbs_transport: the same of P*.
    """
    first, second = random.split(key)
    q = setting.problem.lam / (2 * setting.problem.lamp)
    mean = 2**0.5 * random.normal(first, (setting.problem.d,), jnp.float64)
    variance = q * 4 ** random.uniform(second, (), jnp.float64, -1, 1)

    def functionals(problem: Problem, eta: Array, mean: Array, variance: Array) -> dict[str, Array]:
        model, N = problem.kernel(), setting.N
        law = gaussian_chain.run(gaussian_chain.iid(mean, variance, N), model, eta, steps=setting.steps)
        gibbs, independent = gaussian_chain.gibbs(model, N), gaussian_chain.limit(model, N)
        all_laws = jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), law, gibbs)

        def distances(law: gaussian_chain.Gaussian) -> tuple[Array, ...]:
            return (
                gaussian_chain.gap(model, law, N),
                gaussian_chain.kl(law, independent),
                gaussian_chain.wasserstein2(law, independent),
                gaussian_chain.kl(law, gibbs),
            )

        # One after another: batched LAPACK calls of two programs at once can wait for each other's threads for ever.
        gap, kl, transport, kl_gibbs = lax.map(distances, all_laws)
        return {
            "gap": gap[:-1],
            "kl": kl[:-1],
            "transport": transport[:-1],
            "kl_gibbs": kl_gibbs[:-1],
            "delta": gap[-1],
            "gibbs_kl": kl[-1],
            "gibbs_transport": transport[-1],
        }

    found = one_by_one(functionals)(setting.problem, setting.eta, mean, variance)
    return {"mean": mean, "variance": variance, **found}


GAUSSIAN_LAWS = Experiment(
    f"{PAPER}/gaussian-laws", gaussian_laws, operations=lambda s: 100.0 * s.steps * (s.N * s.problem.d) ** 3
)
START = ("mean", "variance")


def moments_of(setting: GaussianLaws, inputs: Results) -> list[linear.Moments]:
    """Of P_0 ... P_steps, for each sample."""
    model = linear.gaussian_model(model_of(setting.problem))
    steps = np.arange(setting.steps + 1)
    return [
        linear.chain_moments(model, setting.eta, steps, m, v) for m, v in zip(*(inputs[k] for k in START), strict=True)
    ]


def gaussians(preset: str) -> tuple[GaussianLaws, ...]:
    return tuple(GaussianLaws(gauss(), N) for N in {"quick": (4,), "standard": (2, 8), "paper": (2, 8, 64)}[preset])


def _gaussian_gaps(setting: GaussianLaws, results: Results) -> Float[np.ndarray, "S 2 K"]:
    """gap_N(P_k) and Delta_N + (lam/N) KL(P_k||P*)."""
    other = results["delta"][:, None] + setting.problem.lam / setting.N * results["kl_gibbs"]
    return np.stack([results["gap"], other], axis=1)


def _gaussian_prediction(bregman: bool, setting: GaussianLaws, inputs: Results) -> Float[np.ndarray, "S 1 K"]:
    """E B + (lam/N) KL(P_k||mu*^N), mode by mode."""
    model, N = linear.gaussian_model(model_of(setting.problem)), setting.N
    rows = []
    for moments in moments_of(setting, inputs):
        divergence = linear.gaussian_bregman(model, N, moments) if bregman else 0.0
        rows.append(divergence + model.lam / N * linear.gaussian_kl(model, N, moments))
    return np.array(rows)[:, None]


LSI_PROBLEM = Problem("tanh", "squared", np.array([[0.7], [1.2]]), np.array([0.5, -0.4]), 0.1, 0.4)
"""Conditionals of P* have a log-Sobolev constant by curvature."""


def _pair_designs(kept: bool) -> dict[str, Design]:
    """One program at `quick`; elsewhere finer grids for what needs no density."""
    laws = lambda count, kept: (PairLaws(LSI_PROBLEM, 3.5, count, kept),)
    fine = {"standard": Design(laws(161, False), 1000), "paper": Design(laws(321, False), 4000)}
    return {
        "quick": Design(laws(61, True), 860),
        **(dict.fromkeys(fine, Design(laws(61, True), 200)) if kept else fine),
    }


SANDWICH = Claim(
    id=f"{PAPER}.entropy-sandwich",
    kind="identity",
    statement="L(mu) - L(mu*) = lam KL(mu||mu*) + B(mu, mu*); lam KL(mu||muhat_mu) = L(mu) - L(mu*) + B(mu*, mu) + lam"
    " KL(mu*||muhat_mu); so lam KL(mu||mu*) <= L(mu) - L(mu*) <= lam KL(mu||muhat_mu). For N neurons gap_N(P) ="
    " E_P B(rho, mu*) + (lam/N) KL(P||mu*^N) = Delta_N + (lam/N) KL(P||P*).",
    source="Chen, Ren, Wang 2022 (arXiv 2212.03050), Nitanda et al.",
    assumptions="any law with a density (random mixtures; pairs on a grid; Gaussian laws of N linear neurons)",
    checks=(
        Check(
            name="excess over the optimum",
            experiment=LAWS,
            design=every(_laws(), **SEEDS),
            observable=lambda s, results: results["value"] - results["optimum"],
            predict=_over_laws(partial(_excess, True)),
            inputs=MIXTURES,
            judge=Identity(tolerance=1e-12, scale=1.0),
            control=Control("no Bregman term", predict=_over_laws(partial(_excess, False))),
        ),
        Check(
            name="distance from the proximal Gibbs law",
            experiment=LAWS,
            design=every(_laws(), **SEEDS),
            observable=lambda s, results: s.problem.lam * results["to_gibbs"],
            predict=_over_laws(partial(_proximal, True)),
            inputs=MIXTURES,
            judge=Identity(tolerance=1e-12, scale=1.0),
            control=Control("no Bregman term", predict=_over_laws(partial(_proximal, False))),
        ),
        Check(
            name="sandwich",
            experiment=LAWS,
            design=every(_laws(), **SEEDS),
            observable=_sandwiched,
            predict=_over_laws(partial(_sandwich, False)),
            inputs=MIXTURES,
            judge=Bound(mass=1e-2, kind="identity"),
            control=Control("arguments of KL(mu||muhat_mu) swapped", predict=_over_laws(partial(_sandwich, True))),
            search=Search(draws=True),
        ),
        Check(
            name="two neurons",
            experiment=PAIR_LAWS,
            design=_pair_designs(True),
            observable=lambda s, results: np.column_stack([results["gap"]] * 2),
            predict=partial(_gap_identities, True),
            inputs=("log_density",),
            judge=Identity(tolerance=1e-12, scale=1.0),
            control=Control("no Bregman term", predict=partial(_gap_identities, False)),
        ),
        Check(
            name="N linear neurons",
            experiment=GAUSSIAN_LAWS,
            design=every(gaussians, quick=64, standard=64, paper=256),
            observable=_gaussian_gaps,
            predict=partial(_gaussian_prediction, True),
            inputs=START,
            judge=Identity(tolerance=1e-12, scale=1.0),
            control=Control("no Bregman term", predict=partial(_gaussian_prediction, False)),
        ),
    ),
)


# --- defective log-Sobolev inequality ---------------------------------------------------------------------------------


@lru_cache
def _directional(problem: Problem, extent: float) -> float:
    return finite_n.directional_lsi(model_of(problem), 2, extent)


def _defective(defect: bool, setting: PairLaws, inputs: Results) -> Float[np.ndarray, " S"]:
    """(lam/(2 alpha N)) FI(P||P*) + 2 L R^2/N."""
    model = model_of(setting.problem)
    bound = optimal.defective_lsi(model, 2, _directional(setting.problem, setting.extent), inputs["fisher"])
    return bound if defect else bound - optimal.defective_lsi(model, 2, 1.0, 0.0)


DEFECTIVE = Claim(
    id=f"{PAPER}.defective-lsi",
    kind="bound",
    statement="gap_N(P) <= (lam/(2 alpha N)) FI(P||P*) + 2 L R^2/N if the law of each neuron given the others satisfies"
    " LSI(alpha) under P*.",
    source="Nitanda et al. 2025 (arXiv 2502.05784), refined defective log-Sobolev inequality; constant derived here",
    assumptions="alpha = 2.8190 by curvature; N = 2, exchangeable laws on a grid",
    checks=(
        Check(
            name="two neurons",
            experiment=PAIR_LAWS,
            design=_pair_designs(False),
            observable=reading("gap"),
            predict=partial(_defective, True),
            inputs=("fisher",),
            judge=Bound(mass=1e-2),
            control=Control("no defect 2 L R^2/N", predict=partial(_defective, False)),
            search=Search(draws=True),
        ),
    ),
)

CLAIMS = (CERTIFICATE, SANDWICH, DEFECTIVE)
