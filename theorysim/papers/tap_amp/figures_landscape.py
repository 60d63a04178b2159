"""Figures on phases and landscape: the replica-symmetric potential, the phase diagram, optimisation, curvature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.papers.tap_amp.landscape import CONVEXITY, RECOVERED, SUCCESS, Levels, Surroundings, levels
from theorysim.papers.tap_amp.measurements import (
    CYCLING,
    RESCUE,
    SPECTRUM,
    TRAJECTORIES,
    AtLimit,
    Rescue,
    Trajectories,
)
from theorysim.papers.tap_amp.setting import U3, Prior, SpikeAndSlab, model, three_point
from theorysim.papers.tap_amp.spectrum import bulk_density, extremes
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
    sizes,
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

DELTA, SIGMA = r"$\delta = n/p$", r"$\sigma$"
FILL = "#DDDDDD"

# --- figure 1: potential ----------------------------------------------------------------------------------------------

LEVELS = (0.45, 0.572, 0.65, 0.75)
"""delta below, at and above delta_IT = .572, and above delta_alg = .708, at U3 and sigma = .1."""
LOW_NOISE = 0.1


def potential(session: Session) -> matplotlib.figure.Figure:
    """phi less its value at gamma_alg, and the fixed points as crossings of one curve; formulas alone."""
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2)
    phi, map_ = axes[0]
    grid = np.geomspace(0.5, 100, 600)
    lines = theory.phase_lines(theory.U3, LOW_NOISE)
    handles = []
    for delta, color in zip(LEVELS, COLORS, strict=False):
        gamma = grid[grid <= delta / LOW_NOISE**2]
        level = float(theory.rs_potential(theory.U3, delta, LOW_NOISE, theory.gamma_alg(theory.U3, delta, LOW_NOISE)))
        of = lambda gamma, delta=delta, level=level: theory.rs_potential(theory.U3, delta, LOW_NOISE, gamma) - level
        line(phi, gamma, of(gamma), label=None, color=color)
        map_.axhline(delta, color=color, linewidth=0.8)
        found = theory.fixed_points(theory.U3, delta, LOW_NOISE)
        mark(phi, found, of(found), color)
        mark(map_, found, np.full(found.size, delta), color)
        label = rf"$\delta = {delta:g}$, {theory.phase(theory.U3, delta, LOW_NOISE)}"
        handles.append(
            proxy(
                label if delta != LEVELS[1] else rf"$\delta = {delta:g} \approx \delta_{{\rm IT}}$",
                color,
                linestyle="-",
            )
        )
    line(map_, grid, grid * (LOW_NOISE**2 + theory.mmse(theory.U3, grid)), label=None)
    for name, value in zip((r"$\delta_{\rm low}$", r"$\delta_{\rm IT}$", r"$\delta_{\rm alg}$"), lines, strict=True):
        map_.axhline(value, color="#999999", linestyle=":", linewidth=0.8, zorder=1)
        map_.annotate(name, (0.53, value), xytext=(0, 2), textcoords="offset points", fontsize=7, color="#666666")
    phi.set(xscale="log", xlabel=r"$\gamma$", ylabel=r"$\phi(\gamma) - \phi(\gamma_{\rm alg})$", ylim=(-0.27, 0.27))
    map_.set(xscale="log", xlabel=r"$\gamma$", ylabel=r"$\delta$", ylim=(0.3, 0.85), xlim=(0.5, 100))
    letters(axes[0], ("potential", r"fixed points, $\delta = \gamma\, (\sigma^2 + {\rm mmse}(\gamma))$"))
    handles += [
        proxy("minimum of $\\phi$", marker="o"),
        proxy("maximum of $\\phi$", marker="o", markerfacecolor="white"),
    ]
    title = rf"U3, uniform on $-1, 0, 1$; $\sigma = {LOW_NOISE:g}$; limits $p \to \infty$: "
    title += rf"$\delta_{{\rm low}} = {lines.low:.4f}$, $\delta_{{\rm IT}} = {lines.information:.4f}$, "
    shared_legend(drawing, handles, title + rf"$\delta_{{\rm alg}} = {lines.algorithmic:.4f}$", 3)
    return drawing


def mark(panel: Axes, x: Sequence[float] | np.ndarray, y: np.ndarray, color: str) -> None:
    """Fixed points in increasing order: minima filled, the maxima between them open."""
    panel.plot(x[::2], y[::2], color=color, marker="o", linestyle="none", zorder=3)
    panel.plot(x[1::2], y[1::2], color=color, marker="o", markerfacecolor="white", linestyle="none", zorder=3)


# --- figure 2: phase diagram ------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """A prior, and the part of the (delta, sigma) plane around its cusp."""

    name: str
    setting: Prior
    prior: theory.Prior
    delta: tuple[float, float]
    sigma: tuple[float, float]


WINDOWS = (
    Window("U3", U3, theory.U3, (0.3, 1.1), (0.02, 0.26)),
    Window("S3(.1)", three_point(0.1), theory.S3(0.1), (0.16, 0.56), (0.015, 0.17)),
    Window("BG(.2, 1)", SpikeAndSlab(0.2), theory.BernoulliGaussian(0.2, 1.0), (0.24, 0.5), (0.004, 0.04)),
)

MAPS = {"quick": (300, 10, 10, 8), "standard": (500, 12, 16, 12), "paper": (4000, 40, 40, 20)}
"""p, values of delta and of sigma, instances at each sigma."""

LINES = (
    ("low", r"$\delta_{\rm low}$", "#777777", ":"),
    ("information", r"$\delta_{\rm IT}$", COLORS[1], "--"),
    ("algorithmic", r"$\delta_{\rm alg}$", THEORY, "-"),
)
SUCCESSES = LinearSegmentedColormap.from_list("successes", ("#FFFFFF", "#7FB8DA"))


def success_line(prior: theory.Prior, sigma: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """delta above which AMP's error is below the mmse at the cusp: delta_alg below the cusp, no transition above it."""
    cusp = theory.cusp(prior)
    assert cusp is not None
    smooth = cusp.gamma * (sigma**2 + theory.mmse(prior, cusp.gamma))
    return np.where(sigma < cusp.sigma, np.nan, smooth)


