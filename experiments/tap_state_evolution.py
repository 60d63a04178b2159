"""Message passing against state evolution, step by step, as p grows, and with wrong Onsager terms."""

import sys

import matplotlib as mpl
import matplotlib.figure
import numpy as np

from theorysim.cli.script import main
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.inference import PAPER, REACTIONS, TRAJECTORY, Trajectory, prior_of
from theorysim.papers.tap_amp.setting import U3, Atoms, model, three_point
from theorysim.plots import (
    COLORS,
    SMALL,
    TEXT,
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

QUESTION = "How closely does message passing follow state evolution at finite p, and what does its Onsager term do?"

SIZES = {
    "quick": ((125, 500), (96, 32)),
    "standard": ((125, 500, 2000), (256, 96, 24)),
    "paper": ((500, 2000, 8000), (256, 96, 50)),
}
"""p, and instances of each."""

PLACES: tuple[tuple[str, Atoms, float, float], ...] = (
    ("U3, $\\delta = 1$, $\\sigma = 0.3$", U3, 1.0, 0.3),
    ("S3(.1), $\\delta = 0.5$, $\\sigma = 0.2$", three_point(0.1), 0.5, 0.2),
    ("U3, $\\delta = 0.65$, $\\sigma = 0.1$", U3, 0.65, 0.1),
)
"""Name, prior, delta and sigma: easy, sparse and easy, hard."""

WRONG: tuple[tuple[str, str, str], ...] = (
    ("none", "no Onsager term", "x"),
    ("without-delta", "$V' g$, without $1/\\delta$", "+"),
)
SHOWN = np.array([0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 25, 29])


@mpl.rc_context(SMALL)
def state_evolution(session: Session) -> matplotlib.figure.Figure:
    """Squared error above, mean reported variance below, one column a model, one colour a size."""
    sizes, seeds = SIZES[session.preset]
    colors = size_colors(len(sizes))
    drawing, axes = canvas(2, len(PLACES), width=TEXT, height=4.2, sharex=True)
    for (above, below), (_, prior, delta, sigma) in zip(axes.T, PLACES, strict=True):
        setting = Trajectory(model(delta, sigma, sizes[0], prior))
        predicted = theory.state_evolution(prior_of(setting.model), delta, sigma, setting.steps).mse
        for panel in (above, below):
            line(panel, np.arange(predicted.size, dtype=float), predicted, label=None)
        for i, (p, count, color) in enumerate(zip(sizes, seeds, colors, strict=True)):
            (results,) = session.measure(TRAJECTORY, Design((Trajectory(model(delta, sigma, p, prior)),), count))
            for panel, quantity in ((above, "mse"), (below, "variance")):
                shift = SHOWN + 0.2 * (i - (len(sizes) - 1) / 2)
                points(panel, shift, results[quantity][:, SHOWN].astype(float), label=None, color=color)
        for (reaction, _, marker), color in zip(WRONG, COLORS[1:], strict=False):
            if reaction == "without-delta" and delta == 1:
                continue  # right there
            wrong = Trajectory(model(delta, sigma, sizes[-1], prior), reaction=REACTIONS[reaction])
            (results,) = session.measure(TRAJECTORY, Design((wrong,), 8))
            for panel, quantity in ((above, "mse"), (below, "variance")):
                points(
                    panel,
                    SHOWN + 0.0,
                    results[quantity][:, SHOWN].astype(float),
                    label=None,
                    color=color,
                    marker=marker,
                )
        above.set(yscale="log", ylim=(predicted[-1] / 2, 3))
        below.set(xlabel="$t$", yscale="log", ylim=(predicted[-1] / 20, 2 * predicted[0]))
    axes[0, 0].set_ylabel(r"$|m_t - \beta_0|^2/p$")
    axes[1, 0].set_ylabel("mean $V_t$")
    letters(axes[0], [name for name, *_ in PLACES])
    handles = [
        proxy(f"{size_label('p', p)}, {count} instances", color, "o")
        for p, count, color in zip(sizes, seeds, colors, strict=True)
    ]
    handles += [
        proxy(f"{name}, largest $p$, 8 instances", color, marker)
        for (_, name, marker), color in zip(WRONG, COLORS[1:], strict=False)
    ]
    handles.append(proxy(r"state evolution, mmse$(\gamma_t)$", linestyle="-"))
    shared_legend(drawing, handles, "points: mean and 95% CI, all runs", 3)
    return drawing


FIGURE = Figure(f"{PAPER}.state-evolution", QUESTION, state_evolution)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.se"], figures=[FIGURE]))
