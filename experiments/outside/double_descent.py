"""Double descent: the risk of minimum-norm least squares over the number of features, with its peak at p = n.

y = <x, b> + sigma e with x ~ N(0, 1_p), |b| = r, e ~ N(0, 1); n samples. The risk is |b^ - b|^2, with b^ = X^+ y the solution of
least norm. A theorem from outside the library in one file: `theorysim verify double_descent.py`.

Hastie, Montanari, Rosset, Tibshirani (Ann. Stat. 50, 949, 2022), isotropic features; exact means at finite n from those of inverse
Wishart matrices (Belkin, Hsu, Xu, SIAM J. Math. Data Sci. 2, 1167, 2020).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.scipy.linalg import solve_triangular
from scipy import integrate

from theorysim.errors import require
from theorysim.plots import COLORS, TEXT, THEORY, Figure, canvas, letters, points
from theorysim.plots import theory as line
from theorysim.sweep import Experiment, setting
from theorysim.verify import Check, Claim, Control, Design, Equivalence, Law, Limit, Rate, Threshold

# --- settings -----------------------------------------------------------------------------------------------------------


@setting
class Regression:
    """n samples, p features; r: norm of the coefficients b; sigma: of the noise."""

    n: int
    p: int
    r: float = 1.0
    sigma: float = 1.0

    def validate(self) -> None:
        require(self.n >= 1, f"n must be at least 1, got {self.n}")
        require(self.p >= 1, f"p must be at least 1, got {self.p}")
        require(self.r >= 0 and self.sigma >= 0, f"r and sigma must not be negative, got {self.r}, {self.sigma}")


@setting
class Growing:
    """n samples, fitted by the first p of `most` features for every p; every feature occurs `copies` times."""

    n: int
    most: int
    copies: int = 1

    def validate(self) -> None:
        require(1 <= self.n < self.most, f"n must lie in [1, most = {self.most}), got {self.n}")
        require(self.copies >= 1, f"copies must be at least 1, got {self.copies}")


# --- measurement --------------------------------------------------------------------------------------------------------

NOISES = 8
"""Draws of the noise for each X, whose risks are averaged: X is the independent unit."""


def risk(key, setting):
    """|b^ - b|^2, averaged over draws of the noise; b = r e_1, which loses nothing since the law of x is isotropic."""
    data_key, noise_key = random.split(key)
    n, p = setting.n, setting.p
    X = random.normal(data_key, (n, p))
    noise = setting.sigma * random.normal(noise_key, (n, NOISES))
    y = setting.r * X[:, :1] + noise
    # By orthogonal factors of X: those of X^T X would square its condition, which at p = n has no mean.
    if p <= n:
        Q, R = jnp.linalg.qr(X)
        fit = solve_triangular(R, Q.T @ y)
    else:
        Q, R = jnp.linalg.qr(X.T)
        fit = Q @ solve_triangular(R, y, trans="T")
    return {"risk": (fit.at[0].add(-setting.r) ** 2).sum(axis=0).mean()}


def smallest(key, setting):
    """The smallest singular value of X, times sqrt(n)."""
    X = random.normal(key, (setting.n, setting.p))
    return {"smallest": jnp.sqrt(setting.n * jnp.linalg.eigvalsh(X @ X.T)[0])}


def training(key, setting):
    """|y - X_p b^|^2/|y|^2 for p = 1, ..., most, pure noise y."""
    data_key, label_key = random.split(key)
    features = random.normal(data_key, (setting.n, setting.most))
    X = features[:, jnp.arange(setting.most) // setting.copies]
    y = random.normal(label_key, (setting.n,))

    def error(p):
        used = X * (jnp.arange(setting.most) < p)
        return jnp.sum((y - used @ (jnp.linalg.pinv(used, rtol=1e-10) @ y)) ** 2) / jnp.sum(y**2)

    return {"error": jax.lax.map(error, 1 + jnp.arange(setting.most))}


RISK = Experiment("double-descent/risk", risk, operations=lambda s: 2 * max(s.n, s.p) * min(s.n, s.p) ** 2)
SMALLEST = Experiment("double-descent/smallest", smallest, operations=lambda s: 4 * s.n**3)
TRAINING = Experiment("double-descent/training", training, operations=lambda s: 20 * s.most**2 * s.n**2)

# --- prediction ---------------------------------------------------------------------------------------------------------


def mean_risk(setting, spare: int = 1):
    """E |b^ - b|^2: sigma^2 p/(n - p - 1) for p < n - 1, and r^2 (1 - n/p) + sigma^2 n/(p - n - 1) for p > n + 1."""
    n, p, variance = setting.n, setting.p, setting.sigma**2
    if p < n - 1:
        return variance * p / (n - p - spare)
    return setting.r**2 * (1 - n / p) + (variance * n / (p - n - spare) if p > n + 1 else np.inf)


def limiting_risk(ratio, r=1.0, sigma=1.0):
    """As n, p grow at p/n = ratio: sigma^2 g/(1 - g) below 1, r^2 (1 - 1/g) + sigma^2/(g - 1) above."""
    below = sigma**2 * ratio / np.abs(1 - ratio)
    above = r**2 * (1 - 1 / ratio) + sigma**2 / np.abs(ratio - 1)
    return np.where(ratio < 1, below, above)


class Edelman:
    """sqrt(n) s_min of a real square Gaussian matrix as n grows: P(> x) = exp(-x^2/2 - x).

    scale: of x (for controls).
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def cdf(self, x):
        z = np.maximum(x, 0) / self.scale
        return -np.expm1(-(z**2) / 2 - z)

    def mean(self) -> float:
        return self.scale * integrate.quad(lambda z: np.exp(-(z**2) / 2 - z), 0, np.inf)[0]

    def std(self) -> float:
        square = integrate.quad(lambda z: 2 * z * np.exp(-(z**2) / 2 - z), 0, np.inf)[0]
        return float(np.sqrt(self.scale**2 * square - self.mean() ** 2))


