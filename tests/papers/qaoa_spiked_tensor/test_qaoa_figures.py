"""The figures of QAOA: the numbers that they draw, against reference values and brute force, at tiny sizes."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest
from experiment_scripts import script
from matplotlib.axes import Axes
from matplotlib.patches import StepPatch

from theorysim.papers.qaoa_spiked_tensor import figures
from theorysim.papers.qaoa_spiked_tensor.claims import PAPER, SENSITIVE_2, limit_law, optimum
from theorysim.papers.qaoa_spiked_tensor.figures import BEST, FIGURES, SIZES, Approach, Size
from theorysim.papers.qaoa_spiked_tensor.theory import limit_law as law_of
from theorysim.plots import Figure, styled
from theorysim.verify.session import Session

BY_NAME = {figure.id.split(".", 1)[1]: figure for figure in FIGURES}


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


def drawn(figure: Figure, session: Session) -> matplotlib.figure.Figure:
    with styled():
        drawing = figure.draw(session)
        drawing.draw_without_rendering()  # lays out all labels
    assert all(panel.has_data() for panel in drawing.axes)
    return drawing


def series(axes: Axes) -> list[np.ndarray]:
    """The measured series of a panel, as (x, y) rows."""
    return [container.lines[0].get_xydata() for container in axes.containers]


def bars(axes: Axes) -> list[np.ndarray]:
    """Lengths of the error bars of each series."""
    return [np.ptp(np.array(c.lines[2][0].get_segments())[:, :, 1], axis=1) for c in axes.containers]


def curves(axes: Axes, style: str = "-") -> list[np.ndarray]:
    """The lines of a panel in one style, as (x, y) rows."""
    return [line.get_xydata() for line in axes.lines if line.get_linestyle() == style]


def filled(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Heights and edges of the filled histogram."""
    (patch,) = (patch for patch in axes.patches if isinstance(patch, StepPatch))
    values, edges, _ = patch.get_data()
    return values, edges


def test_figures_are_named_and_asked():
    assert list(BY_NAME) == [f"figure-{k}" for k in range(1, 7)]
    assert all(figure.id.startswith(f"{PAPER}.") and figure.question.endswith("?") for figure in FIGURES)
    for presets in SIZES.values():
        assert list(presets) == ["quick", "standard", "paper"]
        largest = [max(size.n) for size in presets.values()]
        assert largest == sorted(largest)


def test_snr_axis_has_the_exponents(session):
    (panel,) = drawn(BY_NAME["figure-1"], session).axes
    places = [line.get_xdata() for line in panel.lines]
    exponents = [
        [1.5, 9 / 8, 27 / 26],
        [1.0],
        [1.5, 1.0, 5 / 6],
        [0.5],
        [1, 2 / 3, 4 / 7],
        [0.5],
        [0.5, 0.25, 1 / 6],
        [0],
    ]
    assert len(places) == len(exponents)
    for place, exponent in zip(places, exponents, strict=True):
        assert place == pytest.approx(exponent, abs=1e-12)


def test_one_step_histogram(session, monkeypatch):
    monkeypatch.setitem(SIZES["figure-2"], "quick", Size((6,), 5))
    (panel,) = drawn(BY_NAME["figure-2"], session).axes
    *instances, exact = curves(panel)
    # gamma of these reference values is .2243
    law = [0.09578, 0.18236, 0.15422, 0.13528, 0.15422, 0.18236, 0.09578]
    assert exact[:, 1] / 3 == pytest.approx(law, abs=4e-5)
    assert exact[:, 0] == pytest.approx(np.linspace(-1, 1, 7))
    assert len(instances) == 5
    assert [curve[:, 1].sum() / 3 for curve in instances] == pytest.approx([1] * 5, abs=1e-12)
    (mean,) = series(panel)
    assert mean[:, 1] == pytest.approx(np.mean([curve[:, 1] for curve in instances], axis=0), abs=1e-12)
    assert (bars(panel)[0] > 0).all()
    assert np.abs(mean[:, 1] - exact[:, 1]).max() < 0.15
    # The limit, from the quantiles of g.
    g = np.linspace(-9, 9, 2_000_001)
    heights, edges = filled(panel)
    R = 5 ** (-1 / 8) * np.sin(4 * np.sqrt(np.log(5) / 32) * g)
    counted, _ = np.histogram(R, edges, weights=np.exp(-(g**2) / 2))
    assert heights == pytest.approx(counted / counted.sum() * 3, abs=1e-4)


