"""The figures of QAOA for the spiked tensor model: theory as lines, simulation as points.

They follow Figures 1 to 3, the convergence figure of the appendix and Table 1 of Zhou, Basso, Mei (NeurIPS 2024, arXiv
2402.19456); laws at finite n are derived here. R = u.z/n is the overlap, lambda_n the signal-to-noise ratio, Lambda the same
on the scale n^{(q-2+eps_p)/2} on which p steps recover the spike; Lambda = 1 unless said otherwise.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.patches import Patch

from theorysim.papers.qaoa_spiked_tensor import theory
from theorysim.papers.qaoa_spiked_tensor.claims import (
    LAWS,
    MILLION,
    MOMENTS,
    NOISE_FREE,
    ONE_STEP,
    OPTIMUM,
    PAPER,
    QUARTER,
    SENSITIVE_2,
    SENSITIVE_3,
    WEAK,
    circuit,
    limit_law,
    noise_free,
    optimum,
)
from theorysim.papers.qaoa_spiked_tensor.setting import Angles, Circuit, OneStep, angles
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
    size_label,
    sizes,
)
from theorysim.plots import theory as line
from theorysim.verify import Design
from theorysim.verify.session import Session


class Size(NamedTuple):
    """What a preset draws: state vectors of these n, of `instances` tensors each.

    collective: n of the circuits without noise.
    """

    n: tuple[int, ...]
    instances: int
    precision: Literal["single", "double"] = "double"
    collective: tuple[int, ...] = ()


SIZES = {
    "figure-2": {"quick": Size((16,), 10), "standard": Size((22,), 20), "paper": Size((26, 28), 40, "single")},
    "figure-3": {
        "quick": Size(tuple(range(8, 17, 2)), 200),
        "standard": Size(tuple(range(8, 21, 2)), 200),
        "paper": Size(tuple(range(8, 27, 2)), 200, "single"),
    },
    "figure-4": {"quick": Size((14,), 100), "standard": Size((20,), 100), "paper": Size((24,), 200, "single")},
    "figure-5": {
        "quick": Size((8, 14), 400, collective=(25, 100, 400, 1600)),
        "standard": Size((8, 11, 14, 17, 20), 400, collective=(25, 100, 400, 1600, 3200)),
        "paper": Size((8, 12, 16, 20, 24), 400, "single", collective=(25, 100, 400, 1600, 6400)),
    },
}

BEST = {
    (2, 1): (angles(OPTIMUM), angles(QUARTER)),
    (2, 2): (angles(0.2573, 0.2974), angles(QUARTER, QUARTER)),
    (2, 3): (angles(0.2403, 0.3559, 0.2928), angles(QUARTER, QUARTER, QUARTER)),
    (3, 1): (angles(0.1347), angles(QUARTER)),
    (3, 2): (angles(0.1757, 0.1831), angles(0.5700, QUARTER)),
    (3, 3): (angles(0.1738, 0.2565, 0.1644), angles(0.5386, 0.5337, QUARTER)),
}
"""(q, p): angles of the largest limiting E R^2 found at Lambda = 1; the paper's own for p >= 2 are not known here."""

OVERLAP, SECOND_MOMENT = "$R$", r"$\mathbb{E}\, R^2$"
FILL = "#DDDDDD"


# --- histograms of the overlap ----------------------------------------------------------------------------------------


def cells(law: theory.SineGaussian | theory.GaussianMixture, n: int) -> Float[np.ndarray, " outcomes"]:
    """P(#minus = k), k = 0 ... n, when R is rounded to the nearest 1 - 2k/n."""
    edges = 1 - (2 * np.arange(n) + 1) / n
    return -np.diff(np.concatenate([[1.0], law.cdf(edges), [0.0]]))


def density(masses: Float[np.ndarray, "*instances outcomes"]) -> Float[np.ndarray, "*instances outcomes"]:
    """From P(#minus = k) to the density of R at -1, -1 + 2/n, ..., 1, spread over cells of width 2/n."""
    return masses[..., ::-1] * (masses.shape[-1] - 1) / 2


def histogram(axes: Axes, law: theory.SineGaussian, n: int) -> None:
    """A law of R over the cells of n spins, filled."""
    edges = (np.arange(n + 2) * 2 - 1) / n - 1
    axes.stairs(density(cells(law, n)), edges, fill=True, color=FILL, zorder=0)


