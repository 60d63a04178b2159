"""The TAP free energy at its two minima against the replica-symmetric potential, and against the exact evidence."""

import sys

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from theorysim.cli.script import main
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.identities import ENERGIES, Small
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.papers.tap_amp.landscape import MINIMA, RECOVERED, Levels, levels
from theorysim.papers.tap_amp.setting import U3
from theorysim.plots import COLORS, TEXT, THEORY, Figure, canvas, letters, points, proxy, shared_legend, sizes
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.claim import Results
from theorysim.verify.session import Session

QUESTION = "Does the TAP free energy tend to the replica-symmetric potential at both its minima, and to the evidence?"

SIZES = {
    "quick": (300, 9, 24, (4, 6, 8), 48),
    "standard": (600, 13, 48, (4, 6, 8, 10), 96),
    "paper": (4000, 25, 50, (4, 6, 8, 10, 12), 200),
}
"""p, values of delta and instances of the minima; p and instances of the evidence."""

SIGMA = 0.1
LOW, HIGH = 0.42, 0.7
"""delta in the range where both minima exist at SIGMA."""
SMALL_SIGMA = 0.5
FEWEST = 4
"""Runs that a mean needs."""
BRANCHES = (("from the prior", COLORS[0], "o"), (r"from near $\beta_0$", COLORS[1], "s"))


def free_energy(session: Session) -> matplotlib.figure.Figure:
    """F_TAP/p at both minima over delta, their difference, and the gap of TAP and naive mean field to the evidence over p."""
    p, count, seeds, small, instances = SIZES[session.preset]
    drawing, axes = canvas(1, 3, width=TEXT, height=3.2)
    energy, gap, evidence = axes[0]
    settings = tuple(levels(HIGH, (float(delta),), SIGMA, p) for delta in np.linspace(LOW, HIGH, count))
    kept = minima(session, energy, gap, settings, seeds)
    to_evidence(session, evidence, small, instances)
    letters(axes[0], ("both minima", "difference", "gap to the evidence"))
    handles = [proxy(f"(a) AMP {start}", color, marker, "-") for start, color, marker in BRANCHES]
    handles += [
        proxy("(b) prior less informed", COLORS[2], "D", "-"),
        proxy(r"(b) $\delta_{\rm IT}$", "#999999", linestyle=":"),
        proxy("(c) TAP", COLORS[0], "o"),
        proxy("(c) naive mean field", COLORS[1], "s"),
        proxy(r"(a), (b) lines: $\phi$ at the fixed points", linestyle="-"),
    ]
    title = rf"U3; (a), (b): {sizes(p=p)}, $\sigma = {SIGMA:g}$, {seeds} instances at each $\delta$, "
    title += f"of which {kept[0]} to {kept[1]} converge to a minimum of each kind"
    title += "\n" + r"the part of $F$ that follows $|\varepsilon|^2$ taken off; (c): $\delta = 1$, "
    title += rf"$\sigma = {SMALL_SIGMA:g}$, {instances} instances, exact; mean and 95% CI"
    shared_legend(drawing, handles, title, 4)
    return drawing


def minima(session: Session, energy: Axes, gap: Axes, settings: tuple[Levels, ...], seeds: int) -> tuple[int, int]:
    """Both panels over delta: fewest and most runs that converge from both starts to minima of the two kinds."""
    used = []
    for setting, results in zip(settings, session.measure(MINIMA, Design(settings, seeds)), strict=True):
        delta = setting.deltas
        values, good = corrected(setting, results)
        used.append(int(good.sum()))
        if used[-1] < FEWEST:
            continue
        for branch, (_, color, marker) in enumerate(BRANCHES):
            points(energy, delta, values[good][:, [branch]], label=None, color=color, marker=marker)
        points(gap, delta, np.diff(values[good][:, ::-1], axis=1), label=None, color=COLORS[2], marker="D")
    dense = np.linspace(LOW - 0.01, HIGH, 60)
    phi = np.array([potentials(delta) for delta in dense])
    for branch, (_, color, _) in enumerate(BRANCHES):
        line(energy, dense, phi[:, branch], label=None, color=color)
    line(gap, dense, phi[:, 0] - phi[:, 1], label=None, color=COLORS[2])
    gap.axvline(float(theory.phase_lines(theory.U3, SIGMA).information), color="#999999", linestyle=":")
    gap.axhline(0, color=THEORY, linewidth=0.5)
    energy.set(xlabel=r"$\delta$", ylabel=r"$F_{\rm TAP}/p - (\delta/2)\, \log(2\pi e \sigma^2)$")
    gap.set(xlabel=r"$\delta$", ylabel=r"$\Delta F_{\rm TAP}/p$")
    return min(used), max(used)


def potentials(delta: float) -> tuple[float, float]:
    """phi at the smallest and the largest fixed point."""
    gamma = theory.fixed_points(theory.U3, delta, SIGMA)
    phi = theory.rs_potential(theory.U3, delta, SIGMA, gamma)
    return float(phi[0]), float(phi[-1])


def corrected(setting: Levels, results: Results) -> tuple[np.ndarray, np.ndarray]:
    """F/p - (delta/2) log(2 pi e sigma^2) less d|eps|^2/(2 tau p), and which runs converge to one minimum of each kind.

    At a fixed point F follows the size of the noise at the rate 1/(2 tau), tau = delta/gamma.
    """
    (delta,), m = setting.deltas, setting.model
    gamma = theory.fixed_points(theory.U3, float(delta), m.sigma)[[0, -1]]
    unused = m.delta - delta  # rows that only bring their constant
    values = results["energy"] - unused / 2 * np.log(2 * np.pi * m.sigma**2) - theory.noise_entropy(delta, m.sigma)
    values = values - results["noise"][:, None] * m.sigma**2 * gamma / (2 * delta)
    stuck = results["variance"][:, 0] > RECOVERED
    return values, results["converged"].all(axis=1) & stuck & (results["variance"][:, 1] < RECOVERED)


def to_evidence(session: Session, panel: Axes, small: tuple[int, ...], instances: int) -> None:
    """Least free energies plus log p(y|X) by enumeration; gaps that stay of order one are of order 1/p a coordinate."""
    settings = tuple(Small(float(p), small[-1], SMALL_SIGMA, U3) for p in small)
    for p, results in zip(small, session.measure(ENERGIES, Design(settings, instances)), strict=True):
        pairs = zip(results["X"], results["y"], strict=True)
        log_evidence = [theory.exact_posterior(theory.U3, X[:p, :p], y[:p], SMALL_SIGMA).log_evidence for X, y in pairs]
        gaps = results["at_minimum"] + np.array(log_evidence)[:, None]
        for index, (color, marker) in enumerate(((COLORS[0], "o"), (COLORS[1], "s"))):
            points(panel, np.array([float(p)]), gaps[:, [index]], label=None, color=color, marker=marker)
    panel.axhline(0, color=THEORY, linewidth=0.5)
    panel.set(xlabel="$p$", ylabel=r"$\min F + \log p(y|X)$", xticks=small)


FIGURE = Figure(f"{PAPER}.free-energy", QUESTION, free_energy)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=[f"{PAPER}.energy", f"{PAPER}.two-minima"], figures=[FIGURE]))