def test_second_moments(session, monkeypatch):
    monkeypatch.setitem(SIZES["figure-3"], "quick", Size((16,), 60))
    moment, scaled = drawn(BY_NAME["figure-3"], session).axes
    at = lambda panel: dict(curves(panel)[0])[16.0]
    assert at(moment) == pytest.approx(0.3154468, abs=5.1e-8)
    assert at(scaled) == pytest.approx(0.7672, abs=5.1e-5)
    assert curves(moment, "--")[0][0, 1] == pytest.approx(5 ** (-1 / 4) * 0.4, abs=1e-9)
    assert curves(scaled, "--")[0][0, 1] == pytest.approx(0.790244, abs=1.1e-6)
    ((n, mean),) = series(moment)[0]
    assert n == 16
    assert 0 < bars(moment)[0][0] < 0.02
    assert mean == pytest.approx(0.3154468, abs=1.25 * bars(moment)[0][0])  # half a bar is two standard errors
    assert series(scaled)[0][0, 1] == pytest.approx(16 * (mean - 5 ** (-1 / 4) * 0.4), abs=1e-9)


@pytest.mark.slow
def test_histograms_of_p_steps(session, monkeypatch):
    monkeypatch.setitem(SIZES["figure-4"], "quick", Size((5,), 6))
    drawing = drawn(BY_NAME["figure-4"], session)
    assert [panel.get_title(loc="left") for panel in drawing.axes][4] == "(e) $q = 3$, $p = 2$"
    for panel, (q, p) in zip(drawing.axes, BEST, strict=True):
        assert series(panel)[0][:, 1].sum() * 2 / 5 == pytest.approx(1, abs=1e-9)
        assert filled(panel)[0].sum() * 2 / 5 == pytest.approx(1, abs=1e-9)
        assert curves(panel, "--")[0][:, 1].sum() * 2 / 5 == pytest.approx(1, abs=1e-6)
        finite = [curve[:, 1].sum() * 2 / 5 for curve in curves(panel)]
        assert finite == pytest.approx([] if q == 3 and p > 1 else [1], abs=1e-6)
        assert (bars(panel)[0] > 0).any()


@pytest.mark.parametrize(
    ("case", "moment"),
    [
        ((2, 1), 0.267496),
        ((2, 2), 0.304008),
        ((2, 3), 0.333984),
        ((3, 1), 0.226215),
        ((3, 2), 0.176141),
        ((3, 3), 0.141930),
    ],
)
def test_best_angles_are_best_nearby(case, moment):
    q, p = case
    x = np.concatenate(BEST[case])
    value = lambda x: law_of(q, x[:p], x[p:]).second_moment()
    assert value(x) == pytest.approx(moment, abs=1e-6)
    assert all(value(x + 0.01 * step) < moment for step in (*np.eye(2 * p), *-np.eye(2 * p)))