def lattice(n: int) -> Float[np.ndarray, " outcomes"]:
    """Values of R, ascending."""
    return np.linspace(-1, 1, n + 1)


def law_at(circuit: Circuit) -> Float[np.ndarray, " outcomes"] | None:
    """P(#minus = k) at finite n, averaged over W: exact for p = 1, up to O(1/n) for q = 2 and p <= 3, else not known."""
    n, q, snr, gammas, betas = circuit.n, circuit.q, circuit.snr, circuit.gammas, circuit.betas
    if gammas.size == 1:
        return theory.one_step_pmf(n, q, snr, float(gammas[0]), float(betas[0]))
    if q == 2 and gammas.size <= 3:
        return cells(theory.bridging_law(n, snr, gammas, betas), n)
    return None


# --- figure 1: signal-to-noise ratios ---------------------------------------------------------------------------------

ORDERS = (2, 3, 4)
DEPTHS = (1, 2, 3)
REGIONS = (
    (r"$a < 0$: impossible", "#F2C6A0"),
    (r"$0 < a < (q-2)/4$: no efficient algorithm known", "#ECECEC"),
    (r"$(q-2)/4 < a < (q-2)/2$: efficient algorithms", "#DCEFE6"),
    (r"$a > (q-2)/2$: $p$ steps of QAOA or power iteration, $p$ large enough", "#C9E2F3"),
)


def snr_axis(session: Session) -> matplotlib.figure.Figure:
    """Exponents a of lambda_n = n^a at which p steps recover the spike; formulas alone."""
    drawing, axes = canvas(1, 1, width=TEXT, height=3.1)
    panel = axes[0, 0]
    left, right = -0.22, 1.68
    for row, q in enumerate(reversed(ORDERS)):
        bounds = (left, 0.0, (q - 2) / 4, (q - 2) / 2, right)
        for (_, color), low, high in zip(REGIONS, bounds[:-1], bounds[1:], strict=True):
            panel.broken_barh([(low, high - low)], (row - 0.1, 0.2), color=color, linewidth=0)
        limits = ((q - 2) / 2, (q - 2) / 4)
        exponents = [[theory.snr_exponent(p, q) for p in DEPTHS]]
        if q % 2 == 0 and q > 2:
            exponents.append([theory.unfolding_exponent(q, p) for p in DEPTHS])
        for values, limit, marker, side in zip(exponents, limits, "os", (1, -1), strict=False):
            color = COLORS[0] if side > 0 else COLORS[1]
            y = row + 0.16 * side
            panel.plot(values, np.full(len(values), y), color=color, marker=marker, linestyle="none")
            panel.plot([limit], [y], color=color, marker=marker, markerfacecolor="white", linestyle="none")
            for value, name in zip((*values, limit), (*map(str, DEPTHS), r"\infty"), strict=True):
                panel.annotate(f"${name}$", (value, y), (0, 5 * side), textcoords="offset points", fontsize=7,
                               color=color, ha="center", va="bottom" if side > 0 else "top")  # fmt: skip
    panel.set(
        xlabel=r"$a$ in $\lambda_n = n^a$",
        xlim=(left, right),
        ylim=(-0.55, len(ORDERS) - 0.45),
        yticks=range(len(ORDERS)),
        yticklabels=[f"$q = {q}$" for q in reversed(ORDERS)],
    )
    panel.grid(visible=False, axis="y")
    handles = [
        proxy(r"$(q-2+\varepsilon_p)/2$, $p$ steps of QAOA or power iteration", COLORS[0], "o"),
        proxy(r"$(q-2)/4 + q/(4p)$, $p$ steps of QAOA on the unfolding", COLORS[1], "s"),
        *(Patch(color=color, label=name) for name, color in REGIONS),
    ]
    shared_legend(drawing, handles, "numbers: $p$; open: $p \\to \\infty$", 2)
    return drawing


# --- figure 2: one step -----------------------------------------------------------------------------------------------


