"""Principal components of a spiked covariance: the transition of Baik, Ben Arous and Peche.

n samples x ~ N(0, 1 + l v v^T) in p = c n dimensions, S = X^T X/n. Beyond l = sqrt(c) the largest eigenvalue of S leaves the
bulk and its eigenvector aligns with v; below, both know nothing of v. A theorem from outside the library in one file:
`theorysim verify bbp.py`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Float
from scipy import optimize

from theorysim.errors import require
from theorysim.plots import COLORS, TEXT, THEORY, Figure, canvas, letters, points, size_colors, size_label
from theorysim.plots import theory as line
from theorysim.sweep import Experiment, setting
from theorysim.verify import Check, Claim, Control, Design, Identity, Law, Limit, Tabulated, Threshold

# --- settings -----------------------------------------------------------------------------------------------------------


def check_sizes(n: float, c: float) -> None:
    """InputError unless p = c n is an integer from 2 to n."""
    whole = n == int(n) and abs(c * n - round(c * n)) < 1e-9
    require(whole and 2 <= c * n <= n, f"n and c n must be integers with 2 <= c n <= n, got n={n}, c={c}")


@setting
class Covariance:
    """S at several spikes l, each from the same noise."""

    n: int
    p: int
    spikes: Float[np.ndarray, " L"]

    def validate(self) -> None:
        require(2 <= self.p <= self.n, f"p must lie in [2, n = {self.n}], got {self.p}")
        require(bool((self.spikes >= 0).all()), f"spikes must not be negative, got {self.spikes}")

    @property
    def c(self) -> float:
        """p/n."""
        return self.p / self.n


ROWS = 224
"""Rows of the bidiagonal form that are kept: 7 n^(1/3) at the largest n; further ones do not move the edge."""


@setting
class Transition:
    """One draw of the noise, and the spike at which the largest eigenvalue of S crosses the edge of the bulk."""

    n: float
    c: float

    def validate(self) -> None:
        check_sizes(self.n, self.c)
        require(self.n <= (ROWS / 7) ** 3, f"n must be at most {(ROWS / 7) ** 3:g}, got {self.n:g}")


# --- measurement --------------------------------------------------------------------------------------------------------


def components(key, setting):
    """Largest eigenvalue at each spike, and the squared first component (v = e_1) of its eigenvector."""
    G = random.normal(key, (setting.n, setting.p))

    def largest(spike):
        X = G.at[:, 0].multiply(jnp.sqrt(1 + spike))
        values, vectors = jnp.linalg.eigh(X.T @ X / setting.n)
        return {"largest": values[-1], "overlap": vectors[0, -1] ** 2}

    return jax.vmap(largest)(setting.spikes)


def bulk(key, setting):
    """Eigenvalues of S at the first spike, and eigenvalues s and weights w_i = <q_i, v>^2 of S without it."""
    G = random.normal(key, (setting.n, setting.p))
    X = G.at[:, 0].multiply(jnp.sqrt(1 + setting.spikes[0]))
    s, q = jnp.linalg.eigh(G.T @ G / setting.n)
    return {"eigenvalues": jnp.linalg.eigvalsh(X.T @ X / setting.n), "noise": s, "weights": q[0] ** 2}


def chi_square(key, df):
    """Chi-square variables of the given degrees of freedom >= 1 (Marsaglia, Tsang, ACM TOMS 26, 363, 2000)."""
    d = df / 2 - 1 / 3

    def attempt(state):
        key, value, done = state
        key, normal_key, uniform_key = random.split(key, 3)
        x = random.normal(normal_key, df.shape)
        v = jnp.maximum(1 + x / jnp.sqrt(9 * d), 1e-9) ** 3
        log_u = jnp.log1p(-random.uniform(uniform_key, df.shape))
        accepted = log_u < x**2 / 2 + d * (1 - v + jnp.log(v))
        return key, jnp.where(~done & accepted, 2 * d * v, value), done | accepted

    start = (key, jnp.zeros_like(df), jnp.zeros(df.shape, bool))
    return lax.while_loop(lambda state: ~state[2].all(), attempt, start)[1]


def crossing(key, setting):
    """The spike l at which S has the eigenvalue t = (1 + sqrt c)^2; -1 where it has one beyond t at every l.

    X is orthogonally equivalent to a bidiagonal matrix with chi_n, chi_{n-1}, ... on the diagonal and chi_{p-1}, chi_{p-2}, ...
    above it, of which the spike multiplies the first entry by sqrt(1 + l) (Bloemendal, Virag, PTRF 156, 795, 2013): l follows
    from the elimination of all other rows of S - t.
    """
    n, p = setting.n, setting.c * setting.n
    row = jnp.arange(ROWS)
    exists, coupled = row < p, row < p - 1
    df = jnp.stack([jnp.where(exists, n - row, 9.0), jnp.where(coupled, p - 1 - row, 9.0)])
    a2, b2 = jnp.where(jnp.stack([exists, coupled]), chi_square(key, df) / n, 0.0)  # absent rows: eigenvalue 0
    t = (1 + jnp.sqrt(setting.c)) ** 2

    def eliminate(state, entry):
        pivot, below = state
        diagonal, off = entry
        pivot = diagonal - t - off / pivot
        return (pivot, below & (pivot < 0)), None

    # rows 2, 3, ... from the last to the second; the corner entry above them is solved for
    rows = (a2[1:] + b2[:-1], jnp.append(a2[1:-1] * b2[1:-1], 0.0))
    (pivot, below), _ = lax.scan(eliminate, (-jnp.ones_like(t), True), rows, reverse=True, unroll=4)
    return {"spike": jnp.where(below, t / (a2[0] * (1 - b2[0] / pivot)) - 1, -1.0)}


COMPONENTS = Experiment(
    "bbp/components", components, operations=lambda s: len(s.spikes) * (2 * s.n * s.p**2 + 9 * s.p**3)
)
BULK = Experiment("bbp/bulk", bulk, operations=lambda s: 4 * s.n * s.p**2 + 11 * s.p**3)
CROSSING = Experiment("bbp/crossing", crossing, operations=lambda s: 200 * ROWS)

# --- prediction ---------------------------------------------------------------------------------------------------------


def outlier(spike, c):
    """Limit of the largest eigenvalue: (1 + l)(1 + c/l) beyond l = sqrt(c), the edge (1 + sqrt c)^2 up to there."""
    beyond = np.maximum(spike, np.sqrt(c))
    return (1 + beyond) * (1 + c / beyond)


def overlap(spike, c):
    """Limit of <v, eigenvector>^2: (1 - c/l^2)/(1 + c/l) beyond l = sqrt(c), 0 up to there."""
    beyond = np.maximum(spike, np.sqrt(c))
    return (1 - c / beyond**2) / (1 + c / beyond)


def marchenko_pastur(c: float) -> Tabulated:
    """Density sqrt((b - x)(x - a))/(2 pi c x) on [a, b] = (1 -+ sqrt c)^2, c < 1; in the angle x = 1 + c - 2 sqrt(c) cos."""
    angle = np.linspace(0, np.pi, 4001)
    x = 1 + c - 2 * math.sqrt(c) * np.cos(angle)
    density = 2 * np.sin(angle) ** 2 / (np.pi * x)
    F = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(angle))])
    return Tabulated(x, F / F[-1])


def secular(setting, inputs, with_eigenvalue: bool = True):
    """The largest root of 1/l = sum_i s_i w_i/(x - s_i), which holds exactly for a perturbation of rank one."""
    spike, roots = setting.spikes[0], []
    for s, w in zip(inputs["noise"], inputs["weights"], strict=True):
        mass = s * w if with_eigenvalue else w
        equation = lambda x, s=s, mass=mass: np.sum(mass / (x - s)) - 1 / spike
        top = s[-1] + spike * mass.sum() + 1e-9
        bottom = s[-1] + min(1e-3, spike * mass[-1] / 2)
        roots.append(optimize.brentq(equation, bottom, top, xtol=1e-13, rtol=1e-14))
    return np.array(roots)


# --- claims -------------------------------------------------------------------------------------------------------------

C = 0.25
SPIKES = np.array([0.2, 1.5, 3.0])
SIZES = (32, 64, 128, 256)
ABOVE = slice(1, None)
BULKS = (Covariance(240, 60, SPIKES[2:]),)


def on(settings, **seeds):
    return {preset: Design(tuple(settings), number) for preset, number in seeds.items()}


SEQUENCE = on([Covariance(n, round(C * n), SPIKES) for n in SIZES], quick=1200, standard=10_000, paper=100_000)
TRANSITIONS = on([Transition(n, C) for n in (64, 512, 4096, 32768)], quick=4000, standard=40_000, paper=400_000)

SOURCE = "Baik, Ben Arous, Peche (Ann. Prob. 33, 1643, 2005)"
CLAIMS = (
    Claim(
        id="bbp.outlier",
        kind="limit",
        statement="The largest eigenvalue of S tends to (1 + l)(1 + c/l) for l > sqrt(c).",
        source="Baik, Silverstein (J. Multiv. Anal. 97, 1382, 2006)",
        assumptions="Gaussian samples, p/n = c, n -> infinity, l > sqrt(c)",
        checks=(
            Check(
                name="largest eigenvalue",
                experiment=COMPONENTS,
                design=SEQUENCE,
                observable=lambda _, results: results["largest"][:, ABOVE],
                predict=lambda setting, _: outlier(setting.spikes, setting.c)[ABOVE],
                judge=Limit(tolerance=0.04),
                control=Control(
                    "the population's eigenvalue 1 + l", predict=lambda setting, _: 1 + setting.spikes[ABOVE]
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="bbp.overlap",
        kind="limit",
        statement="The squared overlap of its eigenvector with v tends to (1 - c/l^2)/(1 + c/l) for l > sqrt(c).",
        source="Paul (Stat. Sinica 17, 1617, 2007)",
        assumptions="Gaussian samples, p/n = c, n -> infinity, l > sqrt(c)",
        checks=(
            Check(
                name="overlap",
                experiment=COMPONENTS,
                design=SEQUENCE,
                observable=lambda _, results: results["overlap"][:, ABOVE],
                predict=lambda setting, _: overlap(setting.spikes, setting.c)[ABOVE],
                judge=Limit(tolerance=0.04),
                control=Control(
                    "the formula of spiked Wigner matrices, 1 - c/l^2",
                    predict=lambda setting, _: 1 - setting.c / setting.spikes[ABOVE] ** 2,
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="bbp.below",
        kind="limit",
        statement="For l < sqrt(c) the largest eigenvalue tends to the edge (1 + sqrt c)^2 of the bulk, as if there were no spike.",
        source=SOURCE,
        assumptions="Gaussian samples, p/n = c, n -> infinity, l < sqrt(c)",
        checks=(
            Check(
                name="largest eigenvalue",
                experiment=COMPONENTS,
                design=SEQUENCE,
                observable=lambda _, results: results["largest"][:, 0],
                predict=lambda setting, _: outlier(setting.spikes[0], setting.c),
                judge=Limit(tolerance=0.04, orders=(2 / 3,), next_orders=(1.0,), spread_decay=2 / 3),
                control=Control(
                    "the formula for l > sqrt(c), (1 + l)(1 + c/l)",
                    predict=lambda setting, _: (1 + setting.spikes[0]) * (1 + setting.c / setting.spikes[0]),
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="bbp.threshold",
        kind="threshold",
        statement="The largest eigenvalue leaves the bulk at l = sqrt(c).",
        source=f"{SOURCE}; real matrices: Bloemendal, Virag (Prob. Theory Relat. Fields 156, 795, 2013)",
        assumptions="Gaussian samples, p/n = c, n -> infinity; the transition is n^{-1/3} wide",
        checks=(
            Check(
                name="spike of half the crossings",
                experiment=CROSSING,
                design=TRANSITIONS,
                observable=lambda _, results: results["spike"],
                predict=lambda setting, _: math.sqrt(setting.c),
                judge=Threshold(tolerance=0.05, orders=(1 / 3,), spread_decay=1 / 3),
                control=Control("l = c", predict=lambda setting, _: setting.c),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="bbp.bulk",
        kind="law",
        statement="A spike leaves the bulk alone: the other eigenvalues follow the Marchenko-Pastur law of c.",
        source="Marchenko, Pastur (Math. USSR-Sbornik 1, 457, 1967)",
        assumptions="p/n = c < 1, n -> infinity",
        checks=(
            Check(
                name="all but the largest",
                experiment=BULK,
                design=on(BULKS, quick=400, standard=1000, paper=10_000),
                observable=lambda _, results: results["eigenvalues"][:, :-1],
                predict=lambda setting, _: marchenko_pastur(setting.c),
                judge=Law(tolerance=0.03),
                control=Control("the law of twice as many samples", predict=lambda s, _: marchenko_pastur(s.c / 2)),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="bbp.secular",
        kind="identity",
        statement="The largest eigenvalue solves 1/l = sum_i s_i w_i/(x - s_i), s_i and w_i of S without the spike, exactly.",
        source="derived here: S and its spikeless form differ by a matrix of rank one",
        assumptions="l > 0",
        checks=(
            Check(
                name="largest eigenvalue",
                experiment=BULK,
                design=on(BULKS, quick=400, standard=1000, paper=10_000),
                observable=lambda _, results: results["eigenvalues"][:, -1],
                predict=secular,
                inputs=("noise", "weights"),
                judge=Identity(tolerance=1e-9),
                control=Control(
                    "weights w_i in place of s_i w_i", predict=lambda setting, inputs: secular(setting, inputs, False)
                ),
            ),
        ),
    ),
)

# --- figure -------------------------------------------------------------------------------------------------------------

SEEDS = {"quick": 40, "standard": 200, "paper": 1000}


def draw(session):
    drawing, axes = canvas(1, 2, width=TEXT, height=2.8)
    spikes = np.linspace(0.05, 2.5, 15)
    design = Design(tuple(Covariance(n, round(C * n), spikes) for n in (32, 128)), SEEDS[session.preset])
    dense = np.linspace(0, 2.5, 400)
    names, formulas = ("largest", "overlap"), (outlier, overlap)
    measured = session.measure(COMPONENTS, design)
    for panel, name, formula in zip(axes[0], names, formulas, strict=True):
        line(panel, dense, formula(dense, C), label="$n = \\infty$")
        for result, at, color in zip(measured, design.settings, size_colors(2), strict=True):
            points(panel, spikes, result[name], label=size_label("n", at.n), color=color)
        panel.axvline(math.sqrt(C), color=THEORY, linestyle=":", linewidth=0.8, label=r"$\ell = \sqrt{c}$")
        panel.set(xlabel=r"spike $\ell$")
    axes[0, 0].set(ylabel=r"largest eigenvalue of $S$")
    axes[0, 0].plot(dense, 1 + dense, color=COLORS[1], linestyle="--", linewidth=0.8, label=r"population, $1 + \ell$")
    axes[0, 1].set(ylabel=r"$\langle v, \hat{v} \rangle^2$", ylim=(-0.02, 1.02))
    axes[0, 0].legend()
    said = rf"$c = p/n = {C:g}$; 95% CI of {design.seeds} seeds"
    letters(axes[0], (said, said))
    return drawing


FIGURES = (Figure("bbp.transition", "When do the principal components of a sample see a spike?", draw),)
