"""The theorems on QAOA for the spiked tensor as executable claims: where prediction meets measurement.

Statements: Zhou, Basso, Mei (NeurIPS 2024, arXiv 2402.19456), "paper" below. Constants and finite-n formulas marked "derived here"
are absent from it or sharpen it. `snr` is lambda_n, Lambda the same on the scale n^{(q-2+eps_p)/2} on which p steps recover.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats
from scipy.optimize import minimize_scalar

from theorysim.kernels import qaoa
from theorysim.papers.qaoa_spiked_tensor import measurements, theory
from theorysim.papers.qaoa_spiked_tensor.setting import (
    Angles,
    Circuit,
    Cost,
    Gauge,
    NoiseFree,
    OneStep,
    PowerIteration,
    Response,
    Unfolding,
    angles,
)
from theorysim.sweep import Experiment
from theorysim.verify import Bound, Check, Claim, Control, Design, Equivalence, Identity, Law, Limit, Rate, Tabulated
from theorysim.verify.claim import Results

PAPER = "qaoa-spiked-tensor"
QUARTER = float(np.pi / 4)
OPTIMUM = float(theory.optimal_gamma())
"""gamma = sqrt(log(5)/32), which maximises the limiting E R^2 of one step at q = 2, beta = pi/4, Lambda = 1."""


# --- experiments ------------------------------------------------------------------------------------------------------


def _state_operations(bits: int, layers: int) -> float:
    """Floating-point operations of a circuit: grouped rotations of two real arrays, and 60 a phase."""
    return layers * 2.0**bits * (4 * 2**qaoa.GROUP * qaoa.mixing_passes(2**bits) + 60)


def _circuit_operations(s: Circuit) -> float:
    return _state_operations(s.n - (s.q % 2 == 0), s.gammas.size) + 40.0 * s.n**s.q


def _admit(s: Circuit, available: float) -> None:
    qaoa.require_memory(s.n, available, itemsize=4 if s.precision == "single" else 8, half=s.q % 2 == 0)


LAWS = Experiment(f"{PAPER}/laws", measurements.overlap_law, operations=_circuit_operations, admit=_admit)
MOMENTS = Experiment(f"{PAPER}/moments", measurements.overlap_moments, operations=_circuit_operations, admit=_admit)
GAUGE = Experiment(
    f"{PAPER}/gauge", measurements.gauge, operations=lambda s: 4 * _state_operations(s.n, s.layers) + 200 * s.n**s.q
)
COST = Experiment(f"{PAPER}/cost", measurements.cost, operations=lambda s: 300.0 * s.n**s.q)
RESPONSE = Experiment(
    f"{PAPER}/response",
    measurements.response,
    operations=lambda s: (1 + s.q % 2) * s.gammas.size * _state_operations(s.n, s.gammas.size),
)
ONE_STEP = Experiment(
    f"{PAPER}/one-step", measurements.one_step, operations=lambda s: 3 * 30.0 * s.gammas.size * measurements.WINDOW
)
NOISE_FREE = Experiment(
    f"{PAPER}/noise-free", measurements.noise_free, operations=lambda s: 12.0 * s.gammas.size * s.n**2
)
POWER_ITERATION = Experiment(
    f"{PAPER}/power-iteration", measurements.iterate, operations=lambda s: 50.0 * s.n**s.q + 2.0 * s.steps * s.n**s.q
)
UNFOLDING = Experiment(
    f"{PAPER}/unfolding", measurements.unfolding, operations=lambda s: _state_operations(s.n**2, s.gammas.size)
)


# --- shared readings --------------------------------------------------------------------------------------------------


def every(settings: Callable[[str], tuple[Any, ...]] | tuple[Any, ...], **seeds: int) -> dict[str, Design]:
    """A design a preset, from its settings and number of seeds."""
    return {preset: Design(settings(preset) if callable(settings) else settings, n) for preset, n in seeds.items()}


def reading(name: str) -> Callable[[Any, Results], np.ndarray]:
    """An observable that is one of the results."""
    return lambda setting, results: results[name]


def size(setting: Any) -> float:
    """n."""
    return setting.n


def circuit(n: int, q: int, gammas: Angles, betas: Angles, scale: float = 1.0, **changes: Any) -> Circuit:
    """A circuit at Lambda = `scale`."""
    snr = float(theory.signal_to_noise(n, gammas.size, q, scale))
    return Circuit(n=n, q=q, snr=snr, gammas=gammas, betas=betas, **changes)


def optimum(n: int, **changes: Any) -> Circuit:
    """One layer at q = 2, Lambda = 1 and the best angles."""
    return circuit(n, 2, angles(OPTIMUM), angles(QUARTER), **changes)


def noise_free(n: int, q: int, gammas: Angles, betas: Angles, scale: float = 1.0) -> NoiseFree:
    """The circuit on the signal alone, at Lambda = `scale`."""
    return NoiseFree(n, q, float(theory.signal_to_noise(n, gammas.size, q, scale)), gammas, betas)


def limit_law(setting: Any, scale: float = 1.0, noise: float = 1.0) -> theory.SineGaussian:
    """The sine-Gaussian law of a setting's angles."""
    return theory.limit_law(setting.q, setting.gammas, setting.betas, scale, noise=noise)