# --- claims -------------------------------------------------------------------------------------------------------------


def on(*settings, **seeds):
    return {preset: Design(settings, number) for preset, number in seeds.items()}


def interpolation(setting, results):
    """Bracket of the p/n at which the training error vanishes: the last p where it does not, and the next."""
    last = setting.most - np.argmax(results["error"][:, ::-1] > 1e-12, axis=1)
    return np.stack([last, last + 1], axis=1) / setting.n


def sized(*settings: Regression, quick: int):
    return on(*settings, quick=quick, standard=20_000, paper=200_000)


BELOW = sized(Regression(10, 2), Regression(20, 10), quick=5000)
ABOVE = sized(*(Regression(n, 3 * n) for n in (8, 16, 32, 64)), quick=1500)
PEAK = sized(*(Regression(n, n) for n in (4, 8, 16, 32, 64, 128)), quick=4000)
SOURCE = "Hastie, Montanari, Rosset, Tibshirani (2022)"


def exact_check(name: str, design, control: Control) -> Check:
    return Check(
        name=name,
        experiment=RISK,
        design=design,
        observable=lambda _, results: results["risk"],
        predict=lambda setting, _: mean_risk(setting),
        judge=Equivalence(tolerance=0.05, skewed=True),
        control=control,
        size=lambda setting: setting.n,
    )


ONE_LESS = Control("n - p in place of n - p - 1", predict=lambda setting, _: mean_risk(setting, spare=0))
NO_BIAS = Control(
    "the variance alone, without the bias r^2 (1 - n/p)",
    predict=lambda s, _: mean_risk(Regression(s.n, s.p, 0.0, s.sigma)),
)

