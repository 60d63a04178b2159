"""Figures on rates: alignment after Stage I, and how many tasks and examples pretraining and prompts need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from theorysim.errors import require
from theorysim.papers.single_index_icl.floor import HALF_LENGTHS, HalfLengths
from theorysim.papers.single_index_icl.measurements import ratio
from theorysim.papers.single_index_icl.own import describe, report
from theorysim.papers.single_index_icl.pretraining import HE2_PADDED, HE3_PADDED, STEP, Step
from theorysim.papers.single_index_icl.regression import PAPER, link_of
from theorysim.papers.single_index_icl.setting import HE2, HE4, Link, Tasks
from theorysim.papers.single_index_icl.theory import attention_floor, stage_one
from theorysim.plots import (
    COLORS,
    SMALL,
    TEXT,
    THEORY,
    Figure,
    canvas,
    letters,
    points,
    proxy,
    shared_legend,
    size_colors,
    spread,
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session

MARKERS = "os^Dv<>p"
TAU = 0.3
"""Noise of the default settings."""


# --- figure 3: alignment ----------------------------------------------------------------------------------------------


class Size(NamedTuple):
    """d, r, N1: of the curves, all combinations. multiples: of T1*. m: neurons. seeds: from T1* on, more below. tokens: most T1 N1
    of a run."""

    d: tuple[int, ...]
    r: tuple[int, ...]
    N1: tuple[int, ...]
    multiples: tuple[float, ...]
    m: int
    seeds: int
    tokens: float


ALIGNMENTS = {
    "quick": Size((8, 12, 16), (2,), (64,), (0.1, 0.3, 1.0, 3.0, 10.0), 48, 8, 2e6),
    "standard": Size((8, 16, 24), (2, 4), (64,), (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 64, 12, 1e7),
    "paper": Size((8, 16, 32, 64), (2, 4), (16, 64, 1024), (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 256, 12, 1e10),
}


class Curve(NamedTuple):
    """One curve of the alignment: the settings that can be simulated, and T1*."""

    d: int
    r: int
    N1: int
    critical: float
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """For the legend."""
        return f"$d = {self.d}$, $r = {self.r}$, $N_1 = {self.N1}$"


def curves(link: Link, size: Size, tau: float, bias: float) -> list[Curve]:
    """All of a figure. Raises InputError for impossible sizes, if neurons do not see the link, or if no run is short enough."""
    found = []
    for d in size.d:
        for r in size.r:
            tasks = Tasks(d, r, link, tau)
            require(r < d, f"dimension r of the subspace must be below d = {d} for an alignment with it, got {r}")
            for N1 in size.N1:
                star = stage_one.critical_tasks(stage_one.Prompts(link_of(link), d, r, N1, tau), bias)
                counts = sorted({max(1, round(c * star)) for c in size.multiples})
                runs = (Step(tasks, T1, size.m, N1, bias, r) for T1 in counts if size.tokens >= T1 * N1)
                found.append(Curve(d, r, N1, star, tuple(runs)))
    least = min(found, key=lambda curve: curve.critical * curve.N1)
    require(
        any(curve.steps for curve in found),
        f"d must be smaller, or N1 longer, for this link: T1* = {least.critical:.3g} tasks of {least.N1} examples at d ="
        f" {least.d}, and this preset has {size.tokens:.1g} examples",
    )
    return found


def predicted_alignment(curve: Curve, T1: Float[np.ndarray, " K"], link: Link, tau: float, bias: float) -> np.ndarray:
    """For neurons uniform on the sphere."""
    rho, weights = stage_one.uniform_neurons(curve.d, curve.r)
    return stage_one.alignment(
        stage_one.Prompts(link_of(link), curve.d, curve.r, curve.N1, tau), T1, rho, bias, weights
    )


def measured_alignment(session: Session, curve: Curve, seeds: int) -> list[Float[np.ndarray, "S 1"]]:
    """Of each run, as pseudo-values of a ratio of sums."""
    samples = []
    for step in curve.steps:
        # Short runs are cheap, and scatter more.
        repeated = seeds * int(np.clip(curve.critical / step.T1, 1, 8))
        (found,) = session.measure(STEP, Design((step,), repeated))
        samples.append(ratio(found["inside"].sum(1), found["full"].sum(1))[:, None])
    return samples


def written(value: float) -> str:
    """A number for a legend, in mathematics."""
    if value < 1e5:
        return f"{value:,.0f}".replace(",", "{,}")
    exponent = int(np.floor(np.log10(value)))
    return rf"{value / 10**exponent:.1f} \cdot 10^{{{exponent}}}"


@mpl.rc_context(SMALL)
def alignment(
    session: Session,
    link: Link = HE2,
    size: Size | None = None,
    tau: float = TAU,
    bias: float = 0.0,
    *,
    tell: bool = False,
) -> matplotlib.figure.Figure:
    """Share of the gradient in the subspace over the number of tasks, and over T1/T1*; `tell` prints the points."""
    size = ALIGNMENTS[session.preset] if size is None else size
    if tell:
        print(report(link, bias))
    shown = curves(link, size, tau, bias)
    columns = 2 if len(shown) <= 6 else 3
    drawing, axes = canvas(1, 2, width=TEXT, height=2.8 + 0.16 * -(-len(shown) // columns), sharey=True)
    raw, scaled = axes[0]
    handles = []
    for curve, color, marker in zip(shown, size_colors(len(shown)), MARKERS * len(shown), strict=False):
        multiples = np.geomspace(min(size.multiples) / 1.5, 1.5 * max(size.multiples), 80)
        T1 = np.maximum(1.0, multiples * curve.critical)
        predicted = predicted_alignment(curve, T1, link, tau, bias)
        for panel, unit in ((raw, 1.0), (scaled, curve.critical)):
            line(panel, T1 / unit, predicted, label=None, color=color)
        samples = measured_alignment(session, curve, size.seeds)
        for step, values in zip(curve.steps, samples, strict=True):
            for panel, unit in ((raw, 1.0), (scaled, curve.critical)):
                points(panel, np.array([step.T1 / unit]), values, label=None, color=color, marker=marker)
        if tell:
            counts = np.array([step.T1 for step in curve.steps])
            expected = predicted_alignment(curve, counts, link, tau, bias) if curve.steps else counts
            tell_curve(curve, counts, samples, expected)
        simulated = marker if curve.steps else ""
        handles.append(proxy(f"{curve.name}: $T_1^* = {written(curve.critical)}$", color, simulated, "-"))
    scaled.axvline(1.0, color=THEORY, linestyle=":", linewidth=0.9)
    raw.set(xscale="log", xlabel="$T_1$", ylabel=r"$\sum_j |\Pi g_j|^2 / \sum_j |g_j|^2$", ylim=(0, 1))
    scaled.set(xscale="log", xlabel="$T_1/T_1^*$")
    letters(axes[0], ("tasks in Stage I", "in units of $T_1^*$"))
    title = rf"{describe(link)}, $\tau = {tau:g}$, $b = {bias:g}$, $m = {size.m}$; lines: ratio of expectations" + "\n"
    title += f"points: ratio of sums over neurons and {size.seeds} seeds (more below $T_1^*$), 95% CI"
    shared_legend(drawing, handles, title, columns)
    return drawing


def tell_curve(
    curve: Curve,
    counts: Float[np.ndarray, " K"],
    samples: Sequence[Float[np.ndarray, "S 1"]],
    expected: Float[np.ndarray, " K"],
) -> None:
    """Print the points of a curve with their predictions."""
    print(f"d = {curve.d}, r = {curve.r}, N1 = {curve.N1}: T1* = {curve.critical:.4g}")
    if not len(counts):
        print("  too many tasks for this preset: prediction alone")
    for T1, values, value in zip(counts, samples, expected, strict=True):
        centre, distances = spread(values)
        print(f"  T1 = {T1:<10g} alignment {centre[0]:.3f} +- {distances[0, 0]:.3f}, predicted {value:.3f}")


# --- figure 5: rates --------------------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """powers: of 2, the r of the half lengths. d: of the simulated T1*. N1: prompt lengths. multiple: of T1* that is simulated, if
    it is 1000 tasks or more."""

    powers: int
    d: tuple[int, ...]
    N1: tuple[int, ...]
    multiple: float
    m: int
    seeds: int


RATES = {
    "quick": Rates(7, (8, 12, 24), (16, 256), 0.2, 48, 8),
    "standard": Rates(7, (8, 12, 16, 24, 32), (16, 256), 0.2, 96, 16),
    "paper": Rates(9, (8, 12, 16, 24, 32, 48, 64), (16, 256, 1024), 0.5, 256, 16),
}
R = 2
"""Dimension of the subspace in the simulation."""


def log_critical(step: Step, results: Results) -> Float[np.ndarray, " S"]:
    """log T1* from the statistics of a step of a link of degree 2, without a prediction: jackknife pseudo-values.

    E <g, Pi w> = 2 (A + B) rho^2 and E <g, (I - Pi) w> = 2 B (1 - rho^2) give A = alpha rho^2 of each neuron, the power orthogonal
    to Pi and w gives V.
    """
    d, r, T1 = step.tasks.d, step.tasks.r, step.T1
    rho = results["rho"]
    A = results["along"] / (2 * rho**2) - results["outside"] / (2 * (1 - rho**2))
    signal, scale = (A * rho**6).sum(1), (rho**8).sum(1)
    V = T1 * results["orthogonal"].mean(1) / (d - r - 1)

    def estimate(kept: Bool[np.ndarray, " S"]) -> float:
        alpha = signal[kept].sum() / scale[kept].sum()
        return float(np.log((d - r) * V[kept].mean() / (4 * alpha**2 * (r / d) ** 3)))

    seeds = np.arange(len(V))
    without = np.array([estimate(seeds != one) for one in seeds])
    return len(V) * estimate(seeds >= 0) - (len(V) - 1) * without


@mpl.rc_context(SMALL)
def rates(session: Session) -> matplotlib.figure.Figure:
    """N_half over r for three links, and T1* over d for prompts of several lengths."""
    size = RATES[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2)
    half, tasks = axes[0]
    handles = half_lengths(session, half, 2.0 ** np.arange(1, size.powers + 1))
    handles += critical_tasks(session, tasks, size)
    letters(axes[0], (r"prompt length at which $\mathrm{Fl}_N(r) = v/2$", "tasks at which Stage I aligns"))
    handles += [proxy("leading order", "#888888", linestyle="--")]
    title = (
        rf"$\tau = {TAU:g}$; (a) points: quadrature, exact; (b) {describe(HE2)}, $r = {R}$, $b = 0$, $m = {size.m}$, "
    )
    title += rf"from runs at $\max({size.multiple:g}\,T_1^*, 10^3)$ tasks, {size.seeds} seeds, 95% CI"
    shared_legend(drawing, handles, title, 3)
    return drawing


def half_lengths(session: Session, panel: Axes, r: Float[np.ndarray, " K"]) -> list[Line2D]:
    """The panel on N_half; its part of the legend."""
    handles = []
    for link, color, marker in zip((HE2_PADDED, HE3_PADDED, HE4), COLORS, MARKERS, strict=False):
        P = link_of(link).degree
        (results,) = session.measure(HALF_LENGTHS, Design((HalfLengths(link, TAU, r),)))
        panel.plot(r, results["half"][0], color=color, marker=marker, linestyle="none")
        whole = np.unique(np.geomspace(r[0], r[-1], 14).round().astype(int))
        exact = np.array([attention_floor.half_length(link_of(link), int(k), TAU) for k in whole])
        leading = np.array([attention_floor.half_length_asymptote(link_of(link), int(k), TAU) for k in whole])
        line(panel, whole.astype(float), exact, label=None, color=color)
        panel.plot(whole, leading, color=color, linestyle="--", linewidth=0.8)
        slope = np.log(exact[-1] / exact[-2]) / np.log(whole[-1] / whole[-2])
        handles.append(proxy(rf"(a) ${{\rm He}}_{P}$, slope {slope:.2f} at $r = {whole[-1]}$", color, marker, "-"))
    panel.set(xscale="log", yscale="log", xlabel="$r$", ylabel=r"$N_{\rm half}$")
    ticks(panel, r[::2])
    return handles


def ticks(panel: Axes, values: Float[np.ndarray, " K"]) -> None:
    """Of the logarithmic abscissa, at the values alone."""
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.minorticks_off()


def critical_tasks(session: Session, panel: Axes, size: Rates) -> list[Line2D]:
    """The panel on T1*; its part of the legend."""
    d = np.unique(np.geomspace(6, 256, 20).round().astype(int))
    star = lambda d, N1: stage_one.critical_tasks(stage_one.Prompts(link_of(HE2), int(d), R, N1, TAU))
    handles = []
    for N1, color, marker in zip((*size.N1, np.inf), COLORS[3:], MARKERS[3:], strict=False):
        exact = np.array([star(k, N1) for k in d])
        line(panel, d.astype(float), exact, label=None, color=color)
        slope = np.log(exact[-1] / exact[-2]) / np.log(d[-1] / d[-2])
        simulated = not np.isinf(N1)
        if simulated:
            steps = [
                Step(Tasks(k, R, HE2, TAU), max(1000, round(size.multiple * star(k, N1))), size.m, int(N1), plane=R)
                for k in size.d
            ]
            measured = session.measure(STEP, Design(tuple(steps), size.seeds))
            samples = np.stack([log_critical(*pair) for pair in zip(steps, measured, strict=True)], axis=1)
            centre, (down, up) = spread(samples)
            middle = np.exp(centre)
            bars = middle - np.exp(centre - down), np.exp(centre + up) - middle
            panel.errorbar(size.d, middle, yerr=bars, color=color, marker=marker, linestyle="none", elinewidth=0.8)
        length = rf"N_1 = {N1:g}" if simulated else r"N_1 = \infty"
        handles.append(proxy(f"(b) ${length}$, slope {slope:.2f} at $d = {d[-1]}$", color, marker * simulated, "-"))
    limits = [stage_one.rate_limits(link_of(HE2), int(k), R, TAU) for k in d]
    panel.plot(d, [limit.tasks for limit in limits], color="#888888", linestyle="--", linewidth=0.8)
    panel.plot(d, [limit.tokens / size.N1[0] for limit in limits], color="#888888", linestyle="--", linewidth=0.8)
    panel.set(xscale="log", yscale="log", xlabel="$d$", ylabel="$T_1^*$")
    ticks(panel, 2.0 ** np.arange(3, 9))
    return handles


QUESTION = "How many tasks does one gradient step need to find the subspace, and do all dimensions follow one curve?"
FIGURE_3 = Figure(f"{PAPER}.figure-3", QUESTION, alignment)
FIGURE_5 = Figure(
    f"{PAPER}.figure-5", "How do prompt length and number of tasks grow with the dimensions r and d?", rates
)