# --- symmetry and cost ------------------------------------------------------------------------------------------------


def _rounding_floor(setting: Any, results: Results) -> Float[np.ndarray, "S outcomes"]:
    """64 x 2^-29 of what float32 changes at equal inputs: what rounding can do to the float64 value."""
    return 64 * 2.0**-29 * results["rounding"]


def _gauge_check(q: int) -> Check:
    return Check(
        name=f"q = {q}",
        experiment=GAUGE,
        design=every((Gauge(6, q, 2.0),), quick=4, standard=64, paper=1000),
        observable=reading("after"),
        predict=reading("before"),
        inputs=("before",),
        judge=Identity(tolerance=1e-9, at_least=100, scale=1.0),
        control=Control(
            "the signal's spike is changed, the noise is not",
            design=every((Gauge(6, q, 2.0, moved="signal"),), quick=4, standard=64, paper=1000),
        ),
        floor=_rounding_floor,
    )


GAUGE_CLAIM = Claim(
    id=f"{PAPER}.gauge",
    kind="identity",
    statement="Replacing u by u' and W by W (u u')^{(x)q}, entry by entry, leaves the law of u.z/n as it is and"
    " permutes the probabilities of strings by the exclusive or with u u'.",
    source="derived here; why u = (1, ..., 1) is no restriction",
    assumptions="any n, q, p and angles (drawn at random: gamma in [.1, .4], beta in [.1, 1.4])",
    checks=tuple(_gauge_check(q) for q in (2, 3)),
)


def _brute_force(setting: Cost, inputs: Results) -> Float[np.ndarray, "S N"]:
    """n^{-(q-2)/2} <Y, z^{(x)q}> string by string, from the tensor itself."""
    return np.stack(
        [theory.enumerated_costs(W, spike, setting.snr) for W, spike in zip(inputs["W"], inputs["spike"], strict=True)]
    )


def _cost_check(q: int, n: int) -> Check:
    return Check(
        name=f"q = {q}",
        experiment=COST,
        design=every((Cost(n, q, 1.5),), quick=4, standard=64, paper=1000),
        observable=reading("costs"),
        predict=_brute_force,
        inputs=("W", "spike"),
        judge=Identity(tolerance=1e-9, at_least=100, scale="sample"),
        control=Control(
            "indices that occur twice are kept once: inclusive or of the masks",
            design=every((Cost(n, q, 1.5, repeated="keep"),), quick=4, standard=64, paper=1000),
        ),
        floor=lambda setting, results: (
            _rounding_floor(setting, results) / np.abs(results["costs"]).max(1, keepdims=True)
        ),
    )


COST_WHT = Claim(
    id=f"{PAPER}.cost-wht",
    kind="identity",
    statement="One Walsh-Hadamard transform of the multilinear coefficients, plus lambda_n n m(z)^q, gives the cost"
    " n^{-(q-2)/2} <Y, z^{(x)q}> of every string.",
    source="derived here",
    assumptions="any n, q, spike and tensor",
    checks=(_cost_check(2, 9), _cost_check(3, 8), _cost_check(4, 7)),
)


# --- one step at finite n ---------------------------------------------------------------------------------------------

AVERAGED = (
    optimum(8),
    Circuit(7, 3, 0.8 * 7, angles(0.2), angles(0.6)),
    Circuit(6, 4, 0.6 * 6**1.5, angles(0.12), angles(0.9)),
)
"""One layer at q = 2, 3 and 4."""


def _averaged_second_moment(setting: Circuit, inputs: Results) -> float:
    return float(theory.one_step_moments(setting.n, setting.q, setting.snr, setting.gammas[0], setting.betas[0])[1])