def grid(window: Window, preset: str) -> tuple[tuple[Levels, ...], int]:
    """Settings, one a sigma: the values of delta share their instances."""
    p, columns, rows, seeds = MAPS[preset]
    deltas = np.round(np.linspace(*window.delta, columns) * p) / p
    largest = model(float(deltas[-1]), 1.0, p).n
    models = [model(largest / p, float(sigma), p, window.setting) for sigma in np.linspace(*window.sigma, rows)]
    return tuple(Levels(m, deltas) for m in models), seeds


def phase_diagram(session: Session) -> matplotlib.figure.Figure:
    """Phase lines of three priors over the fraction of instances in which AMP finds beta0."""
    p, _, _, seeds = MAPS[session.preset]
    drawing, axes = canvas(1, 3, width=TEXT, height=3.0)
    image = None
    for panel, window in zip(axes[0], WINDOWS, strict=True):
        settings, seeds = grid(window, session.preset)
        cusp = theory.cusp(window.prior)
        assert cusp is not None
        error = float(theory.mmse(window.prior, cusp.gamma))
        measured = session.measure(SUCCESS, Design(settings, seeds))
        fractions = np.stack([np.mean(results["mse"] < error, axis=0) for results in measured])
        sigma = np.array([setting.model.sigma for setting in settings])
        extent = (*ends(settings[0].deltas), *ends(sigma))
        image = panel.imshow(
            fractions, SUCCESSES, aspect="auto", vmin=0, vmax=1, origin="lower", extent=extent, zorder=0
        )
        below = np.linspace(window.sigma[0], cusp.sigma * (1 - 1e-6), 80)
        lines = theory.phase_lines(window.prior, below)
        for name, _, color, style in LINES:
            panel.plot(getattr(lines, name), below, color=color, linestyle=style)
        above = np.linspace(cusp.sigma, 1.2 * window.sigma[1], 40)
        panel.plot(success_line(window.prior, above), above, color=THEORY, linewidth=0.6)
        panel.plot(cusp.delta, cusp.sigma, color=THEORY, marker="*", markersize=7, linestyle="none")
        panel.set(xlabel=DELTA, xlim=ends(settings[0].deltas), ylim=ends(sigma))
        panel.grid(visible=False)
    axes[0, 0].set_ylabel(SIGMA)
    assert image is not None
    bar = drawing.colorbar(image, ax=list(axes[0]), aspect=30, pad=0.02)
    bar.set_label("fraction recovered by AMP")
    letters(axes[0], [window.name for window in WINDOWS])
    handles = [proxy(label, color, linestyle=style) for _, label, color, style in LINES]
    handles += [
        proxy(r"cusp $(\gamma_c, \sigma_c, \delta_c)$", marker="*", markersize=7),
        proxy(r"above it: mmse$(\gamma_{\rm alg})$ = mmse$(\gamma_c)$", linestyle="-", linewidth=0.6),
    ]
    title = rf"AMP, 250 steps, {sizes(p=p)}, {seeds} instances at each $\sigma$; recovered: "
    shared_legend(drawing, handles, title + r"$|m - \beta_0|^2/p <$ mmse$(\gamma_c)$", 5)
    return drawing