def one_step_histogram(session: Session) -> matplotlib.figure.Figure:
    """Histogram of the overlap after one step at q = 2, of every instance and of their average."""
    size = SIZES["figure-2"][session.preset]
    drawing, axes = canvas(1, len(size.n), width=TEXT, height=3.1, sharey=True)
    for panel, n in zip(axes[0], size.n, strict=True):
        setting = optimum(n, precision=size.precision)
        (results,) = session.measure(LAWS, Design((setting,), size.instances))
        R, instances = lattice(n), density(results["law"].astype(float))
        histogram(panel, limit_law(setting), n)
        panel.plot(R, instances.T, color=COLORS[0], linewidth=0.4, alpha=0.5, zorder=1)
        line(panel, R, density(limit_law(setting).smeared_pmf(n)), label=None, bound=True)
        exact = law_at(setting)
        assert exact is not None
        line(panel, R, density(exact), label=None)
        points(panel, R, instances, label=None)
        panel.set(xlabel=OVERLAP, xlim=(-1.08, 1.08), title=size_label("n", n))
    axes[0, 0].set(ylabel="density", ylim=(0, None))
    amplitude = limit_law(optimum(size.n[0])).amplitude
    handles = [
        proxy("single instances", COLORS[0], linestyle="-", linewidth=0.5),
        proxy("their mean, 95% CI", COLORS[0], "o"),
        proxy("average over $W$ at this $n$, exact", linestyle="-"),
        Patch(color=FILL, label=rf"limit, $R = {amplitude:.4f}\, \sin(4 \gamma g)$"),
        proxy("the limit seen through $n$ spins", linestyle="--"),
    ]
    title = r"$q = 2$, $p = 1$, $\lambda_n = n^{1/2}$, $\gamma = \sqrt{(\log 5)/32}$, $\beta = \pi/4$; "
    shared_legend(drawing, handles, f"{title}{size.instances} instances; cells of width $2/n$", 3)
    return drawing


# --- figure 3: second moment after one step ---------------------------------------------------------------------------


def second_moment(session: Session) -> matplotlib.figure.Figure:
    """E R^2 after one step at q = 2 over n, and n times its distance from the limit."""
    size = SIZES["figure-3"][session.preset]
    settings = tuple(optimum(n, precision=size.precision) for n in size.n)
    measured = session.measure(MOMENTS, Design(settings, size.instances))
    samples = np.stack([results["m2"] for results in measured], axis=1).astype(float)
    n, limit = np.array(size.n, float), limit_law(settings[0]).second_moment()
    fine = np.arange(size.n[0] - 2, size.n[-1] + 5)
    exact = np.array([theory.one_step_moments(int(m), 2, float(m**0.5), OPTIMUM, QUARTER)[1] for m in fine])
    drawing, axes = canvas(1, 2, width=TEXT, height=2.9)
    moment, scaled = axes[0]
    for panel, values, law, level in (
        (moment, samples, exact, limit),
        (scaled, n * (samples - limit), fine * (exact - limit), float(theory.second_moment_correction(OPTIMUM))),
    ):
        line(panel, fine.astype(float), law, label=None)
        panel.axhline(level, color=THEORY, linestyle="--", linewidth=1, zorder=1)
        points(panel, n, values, label=None)
        panel.set(xlabel="$n$")
    moment.set_ylabel(SECOND_MOMENT)
    scaled.set_ylabel(rf"$n\, (\mathbb{{E}}\, R^2 - {limit:.5f})$")
    letters(axes[0], ("second moment", "deviation from the limit"))
    handles = [
        proxy("state vector, mean and 95% CI", COLORS[0], "o"),
        proxy("average over $W$, exact", linestyle="-"),
        proxy(
            rf"$n \to \infty$: (a) ${limit:.5f}$, (b) ${theory.second_moment_correction(OPTIMUM):.5f}$",
            linestyle="--",
            linewidth=1,
        ),
    ]
    title = r"$q = 2$, $p = 1$, $\lambda_n = n^{1/2}$, $\gamma = \sqrt{(\log 5)/32}$, $\beta = \pi/4$; "
    shared_legend(drawing, handles, f"{title}{size.instances} instances for each $n$", 3)
    return drawing


# --- figure 4: p steps ------------------------------------------------------------------------------------------------


