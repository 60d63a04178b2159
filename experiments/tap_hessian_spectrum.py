"""Spectrum of the Hessian of the TAP free energy, as natural gradient descent sees it, at the limit of message passing."""

import sys

import matplotlib.figure
from matplotlib.patches import Patch

from theorysim.cli.script import main
from theorysim.papers.tap_amp.figures_landscape import FILL, SPECTRA, spectrum_panel
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.plots import COLORS, TEXT, Figure, canvas, letters, proxy, shared_legend, sizes
from theorysim.verify.session import Session

QUESTION = (
    "Which curvatures does the TAP free energy have at the limit of message passing, easy, hard and near the spinodal?"
)

PLACES = ((1.0, 0.3), (0.65, 0.1), (1.5, 0.4))
"""(delta, sigma) at the prior U3: easy, hard, easy with many observations."""


def spectra(session: Session) -> matplotlib.figure.Figure:
    """Histograms of mu against the limit of their bulk, one panel a model."""
    p, seeds = SPECTRA[session.preset]
    drawing, axes = canvas(1, len(PLACES), width=TEXT, height=2.9)
    used = [spectrum_panel(session, panel, *place, p, seeds) for panel, place in zip(axes[0], PLACES, strict=True)]
    for panel in axes[0, 1:]:
        panel.set_ylabel("")
    letters(axes[0], [rf"$\delta = {delta:g}$, $\sigma = {sigma:g}$" for delta, sigma in PLACES])
    handles = [
        Patch(color=FILL, label="eigenvalues other than 1, all instances"),
        proxy(r"limit of the bulk, $p \to \infty$", linestyle="-"),
        proxy(r"$\mu_{\min}$ and $\mu_{\max}$ of each instance", COLORS[1], "|", markersize=6),
    ]
    title = rf"U3, {sizes(p=p)}; $\mu$: eigenvalues of $C^{{1/2}}\, {{\rm Hess}}\, F_{{\rm TAP}}\, C^{{1/2}}$; $p - 1$ are 1"
    title += f"\nAMP converges, without recovering $\\beta_0$, in {', '.join(map(str, used))} "
    title += f"of {seeds} instances, the others are left out"
    shared_legend(drawing, handles, title, 3)
    return drawing


FIGURE = Figure(f"{PAPER}.hessian-spectrum", QUESTION, spectra)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.local-convexity"], figures=[FIGURE]))