def _averaged_law(noise: float = 1.0) -> Callable[[Circuit, Results], np.ndarray]:
    return lambda s, inputs: theory.one_step_pmf(s.n, s.q, s.snr, s.gammas[0], s.betas[0], noise=noise)


def _law_check(setting: Circuit) -> Check:
    return Check(
        name=f"law at q = {setting.q}",
        experiment=LAWS,
        design=every((setting,), quick=20_000, standard=40_000, paper=200_000),
        observable=reading("law"),
        predict=_averaged_law(),
        judge=Equivalence(tolerance=0.05),
        control=Control("noise of twice the variance", predict=_averaged_law(noise=2.0)),
        size=size,
    )


FINITE_N = Claim(
    id=f"{PAPER}.finite-n-second-moment",
    kind="identity",
    statement="Averaged over W, E R^2 after one step is 1/n + (1 - 1/n)(2 T_1 + T_2) at any n and q, at q = 2 with"
    " T_1 and T_2 in closed form, and the whole law of the overlap is a finite sum.",
    source="paper, Section 4, eq. (4.1) for (p, q) = (1, 2); any q and the law derived here",
    assumptions="p = 1; any n >= 2, lambda_n, gamma, beta",
    checks=(
        Check(
            name="E R^2",
            experiment=MOMENTS,
            design=every(AVERAGED, quick=20_000, standard=40_000, paper=200_000),
            observable=reading("m2"),
            predict=_averaged_second_moment,
            judge=Equivalence(tolerance=0.05),
            control=Control(
                "symmetric noise with entries of variance 1, which doubles the variance of the couplings",
                design=every((optimum(8, tensor="doubled"),), quick=20_000, standard=40_000, paper=200_000),
            ),
            size=size,
        ),
        _law_check(AVERAGED[0]),
        _law_check(AVERAGED[1]),
    ),
)


# --- one step in the limit --------------------------------------------------------------------------------------------


def _one_step(n: float, q: int, gammas: Angles, exponent: float, scale: float = 1.0, beta: float = QUARTER) -> OneStep:
    """lambda_n = scale n^exponent."""
    return OneStep(float(n), q, scale * n**exponent, gammas, beta)


def _limit_moments(noise: float = 1.0) -> Callable[[OneStep, Results], np.ndarray]:
    def predict(setting: OneStep, inputs: Results) -> np.ndarray:
        law = theory.limit_law(setting.q, setting.gammas, np.array([setting.beta]), noise=noise)
        return np.array([law.mean(), law.second_moment()])[1 - setting.q % 2 :]

    return predict


def _one_step_moments(setting: OneStep, results: Results) -> np.ndarray:
    """E R (odd q) and E R^2."""
    return np.concatenate([results["m1"], results["m2"]], axis=1)[:, 1 - setting.q % 2 :]


def _doublings(first: int, count: int) -> tuple[int, ...]:
    return tuple(first << k for k in range(count))


def _cumulative(law: Shaped[np.ndarray, "*S outcomes"]) -> Shaped[np.ndarray, "*S edges"]:
    """P(#minus <= k), k < n; the last is one for every law."""
    return np.cumsum(law, axis=-1)[..., :-1]


def _gaussian_law(setting: Circuit, inputs: Results) -> np.ndarray:
    """The same for R Gaussian of the same variance, at the edges of the cells."""
    edges = 1 - 2 * (np.arange(setting.n) + 0.5) / setting.n
    return stats.norm.sf(edges, scale=np.sqrt(_averaged_second_moment(setting, inputs)))


def _correction(setting: OneStep, inputs: Results) -> float:
    return float(theory.second_moment_correction(setting.gammas[0]))


def _frozen_damping(setting: OneStep, inputs: Results) -> float:
    x = setting.gammas[0] ** 2
    return _correction(setting, inputs) - 16 * x * float(_limit_moments()(setting, inputs)[-1])


