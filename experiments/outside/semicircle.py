"""Random symmetric matrices: the semicircle law, and the Tracy-Widom law of the largest eigenvalue.

W is symmetric of size n, its entries independent of variance 1/n off the diagonal and 2/n on it; Gaussian entries make the
Gaussian orthogonal ensemble (GOE). A theorem from outside the library in one file: `theorysim verify semicircle.py`.

Edge eigenvalues are measured on the tridiagonal form of the ensemble (Dumitriu, Edelman, J. Math. Phys. 43, 5830, 2002), with
theirs exactly in law; their limit is predicted from a Fredholm determinant (Ferrari, Spohn, J. Phys. A 38, L557, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from scipy import integrate, special, stats

from theorysim.errors import require
from theorysim.plots import COLORS, TEXT, Figure, canvas, letters, points
from theorysim.plots import theory as line
from theorysim.sweep import Experiment, setting
from theorysim.verify import Check, Claim, Control, Design, Equivalence, Law, Limit, Rate, Tabulated

# --- settings -----------------------------------------------------------------------------------------------------------


@setting
class Wigner:
    """One n x n matrix W, its entries Gaussian or signs.

    uneven: entries have variance s_i s_j/n, s = 1 + uneven in the first half of the rows and 1 - uneven in the second: 1/n on
        average, but not everywhere (for controls).
    """

    n: int
    entries: Literal["gaussian", "signs"] = "gaussian"
    uneven: float = 0.0

    def validate(self) -> None:
        require(self.n >= 2, f"n must be at least 2, got {self.n}")
        require(0 <= self.uneven < 1, f"uneven must lie in [0, 1), got {self.uneven}")


ROWS = 70
"""Rows of the tridiagonal form that are kept: 7 n^(1/3) at the largest n. Row k n^(1/3) moves the edge by exp(-4/3 k^(3/2))."""


@setting
class Edges:
    """Two independent matrices of the GOE. spike: a rank-one matrix of this eigenvalue is added (for controls)."""

    n: float
    spike: float = 0.0

    def validate(self) -> None:
        most = (ROWS / 7) ** 3
        whole = self.n == int(self.n)
        require(whole and 2 <= self.n <= most, f"n must be an integer from 2 to {most:g}, got {self.n:g}")


# --- measurement --------------------------------------------------------------------------------------------------------


def matrix(key, setting):
    """W."""
    shape = (setting.n, setting.n)
    A = random.normal(key, shape) if setting.entries == "gaussian" else random.rademacher(key, shape).astype(float)
    W = (jnp.tril(A, -1) + jnp.tril(A, -1).T + math.sqrt(2) * jnp.diag(jnp.diag(A))) / math.sqrt(setting.n)
    profile = jnp.sqrt(1 + setting.uneven * jnp.where(jnp.arange(setting.n) < setting.n // 2, 1.0, -1.0))
    return W * profile * profile[:, None]


def spectrum(key, setting):
    """Eigenvalues of W, increasing."""
    return {"eigenvalues": jnp.linalg.eigvalsh(matrix(key, setting))}


def traces(key, setting):
    """tr W^{2k}/n for k = 1, 2, 3."""
    W = matrix(key, setting)
    square = W @ W
    powers = jnp.stack([(W * W).sum(), (square * square).sum(), ((square @ square) * square).sum()])
    return {"moments": powers / setting.n}


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


def largest(key, setting):
    """Largest eigenvalue of the tridiagonal form: N(0, 2) on the diagonal, chi_{n - k} off it in row k, over sqrt(n)."""
    diagonal_key, off_key = random.split(key)
    row = jnp.arange(ROWS)
    exists = row < setting.n
    # rows that do not exist lie far below the edge, coupled to nothing
    a = jnp.where(exists, random.normal(diagonal_key, (ROWS,)) * jnp.sqrt(2 / setting.n), -9.0).at[0].add(setting.spike)
    coupled = exists & (row > 0)
    b2 = jnp.where(coupled, chi_square(off_key, jnp.where(coupled, setting.n - row, 9.0)) / setting.n, 0.0)

    def all_below(x):
        """Whether every eigenvalue lies below x: the pivots of the elimination are negative (Sylvester)."""

        def eliminate(state, entry):
            pivot, below = state
            pivot = entry[0] - x - entry[1] / pivot
            return (pivot, below & (pivot < 0)), None

        return lax.scan(eliminate, (-jnp.ones_like(x), True), (a, b2), unroll=4)[0][1]

    def halve(_, bracket):
        middle = bracket.mean()
        return jnp.where(all_below(middle), bracket.at[1].set(middle), bracket.at[0].set(middle))

    b = jnp.sqrt(b2)
    bracket = jnp.stack([a.max(), (a + b + jnp.append(b[1:], 0.0)).max()])  # Gershgorin
    return lax.fori_loop(0, 22, halve, bracket).mean()


def edges(key, setting):
    first, second = random.split(key)
    return {"largest": jnp.stack([largest(first, setting), largest(second, setting)])}


SPECTRUM = Experiment("semicircle/spectrum", spectrum, operations=lambda s: 4 / 3 * s.n**3)
TRACES = Experiment("semicircle/traces", traces, operations=lambda s: 4 * s.n**3)
EDGES = Experiment("semicircle/edges", edges, operations=lambda s: 2 * ROWS * (22 * 4 + 200))

# --- prediction ---------------------------------------------------------------------------------------------------------


@cache
def moment(k: int) -> tuple[int, ...]:
    """Coefficients c_V of E tr W^{2k} = n^{-k} sum_V c_V n^V: by Wick's formula, the gluings of the edges of a 2k-gon in pairs,
    each with or without a twist, that leave V vertices."""
    counts = [0] * (k + 2)
    for pairs in pairings(tuple(range(2 * k))):
        for twists in product((False, True), repeat=k):
            corner = list(range(2 * k))  # edge e runs from corner e to corner e + 1

            def root(i: int, corner: list[int] = corner) -> int:
                while corner[i] != i:
                    i = corner[i]
                return i

            for (e, f), twist in zip(pairs, twists, strict=True):
                ends = ((e, f), (e + 1, f + 1)) if twist else ((e, f + 1), (e + 1, f))
                for i, j in ends:
                    corner[root(i % (2 * k))] = root(j % (2 * k))
            counts[sum(corner[i] == i for i in range(2 * k))] += 1
    return tuple(counts)


def pairings(items: tuple[int, ...]) -> list[tuple[tuple[int, int], ...]]:
    """All ways to pair the items up."""
    if not items:
        return [()]
    first, *rest = items
    return [
        ((first, other), *others)
        for other in rest
        for others in pairings(tuple(item for item in rest if item != other))
    ]


def moments(n: float) -> np.ndarray:
    """E tr W^{2k} / n for k = 1, 2, 3, exactly; Catalan numbers as n grows."""
    return np.array([sum(c * float(n) ** (V - k - 1) for V, c in enumerate(moment(k))) for k in (1, 2, 3)])


def airy_operator(s: float) -> np.ndarray:
    """B_s(x, y) = Ai(x + y + s) on the half line, by Gauss-Legendre quadrature on [0, 16 - min(s, 0)]."""
    nodes, weights = np.polynomial.legendre.leggauss(50)
    length = 16 - min(s, 0.0)
    x, root = length * (nodes + 1) / 2, np.sqrt(length * weights / 2)
    return root[:, None] * special.airy(x[:, None] + x + s)[0] * root


@cache
def tracy_widom(beta: int = 1) -> Tabulated:
    """F_1(s) = det(1 - B_s), F_2(s) = det(1 - B_s^2)."""
    s = np.linspace(-10.0, 8.0, 361)
    operators = [airy_operator(float(point)) for point in s]
    eye = np.eye(len(operators[0]))
    values = [np.linalg.det(eye - (B if beta == 1 else B @ B)) for B in operators]
    return Tabulated(s, np.maximum.accumulate(np.clip(values, 0.0, 1.0)))


@cache
def constants(beta: int = 1) -> np.ndarray:
    """Mean, variance, and mean distance of two independent draws, 2 int F (1 - F), of the Tracy-Widom law."""
    s, F = tracy_widom(beta).points, tracy_widom(beta).values
    mean = s[-1] - integrate.simpson(F, s)  # by parts, and so is the mean square
    square = s[-1] ** 2 - integrate.simpson(2 * s * F, s)
    return np.array([mean, square - mean**2, integrate.simpson(2 * F * (1 - F), s)])


# --- claims -------------------------------------------------------------------------------------------------------------


def scaled(setting, results):
    """n^{2/3} (lambda_1 - sqrt(4 - 2/n)): the edge of finite n, with which corrections are of order n^{-2/3}."""
    return setting.n ** (2 / 3) * (results["largest"] - math.sqrt(4 - 2 / setting.n))


def edge_moments(setting, results):
    """Per pair of matrices: the mean and the distance of the scaled edges."""
    x, y = scaled(setting, results).T
    return np.stack([(x + y) / 2, np.abs(x - y)], axis=1)


def on(*settings, **seeds):
    return {preset: Design(settings, number) for preset, number in seeds.items()}


SIZES = (30, 100, 300, 1000)


def sequence(**broken: float):
    return on(*(Edges(n, **broken) for n in SIZES), quick=12_000, standard=50_000, paper=500_000)


CLAIMS = (
    Claim(
        id="semicircle.moments",
        kind="identity",
        statement="E tr W^2/n = 1 + 1/n, E tr W^4/n = 2 + 5/n + 5/n^2, E tr W^6/n = 5 + 22/n + 52/n^2 + 41/n^3.",
        source="Goulden, Jackson (Canad. J. Math. 48, 569, 1996); Ledoux (Ann. IHP 45, 754, 2009)",
        assumptions="Gaussian entries",
        checks=(
            Check(
                name="moments",
                experiment=TRACES,
                design=on(Wigner(12), Wigner(24), quick=8000, standard=40_000, paper=400_000),
                observable=lambda _, results: results["moments"],
                predict=lambda setting, _: moments(setting.n),
                judge=Equivalence(tolerance=0.05, skewed=True),
                control=Control(
                    "the Catalan numbers 1, 2, 5, without orders 1/n", predict=lambda *_: moments(math.inf)
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="semicircle.law",
        kind="law",
        statement="The eigenvalues of W follow the semicircle law, density sqrt(4 - x^2)/(2 pi) on [-2, 2].",
        source="Wigner (Ann. Math. 62, 548, 1955; 67, 325, 1958)",
        assumptions="independent entries of variance 1/n, of any law; n -> infinity",
        checks=(
            Check(
                name="eigenvalues",
                experiment=SPECTRUM,
                design={
                    "quick": Design((Wigner(60), Wigner(60, "signs")), 300),
                    "standard": Design((Wigner(200), Wigner(200, "signs")), 100),
                    "paper": Design((Wigner(2000), Wigner(2000, "signs")), 100),
                },
                observable=lambda _, results: results["eigenvalues"],
                predict=lambda *_: stats.semicircular(scale=2),
                judge=Law(tolerance=0.03),
                control=Control(
                    "variances that differ between rows, 1/n on average",
                    design={
                        "quick": Design((Wigner(60, uneven=0.6),), 300),
                        "standard": Design((Wigner(200, uneven=0.6),), 100),
                        "paper": Design((Wigner(2000, uneven=0.6),), 100),
                    },
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="semicircle.edge-constants",
        kind="limit",
        statement="n^{2/3} (lambda_1 - sqrt(4 - 2/n)) has mean -> -1.206534, and two of them the mean distance -> 1.425787.",
        source="Tracy, Widom (Commun. Math. Phys. 177, 727, 1996); order of the correction: Johnstone, Ma (Ann. Appl. Prob. 22, "
        "1962, 2012)",
        assumptions="GOE, n -> infinity",
        checks=(
            Check(
                name="constants",
                experiment=EDGES,
                design=sequence(),
                observable=edge_moments,
                predict=lambda *_: constants()[[0, 2]],
                judge=Limit(tolerance=0.055, orders=(2 / 3,), spread_decay=0.0),
                control=Control(
                    "the constants of Hermitian matrices, beta = 2", predict=lambda *_: constants(2)[[0, 2]]
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="semicircle.edge-exponent",
        kind="rate",
        statement="The largest eigenvalue fluctuates by n^{-2/3}.",
        source="Tracy, Widom (1996)",
        assumptions="GOE, n -> infinity; no spike",
        checks=(
            Check(
                name="distance of two",
                experiment=EDGES,
                design=sequence(),
                observable=lambda _, results: np.abs(results["largest"][:, 0] - results["largest"][:, 1]),
                predict=lambda *_: -2 / 3,
                judge=Rate(tolerance=0.04),
                control=Control(
                    "a spike of eigenvalue 2, beyond the transition at 1: n^{-1/2}",
                    design=sequence(spike=2.0),
                ),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="semicircle.edge-law",
        kind="law",
        statement="n^{2/3} (lambda_1 - 2) tends in law to the Tracy-Widom law F_1(s) = det(1 - B_s), B_s(x, y) = Ai(x + y + s), "
        "of mean -1.206534 and variance 1.607781.",
        source="Tracy, Widom (1996); Ferrari, Spohn (2005)",
        assumptions="GOE, n -> infinity",
        checks=(
            Check(
                name="largest eigenvalue",
                experiment=EDGES,
                design=sequence(),
                observable=scaled,
                predict=lambda *_: tracy_widom(),
                judge=Law(tolerance=0.03),
                control=Control("the law of Hermitian matrices, beta = 2", predict=lambda *_: tracy_widom(2)),
                size=lambda setting: setting.n,
            ),
        ),
    ),
)

# --- figure -------------------------------------------------------------------------------------------------------------


def histogram(panel, draws, edges_of_bins, density: Callable, law: str, label: str) -> None:
    """Density of each seed's draws over the predicted one."""
    middle, width = (edges_of_bins[1:] + edges_of_bins[:-1]) / 2, np.diff(edges_of_bins)
    share = np.stack([np.histogram(seed, edges_of_bins)[0] / len(seed) for seed in draws]) / width
    grid = np.linspace(edges_of_bins[0], edges_of_bins[-1], 400)
    line(panel, grid, density(grid), label=law)
    points(panel, middle, share, label=label)