CLAIMS = (
    Claim(
        id="double-descent.exact",
        kind="identity",
        statement="E |b^ - b|^2 = sigma^2 p/(n - p - 1) for p < n - 1, r^2 (1 - n/p) + sigma^2 n/(p - n - 1) for p > n + 1.",
        source="Belkin, Hsu, Xu (2020); Breiman, Freedman (JASA 78, 131, 1983) for p < n",
        assumptions="isotropic Gaussian features",
        checks=(
            exact_check("p < n", BELOW, ONE_LESS),
            exact_check("p > n", ABOVE, NO_BIAS),
        ),
    ),
    Claim(
        id="double-descent.limit",
        kind="limit",
        statement="At p/n = g > 1 the risk tends to r^2 (1 - 1/g) + sigma^2/(g - 1).",
        source=f"{SOURCE}, theorem 1",
        assumptions="isotropic features, n -> infinity",
        checks=(
            Check(
                name="limiting risk",
                experiment=RISK,
                design=ABOVE,
                observable=lambda _, results: results["risk"],
                predict=lambda setting, _: limiting_risk(setting.p / setting.n, setting.r, setting.sigma),
                judge=Limit(tolerance=0.05, orders=(1.0,)),
                control=Control(
                    "the variance alone, without the bias r^2 (1 - 1/g)",
                    predict=lambda setting, _: limiting_risk(setting.p / setting.n, 0.0, setting.sigma),
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="double-descent.peak",
        kind="rate",
        statement="At p = n the risk grows like n, while at other p/n it stays bounded: E |b^ - b|^{-1} falls like n^{-1/2}.",
        source="derived here from Edelman (1988): the smallest singular value of X is of order n^{-1/2}",
        assumptions="isotropic Gaussian features, p = n",
        checks=(
            Check(
                name="inverse error",
                experiment=RISK,
                design=PEAK,
                observable=lambda _, results: results["risk"] ** -0.5,
                predict=lambda *_: -0.5,
                judge=Rate(tolerance=0.05, correction=(1.0,)),
                control=Control("a bounded risk, exponent 0", predict=lambda *_: 0.0),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="double-descent.smallest",
        kind="law",
        statement="At p = n the smallest singular value of X, times sqrt(n), has the law P(> x) = exp(-x^2/2 - x): often near 0.",
        source="Edelman (SIAM J. Matrix Anal. Appl. 9, 543, 1988), corollary 3.1",
        assumptions="square Gaussian matrices, n -> infinity",
        checks=(
            Check(
                name="smallest singular value",
                experiment=SMALLEST,
                design={
                    "quick": Design((Regression(32, 32),), 20_000),
                    "standard": Design((Regression(48, 48),), 60_000),
                    "paper": Design((Regression(200, 200),), 200_000),
                },
                observable=lambda _, results: results["smallest"],
                predict=lambda *_: Edelman(),
                judge=Law(tolerance=0.03),
                control=Control("a scale larger by a tenth", predict=lambda *_: Edelman(scale=1.1)),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="double-descent.threshold",
        kind="threshold",
        statement="The training error vanishes from p = n features on.",
        source="linear algebra: n generic vectors of n dimensions span them",
        assumptions="features without repetition, of a law with a density",
        checks=(
            Check(
                name="interpolation",
                experiment=TRAINING,
                design=on(Growing(24, 54), quick=12, standard=100, paper=1000),
                observable=interpolation,
                predict=lambda *_: 1.0,
                judge=Threshold(tolerance=0.05, deterministic=True),
                control=Control(
                    "every feature twice", design=on(Growing(24, 54, copies=2), quick=12, standard=100, paper=1000)
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
)

# --- figure -------------------------------------------------------------------------------------------------------------

SEEDS = {"quick": 60, "standard": 400, "paper": 4000}


def draw(session):
    drawing, axes = canvas(1, 2, width=TEXT, height=2.8)
    curve, peak = axes[0]
    n = 24
    ratios = np.array([4, 8, 12, 16, 19, 22, 24, 26, 29, 34, 44, 64, 96]) / n
    settings = tuple(Regression(n, round(ratio * n), 2.0, 1.0) for ratio in ratios)
    measured = session.measure(RISK, Design(settings, SEEDS[session.preset]))
    for part in (np.linspace(0.05, 0.96, 200), np.linspace(1.04, 4, 300)):
        line(curve, part, limiting_risk(part, 2.0), label="$n = \\infty$" if part[0] < 1 else None)
    samples = np.stack([result["risk"] for result in measured], axis=1)
    points(curve, ratios, samples, median=True, label=f"$n = {n}$, median of {len(samples)} seeds")
    curve.axhline(4, color=THEORY, linestyle=":", linewidth=0.8, label="$\\hat{b} = 0$")
    curve.set(xlabel="$g = p/n$", ylabel=r"risk $\|\hat{b} - b\|^2$", yscale="log", ylim=(0.05, 300))
    curve.legend()

    design = session.design(PEAK)
    sizes = np.array([float(setting.n) for setting in design.settings])
    inverse = np.stack([result["risk"] ** -0.5 for result in session.measure(RISK, design)], axis=1)
    line(peak, sizes, inverse[:, -1].mean() * np.sqrt(sizes[-1] / sizes), label="slope $-1/2$")
    points(peak, sizes, inverse, color=COLORS[0], label=f"mean of {design.seeds} seeds")
    peak.set_xscale("log", base=2)
    peak.set(yscale="log", xlabel="$n = p$", ylabel=r"$\mathbb{E}\,\|\hat{b} - b\|^{-1}$")
    peak.legend()
    letters(axes[0], (r"$r = 2$, $\sigma = 1$; 95% CI", "the peak; 95% CI"))
    return drawing


FIGURES = (Figure("double-descent.risk", "Where does the risk of least squares peak, and how high?", draw),)