SINE_GAUSSIAN_P1 = Claim(
    id=f"{PAPER}.sine-gaussian-p1",
    kind="law",
    statement="At lambda_n = Lambda n^{(q-1)/2}, one step gives R -> e^{-2 q gamma^2} sin(2 beta) sin(2 q gamma"
    " Lambda g^{q-1}) in law, g standard normal; E R^2 differs from its limit by c/n, c = .79024 at q = 2 and the"
    " best angles.",
    source="paper, 1-step theorem; c and the law at finite n derived here",
    assumptions="p = 1; gamma, beta, Lambda fixed as n grows",
    checks=(
        Check(
            name="moments",
            experiment=ONE_STEP,
            design=every(
                tuple(_one_step(n, 2, angles(OPTIMUM), 0.5) for n in _doublings(64, 8))
                + tuple(_one_step(n, 3, angles(0.1347), 1.0) for n in _doublings(64, 8)),
                quick=1,
                standard=1,
                paper=1,
            ),
            observable=_one_step_moments,
            predict=_limit_moments(),
            judge=Limit(tolerance=0.005, orders=(1.0,), deterministic=True, kind="law"),
            control=Control("damping e^{-q gamma^2}", predict=_limit_moments(noise=0.5)),
            size=size,
            group=lambda setting: setting.q,
        ),
        Check(
            name="coefficient of 1/n",
            experiment=ONE_STEP,
            design=every(
                tuple(_one_step(n, 2, angles(OPTIMUM), 0.5) for n in _doublings(64, 8)), quick=1, standard=1, paper=1
            ),
            observable=lambda setting, results: setting.n * (results["m2"] - _limit_moments()(setting, {})[-1]),
            predict=_correction,
            judge=Limit(tolerance=0.01, orders=(1.0,), deterministic=True, kind="law"),
            control=Control(
                "the damping's own approach to its limit, 16 gamma^2 L/n, is left out", predict=_frozen_damping
            ),
            size=size,
        ),
        Check(
            name="shape",
            experiment=LAWS,
            design={
                "quick": Design((optimum(16),), 128),
                "standard": Design((optimum(16),), 1000),
                "paper": Design((optimum(20),), 400),
            },
            observable=lambda setting, results: _cumulative(results["law"]),
            predict=lambda setting, inputs: _cumulative(limit_law(setting).smeared_pmf(setting.n)),
            judge=Equivalence(tolerance=0.03, absolute=True, kind="law"),
            control=Control("R Gaussian of the same variance", predict=_gaussian_law),
            size=size,
        ),
    ),
)

GAMMAS = np.geomspace(1e-4, 0.6, 240)


@lru_cache
def _best_limit(q: int) -> float:
    """max over gamma of the limiting E R^2 at beta = pi/4, Lambda = 1."""
    moment = lambda gamma: -theory.limit_law(q, np.array([gamma]), np.array([QUARTER])).second_moment()
    best: Any = minimize_scalar(moment, bounds=(0.05, 0.4), method="bounded")
    return -float(best.fun)


def _snr_axis(exponents: dict[int, float], sizes: tuple[int, ...]) -> dict[str, Design]:
    """lambda_n = n^a for each order q: a."""
    return every(
        tuple(_one_step(n, q, GAMMAS, a) for q, a in exponents.items() for n in sizes), quick=1, standard=1, paper=1
    )


LARGE = tuple(4**k for k in range(5, 10))
BELOW, AT, ABOVE = {2: 0.25, 3: 0.75}, {2: 0.5, 3: 1.0}, {2: 0.75}

ONE_STEP_THRESHOLD = Claim(
    id=f"{PAPER}.one-step-threshold",
    kind="threshold",
    statement="One step recovers the spike from lambda_n ~ n^{(q-1)/2} on: for lambda_n = n^a, sup_gamma E R^2 at"
    " beta = pi/4 falls like n^{2a-(q-1)} below a = (q-1)/2, tends to the maximum of the limit law there, and to 1/2"
    " above (q = 2).",
    source="paper, 1-step theorem; the values on either side derived here",
    assumptions="p = 1; gamma on a logarithmic grid of 240 points from 1e-4 to .6",
    checks=(
        Check(
            name="below",
            experiment=ONE_STEP,
            design=_snr_axis(BELOW, LARGE),
            observable=reading("best"),
            predict=lambda setting, inputs: 2 * BELOW[setting.q] - (setting.q - 1),
            judge=Rate(tolerance=0.05, correction=(0.5,), deterministic=True, kind="threshold"),
            control=Control(
                "the threshold taken to be n^{(q-1)/2 - 1/4}",
                predict=lambda setting, inputs: 2 * BELOW[setting.q] - (setting.q - 1) + 0.5,
            ),
            size=size,
            group=lambda setting: setting.q,
        ),
        Check(
            name="at",
            experiment=ONE_STEP,
            design=_snr_axis(AT, LARGE),
            observable=reading("best"),
            predict=lambda setting, inputs: _best_limit(setting.q),
            judge=Limit(tolerance=0.01, orders=(1.0,), deterministic=True, kind="threshold"),
            control=Control("the threshold taken to be n^{(q-1)/2 - 1/4}", design=_snr_axis(BELOW, LARGE)),
            size=size,
            group=lambda setting: setting.q,
        ),
        Check(
            name="above",
            experiment=ONE_STEP,
            design=_snr_axis(ABOVE, LARGE),
            observable=reading("best"),
            predict=lambda setting, inputs: 0.5,
            judge=Limit(tolerance=0.05, orders=(0.25, 1.0), deterministic=True, kind="threshold"),
            control=Control("lambda_n = n^{(q-1)/2}, not above it", design=_snr_axis({2: 0.5}, LARGE)),
            size=size,
        ),
    ),
)


