"""The signal-to-noise ratio from which one step of QAOA recovers the spike."""

import sys

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from theorysim.cli.script import main
from theorysim.papers.qaoa_spiked_tensor import theory
from theorysim.papers.qaoa_spiked_tensor.claims import GAMMAS, MOMENTS, ONE_STEP, PAPER, QUARTER
from theorysim.papers.qaoa_spiked_tensor.figures import BEST, SECOND_MOMENT
from theorysim.papers.qaoa_spiked_tensor.setting import Circuit, OneStep, angles
from theorysim.plots import (
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
    size_label,
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "From which power of n on does one step recover the spike, whatever the angle?"

SIZES = {"quick": ((8, 14), 40), "standard": ((8, 14, 20), 40), "paper": ((8, 14, 20, 26), 40)}
"""n of the state vectors, and instances of each."""

LARGE = (64, 1024, 16384)
"""n that are averaged over the noise in closed form."""

ORDERS = (2, 3)

GRID = GAMMAS[::2]


@mpl.rc_context(SMALL)
def threshold(session: Session) -> matplotlib.figure.Figure:
    """sup over gamma of E R^2 over the exponent a of lambda_n = n^a, one panel an order q, one colour an n."""
    small, instances = SIZES[session.preset]
    colors = size_colors(len(small) + len(LARGE))
    drawing, axes = canvas(1, len(ORDERS), width=TEXT, height=3.2, sharey=True)
    for panel, q in zip(axes[0], ORDERS, strict=True):
        a = (q - 1) / 2 + np.linspace(-0.35, 0.35, 8)
        dense = np.linspace(a[0], a[-1], 29)
        for n, color in zip((*small, *LARGE), colors, strict=True):
            line(panel, dense, np.array([best(n, q, x).second_moment for x in dense]), label=None, color=color)
        for n, color in zip(small, colors, strict=False):
            points(panel, a, state_vectors(session, n, q, a, instances), label=None, color=color)
        for n, color in zip(LARGE, colors[len(small) :], strict=True):
            panel.plot(a, averaged(session, n, q, a), color=color, marker="s", linestyle="none")
        limit(panel, q, (a[0], a[-1]))
        panel.set_xlabel(r"$a$ in $\lambda_n = n^a$")
    axes[0, 0].set(ylabel=rf"$\sup_\gamma$ {SECOND_MOMENT}", ylim=(0, None))
    letters(axes[0], [f"$q = {q}$" for q in ORDERS])
    handles = [proxy(size_label("n", n), color, "o") for n, color in zip(small, colors, strict=False)]
    handles += [proxy(size_label("n", n), color, "s") for n, color in zip(LARGE, colors[len(small) :], strict=True)]
    handles += [
        proxy("exact at this $n$", linestyle="-"),
        proxy(
            r"$n \to \infty$; open: at $a = (q-1)/2$", marker="o", linestyle="--", markerfacecolor="white", markersize=5
        ),
    ]
    title = r"$p = 1$, $\beta = \pi/4$; dots: state vectors at the predicted best $\gamma$, "
    title += (
        f"{instances} instances, 95% CI\nsquares: averaged over $W$ in closed form, largest of {len(GRID)} values of "
    )
    shared_legend(drawing, handles, title + r"$\gamma$", 4)
    return drawing


def best(n: int, q: int, a: float) -> theory.BestStep:
    """The predicted supremum and where it is."""
    return theory.best_one_step(n, q, float(n**a))


def state_vectors(session: Session, n: int, q: int, a: np.ndarray, instances: int) -> np.ndarray:
    """Averages of R^2 in each instance at the predicted best gamma, shape (instances, a)."""
    precision = "single" if n > 20 else "double"
    settings = tuple(
        Circuit(n, q, float(n**x), angles(best(n, q, x).gamma), angles(QUARTER), precision=precision) for x in a
    )
    return np.stack([results["m2"] for results in session.measure(MOMENTS, Design(settings, instances))], axis=1)


def averaged(session: Session, n: int, q: int, a: np.ndarray) -> np.ndarray:
    """Largest E R^2 over the angles of GRID."""
    settings = tuple(OneStep(n, q, float(n**x), GRID, QUARTER) for x in a)
    return np.array([results["best"][0] for results in session.measure(ONE_STEP, Design(settings))])


def limit(panel: Axes, q: int, ends: tuple[float, float]) -> None:
    """0 below (q - 1)/2, 1/2 above, and the largest second moment of the limit law there."""
    place = (q - 1) / 2
    panel.plot([ends[0], place, place, ends[1]], [0, 0, 0.5, 0.5], color=THEORY, linestyle="--", linewidth=1, zorder=1)
    level = theory.limit_law(q, *BEST[q, 1]).second_moment()
    panel.plot(
        [place], [level], color=THEORY, marker="o", markersize=5, markerfacecolor="white", linestyle="none", zorder=4
    )


FIGURE = Figure(f"{PAPER}.threshold", QUESTION, threshold)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.one-step-threshold"], figures=[FIGURE]))