@mpl.rc_context(SMALL)
def histograms(session: Session) -> matplotlib.figure.Figure:
    """Histograms of the overlap after p steps, averaged over instances: q = 2 above, q = 3 below."""
    size = SIZES["figure-4"][session.preset]
    (n,) = size.n
    settings = tuple(circuit(n, q, *best, precision=size.precision) for (q, _), best in BEST.items())
    measured = session.measure(LAWS, Design(settings, size.instances))
    drawing, axes = canvas(2, 3, width=TEXT, height=4.4, sharex=True)
    for panel, setting, results in zip(axes.flat, settings, measured, strict=True):
        limit = limit_law(setting)
        histogram(panel, limit, n)
        line(panel, lattice(n), density(limit.smeared_pmf(n)), label=None, bound=True)
        finite = law_at(setting)
        if finite is not None:
            line(panel, lattice(n), density(finite), label=None)
        points(panel, lattice(n), density(results["law"].astype(float)), label=None)
        panel.set(xlim=(-1.1, 1.1), ylim=(0, None))
    letters(axes.flat, [f"$q = {q}$, $p = {p}$" for q, p in BEST])
    for panel in axes[-1]:
        panel.set_xlabel(OVERLAP)
    for panel in axes[:, 0]:
        panel.set_ylabel("density")
    handles = [
        proxy("state vector, mean and 95% CI", COLORS[0], "o"),
        proxy("law at this $n$: (a), (d) exact, (b), (c) up to $O(1/n)$", linestyle="-"),
        Patch(color=FILL, label=r"limit, $A\, \sin(2 q \gamma_p H)$"),
        proxy("the limit seen through $n$ spins", linestyle="--"),
    ]
    title = rf"{sizes(n=n)}, $\lambda_n = n^{{(q-2+\varepsilon_p)/2}}$, angles of the largest limiting $\mathbb{{E}}\, R^2$ found; "
    shared_legend(drawing, handles, f"{title}{size.instances} instances", 2)
    return drawing


# --- figure 5: approach to the limit ----------------------------------------------------------------------------------


class Approach(NamedTuple):
    """One family of circuits, n growing."""

    q: int
    angles: tuple[Angles, Angles]
    noisy: bool
    color: str
    marker: str

    @property
    def p(self) -> int:
        return self.angles[0].size


FAMILIES = (
    Approach(2, BEST[2, 1], True, COLORS[0], "o"),
    Approach(3, BEST[3, 1], True, COLORS[3], "D"),
    Approach(2, BEST[2, 2], True, COLORS[1], "s"),
    Approach(2, BEST[2, 3], True, COLORS[2], "^"),
    Approach(2, SENSITIVE_2, False, COLORS[1], "s"),
    Approach(2, SENSITIVE_3, False, COLORS[2], "^"),
)


def distances(
    session: Session, family: Approach, size: Size
) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, "instances sizes"]]:
    """n and E R^2 minus its limit: of state vectors, or without noise exact in the space of symmetric states."""
    limit = theory.limit_law(family.q, *family.angles, noise=float(family.noisy)).second_moment()
    if family.noisy:
        settings = tuple(circuit(n, family.q, *family.angles, precision=size.precision) for n in size.n)
        measured = session.measure(MOMENTS, Design(settings, size.instances))
    else:
        settings = tuple(noise_free(n, family.q, *family.angles) for n in size.collective)
        measured = session.measure(NOISE_FREE, Design(settings))
    samples = np.stack([results["m2"] for results in measured], axis=1).astype(float)
    return np.array([setting.n for setting in settings], float), samples - limit


def closed_form_distances(
    session: Session, family: Approach
) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, "1 sizes"]]:
    """The same after one step, averaged over W in closed form, at sizes beyond state vectors."""
    n, limit = 4.0 ** np.arange(3, 7), theory.limit_law(family.q, *family.angles).second_moment()
    gammas, (beta,) = family.angles
    snr = theory.signal_to_noise(n, 1, family.q)
    settings = tuple(OneStep(*case, gammas, beta) for case in zip(n, (family.q,) * len(n), snr, strict=True))
    measured = session.measure(ONE_STEP, Design(settings))
    return n, np.stack([results["m2"][:, 0] for results in measured], axis=1) - limit