def _variance(name: str) -> Callable[[Circuit, Results], Float[np.ndarray, " S"]]:
    """Terms of the unbiased variance of a result over the instances."""
    return lambda s, results: (
        np.square(results[name] - results[name].mean()) * (len(results[name]) / (len(results[name]) - 1))
    )


SELF_AVERAGING = Claim(
    id=f"{PAPER}.self-averaging",
    kind="rate",
    statement="For (p, q) = (1, 2) the variance over W of the quantum average <R^2> falls like n^-2 (its s.d. is"
    " about .31/n), so that a single instance shows the whole law: the randomness is in the measurement.",
    source="paper, Fig. 2 (histograms of single instances); the rate observed here",
    assumptions="p = 1, q = 2, Lambda = 1, best angles; n from 6 to 16",
    checks=(
        Check(
            name="variance over instances",
            experiment=MOMENTS,
            design={
                "quick": Design(tuple(optimum(n) for n in (6, 8, 11, 15)), 8000),
                "standard": Design(tuple(optimum(n) for n in (6, 9, 12, 16)), 12_000),
                "paper": Design(tuple(optimum(n) for n in (6, 9, 13, 18, 22)), 20_000),
            },
            observable=_variance("m2"),
            predict=lambda setting, inputs: -2.0,
            judge=Rate(tolerance=0.4),
            control=Control(
                "a single measured string in place of the quantum average", observable=_variance("outcome")
            ),
            size=size,
        ),
    ),
)


# --- p steps ----------------------------------------------------------------------------------------------------------

RESPONSE_ANGLES = angles(0.3, 0.35, 0.3), angles(0.6, 0.5, 0.7)
PAIRS = np.triu_indices(3)
"""(s, t') with t' > s; row s = 1 ... p, column t' = 2 ... p + 1."""


def _responses(noise: float | None = None) -> Callable[[Response, Results], np.ndarray]:
    def predict(setting: Response, inputs: Results) -> np.ndarray:
        constants = theory.limit_constants(setting.q, setting.gammas, setting.betas, noise=noise or 1.0)
        return constants.response[1:, :-1].T[PAIRS]

    return predict


RESPONSE_CONSTANTS = Claim(
    id=f"{PAPER}.response-constants",
    kind="limit",
    statement="In the pure-noise circuit, a field h in layer s changes the magnetisation that enters layer t' by 2 q"
    " gamma_s Im G_{t',s} h as n -> infinity, G from the self-consistent recursion; t' = s + 1 gives chi_s, with"
    " corrections of order 1/n.",
    source="paper, p-step derivation; responses to all later times derived here",
    assumptions="q = 2, p = 3, gamma = (.3, .35, .3), beta = (.6, .5, .7)",
    checks=(
        Check(
            name="all pairs of layers",
            experiment=RESPONSE,
            design={
                "quick": Design(tuple(Response(n, 2, *RESPONSE_ANGLES) for n in (4, 6, 9, 13)), 3000),
                "standard": Design(tuple(Response(n, 2, *RESPONSE_ANGLES) for n in (4, 6, 9, 13, 18)), 8000),
                "paper": Design(tuple(Response(n, 2, *RESPONSE_ANGLES) for n in (4, 6, 9, 13, 20)), 20_000),
            },
            observable=lambda setting, results: results["response"][:, *PAIRS],
            predict=_responses(),
            judge=Limit(tolerance=0.05, absolute=True, orders=(1.0,)),
            control=Control("exponent of the weights without the factor q: 1/2 for q/2", predict=_responses(noise=0.5)),
            size=size,
        ),
    ),
    note="The tolerance is .05 on every response, 6 % of the largest.",
)