def ends(centres: Float[np.ndarray, " cells"]) -> tuple[float, float]:
    """Outer edges of equal cells."""
    half = (centres[1] - centres[0]) / 2
    return float(centres[0] - half), float(centres[-1] + half)


# --- figure 6: optimisation -------------------------------------------------------------------------------------------

FACTORS = np.array([1.0, 1.8, 2.2])
"""Steps of the descent in units of 1/mu_max; the last is unstable."""

OPTIMISED = {"quick": (200, 16), "standard": (400, 24), "paper": (1600, 48)}
"""p, and instances among which one is looked for in which AMP cycles."""

ITERATIONS = 1400

EASY, HARD = (1.0, 0.3), (0.65, 0.1)
"""(delta, sigma) of U3."""


def optimisation(session: Session) -> matplotlib.figure.Figure:
    """Norm of the gradient over iterations: where AMP converges, and where it cycles."""
    p, seeds = OPTIMISED[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.4)
    easy, hard = axes[0]
    setting = Trajectories(model(*EASY, p), FACTORS, steps=ITERATIONS)
    (results,) = session.measure(TRAJECTORIES, Design((setting,)))
    amp, descent, eta = results["amp"][0], results["descent"][0], results["eta"][0]
    smallest, largest = extremes(
        theory.U3, results["gram"][0], results["lam"][0], results["gam"][0], setting.model.delta, setting.model.sigma
    )
    steps = np.arange(1, setting.steps + 1, dtype=float)
    easy.plot(steps, amp, color=THEORY)
    names = (r"NGD, $\eta = 1/L$", *(rf"NGD, $\eta = {factor:g}/\mu_{{\max}}$" for factor in FACTORS))
    handles = [proxy("AMP", linestyle="-")]
    for norms, step, name, color in zip(descent, eta, names, COLORS, strict=False):
        easy.plot(setting.start - 1 + steps, norms, color=color)
        rate = float(theory.ngd_rate(step, smallest, largest))
        handles.append(proxy(rf"{name}: {'rate' if rate < 1 else 'unstable, rate'} {rate:.4f}", color, linestyle="-"))
        if rate < 1:
            slope(easy, setting.start - 1 + steps, norms, rate)
    floor = 1e-13
    easy.set(xlim=(0, setting.steps), yscale="log", ylim=(floor, 1e4))
    outcome, numbers = rescue_panel(session, hard, p, seeds)
    easy.set(xlabel="iteration", ylabel=r"$\|$gradient$\|_2$")
    letters(
        axes[0],
        (
            rf"$\delta = {EASY[0]:g}$, $\sigma = {EASY[1]:g}$",
            rf"$\delta = {HARD[0]:g}$, $\sigma = {HARD[1]:g}$: {outcome}",
        ),
    )
    handles += [
        proxy("NGD with backtracking, from AMP's best iterate", COLORS[4], linestyle="-"),
        proxy(r"slope max$(|1 - \eta\mu_{\min}|, |1 - \eta\mu_{\max}|)$", linestyle=":"),
    ]
    title = (
        rf"U3, {sizes(p=p)}, one instance each; (a): $\mu_{{\min}} = {smallest:.3f}$, $\mu_{{\max}} = {largest:.2f}$, "
    )
    title += rf"$1/L = {eta[0]:.4f}$" + "\n" + numbers
    shared_legend(drawing, handles, title, 2)
    return drawing