def predicted_distance(family: Approach, n: Float[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
    """E R^2 at finite n minus its limit: exact after one step, up to O(1/n) after more at q = 2."""
    q, p, (gammas, betas), noise = family.q, family.p, family.angles, float(family.noisy)
    limit = theory.limit_law(q, gammas, betas, noise=noise).second_moment()
    moments = []
    for m in n.astype(int).tolist():
        snr = float(theory.signal_to_noise(m, p, q))
        if p == 1:
            moments.append(theory.one_step_moments(m, q, snr, gammas[0], betas[0], noise=noise)[1])
        else:  # half the nodes of the default change no digit that can be seen
            moments.append(theory.bridging_law(m, snr, gammas, betas, noise=noise, spacing=0.5).second_moment())
    return np.array(moments) - limit


@mpl.rc_context(SMALL)
def approach(session: Session) -> matplotlib.figure.Figure:
    """Distance of E R^2 from its limit over 1/n and over n^{-eps_p}, in which all slopes are one."""
    size = SIZES["figure-5"][session.preset]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.6, sharey=True)
    handles = []
    for family in FAMILIES:
        style = "-" if family.noisy else ":"
        filled = family.color if family.noisy else "white"
        n, samples = distances(session, family, size)
        dense = np.unique(np.geomspace(8, 4096 if family.p == 1 else 1e5, 40).round())
        law = np.abs(predicted_distance(family, dense))
        far = closed_form_distances(session, family) if family.p == 1 else None
        for panel, exponent in zip(axes[0], (1.0, theory.epsilon(family.p, family.q)), strict=True):
            panel.plot(dense**-exponent, law, color=family.color, linestyle=style, linewidth=1)
            points(panel, n**-exponent, np.sign(samples.mean()) * samples, label=None, color=family.color,
                   marker=family.marker)  # fmt: skip
            panel.containers[-1].lines[0].set_markerfacecolor(filled)
            if far is not None:
                panel.plot(far[0] ** -exponent, np.abs(far[1][0]), color=family.color, marker="+", linestyle="none")
        name = rf"$q = {family.q}$, $p = {family.p}$" + ("" if family.noisy else ", $W = 0$")
        handles.append(proxy(name, family.color, family.marker, style, markerfacecolor=filled, linewidth=1))
    for panel in axes[0]:
        ends = np.array([1.5e-3, 0.15])
        panel.plot(ends, 0.012 * ends / ends[-1], color="#999999", linestyle="--", linewidth=0.8)
        panel.set(xscale="log", yscale="log")
    axes[0, 0].set(xlabel="$1/n$", ylabel=r"$|\mathbb{E}\, R^2 - \lim \mathbb{E}\, R^2|$")
    axes[0, 1].set(xlabel=r"$n^{-\varepsilon_p}$")
    letters(axes[0], ("over $1/n$", r"over $n^{-\varepsilon_p}$"))
    handles += [
        proxy("one step averaged over $W$, large $n$", marker="+"),
        proxy("slope one", "#999999", linestyle="--", linewidth=0.8),
    ]
    title = "lines: theory at finite $n$, exact for $p = 1$, up to $O(1/n)$ for $p \\geq 2$; "
    title += f"points: state vector, {sizes(n=size.n)}, {size.instances} instances, 95% CI; $W = 0$: exact\n"
    title += r"$\lambda_n = n^{(q-2+\varepsilon_p)/2}$, $\varepsilon_p = 1/p$ at $q = 2$, $1$ at $p = 1$, every $\beta_t = \pi/4$"
    shared_legend(drawing, handles, title, 4)
    return drawing


# --- figure 6: enhancement factors ------------------------------------------------------------------------------------

TABLE_DEPTHS, TABLE_ORDERS = (1, 2, 3, 4), (2, 3, 4, 5, 6)


def factors() -> Float[np.ndarray, "depths orders"]:
    """Enhancement factors eta over power iteration on the raw tensor, at the best angles found."""
    table = np.zeros((len(TABLE_DEPTHS), len(TABLE_ORDERS)))
    for i, p in enumerate(TABLE_DEPTHS):
        for j, q in enumerate(TABLE_ORDERS):
            best = theory.best_enhancement(1, q)[1:] if p == 1 else theory.BEST_ANGLES[p, q]
            table[i, j] = theory.enhancement(q, *best)
    return table


def symmetrised_factors() -> dict[tuple[int, int], float]:
    """(p, q): the same over power iteration on the tensor averaged over permutations of its axes, where it is known."""
    known = [(1, q) for q in TABLE_ORDERS] + [(p, 2) for p in TABLE_DEPTHS[1:]]
    table = factors()
    return {
        (p, q): float(table[TABLE_DEPTHS.index(p), TABLE_ORDERS.index(q)])
        * theory.symmetrised_variance(p, q) ** (theory.epsilon(p, q) / 2)
        for p, q in known
    }


def measured_factors(session: Session) -> Float[np.ndarray, " orders"]:
    """eta of one step from E R^2 averaged over W at n = 10^6 and weak signals, for each q."""
    snr = {q: float(theory.signal_to_noise(MILLION, 1, q, WEAK[q])) for q in TABLE_ORDERS}
    settings = tuple(OneStep(MILLION, q, snr[q], angles(0.5 / q**0.5), QUARTER) for q in TABLE_ORDERS)
    measured = session.measure(ONE_STEP, Design(settings))
    gained = [results["m2"][0, 0] - 1 / MILLION for results in measured]
    baseline = [theory.power_iteration_limit(1, q, WEAK[q]).second_moment() for q in TABLE_ORDERS]
    return np.sqrt(np.array(gained) / np.array(baseline))


def enhancement(session: Session) -> matplotlib.figure.Figure:
    """Table of the enhancement factors and the same over q, with what is known against symmetrised power iteration."""
    table, symmetrised = factors(), symmetrised_factors()
    drawing, axes = canvas(1, 2, width=TEXT, height=3.0)
    cells_axes, over_q = axes[0]
    cells_axes.imshow(table, cmap="PuOr_r", norm=TwoSlopeNorm(1.0, 0.2, 1.8), aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        cells_axes.text(j, i, f"{value:.4f}", ha="center", va="center", fontsize=7)
    cells_axes.set(
        xticks=range(len(TABLE_ORDERS)),
        xticklabels=[f"$q = {q}$" for q in TABLE_ORDERS],
        yticks=range(len(TABLE_DEPTHS)),
        yticklabels=[f"$p = {p}$" for p in TABLE_DEPTHS],
    )
    cells_axes.grid(visible=False)
    cells_axes.tick_params(length=0)
    cells_axes.spines[:].set_visible(False)

    q = np.array(TABLE_ORDERS, float)
    dense = np.linspace(q[0], q[-1], 50)
    line(over_q, dense, np.sqrt(dense / np.e), label=None)
    over_q.axhline(1, color=THEORY, linewidth=0.5)
    handles = []
    for i, (p, marker, color) in enumerate(zip(TABLE_DEPTHS, "os^D", COLORS, strict=False)):
        shift = 0.12 * i  # side by side, so that they can be told apart
        over_q.plot(q + shift, table[i], color=color, marker=marker, linestyle="none")
        known = [(order + shift, symmetrised[p, order]) for order in TABLE_ORDERS if (p, order) in symmetrised]
        over_q.plot(*zip(*known, strict=True), color=color, marker=marker, markerfacecolor="white", linestyle="none")
        handles.append(proxy(f"$p = {p}$", color, marker))
    over_q.plot(q, measured_factors(session), color=THEORY, marker="+", markersize=8, linestyle="none", zorder=3)
    over_q.set(xlabel="$q$", ylabel=r"$\eta$", xticks=TABLE_ORDERS, ylim=(0.5, 1.6))
    letters(axes[0], (r"enhancement factors $\eta$", "the same over $q$"))
    handles += [
        proxy(r"$\sqrt{q/e}$", linestyle="-"),
        proxy("one step, $n = 10^6$, weak signal", marker="+", markersize=8),
        proxy("open: against power iteration on the symmetrised tensor", marker="o", markerfacecolor="white"),
    ]
    title = r"at $\Lambda \to 0$ power iteration on the raw tensor needs $\eta$ times the signal of QAOA; "
    title += "$p \\geq 2$: lower bounds\nQAOA's cost symmetrises by itself: against the symmetrised tensor "
    title += rf"$\eta = e^{{-1/2}} = {np.exp(-0.5):.4f}$ at $p = 1$ for every $q$"
    shared_legend(drawing, handles, title, 4)
    return drawing


FIGURES = (
    Figure(
        f"{PAPER}.figure-1",
        "Which signal-to-noise ratios do p steps of QAOA and of power iteration need, and what else is known?",
        snr_axis,
    ),
    Figure(
        f"{PAPER}.figure-2",
        "One step: does the overlap of single instances follow the sine-Gaussian law?",
        one_step_histogram,
    ),
    Figure(
        f"{PAPER}.figure-3",
        "One step: how does the second moment of the overlap approach its limit?",
        second_moment,
    ),
    Figure(
        f"{PAPER}.figure-4",
        "p steps: how far is the law of the overlap from its limit at sizes that can be simulated?",
        histograms,
    ),
    Figure(
        f"{PAPER}.figure-5",
        "p steps: at which rate does the second moment of the overlap approach its limit?",
        approach,
    ),
    Figure(
        f"{PAPER}.figure-6",
        "Table 1: which constant factor does QAOA gain over power iteration?",
        enhancement,
    ),
)
