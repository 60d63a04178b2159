"""Phase diagram of Bayesian linear regression, and where message passing starts to find beta0 at finite p."""

import sys

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from scipy.optimize import minimize
from scipy.special import expit

from theorysim.cli.script import main
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.figures_landscape import DELTA, SIGMA, WINDOWS, Window, success_line
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.papers.tap_amp.landscape import SUCCESS, Levels
from theorysim.papers.tap_amp.setting import model
from theorysim.plots import COLORS, TEXT, THEORY, Figure, canvas, letters, proxy, shared_legend, size_label
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "Where is inference easy, hard or impossible, and where does message passing start to succeed at finite p?"

SIZES = {
    "quick": ((200,), 4, 24),
    "standard": ((250, 1000), 4, 32),
    "paper": ((1000, 4000), 8, 96),
}
"""p, values of sigma and instances at each."""

GRID = 60
"""Of theory, in either direction."""
REACH, LEVELS, DRAWS = 0.25, 12, 200
"""Simulated delta lie within this share of the predicted one; their number; bootstrap samples of a crossing."""
PHASES = ("easy", "hard", "impossible")
SHADES = ("#DCEFE6", "#F2C6A0", "#ECECEC")
STYLES = ((COLORS[0], "o"), (COLORS[3], "s"))


def diagram(session: Session) -> matplotlib.figure.Figure:
    """Phases of three priors as areas, AMP's crossings of success 1/2 as points."""
    sizes, rows, seeds = SIZES[session.preset]
    drawing, axes = canvas(1, len(WINDOWS), width=TEXT, height=3.0)
    for panel, window in zip(axes[0], WINDOWS, strict=True):
        delta, sigma = np.linspace(*window.delta, GRID), np.linspace(*window.sigma, GRID)
        phases = theory.phase(window.prior, delta, sigma[:, None])
        shade = np.select([phases == name for name in PHASES], range(len(PHASES)))
        panel.imshow(
            shade, ListedColormap(SHADES), aspect="auto", vmin=0, vmax=2, origin="lower",
            extent=(*window.delta, *window.sigma), zorder=0,
        )  # fmt: skip
        cusp = theory.cusp(window.prior)
        assert cusp is not None
        below = np.linspace(window.sigma[0], cusp.sigma * (1 - 1e-6), 60)
        panel.plot(theory.phase_lines(window.prior, below).algorithmic, below, color=THEORY)
        above = np.linspace(cusp.sigma, window.sigma[1], 30)
        panel.plot(success_line(window.prior, above), above, color=THEORY, linewidth=0.6)
        for p, (color, marker) in zip(sizes, STYLES, strict=False):
            for place in np.linspace(*window.sigma, rows + 2)[1:-1]:
                crossing(session, panel, window, float(place), p, seeds, color, marker)
        panel.grid(visible=False)
        panel.set(xlabel=DELTA, xlim=window.delta, ylim=window.sigma)
    axes[0, 0].set_ylabel(SIGMA)
    letters(axes[0], [window.name for window in WINDOWS])
    handles = [Patch(color=shade, label=phase) for shade, phase in zip(SHADES, PHASES, strict=True)]
    handles += [
        proxy(r"$\delta_{\rm alg}$; thin, above the cusp: mmse$(\gamma_{\rm alg})$ = mmse$(\gamma_c)$", linestyle="-"),
        *(proxy(f"AMP, {size_label('p', p)}", *style) for p, style in zip(sizes, STYLES, strict=False)),
    ]
    title = rf"areas: limits $p \to \infty$; points: half of {seeds} instances recover, "
    title += r"$|m - \beta_0|^2/p <$ mmse$(\gamma_c)$, within 250 steps"
    title += (
        f"\n(logistic fit over {LEVELS} values of $\\delta$, 95% bootstrap interval; runs that cycle count as they end)"
    )
    shared_legend(drawing, handles, title, 3)
    return drawing


def crossing(
    session: Session, panel: Axes, window: Window, sigma: float, p: int, seeds: int, color: str, marker: str
) -> None:
    """delta at which half of the instances recover beta0, around the predicted one."""
    cusp = theory.cusp(window.prior)
    assert cusp is not None
    expected = (
        theory.phase_lines(window.prior, sigma).algorithmic
        if sigma < cusp.sigma
        else success_line(window.prior, np.array([sigma]))[0]
    )
    # One number of rows for all sigma of a window, so that they share a program.
    top = round(1.3 * max(window.delta) * p)
    deltas = np.round(np.linspace(1 - REACH, 1 + REACH, LEVELS) * expected * p) / p
    setting = Levels(model(top / p, sigma, p, window.setting), np.minimum(deltas, top / p))
    (results,) = session.measure(SUCCESS, Design((setting,), seeds))
    success = results["mse"] < float(theory.mmse(window.prior, cusp.gamma))
    rng = np.random.default_rng(0)
    draws = [half(deltas, success[rng.integers(0, seeds, seeds)]) for _ in range(DRAWS)]
    centre, (low, high) = half(deltas, success), np.quantile(draws, (0.025, 0.975))
    panel.errorbar(
        [centre], [sigma], xerr=[[max(centre - low, 0)], [max(high - centre, 0)]],
        color=color, marker=marker, linestyle="none", elinewidth=0.8,
    )  # fmt: skip


def half(deltas: np.ndarray, success: np.ndarray) -> float:
    """The delta of success 1/2 by logistic regression, kept within the values measured."""
    x, y = (deltas - deltas.mean()) / np.ptp(deltas), success.mean(0)

    def loss(parameters: np.ndarray) -> float:
        q = np.clip(expit(np.exp(parameters[1]) * (x - parameters[0])), 1e-12, 1 - 1e-12)
        return float(-np.sum(y * np.log(q) + (1 - y) * np.log(1 - q)) + 1e-3 * parameters[1] ** 2)

    place = minimize(loss, np.array([0.5 - y.mean(), 3.0]), method="Nelder-Mead", options={"maxiter": 200}).x[0]
    return float(deltas.mean() + np.clip(place, x[0], x[-1]) * np.ptp(deltas))


FIGURE = Figure(f"{PAPER}.phases", QUESTION, diagram)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.phase-diagram"], figures=[FIGURE]))
