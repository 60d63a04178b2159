"""QAOA on the unfolding of a tensor of order four, against the matrix problem that it is."""

import sys

import matplotlib.figure
import numpy as np

from theorysim.cli.script import main
from theorysim.papers.qaoa_spiked_tensor import theory
from theorysim.papers.qaoa_spiked_tensor.claims import OPTIMUM, PAPER, QUARTER, UNFOLDING
from theorysim.papers.qaoa_spiked_tensor.figures import SECOND_MOMENT
from theorysim.papers.qaoa_spiked_tensor.setting import Unfolding, angles
from theorysim.plots import TEXT, Figure, canvas, points, proxy, shared_legend, size_colors
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "Is QAOA on the unfolding of a tensor exactly QAOA on a spiked matrix of N = n^{q/2} spins?"

INSTANCES = {"quick": 60, "standard": 400, "paper": 2000}
ORDER, SIZES = 4, (3, 4)
"""q, and n of the tensors."""


def comparison(session: Session) -> matplotlib.figure.Figure:
    """E R^2 on the unfolding over lambda', rescaled as in the theorem and not."""
    instances = INSTANCES[session.preset]
    scaled, dense = np.arange(8.0), np.linspace(0, 7, 141)
    drawing, axes = canvas(1, 1, width=TEXT, height=3.2)
    panel = axes[0, 0]
    handles = []
    for n, color in zip(SIZES, size_colors(len(SIZES)), strict=True):
        N = n ** (ORDER // 2)
        curve = np.array([theory.one_step_moments(N, 2, float(x), OPTIMUM, QUARTER)[1] for x in dense])
        line(panel, dense, curve, label=None, color=color)
        for rescaled, marker, face in ((True, "o", color), (False, "s", "white")):
            points(
                panel, scaled, moments(session, n, scaled, rescaled, instances), label=None, color=color, marker=marker
            )
            panel.containers[-1].lines[0].set_markerfacecolor(face)
        handles.append(proxy(f"$n = {n}$, $N = {N}$", color, "o", "-"))
    panel.set(xlabel=r"$\lambda' = \lambda_n\, n^{-(q-2)/4}$", ylabel=SECOND_MOMENT, ylim=(0, None))
    handles += [
        proxy(r"rescaled by $(n/N)^{1/2}$; line: exact for a spiked matrix of $N$ spins", marker="o", linestyle="-"),
        proxy("not rescaled", marker="s", markerfacecolor="white"),
    ]
    title = rf"$q = {ORDER}$, $p = 1$, $R = \mathbf{{u}}^{{\otimes 2}} \cdot z/N$, $\gamma = {OPTIMUM:.4f}$, $\beta = \pi/4$; "
    shared_legend(drawing, handles, f"{title}{instances} instances, 95% CI", 2)
    return drawing


def moments(session: Session, n: int, scaled: np.ndarray, rescaled: bool, instances: int) -> np.ndarray:
    """Averages of R^2 in each instance, at lambda' = `scaled`; shape (instances, lambda')."""
    snr = scaled * n ** ((ORDER - 2) / 4)
    settings = tuple(Unfolding(n, float(x), angles(OPTIMUM), angles(QUARTER), rescaled) for x in snr)
    return np.stack([results["m2"] for results in session.measure(UNFOLDING, Design(settings, instances))], axis=1)


FIGURE = Figure(f"{PAPER}.unfolding", QUESTION, comparison)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.unfolding"], figures=[FIGURE]))