# Angles at which every chi differs from one, and the angles of the largest limiting E R^2.
SENSITIVE_2 = angles(0.15, 0.2), angles(QUARTER, QUARTER)
SENSITIVE_3 = angles(0.15, 0.35, 0.2), angles(QUARTER, QUARTER, QUARTER)
CUBIC = angles(0.1, 0.05), angles(0.6, QUARTER)
BEST_2 = angles(0.2573, 0.2974), angles(QUARTER, QUARTER)
FLAT_2 = angles(0.25, 0.2), angles(QUARTER, QUARTER)


def _noise_free_limit(setting: NoiseFree, inputs: Results) -> float:
    law = limit_law(setting, noise=0.0)
    return law.mean() if setting.q % 2 else law.second_moment()


def _without_response(setting: NoiseFree, inputs: Results) -> float:
    """chi_t = 1 in the frequency of the sine."""
    law = limit_law(setting, noise=0.0)
    frequency = 2 * setting.q * float(setting.gammas[-1])
    return theory.SineGaussian(law.amplitude, frequency, law.power).second_moment()


def _cubic_sizes(exponent: float | None = None) -> dict[str, Design]:
    def setting(n: int) -> NoiseFree:
        return noise_free(n, 3, *CUBIC) if exponent is None else NoiseFree(n, 3, n**exponent, *CUBIC)

    return every(tuple(map(setting, (200, 400, 800, 1600))), quick=1, standard=1, paper=1)


def _noise_free_check(name: str, angle: tuple[Angles, Angles], order: float) -> Check:
    return Check(
        name=name,
        experiment=NOISE_FREE,
        design=every(tuple(noise_free(n, 2, *angle) for n in (100, 400, 1600)), quick=1, standard=1, paper=1),
        observable=reading("m2"),
        predict=_noise_free_limit,
        judge=Limit(tolerance=0.05, orders=(order,), deterministic=True, kind="law"),
        control=Control("every chi_t replaced by 1", predict=_without_response),
        size=size,
    )


BRIDGE = 0.6
"""Largest n |E R^2 - bridging law|."""


def _scaled_sides(setting: NoiseFree, results: Results) -> Float[np.ndarray, "S 2"]:
    """n E R^2 and its negative: two one-sided bounds."""
    return setting.n * results["m2"][:, None] * np.array([1.0, -1.0])


def _bridge_sides(zero_field_covariance: bool = False) -> Callable[[NoiseFree, Results], np.ndarray]:
    def predict(s: NoiseFree, inputs: Results) -> np.ndarray:
        law = theory.bridging_law(s.n, s.snr, s.gammas, s.betas, noise=0.0, zero_field_covariance=zero_field_covariance)
        return s.n * law.second_moment() * np.array([1.0, -1.0]) + BRIDGE

    return predict


def _bridge(s: Circuit, inputs: Results) -> float:
    return s.n * theory.bridging_law(s.n, s.snr, s.gammas, s.betas).second_moment()


SINE_GAUSSIAN_P = Claim(
    id=f"{PAPER}.sine-gaussian-p",
    kind="law",
    statement="At lambda_n = Lambda n^{(q-2+eps_p)/2}, p steps give R -> A sin(2 q gamma_p Lambda^{S_p} prod_t"
    " chi_t^{(q-1)^{p-t}} g^{(q-1)^p}); at q = 2 a Gaussian process conditioned on its own fields gives E R^2 at"
    " finite n up to O(1/n).",
    source="paper, p-step claim (heuristic for p >= 2); constants and the law at finite n derived here",
    assumptions="p, gamma, beta, Lambda fixed as n grows",
    checks=(
        _noise_free_check("without noise, p = 2", SENSITIVE_2, 1 / 2),
        _noise_free_check("without noise, p = 3", SENSITIVE_3, 1 / 3),
        Check(
            name="without noise, q = 3",
            experiment=NOISE_FREE,
            design=_cubic_sizes(),
            observable=reading("m1"),
            predict=_noise_free_limit,
            judge=Limit(tolerance=0.05, orders=(1 / 3,), deterministic=True, kind="law"),
            control=Control("S_2 = 2 in place of 3: lambda_n = n^{3/4}", design=_cubic_sizes(0.75)),
            size=size,
        ),
        Check(
            name="finite n, without noise",
            experiment=NOISE_FREE,
            design={
                preset: Design(tuple(noise_free(n, 2, *a) for a in (FLAT_2, BEST_2) for n in sizes))
                for preset, sizes in {
                    "quick": (25, 100, 400),
                    "standard": (25, 50, 100, 200, 400, 800, 1600, 3200),
                    "paper": (25, 50, 100, 200, 400, 800, 1600, 3200, 6400),
                }.items()
            },
            observable=_scaled_sides,
            predict=_bridge_sides(),
            judge=Bound(exhaustive=True, kind="law"),
            control=Control("covariances of the process at zero field", predict=_bridge_sides(True)),
            size=size,
        ),
        Check(
            name="finite n, with noise",
            experiment=MOMENTS,
            design={
                "quick": Design((circuit(18, 2, *BEST_2),), 400),
                "standard": Design(tuple(circuit(n, 2, *BEST_2) for n in (16, 18, 20)), 1000),
                "paper": Design(tuple(circuit(n, 2, *BEST_2) for n in (18, 20, 22)), 2000),
            },
            observable=lambda setting, results: setting.n * results["m2"],
            predict=_bridge,
            judge=Equivalence(tolerance=BRIDGE, absolute=True, kind="law"),
            control=Control(
                "the limit law in place of the one at finite n",
                predict=lambda s, inputs: s.n * limit_law(s).second_moment(),
            ),
            size=size,
        ),
    ),
    note="At p >= 2 the limit is approached at the rate n^{-eps_p} only (n^{-eps_p/2} unless every beta_t = pi/4),"
    " not 1/n: no state vector of 30 qubits shows it. So the limit is judged where W = 0, exactly to n = 1600; with"
    " noise the state vector is judged against the law at finite n, which tends to the limit. At q = 3 with noise"
    " nothing is claimed for p >= 2.",
)


