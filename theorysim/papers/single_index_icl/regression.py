"""Regression on one prompt: learning curves of kernel ridge regression, and the linear optimum between Bayes and attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from math import factorial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.special import gammaln
from jaxtyping import Array, Complex, Float, Int, Key

from theorysim.errors import require
from theorysim.kernels import kernel_ridge, prompts
from theorysim.papers.single_index_icl.setting import HE2, HE3, Band, Coefficients, Link, Tasks
from theorysim.papers.single_index_icl.theory import kernel_regression, links, prompt_only
from theorysim.papers.single_index_icl.theory.attention_floor import attention_floor
from theorysim.papers.single_index_icl.theory.zonal import multiplicity, prior_kernel
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Bound, Check, Claim, Control, Design, Equivalence, Limit, Ordering, Search
from theorysim.verify.claim import Results

PAPER = "single-index-icl"


# --- shared readings --------------------------------------------------------------------------------------------------


def every(settings: Callable[[str], tuple[Any, ...]] | tuple[Any, ...], **seeds: int) -> dict[str, Design]:
    """A design a preset, from its settings and number of seeds."""
    return {preset: Design(settings(preset) if callable(settings) else settings, n) for preset, n in seeds.items()}


def reading(name: str) -> Callable[[Any, Results], np.ndarray]:
    """An observable that is one of the results."""
    return lambda setting, results: results[name]


@lru_cache
def link_of(link: Link) -> links.Link:
    """The link of the predictions."""
    return links.band(link.lowest, link.highest) if isinstance(link, Band) else links.polynomial(link.values.tolist())


def prior(tasks: Tasks) -> kernel_ridge.Kernel:
    """E f(x) f(x') of the measurements."""
    link = tasks.link.kernel()
    if isinstance(link, prompts.RandomHermite):
        return prompts.prior_kernel(link.root @ link.root.T, link.lowest, tasks.r)
    assert isinstance(link, prompts.Hermite)
    c = jnp.asarray(link.coefficients)
    return prompts.prior_kernel(jnp.outer(c, c), 0, tasks.r)


def points(key: Key[Array, ""], tasks: Tasks, count: int) -> Float[Array, "count d"]:
    """Inputs of one prompt."""
    first = jnp.zeros(1, jnp.uint32)
    return prompts.sample(key, tasks.law(), first, length=count - 1, dtype=jnp.float64).X[0]


# --- learning curves --------------------------------------------------------------------------------------------------


@setting
class Regression:
    """Kernel ridge regression on n examples of one task, with exp(-|x - x'|^2/(2 d)) or with the prior kernel.

    ridge: on the unnormalised kernel matrix; tau^2 with the prior kernel gives the linear optimum. queries: at which the risk
    is averaged.
    """

    tasks: Tasks
    n: int
    ridge: float = 0.01
    kernel: Literal["rbf", "prior"] = "rbf"
    queries: int = 64

    def validate(self) -> None:
        require(self.n >= 1, f"number of examples n must be at least 1, got {self.n}")
        require(self.queries >= 1, f"number of queries must be at least 1, got {self.queries}")
        require(self.ridge > 0, f"ridge must be positive, got {self.ridge}")


def regression(key: Key[Array, ""], setting: Regression) -> dict[str, Array]:
    """risk: E (f_hat - f)^2 given the inputs, exact in direction, link and noise, and a mean over the queries."""

    def run(key: Array, s: Regression) -> dict[str, Array]:
        X, Z = jnp.split(points(key, s.tasks, s.n + s.queries), [s.n])
        law = prior(s.tasks)
        kernel = law if s.kernel == "prior" else kernel_ridge.rbf(float(s.tasks.d))
        weights = kernel_ridge.smoother(X, Z, kernel, s.ridge)
        return {"risk": jnp.mean(kernel_ridge.smoother_risk(weights, X, Z, law, s.tasks.tau**2))}

    return one_by_one(run)(key, setting)


REGRESSION = Experiment(
    f"{PAPER}/regression",
    regression,
    operations=lambda s: s.n**3 / 3 + 40.0 * s.n**2 + 4.0 * s.n**2 * s.queries,
)


SQUARE = Coefficients(np.append(HE2.values, 0.0))
"""He_2 of the length of He_3, so that both are one program."""


def curve(
    link: Link, d: int, shares: tuple[float, ...], inputs: Literal["gaussian", "sphere"]
) -> tuple[Regression, ...]:
    """n = share d^2."""
    tasks = Tasks(d, d, link, 0.1, inputs=inputs)
    return tuple(Regression(tasks, round(share * d**2)) for share in shares)


Spectra = Callable[[links.Link, int], kernel_regression.Spectrum]


def _equivalent(spectrum: Spectra, setting: Regression, inputs: Results) -> float:
    tasks = setting.tasks
    space = spectrum(link_of(tasks.link), tasks.d)
    return kernel_regression.ridge_regression_risk(setting.n, space, setting.ridge, tasks.tau)


def _leading_multiplicity(link: links.Link, d: int) -> kernel_regression.Spectrum:
    """d^l/l! in place of n_l."""
    spectrum = kernel_regression.sphere_spectrum(link, d)
    return spectrum._replace(
        multiplicity=np.array([float(d) ** degree / factorial(degree) for degree in range(len(spectrum.power))])
    )


def _spheres(preset: str) -> tuple[Regression, ...]:
    shares = (0.25, 0.5, 1.0, 2.0)
    if preset == "quick":
        return curve(SQUARE, 16, (0.25, 1.0, 2.0), "sphere") + curve(HE3, 16, (2.0,), "sphere")
    small = curve(SQUARE, 16, shares, "sphere") + curve(HE3, 16, shares[2:], "sphere")
    large = curve(SQUARE, 32, shares, "sphere") + curve(HE3, 16, shares[:2], "sphere")
    return small + large if preset == "standard" else small + large + curve(HE3, 32, shares, "sphere")


def _small_spheres(preset: str) -> tuple[Regression, ...]:
    return curve(HE2, 8, (0.5, 1.0) if preset == "quick" else (0.5, 1.0, 2.0), "sphere")


KRR_SPHERE = Claim(
    id=f"{PAPER}.krr-sphere",
    kind="limit",
    statement="Inputs sqrt(d) S^{d-1}, kernel exp(-|x-x'|^2/(2d)), ridge .01: the risk at n samples is E0 [sum (1-L_i)^2 V_i +"
    " tau^2] - tau^2 with n = sum mu_i L_i + delta/kappa, L_i = lam_i/(lam_i+kappa), E0 = n/(n - sum mu_i L_i^2), one space per"
    " degree: to 5 % at d = 16, 32, and to 15 % at d = 8.",
    source="deterministic equivalents: Bordelon, Canatar, Pehlevan 2020; Simon et al. 2023",
    assumptions="delta > 0; n from d^2/4 to 2 d^2; links He_2 and He_3",
    note="At d = 8 the formula itself is 3 to 10 % off, within a tolerance of 15 % that cannot refute a mistake of 10 %.",
    checks=(
        Check(
            name="d = 16 and more",
            experiment=REGRESSION,
            design=every(_spheres, quick=160, standard=200, paper=400),
            observable=reading("risk"),
            predict=partial(_equivalent, kernel_regression.sphere_spectrum),
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control("multiplicity d^l/l! in place of n_l", predict=partial(_equivalent, _leading_multiplicity)),
        ),
        Check(
            name="d = 8",
            experiment=REGRESSION,
            design=every(_small_spheres, quick=200, standard=400, paper=2000),
            observable=reading("risk"),
            predict=partial(_equivalent, kernel_regression.sphere_spectrum),
            judge=Equivalence(tolerance=0.15, kind="limit"),
            control=Control("multiplicity d^l/l! in place of n_l", predict=partial(_equivalent, _leading_multiplicity)),
        ),
    ),
)


def _gaussians(preset: str) -> tuple[Regression, ...]:
    small = curve(HE2, 16, (0.25, 0.5), "gaussian")
    return small if preset == "quick" else small + curve(HE2, 32, (0.0625, 0.25, 0.5), "gaussian")


KRR_GAUSS = Claim(
    id=f"{PAPER}.krr-gauss",
    kind="limit",
    statement="Inputs N(0, I_d), kernel exp(-|x-x'|^2/(2d)), ridge .01: the same formula with the Mehler spectrum lam_n = (1-B)^d"
    " B^n, multiplicity C(d+n-1, n), to 10 % for n <= d^2/2.",
    source="deterministic equivalent; spectrum derived here",
    assumptions="delta > 0, h2 = d, d = 16, 32, link He_2",
    note="For n >= 2 d^2 the formula is low by 10 to 20 %: features of Gaussian inputs are far from Gaussian. Up to d^2/2 it is a"
    " few per cent off, within a tolerance of 10 % that cannot refute a mistake of 10 %.",
    checks=(
        Check(
            name="before the transition",
            experiment=REGRESSION,
            design=every(_gaussians, quick=96, standard=96, paper=400),
            observable=reading("risk"),
            predict=partial(_equivalent, kernel_regression.gaussian_spectrum),
            judge=Equivalence(tolerance=0.1, kind="limit"),
            control=Control(
                "spectrum of inputs on the sphere", predict=partial(_equivalent, kernel_regression.sphere_spectrum)
            ),
        ),
    ),
)


# --- the staircase ----------------------------------------------------------------------------------------------------

DEGREES = 24
"""Harmonics of higher degree hold less than 1e-23 of the kernel at h2 = d."""
ANGLES = 801


@setting
class Staircase:
    """The deterministic equivalent on the sphere at n samples in the dimensions d >= 8, kernel exp(-|x - x'|^2/(2 d)).

    degree: l, of the step n = alpha n_l(d) or the plateau n = d^{l + x}, 0 < x < 1.
    """

    link: Coefficients
    dimensions: Int[np.ndarray, " sizes"]
    n: Float[np.ndarray, " sizes"]
    degree: int
    ridge: float = 0.01
    tau: float = 0.1

    def validate(self) -> None:
        require(bool((self.dimensions >= 8).all()), f"dimensions must be at least 8, got {self.dimensions.tolist()}")
        require(self.n.shape == self.dimensions.shape, "n and dimensions must have equally many entries")
        require(self.ridge > 0, f"ridge must be positive, got {self.ridge}")


def staircase(key: Key[Array, ""], setting: Staircase) -> dict[str, Array]:
    """risk: of each dimension. By Rodrigues' formula E[g P_l] on S^{d-1} is a mean of the l-th derivative on S^{d+2l-1}."""
    shifted = np.arange(DEGREES)[:, None] + np.arange(len(setting.link.values))
    derivatives = jnp.take(jnp.asarray(setting.link.values), shifted, mode="fill", fill_value=0.0)

    def of_degree(d: Array, degree: Array, derivative: Array) -> tuple[Array, Array, Array]:
        # Coordinate sin(angle) of a uniform point on the sphere; its density beyond twelve deviations is nothing.
        angle = jnp.linspace(-1, 1, ANGLES) * jnp.minimum(jnp.pi / 2, 12 / jnp.sqrt(d + 2 * degree))
        log_density = (d + 2 * degree - 2) * jnp.log(jnp.maximum(jnp.cos(angle), 1e-300))
        density, u = jax.nn.softmax(log_density), jnp.sin(angle)
        factor = jnp.exp(gammaln(d / 2) - gammaln(degree + d / 2) - degree * jnp.log(2.0))
        log_count = gammaln(degree + d - 2) - gammaln(degree + 1) - gammaln(d - 1)
        count = (2 * degree + d - 2) * jnp.exp(log_count)
        projection = factor * d ** (degree / 2) * jnp.sum(density * prompts.hermite_series(derivative, jnp.sqrt(d) * u))
        return factor * jnp.sum(density * jnp.exp(u - 1)), count, count * projection**2

    def of_dimension(pair: tuple[Array, Array]) -> Array:
        d, n = jnp.asarray(pair[0], jnp.float64), pair[1]
        degrees = jnp.arange(DEGREES, dtype=jnp.float64)
        lam, mu, power = jax.vmap(of_degree, (None, 0, 0))(d, degrees, derivatives)

        def halve(_: Array | int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            kappa = jnp.exp(middle)
            enough = jnp.sum(mu * lam / (lam + kappa)) + setting.ridge / kappa < n
            return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

        # n kappa lies between the ridge and the ridge with the whole trace, 1.
        start = jnp.log(setting.ridge / n) - 1e-6, jnp.log((setting.ridge + 1) / n) + 1e-6
        kappa = jnp.exp(lax.fori_loop(0, 60, halve, start)[0])
        learned = lam / (lam + kappa)
        missing = jnp.sum((1 - learned) ** 2 * power) + setting.tau**2
        return missing * n / (n - jnp.sum(mu * learned**2)) - setting.tau**2

    return {"risk": lax.map(of_dimension, (jnp.asarray(setting.dimensions), jnp.asarray(setting.n)))}


STAIRCASE = Experiment(
    f"{PAPER}/staircase", staircase, operations=lambda s: 40.0 * DEGREES * ANGLES * len(s.dimensions)
)

STEP_DIMENSIONS = 2 ** np.arange(6, 11)
PLATEAU_DIMENSIONS = 2 ** np.arange(10, 17)
MIXTURE = Coefficients(np.array([0.0, 1.0, np.sqrt(2.0), np.sqrt(6.0)]) / np.sqrt(3.0))
"""A third of the variance in each of the degrees 1, 2, 3."""


def _steps() -> tuple[Staircase, ...]:
    spaces = np.array([multiplicity(2, int(d)) for d in STEP_DIMENSIONS])
    return tuple(Staircase(HE2, STEP_DIMENSIONS, alpha * spaces, 2) for alpha in (0.5, 1.0, 2.0))


def _plateaus() -> tuple[Staircase, ...]:
    return tuple(
        Staircase(MIXTURE, PLATEAU_DIMENSIONS, PLATEAU_DIMENSIONS ** (degree + 0.5), degree) for degree in (1, 2)
    )


def _alpha(setting: Staircase) -> float:
    return float(setting.n[0] / multiplicity(setting.degree, int(setting.dimensions[0])))


def _step(setting: Staircase, inputs: Results) -> Any:
    return kernel_regression.step_risk(
        _alpha(setting), link_of(setting.link), setting.degree, setting.ridge, setting.tau
    )


def _step_without_tail(setting: Staircase, inputs: Results) -> float:
    """delta in place of delta_eff; for a link of the one degree l."""
    alpha, x = _alpha(setting), setting.ridge * np.e * factorial(setting.degree)
    learned = 2 * alpha / (1 + alpha + x + np.sqrt((1 + alpha + x) ** 2 - 4 * alpha))
    return ((1 - learned) ** 2 + setting.tau**2) / (1 - learned**2 / alpha) - setting.tau**2


def _plateau(shift: int, setting: Staircase, inputs: Results) -> float:
    return kernel_regression.plateau_risk(link_of(setting.link), setting.degree - shift)


def _dimensions(setting: Staircase) -> np.ndarray:
    return setting.dimensions


KRR_PLATEAU = Claim(
    id=f"{PAPER}.krr-plateau",
    kind="limit",
    statement="n = d^{l+x}, 0 < x < 1, d -> infinity: the risk tends to sum_{k>l} c_k^2/k!; inside a step, n = alpha n_l(d), alpha"
    " = L + (delta_eff/mu_l) L/(1-L) with delta_eff = delta + sum_{j>l} mu_j and mu_l = e^{-1}/l! gives [(1-L)^2 v_l + sum_{k>l}"
    " v_k + tau^2]/(1 - L^2/alpha) - tau^2.",
    source="Ghorbani, Mei, Misiakiewicz, Montanari 2021 (plateaus); sharp form derived here",
    assumptions="inputs on the sphere, h2 = d; the risk at finite d is that of krr-sphere, whose own accuracy is judged there",
    checks=(
        Check(
            name="inside the step",
            experiment=STAIRCASE,
            design=every(_steps(), quick=1, standard=1, paper=1),
            observable=reading("risk"),
            predict=_step,
            size=_dimensions,
            judge=Limit(tolerance=0.01, orders=(1.0,), deterministic=True),
            control=Control("delta in place of delta_eff", predict=_step_without_tail),
        ),
        Check(
            name="plateaus",
            experiment=STAIRCASE,
            design=every(_plateaus(), quick=1, standard=1, paper=1),
            observable=reading("risk"),
            predict=partial(_plateau, 0),
            size=_dimensions,
            judge=Limit(tolerance=0.02, orders=(0.5,), deterministic=True),
            control=Control("degree l not learned either", predict=partial(_plateau, 1)),
        ),
    ),
)


# --- Bayes, linear optimum and attention in the plane -----------------------------------------------------------------


@setting
class Plane:
    """Prompts in a known subspace of dimension r = 2 with Gaussian noise, after `lengths` examples.

    assumed: the link that the posterior believes in; the true one unless given. angles: of the grid of directions.
    """

    link: Coefficients
    tau: float
    lengths: tuple[int, ...]
    assumed: Coefficients | None = None
    angles: int = 2048

    def validate(self) -> None:
        require(self.tau > 0, f"tau must be positive, got {self.tau}")
        require(len(self.lengths) > 0 and min(self.lengths) >= 1, f"lengths must be at least 1, got {self.lengths}")
        require(self.angles >= 8, f"angles must be at least 8, got {self.angles}")


def _nodes(count: int) -> Float[Array, " count"]:
    """Equidistant angles."""
    return 2 * jnp.pi / count * jnp.arange(count)


def _functions(link: Coefficients, X: Float[Array, "n 2"], count: int) -> Float[Array, "n count"]:
    """f(x) of equidistant directions."""
    angle = _nodes(count)
    return prompts.hermite_series(link.values, X @ jnp.stack([jnp.cos(angle), jnp.sin(angle)]))


def _correlation(link: Coefficients, other: Coefficients, angle: Float[Array, " count"]) -> Float[Array, " count"]:
    """E_x f(x) f'(x) = sum_k c_k c'_k cos^k/k! of directions at an angle, and two links."""
    pairs = zip(link.values, other.values, strict=False)
    return sum(((a * b / factorial(k)) * jnp.cos(angle) ** k for k, (a, b) in enumerate(pairs)), jnp.zeros_like(angle))


def _waves(values: Float[Array, "*many nodes"]) -> Complex[Array, "*many modes"]:
    """Coefficients a_j, j >= 0, of a trigonometric polynomial Re sum_j a_j e^{ij theta} from its values at equidistant angles."""
    modes = jnp.fft.rfft(values) / values.shape[-1]
    return modes * jnp.where(jnp.arange(modes.shape[-1]) > 0, 2, 1)


def plane(key: Key[Array, ""], setting: Plane) -> dict[str, Array]:
    """bayes, linear: risks of the posterior mean and of the linear optimum after each of the lengths, exact in the query.

    bayes is the posterior variance, whose spread is far below that of a squared error; under a wrong link it is the squared error.
    """

    def run(key: Array, s: Plane) -> dict[str, Array]:
        law = Tasks(2, 2, s.link, s.tau, noise="gaussian").law()
        prompt = prompts.sample(key, law, jnp.zeros(1, jnp.uint32), length=max(s.lengths) - 1, dtype=jnp.float64)
        X, y, beta = prompt.X[0], prompt.y[0], prompt.beta[0]
        believed = s.link if s.assumed is None else s.assumed
        seen = (jnp.arange(len(y)) < jnp.asarray(s.lengths)[:, None]).astype(X.dtype)
        # Squared errors are trigonometric polynomials of degree 2P in the angle of beta: 4P + 1 values are all of one.
        count = 4 * max(len(s.link.values), len(believed.values)) - 3
        order = jnp.arange(count // 2 + 1)

        waves = _waves(seen @ (y[:, None] - _functions(believed, X, count)) ** 2)
        rotations = jnp.exp(1j * order[:, None] * _nodes(s.angles))
        posterior = jax.nn.softmax(-(waves @ rotations).real / (2 * s.tau**2), axis=1)
        moments = posterior @ rotations.T
        overlap = lambda link: _waves(_correlation(link, believed, _nodes(count))).real
        power = jnp.abs(moments) ** 2 @ overlap(believed)  # E f_hat^2
        shared = (moments * jnp.exp(-1j * order * jnp.arctan2(beta[1], beta[0]))).real @ overlap(s.link)
        shared = jnp.where(jnp.array_equal(s.link.values, believed.values), power, shared)
        signal = _correlation(s.link, s.link, jnp.zeros(1))[0]

        # The prior kernel is Phi Phi^T with Phi the functions of equidistant directions.
        phi = _functions(s.link, X, count) / count**0.5
        gram = jnp.einsum("ln,na,nb->lab", seen, phi, phi) + s.tau**2 * jnp.eye(count)
        angle = _nodes(count)
        covariance = _correlation(s.link, s.link, (angle[:, None] - angle).ravel()).reshape(count, count) / count
        solved = jnp.linalg.solve(gram, jnp.broadcast_to(covariance, gram.shape))
        return {"bayes": signal - 2 * shared + power, "linear": s.tau**2 * jnp.trace(solved, axis1=1, axis2=2)}

    return one_by_one(run)(key, setting)


PLANE = Experiment(
    f"{PAPER}/plane", plane, operations=lambda s: 100.0 * len(s.lengths) * (10 * max(s.lengths) + 10 * s.angles)
)

SHORT = (2, 4, 8, 16, 32, 64, 128, 256)
LONG = (1024,)
PLANES = (Plane(SQUARE, 0.3, SHORT + LONG, assumed=SQUARE),)
WRONG = (Plane(SQUARE, 0.3, SHORT + LONG, assumed=HE3),)
PROMPTS = {"quick": 800, "standard": 10_000, "paper": 100_000}


def _gaps(setting: Plane, results: Results) -> Float[np.ndarray, "S 2 lengths"]:
    """Linear optimum less Bayes, attention floor less linear optimum."""
    short = len(SHORT)
    floor = attention_floor(np.array(SHORT), link_of(setting.link), 2, setting.tau)
    bayes, linear = results["bayes"][:, :short], results["linear"][:, :short]
    return np.stack([linear - bayes, floor - linear], axis=1)


def _parameters(name: str) -> Callable[[Plane, Results], np.ndarray]:
    """N risk/tau^2 after long prompts."""
    return lambda s, results: np.array(LONG) * results[name][:, len(SHORT) :] / s.tau**2


def _limits(setting: Plane, inputs: Results) -> prompt_only.LargePromptLimits:
    return prompt_only.large_prompt_limits(link_of(setting.link), 2)


def _known(preset: str) -> tuple[Regression, ...]:
    """The linear optimum in a known subspace."""
    cases = ((8, 16), (8, 64))
    if preset != "quick":
        cases += ((4, 16), (4, 64), (16, 64), (16, 256))
    return tuple(Regression(Tasks(r, r, HE2, 0.1), n, ridge=0.1**2, kernel="prior") for r, n in cases)


def _floor(power: int, setting: Regression, inputs: Results) -> float:
    """At prompts of length n^power."""
    tasks = setting.tasks
    return attention_floor(setting.n**power, link_of(tasks.link), tasks.r, tasks.tau)


CHAIN = Claim(
    id=f"{PAPER}.lmmse-chain",
    kind="ordering",
    statement="With the subspace known, Bayes <= linear optimum (prior kernel in dimension r) <= attention floor Fl_N(r); N"
    " Bayes/tau^2 -> r-1 for a known link, and N LMMSE/tau^2 -> sum_l n_l rank(L_l).",
    source="derived here",
    assumptions="Gaussian noise for Bayes; r = 2 with link He_2, and r = 4 to 16 without Bayes",
    checks=(
        Check(
            name="chain",
            experiment=PLANE,
            design=every(PLANES, **PROMPTS),
            observable=_gaps,
            predict=lambda s, inputs: 0.0,
            judge=Ordering(),
            control=Control("posterior under the link He_3", design=every(WRONG, **PROMPTS)),
        ),
        Check(
            name="linear optimum below the floor",
            experiment=REGRESSION,
            design=every(_known, quick=64, standard=64, paper=400),
            observable=lambda s, results: _floor(1, s, {}) - results["risk"],
            predict=lambda s, inputs: 0.0,
            judge=Ordering(),
            control=Control(
                "floor of prompts of length N^2", observable=lambda s, results: _floor(2, s, {}) - results["risk"]
            ),
        ),
        Check(
            name="Bayes after long prompts",
            experiment=PLANE,
            design=every(PLANES, **PROMPTS),
            observable=_parameters("bayes"),
            predict=lambda s, inputs: _limits(s, inputs).bayes,
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control("posterior under the link He_3", design=every(WRONG, **PROMPTS)),
        ),
        Check(
            name="linear optimum after long prompts",
            experiment=PLANE,
            design=every(PLANES, **PROMPTS),
            observable=_parameters("linear"),
            predict=lambda s, inputs: _limits(s, inputs).linear,
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control("parameters of the direction alone", predict=lambda s, inputs: _limits(s, inputs).bayes),
        ),
    ),
)


# --- the bound on every smoother --------------------------------------------------------------------------------------

SMOOTHERS = ("rbf", "linear", "quadratic", "optimum", "neighbours")
TASKS = 64


@setting
class Smoothing:
    """A random smoother: one of `SMOOTHERS` with random bandwidth, ridge or number of neighbours, on n examples.

    optimum is that of directions in the subspace of the tasks, perturbed by a random amount that is 0 in half of the draws.
    """

    tasks: Tasks
    n: int
    queries: int = 16

    def validate(self) -> None:
        require(self.n >= 2, f"number of examples n must be at least 2, got {self.n}")
        require(self.queries >= 1, f"number of queries must be at least 1, got {self.queries}")


def smoothing(key: Key[Array, ""], setting: Smoothing) -> dict[str, Array]:
    """X, Z, weights: examples, queries, s(z; X), shapes (n, d), (queries, d), (queries, n). risk: of each query.

    simulated: squared error, a mean over queries and `TASKS` tasks on these inputs.
    """

    def run(key: Array, s: Smoothing) -> dict[str, Array]:
        of_inputs, of_tasks, of_noise, of_learner = random.split(key, 4)
        kind, bandwidth, delta, near, shake = random.split(of_learner, 5)
        law = s.tasks.law()
        X, Z = jnp.split(points(of_inputs, s.tasks, s.n + s.queries), [s.n])
        h2 = s.tasks.d * jnp.exp(random.uniform(bandwidth, (), jnp.float64, jnp.log(0.2), jnp.log(20.0)))
        ridge = jnp.exp(random.uniform(delta, (), jnp.float64, jnp.log(1e-2), jnp.log(10.0)))
        inner = lambda power: lambda X, Z: (1 + X @ Z.T / s.tasks.d) ** power
        kernels = kernel_ridge.rbf(h2), inner(1), inner(2), prior(s.tasks)
        number = random.randint(kind, (), 0, len(SMOOTHERS))
        optimal = number == SMOOTHERS.index("optimum")

        def neighbours() -> Array:
            count = random.randint(near, (), 1, s.n)
            distance = jnp.sum((Z[:, None] - X) ** 2, axis=2)
            return (jnp.argsort(jnp.argsort(distance, axis=1), axis=1) < count) / count

        # One factorisation for all kernels.
        kernel = lambda X, Z: lax.switch(jnp.minimum(number, len(kernels) - 1), kernels, X, Z)
        fitted = kernel_ridge.smoother(X, Z, kernel, jnp.where(optimal, s.tasks.tau**2, ridge))
        size = jnp.where(optimal, jnp.maximum(random.uniform(shake, (), jnp.float64, -0.1, 0.1), 0), 0)
        fitted = fitted + size * random.normal(shake, (s.queries, s.n), jnp.float64)
        weights = jnp.where(number == SMOOTHERS.index("neighbours"), neighbours(), fitted)

        beta = prompts.sample(of_tasks, law, jnp.arange(TASKS), length=0, dtype=jnp.float64).beta
        labels = lambda points: law.link(points[:, : s.tasks.r] @ beta.T, jnp.zeros(0))
        noise = s.tasks.tau * random.rademacher(of_noise, (s.n, TASKS), jnp.float64)
        error = weights @ (labels(X) + noise) - labels(Z)
        return {
            "X": X,
            "Z": Z,
            "weights": weights,
            "risk": kernel_ridge.smoother_risk(weights, X, Z, prior(s.tasks), s.tasks.tau**2),
            "simulated": jnp.mean(error**2),
        }

    return one_by_one(run)(key, setting)


SMOOTHING = Experiment(f"{PAPER}/smoothing", smoothing, operations=lambda s: 3.0 * s.n**3 + 2.0 * s.n**2 * s.queries)
INPUTS = ("X", "Z", "weights")


def _smoothings(r: int | None) -> Callable[[str], tuple[Smoothing, ...]]:
    """Directions in a subspace of dimension r, of all dimensions unless given."""

    def settings(preset: str) -> tuple[Smoothing, ...]:
        links = (HE2,) if preset == "quick" else (HE2, HE3)
        return tuple(Smoothing(Tasks(8, r or 8, link, 0.1), 60) for link in links)

    return settings


def _least_risk(setting: Smoothing, inputs: Results) -> Float[np.ndarray, "S queries"]:
    """Of the linear optimum for directions on the whole sphere."""
    tasks = setting.tasks
    pairs = zip(inputs["X"], inputs["Z"], strict=True)
    return np.array([prompt_only.linear_optimum(X, Z, link_of(tasks.link), tasks.tau).risk for X, Z in pairs])


def _smoother_risk(factor: float, setting: Smoothing, inputs: Results) -> Float[np.ndarray, " S"]:
    """K(x, x) - factor s^T k + s^T (K + tau^2 I) s, a mean over queries."""
    tasks, rows = setting.tasks, []
    for X, Z, weights in zip(*(inputs[name] for name in INPUTS), strict=True):
        risk = prompt_only.smoother_risk(weights.T, X, Z, link_of(tasks.link), tasks.tau)
        cross = np.sum(weights.T * prior_kernel(X, Z, link_of(tasks.link)), 0)
        rows.append(np.mean(risk + (2 - factor) * cross))
    return np.array(rows)


DRAWS = {"quick": 900, "standard": 2200, "paper": 5000}

PROMPT_ONLY = Claim(
    id=f"{PAPER}.prompt-only-bound",
    kind="bound",
    statement="For every smoother s(x; X) on the test prompt alone and every X, x: K_d(x,x) - 2 s^T k + s^T (K_d + tau^2 I) s >="
    " K_d(x,x) - k^T (K_d + tau^2 I)^{-1} k, K_d the prior kernel of directions on the whole sphere of R^d; the left side is the"
    " smoother's risk.",
    source="derived here",
    assumptions="predictor linear in the labels; random kernels, bandwidths, ridges, neighbours and perturbed optima",
    checks=(
        Check(
            name="at every query",
            experiment=SMOOTHING,
            design=every(_smoothings(None), **DRAWS),
            observable=reading("risk"),
            predict=_least_risk,
            inputs=("X", "Z"),
            judge=Bound(mass=1e-2, sense=">=", rounding=1e-9),
            control=Control(
                "directions in a subspace of dimension 2", design=every(_smoothings(2), quick=50, standard=50, paper=50)
            ),
            search=Search(draws=True),
        ),
        Check(
            name="risk of a smoother",
            experiment=SMOOTHING,
            design=every(_smoothings(None), **DRAWS),
            observable=reading("simulated"),
            predict=partial(_smoother_risk, 2.0),
            inputs=INPUTS,
            judge=Equivalence(tolerance=0.05, kind="bound"),
            control=Control("s^T k once", predict=partial(_smoother_risk, 1.0)),
        ),
    ),
)

CLAIMS = (CHAIN, PROMPT_ONLY, KRR_SPHERE, KRR_GAUSS, KRR_PLATEAU)