def draw(session):
    drawing, axes = canvas(1, 3, width=TEXT, height=2.4)
    bulk, edge, decay = axes[0]

    wigner = Design(session.design(CLAIMS[1].checks[0].design).settings[:1], 40)
    (result,) = session.measure(SPECTRUM, wigner)
    n = wigner.settings[0].n
    histogram(
        bulk,
        result["eigenvalues"],
        np.linspace(-2.2, 2.2, 31),
        stats.semicircular(scale=2).pdf,
        "semicircle",
        f"$n = {n}$",
    )
    bulk.set(xlabel=r"eigenvalue $\lambda$ of $W$", ylabel="density", ylim=(0, 0.4))

    measured = session.measure(EDGES, session.design(sequence()))
    law = tracy_widom()
    density = lambda x: np.interp(x, law.points[1:] - 0.005, np.diff(law.values) / np.diff(law.points))
    largest = session.design(sequence()).settings[-1]
    draws = scaled(largest, measured[-1]).reshape(50, -1)
    histogram(edge, draws, np.linspace(-5, 3, 31), density, "Tracy-Widom", f"$n = {largest.n:g}$")
    edge.set(xlabel=r"$n^{2/3}(\lambda_1 - \sqrt{4 - 2/n})$", ylabel="density", ylim=(0, 0.48))

    sizes = np.array(SIZES, float)
    distances = np.stack([np.abs(r["largest"][:, 0] - r["largest"][:, 1]) for r in measured], axis=1)
    line(decay, sizes, constants()[2] * sizes ** (-2 / 3), label=r"$1.426\,n^{-2/3}$")
    points(decay, sizes, distances, color=COLORS[0], label=f"{len(distances)} seeds")
    decay.set(xscale="log", yscale="log", xlabel="$n$", ylabel=r"$\mathbb{E}\,|\lambda_1 - \lambda_1'|$")
    for panel in axes[0]:
        panel.legend(loc={edge: "upper right", decay: "lower left"}.get(panel, "best"))
    letters(axes[0], ("spectrum; 95% CI", "largest eigenvalue; 95% CI", "its fluctuation; 95% CI"))
    return drawing


FIGURES = (Figure("semicircle.laws", "Do spectrum and edge of a random symmetric matrix follow their laws?", draw),)
