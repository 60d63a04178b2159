"""Figure on models whose answers were known before: sparse recovery and Z2 synchronisation."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.figures_landscape import SUCCESSES
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.papers.tap_amp.secondary import (
    RECOVERED,
    RECOVERY,
    SYNCHRONISATION,
    Recovery,
    Synchronisation,
)
from theorysim.plots import COLORS, SMALL, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, sizes
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session


class Size(NamedTuple):
    """Sparse recovery: N, values of delta and of k/n, steps, instances. Synchronisation: n, values of l, instances."""

    N: int
    columns: int
    rows: int
    steps: int
    signals: int
    n: int
    snrs: int
    spins: int


SIZES = {
    "quick": Size(200, 6, 12, 250, 8, 400, 9, 16),
    "standard": Size(500, 9, 20, 500, 16, 1000, 13, 24),
    "paper": Size(4000, 24, 40, 2000, 20, 4000, 25, 50),
}


@mpl.rc_context(SMALL)
def secondary(session: Session) -> matplotlib.figure.Figure:
    """Fraction of signals recovered over the Donoho-Tanner curve; overlaps over the signal-to-noise ratio."""
    size = SIZES[session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.4)
    sparse, spins = axes[0]
    image = recovered(session, sparse, size)
    bar = drawing.colorbar(image, ax=sparse, aspect=30, pad=0.02)
    bar.set_label("fraction recovered by AMP")
    overlaps(session, spins, size)
    letters(axes[0], ("sparse recovery, no noise", "Z2 synchronisation"))
    handles = [
        proxy(r"(a) $\rho(\delta)$, signals of both signs", linestyle="-"),
        proxy(r"(a) $\rho(\delta)$, nonnegative signals", COLORS[1], linestyle="--"),
        proxy(r"(b) PCA, $(v \cdot x)^2/n$; line $1 - \ell^{-2}$", COLORS[1], "s", "-"),
        proxy(r"(b) AMP, $|m \cdot x|/n$; line Bayes $q_*$", COLORS[0], "o", "-"),
    ]
    title = rf"(a): {sizes(N=size.N)}, {size.signals} instances at each $\delta$, {size.steps} steps damped by .2, "
    title += rf"$\alpha(\delta)$ of the curve, recovered: relative error $< {RECOVERED:g}$"
    title += "\n" + rf"(b): {sizes(n=size.n)}, {size.spins} instances at each $\ell$, mean and 95% CI, all runs"
    shared_legend(drawing, handles, title, 2)
    return drawing


def recovered(session: Session, panel: Axes, size: Size) -> AxesImage:
    """Success of AMP at its minimax threshold over (delta, k/n)."""
    centres, levels = (np.arange(count) + 0.5 for count in (size.columns, size.rows))
    share = 0.8 * levels / size.rows
    settings = []
    for delta in centres / size.columns:
        n = round(delta * size.N)
        k = np.maximum(1, np.rint(share * n)).astype(int)
        alpha = theory.donoho_tanner(n / size.N).alpha
        settings.append(Recovery(size.N, n, tuple(k.tolist()), alpha, size.steps))
    measured = session.measure(RECOVERY, Design(tuple(settings), size.signals))
    fractions = np.stack([np.mean(results["error"] < RECOVERED, axis=0) for results in measured], axis=1)
    image = panel.imshow(
        fractions, SUCCESSES, aspect="auto", vmin=0, vmax=1, origin="lower", extent=(0, 1, 0, 0.8), zorder=0
    )
    dense = np.linspace(0.005, 0.995, 200)
    line(panel, dense, np.array([theory.donoho_tanner(d).rho for d in dense]), label=None)
    line(
        panel,
        dense,
        np.array([theory.donoho_tanner(d, signed=False).rho for d in dense]),
        label=None,
        color=COLORS[1],
        bound=True,
    )
    panel.set(xlabel=r"$\delta = n/N$", ylabel=r"$\rho = k/n$", xlim=(0, 1), ylim=(0, 0.8))
    panel.grid(visible=False)
    return image


def overlaps(session: Session, panel: Axes, size: Size) -> None:
    """Squared overlap of the principal eigenvector, and overlap of AMP from there, over l."""
    snrs = np.linspace(0.4, 2.0, size.snrs)
    settings = tuple(Synchronisation(size.n, float(snr)) for snr in snrs)
    measured = session.measure(SYNCHRONISATION, Design(settings, size.spins))
    pca = np.stack([results["component"] for results in measured], axis=1).astype(float)
    amp = np.abs(np.stack([results["overlap"][:, -1] for results in measured], axis=1)).astype(float)
    dense = np.linspace(snrs[0], snrs[-1], 300)
    line(panel, dense, theory.bbp_overlap(dense), label=None, color=COLORS[1])
    line(panel, dense, theory.z2_overlap(dense), label=None, color=COLORS[0])
    points(panel, snrs - 0.008, pca, label=None, color=COLORS[1], marker="s")
    points(panel, snrs + 0.008, amp, label=None, color=COLORS[0], marker="o")
    panel.axvline(1, color=THEORY, linestyle=":", linewidth=0.8)
    panel.set(xlabel=r"$\ell$", ylabel="overlap", ylim=(-0.02, 1.02))


FIGURE_8 = Figure(
    f"{PAPER}.figure-8",
    "Does message passing reach what is known of sparse recovery and of Z2 synchronisation?",
    secondary,
)