def slope(panel: Axes, steps: np.ndarray, norms: np.ndarray, rate: float) -> None:
    """The predicted decay, beside the last norms above 1e-11."""
    last = np.flatnonzero(norms > 1e-11)[-1]
    window = np.arange(last // 2, last + 1)
    panel.plot(
        steps[window], 4 * norms[last] * rate ** (steps[window] - steps[last]), color=THEORY, linestyle=":", zorder=4
    )


def rescue_panel(session: Session, panel: Axes, p: int, seeds: int) -> tuple[str, str]:
    """The first instance in which AMP cycles, or else the first: what it shows, and the numbers, in words."""
    setting = Rescue(model(*HARD, p))
    (results,) = session.measure(RESCUE, Design((setting,), seeds))
    cycling = results["change"] > CYCLING
    text = rf"(b): {cycling.sum()} of {seeds} instances cycle, $|m' - m|/\sqrt{{p}} > {CYCLING:g}$ after {setting.steps} steps"
    shown = int(np.argmax(cycling))
    panel.plot(np.arange(1, setting.steps + 1), results["amp"][shown], color=THEORY)
    if cycling.any():
        at = 30 + setting.length * np.arange(setting.stretches + 1, dtype=float)
        backtracking, fixed = results["backtracking"][shown], results["fixed"][shown]
        done = np.cumsum(backtracking < 1e-11) <= 1
        panel.plot(at[done], backtracking[done], color=COLORS[4])
        panel.plot(at, fixed, color=COLORS[0])
        found = theory.U3.tilted(results["lam"][shown], results["gam"][shown]).variance.mean()
        expected = float(theory.mmse(theory.U3, theory.gamma_alg(theory.U3, *HARD)))
        text += (
            "\n"
            rf"(b): with backtracking $F$ rises by $\leq$ {results['rise'][shown]:.0e} $|F|$ and mean $V \to {found:.3f}$ "
        )
        text += rf"(mmse$(\gamma_{{\rm alg}}) = {expected:.3f}$)"
    panel.set(xscale="log", yscale="log", xlim=(1, None), ylim=(1e-13, 1e4), xlabel="iteration")
    return ("AMP cycles" if cycling.any() else "no cycle found"), text


# --- figure 7: curvature ----------------------------------------------------------------------------------------------

APPROACH = {"quick": (120, 5, 24), "standard": (300, 9, 40), "paper": (600, 12, 100)}
"""p, values of delta, instances of the smallest eigenvalue."""
SPECTRA = {"quick": (240, 8), "standard": (600, 16), "paper": (2000, 20)}
"""p and instances of the spectrum."""
HEIGHT = 1.5e-4
"""Width over which the limit of the spectrum is averaged."""


def curvature(session: Session) -> matplotlib.figure.Figure:
    """The smallest eigenvalue of Hess F on the way to delta_alg, and the spectrum that NGD sees."""
    p, count, seeds = APPROACH[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.2)
    smallest, histogram = axes[0]
    algorithmic = float(theory.phase_lines(theory.U3, LOW_NOISE).algorithmic)
    deltas = tuple(np.linspace(0.45, 0.7, count))
    setting = Surroundings(levels(1.0, deltas, LOW_NOISE, p), np.zeros(count))
    (results,) = session.measure(CONVEXITY, Design((setting,), seeds))
    at, values = setting.levels.deltas, results["smallest"]
    kept = np.isfinite(values)
    for delta, column, good in zip(at, values.T, kept.T, strict=True):
        points(smallest, np.array([delta]), column[good][:, None], label=None)
        smallest.plot(
            np.full(good.sum(), delta),
            column[good],
            color=COLORS[0],
            marker=".",
            alpha=0.25,
            linestyle="none",
            markersize=3,
        )
    dense = np.linspace(at[0], algorithmic, 200)
    gamma = theory.gamma_alg(theory.U3, dense[:-1], LOW_NOISE)
    gap = 1 - theory.state_evolution_slope(theory.U3, dense[:-1], gamma)
    line(smallest, dense, np.append(gap, 0.0), label=None, bound=True)
    smallest.axvline(algorithmic, color="#999999", linestyle=":", linewidth=1)
    smallest.set(xlabel=DELTA, ylabel=r"$\lambda_{\min}($Hess $F_{\rm TAP})$", ylim=(0, None))
    q, instances = SPECTRA[session.preset]
    used = spectrum_panel(session, histogram, *EASY, q, instances)
    letters(
        axes[0],
        (rf"$\sigma = {LOW_NOISE:g}$, in $(m, s)$", rf"$\delta = {EASY[0]:g}$, $\sigma = {EASY[1]:g}$, whitened"),
    )
    handles = [
        proxy("(a) instances, mean and 95% CI", COLORS[0], "o"),
        proxy(
            r"(a) $(2\gamma^2/\delta)\, \phi''(\gamma_{\rm alg})$, no prediction, but zero where $\lambda_{\min}$ is",
            linestyle="--",
        ),
        proxy(r"(a) $\delta_{\rm alg}$", "#999999", linestyle=":"),
        Patch(color=FILL, label=r"(b) eigenvalues $\mu$, all instances"),
        proxy(r"(b) limit of the bulk", linestyle="-"),
        proxy(r"(b) $\mu_{\min}$, $\mu_{\max}$ of each instance", COLORS[1], "|", markersize=6),
    ]
    title = f"U3; (a) {sizes(p=p)}, {seeds} instances, {kept.sum(0).min()} to {kept.sum(0).max()} of them at each "
    title += (
        r"$\delta$ converge without recovering $\beta_0$"
        + "\n"
        + rf"(b) {sizes(p=q)}, {used} of {instances} instances converge"
    )
    shared_legend(drawing, handles, title, 2)
    return drawing


def spectrum_panel(session: Session, panel: Axes, delta: float, sigma: float, p: int, seeds: int) -> int:
    """Histogram of the eigenvalues mu other than 1 against the limit of their bulk: number of instances that converge."""
    setting = AtLimit(model(delta, sigma, p))
    (results,) = session.measure(SPECTRUM, Design((setting,), seeds))
    good = results["converged"] & (results["variance"] > RECOVERED / 10)
    values = results["eigenvalues"][good]
    low, top = 0.6 * values[:, 0].min(), 1.15 * values[:, -1].max()
    edges = np.geomspace(low, top, 46)
    others = values[np.abs(values - 1) > 1e-6]
    counts, _ = np.histogram(others, edges)
    panel.stairs(counts / others.size / np.diff(edges), edges, fill=True, color=FILL, zorder=0)
    mu = np.geomspace(low, top, 400)
    density = bulk_density(theory.U3, setting.model.delta, sigma, mu, height=HEIGHT)
    line(panel, mu, density, label=None)
    floor = 0.3 / (others.size * np.diff(edges)[-1])
    for extreme in (values[:, 0], values[:, -1]):
        panel.plot(
            extreme, np.full(extreme.size, 2 * floor), color=COLORS[1], marker="|", markersize=6, linestyle="none"
        )
    panel.set(xlabel=r"$\mu$", ylabel="density", xscale="log", yscale="log", xlim=(low, top), ylim=(floor, None))
    panel.xaxis.set_minor_formatter(NullFormatter())
    return int(good.sum())


FIGURE_1 = Figure(
    f"{PAPER}.figure-1",
    "Where are the minima of the replica-symmetric potential in each phase, and which of them does AMP reach?",
    potential,
)
FIGURE_2 = Figure(
    f"{PAPER}.figure-2",
    "At which delta and sigma is inference easy, hard and impossible?",
    mpl.rc_context(SMALL)(phase_diagram),
)
FIGURE_6 = Figure(
    f"{PAPER}.figure-6",
    "How fast do AMP and natural gradient descent converge, and what helps where AMP cycles?",
    optimisation,
)
FIGURE_7 = Figure(
    f"{PAPER}.figure-7",
    "How curved is the TAP free energy at AMP's limit, and how does that end at delta_alg?",
    curvature,
)