def test_approach_has_the_reference_values(session, monkeypatch):
    monkeypatch.setitem(SIZES["figure-5"], "quick", Size((5,), 20, collective=(400,)))
    families = (Approach(2, BEST[2, 1], True, "C0", "o"), Approach(2, SENSITIVE_2, False, "C1", "s"))
    monkeypatch.setattr(figures, "FAMILIES", families)
    over_n, over_power = drawn(BY_NAME["figure-5"], session).axes
    noisy, exact = series(over_n)
    assert noisy[:, 0] == pytest.approx([1 / 5])
    assert (bars(over_n)[0] > 0).all()
    assert (bars(over_n)[1] == 0).all()
    assert exact[:, 1] == pytest.approx([0.184611 - 0.16510], abs=1.1e-5)
    assert series(over_power)[1][:, 0] == pytest.approx([0.05])
    law = curves(over_n)[0]
    limit = limit_law(optimum(8)).second_moment()
    assert law[0] == pytest.approx([1 / 8, 0.36020 - limit], abs=3e-5)  # at gamma = .2243
    ((_, last),) = law[-1:]
    assert last * 4096 == pytest.approx(0.790244, abs=2e-3)
    closed = next(line.get_xydata() for line in over_n.lines if line.get_marker() == "+")
    assert closed[:, 1] == pytest.approx(np.interp(closed[::-1, 0], law[::-1, 0], law[::-1, 1])[::-1], rel=0.01)


ENHANCEMENT = [
    [0.85776, 1.05054, 1.21306, 1.35624, 1.48569],
    [0.96635, 1.05046, 1.19159, 1.28819, 1.41673],
    [1.02039, 1.03139, 1.16146, 1.25548, 1.38733],
    [1.04870, 1.01443, 1.14186, 1.24468, 1.37946],
]


def test_enhancement_table(session):
    table, over_q = drawn(BY_NAME["figure-6"], session).axes
    written = np.array([float(text.get_text()) for text in table.texts]).reshape(4, 5)
    assert written == pytest.approx(np.array(ENHANCEMENT), abs=7e-5)
    (measured,) = (line.get_xydata() for line in over_q.lines if line.get_marker() == "+")
    assert measured[:, 1] == pytest.approx(np.sqrt(measured[:, 0] / np.e), rel=1e-3)
    symmetrised = figures.symmetrised_factors()
    assert [symmetrised[1, q] for q in (2, 3, 4, 5, 6)] == pytest.approx([np.exp(-0.5)] * 5, abs=1e-12)
    own = {2: 1.189, 3: 1.081, 4: 1.017}
    for p, factor in own.items():
        assert symmetrised[p, 2] == pytest.approx(ENHANCEMENT[p - 1][0] / factor, abs=6e-4)


# --- scripts ----------------------------------------------------------------------------------------------------------


def test_threshold_crosses_at_the_limit(session, monkeypatch):
    module = script("qaoa_threshold", monkeypatch)
    monkeypatch.setitem(module.SIZES, "quick", ((6,), 8))
    monkeypatch.setattr(module, "LARGE", (256, 4096))
    monkeypatch.setattr(module, "ORDERS", (2,))
    monkeypatch.setattr(module, "GRID", module.GRID[::2])
    (panel,) = drawn(module.FIGURE, session).axes
    assert (bars(panel)[0] > 0).all()
    small, few, many = curves(panel)
    assert len(small) == 29
    place = np.abs(few[:, 0] - 0.5).argmin()
    assert many[place, 1] == pytest.approx(few[place, 1], abs=0.004)
    assert (many[: place - 1, 1] < few[: place - 1, 1]).all()
    assert (many[place + 1 :, 1] > few[place + 1 :, 1]).all()
    (level,) = (line.get_xydata() for line in panel.lines if line.get_markersize() == 5)
    assert level[0] == pytest.approx([0.5, 0.2674961], abs=1e-6)
    squares = [line.get_xydata() for line in panel.lines if line.get_marker() == "s"]
    for dots, line in zip(squares, (few, many), strict=True):
        assert dots[:, 1] == pytest.approx(np.interp(dots[:, 0], line[:, 0], line[:, 1]), abs=2e-3)  # grids of gamma