# --- power iteration and what is gained ------------------------------------------------------------------------------


def _power_iteration(symmetrised: bool = False) -> dict[str, Design]:
    settings = tuple(PowerIteration(n, q, n ** ((q - 1) / 2), symmetrised=symmetrised) for n, q in ((30, 2), (12, 3)))
    return every(settings, quick=16_000, standard=40_000, paper=100_000)


@lru_cache
def _one_step_law(n: int, q: int, snr: float) -> Tabulated:
    """The exact law after one step, on a grid: its distribution function costs milliseconds a point."""
    grid = np.linspace(-1.0, 1.0, 401)
    return Tabulated(grid, theory.PowerIterationStep(n, q, snr).cdf(grid))


def _two_steps(symmetrised: bool = False) -> dict[str, Design]:
    def settings(preset: str) -> tuple[PowerIteration, ...]:
        n = {"quick": 100, "standard": 200, "paper": 400}[preset]
        return (PowerIteration(n, 2, n**0.25, 2, symmetrised),)

    return every(settings, quick=12_000, standard=12_000, paper=40_000)


POWER_ITERATION_LAW = Claim(
    id=f"{PAPER}.power-iteration-law",
    kind="law",
    statement="p steps of tensor power iteration at lambda_n = Lambda n^{(q-2+eps_p)/2} give r -> H/sqrt(1 + H^2), H"
    " = Lambda^{S_p} g^{(q-1)^p}; after one step the law is known at every n.",
    source="paper, comparison with power iteration; constants and the exact one-step law derived here",
    assumptions="W not symmetrised; the start uniform on the sphere",
    checks=(
        Check(
            name="one step",
            experiment=POWER_ITERATION,
            design=_power_iteration(),
            observable=reading("overlap"),
            predict=lambda s, inputs: _one_step_law(s.n, s.q, s.snr),
            judge=Law(tolerance=0.03),
            control=Control("Y averaged over permutations of its axes", design=_power_iteration(symmetrised=True)),
            size=size,
        ),
        Check(
            name="two steps",
            experiment=POWER_ITERATION,
            design=_two_steps(),
            observable=reading("square"),
            predict=lambda s, inputs: theory.power_iteration_limit(s.q, s.steps).second_moment(),
            judge=Equivalence(tolerance=0.05, kind="law"),
            control=Control("Y averaged over permutations of its axes", design=_two_steps(symmetrised=True)),
            size=size,
        ),
    ),
)


def _double_factorial(q: int) -> float:
    """E g^{2q-2} = (2q - 3)!!."""
    return float(np.prod(np.arange(1, 2 * q - 2, 2)))


WEAK = {q: np.sqrt(3e-3 * _double_factorial(q) / (q * _double_factorial(2 * q - 1))) for q in (2, 3, 4, 5, 6)}
"""Lambda at which sin(x)^2 = x^2 - x^4/3 falls short of x^2 by one part in a thousand in the mean, x = sqrt(q)"
" Lambda g^{q-1}."""
MILLION = 10**6


def _weak_signals(factor: float = 1.0) -> dict[str, Design]:
    """gamma = factor / (2 sqrt q) at small Lambda."""
    return every(
        tuple(_one_step(MILLION, q, angles(factor / (2 * q**0.5)), (q - 1) / 2, scale) for q, scale in WEAK.items()),
        quick=1,
        standard=1,
        paper=1,
    )


def _gain(setting: OneStep, results: Results) -> Float[np.ndarray, "S 1"]:
    """(E R^2 - 1/n) over E r^2 = Lambda^2 E g^{2q-2} of power iteration, for a weak signal."""
    return (results["m2"] - 1 / setting.n) / (WEAK[setting.q] ** 2 * _double_factorial(setting.q))


ENHANCEMENT = Claim(
    id=f"{PAPER}.enhancement",
    kind="ordering",
    statement="For weak signals one step of QAOA beats one step of power iteration on the raw tensor by the factor"
    " sqrt(q/e), at gamma = 1/(2 sqrt q), beta = pi/4: a gain for every q >= 3, a loss at q = 2.",
    source="paper, Table 1; exponent and closed form derived here",
    assumptions="p = 1, Lambda -> 0; power iteration without symmetrising W",
    checks=(
        Check(
            name="square of the factor",
            experiment=ONE_STEP,
            design=_weak_signals(),
            observable=_gain,
            predict=lambda setting, inputs: theory.best_enhancement(1, setting.q).factor ** 2,
            judge=Identity(tolerance=0.01, at_least=len(WEAK), kind="ordering"),
            control=Control("gamma twice the best", design=_weak_signals(2.0)),
        ),
        Check(
            name="gain for q >= 3, loss for q = 2",
            experiment=ONE_STEP,
            design=_weak_signals(),
            observable=lambda setting, results: np.sign(setting.q - 2.5) * _gain(setting, results),
            predict=lambda setting, inputs: np.sign(setting.q - 2.5),
            judge=Bound(sense=">=", exhaustive=True, kind="ordering"),
            control=Control("gamma twice the best", design=_weak_signals(2.0)),
        ),
    ),
    note="Against power iteration on the symmetrised tensor, whose noise is 1/q as strong, the factor is e^{-1/2} ="
    " .61 for every q: the announced gains are over the raw tensor, while QAOA's cost symmetrises by itself. For p"
    " >= 2 the factors are optima of many local ones and so lower bounds; they rest on the constants that"
    " response-constants checks.",
)


def _unfolding(rescaled: bool = True) -> dict[str, Design]:
    def setting(n: int) -> Unfolding:
        # lambda' = sqrt N, so that lambda_n = sqrt(N) n^{1/2}
        return Unfolding(n, float(n * n**0.5), angles(OPTIMUM), angles(QUARTER), rescaled)

    return {
        "quick": Design((setting(3),), 2000),
        "standard": Design((setting(3), setting(4)), 2000),
        "paper": Design((setting(3), setting(4)), 10_000),
    }


def _unfolded_second_moment(setting: Unfolding, inputs: Results) -> float:
    N, snr = theory.unfolded(setting.n, 4, setting.snr)
    return float(theory.one_step_moments(N, 2, snr, setting.gammas[0], setting.betas[0])[1])


UNFOLDING_CLAIM = Claim(
    id=f"{PAPER}.unfolding",
    kind="identity",
    statement="For even q the n^{q/2} x n^{q/2} unfolding times (n/N)^{1/2}, N = n^{q/2}, is a q = 2 spiked matrix"
    " on N spins at lambda' = lambda_n n^{-(q-2)/4}: p steps recover from n^{(q-2)/4 + q/(4p)} on, never below"
    " n^{(q-2)/4}.",
    source="paper, unfolding corollary; the exact correspondence derived here",
    assumptions="even q (q = 4 here); spike u (x) u",
    checks=(
        Check(
            name="E R^2",
            experiment=UNFOLDING,
            design=_unfolding(),
            observable=reading("m2"),
            predict=_unfolded_second_moment,
            judge=Equivalence(tolerance=0.05),
            control=Control("the unfolding is not rescaled", design=_unfolding(rescaled=False)),
            size=size,
        ),
    ),
)

CLAIMS = (
    GAUGE_CLAIM,
    COST_WHT,
    FINITE_N,
    SINE_GAUSSIAN_P1,
    ONE_STEP_THRESHOLD,
    SELF_AVERAGING,
    RESPONSE_CONSTANTS,
    SINE_GAUSSIAN_P,
    POWER_ITERATION_LAW,
    ENHANCEMENT,
    UNFOLDING_CLAIM,
)