@pytest.mark.slow
def test_unfolding_draws(session, monkeypatch):
    module = script("qaoa_unfolding", monkeypatch)
    monkeypatch.setitem(module.INSTANCES, "quick", 200)
    monkeypatch.setattr(module, "SIZES", (3,))
    (panel,) = drawn(module.FIGURE, session).axes
    rescaled, raw = series(panel)
    (exact,) = curves(panel)
    bar = bars(panel)[0]
    assert dict(exact)[3.0] == pytest.approx(0.3505, abs=2e-4)
    assert (np.abs(rescaled[:, 1] - np.interp(rescaled[:, 0], *exact.T)) < 1.25 * bar).all()  # five standard errors
    assert abs(raw[3, 1] - dict(exact)[3.0]) > 2 * bar[3]


def brute_force(costs: np.ndarray, gammas: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Probabilities of all strings, by dense matrices."""
    n = costs.size.bit_length() - 1
    state = np.full(2**n, 2 ** (-n / 2), complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        state = np.exp(-1j * gamma * costs) * state
        one = np.array([[np.cos(beta), -1j * np.sin(beta)], [-1j * np.sin(beta), np.cos(beta)]])
        mixer = np.ones((1, 1))
        for _ in range(n):
            mixer = np.kron(mixer, one)
        state = mixer @ state
    return np.abs(state) ** 2


def overlap_of(probabilities: np.ndarray) -> np.ndarray:
    """P(R), R ascending."""
    minus = np.array([int(s).bit_count() for s in range(probabilities.size)])
    return np.bincount(minus, probabilities)[::-1]


@pytest.mark.slow
def test_overlaps_of_given_couplings_and_costs(session, monkeypatch, tmp_path):
    module = script("qaoa_overlaps", monkeypatch)
    rng, n, gammas, betas = np.random.default_rng(0), 5, (0.2, 0.3), (0.6, 0.7)
    z = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    for q in (2, 3):
        W = rng.normal(size=(n,) * q)
        Y = 0.8 * n ** ((q - 2 + (1 / 2 if q == 2 else 1 / 3)) / 2) / n ** (q / 2) + W / np.sqrt(n)
        form = np.einsum("ij,si,sj->s", Y, z, z) if q == 2 else np.einsum("ijk,si,sj,sk->s", Y, z, z, z)
        costs = form * n ** (-(q - 2) / 2)
        expected = brute_force(costs, np.array(gammas), np.array(betas))
        np.save(tmp_path / "W.npy", W)
        np.save(tmp_path / "C.npy", costs)
        common = {"gammas": gammas, "betas": betas, "precision": "double"}
        couplings = module.Overlaps(couplings=tmp_path / "W.npy", scale=0.8, **common)
        given = module.Overlaps(costs=tmp_path / "C.npy", **common)
        for options in (couplings, given):
            overlap, cost = drawn(options.figures()[0], session).axes
            (points,) = (line.get_xydata() for line in overlap.lines if line.get_marker() == "o")
            assert points[:, 1] * 2 / n == pytest.approx(overlap_of(expected), abs=1e-12)
            circuit, uniform = (patch.get_data() for patch in cost.patches)
            for laws, weights in ((circuit, expected), (uniform, np.full(2**n, 2.0**-n))):
                edges = laws.edges * n
                assert edges[[0, -1]] == pytest.approx([costs.min(), costs.max()], abs=1e-9)
                mean = laws.values * np.diff(laws.edges) @ (edges[1:] + edges[:-1]) / 2
                assert mean == pytest.approx(weights @ costs, abs=np.diff(edges).max())
                assert laws.values @ np.diff(laws.edges) == pytest.approx(1, abs=1e-9)


def test_overlaps_of_a_drawn_tensor_follow_the_seed(monkeypatch):
    module = script("qaoa_overlaps", monkeypatch)
    (figure,) = module.Overlaps(n=6).figures()
    laws = [drawn(figure, Session(seed=seed)).axes[0].lines[-1].get_ydata() for seed in (0, 1)]
    assert np.abs(laws[0] - laws[1]).max() > 1e-3
