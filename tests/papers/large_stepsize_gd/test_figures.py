"""The figures: the numbers that they draw, against reference values, and that each draws at a tiny size."""

from __future__ import annotations

import itertools

import matplotlib.figure
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.papers.large_stepsize_gd.claims import PAIR, PAPER, certificate_times, two_point
from theorysim.papers.large_stepsize_gd.curves import Curve, decade_times
from theorysim.papers.large_stepsize_gd.figures import (
    CURVES,
    FIGURES,
    FIVE_POINT_STEPSIZES,
    PORTRAIT_STEPSIZES,
    SIZES,
    XOR_STEPSIZES,
    Size,
    measure,
    on_data,
)
from theorysim.papers.large_stepsize_gd.setting import FivePoint, Training
from theorysim.plots import styled
from theorysim.verify import Design
from theorysim.verify.session import Session

BY_NAME = {figure.id.split(".", 1)[1]: figure for figure in FIGURES}


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


def drawn(axes) -> list[dict[int, float]]:
    """The series of a panel that are points: value at each abscissa."""
    return [
        {round(x): float(y) for x, y in container.lines[0].get_xydata()}
        for container in axes.containers
        if container.lines[0].get_marker() != "*"
    ]


def bars(axes) -> dict[int, list[float]]:
    """Lengths of the error bars of all series, at each abscissa."""
    lengths: dict[int, list[float]] = {}
    for container in axes.containers:
        for (x, low), (_, high) in container.lines[2][0].get_segments():
            lengths.setdefault(round(x), []).append(high - low)
    return lengths


def stars(axes) -> list[tuple[float, float]]:
    """The switching times that are marked, with their thresholds."""
    marked = (container.lines[0] for container in axes.containers)
    return [tuple(line.get_xydata()[0]) for line in marked if line.get_marker() == "*"]


def lines(axes) -> list[np.ndarray]:
    """The curves of a panel, as (x, y) rows."""
    return [
        line.get_xydata()
        for line in axes.lines
        if line.get_linestyle() in ("-", "--", ":") and len(line.get_xdata()) > 2
    ]


def draw(name: str, session: Session) -> matplotlib.figure.Figure:
    with styled():
        return BY_NAME[name].draw(session)


def test_figures_are_named_and_asked():
    assert list(BY_NAME) == ["figure-1", "figure-3", "figure-4", "figure-5", "figure-6", "digits"]
    assert all(figure.id.startswith(f"{PAPER}.") for figure in FIGURES)
    for presets in SIZES.values():
        assert list(presets) == ["quick", "standard", "paper"]
        assert sorted(presets.values()) == list(presets.values())


def test_five_points_draw_the_reference_values(session):
    panels = draw("figure-3", session).axes
    small, large = drawn(panels[0]), drawn(panels[1])
    # Reference values have 7 decimals.
    assert small[0][1000] == pytest.approx(-0.0040665, abs=5.1e-8)
    assert small[0][10_000] == pytest.approx(0.0184013, abs=5.1e-8)
    assert [series[10_000] for series in small[1:]] == pytest.approx([-0.238029, -0.334155], abs=5.1e-7)
    assert [large[0][t] for t in (10, 100, 1000)] == pytest.approx([-0.2962430, -0.0581189, 0.0079393], abs=5.1e-8)
    assert large[0][10_000] == pytest.approx(0.0197586, abs=5.1e-8)
    assert [series[10_000] for series in large[1:]] == pytest.approx([-0.194145, -0.287522], abs=5.1e-7)


def test_five_points_have_the_reference_risks(session):
    times = decade_times(SIZES["figure-3"]["quick"].horizon, 8)  # those of the figure, which share its measurement
    runs = tuple(Curve(Training(FivePoint(scaled=False), PAIR, eta, times), 0.0) for eta in FIVE_POINT_STEPSIZES)
    small, large = session.measure(CURVES, Design(runs))
    risk = lambda results, *wanted: [results["risk"][0, times.index(t)] for t in wanted]
    assert risk(small, 1000, 10_000) == pytest.approx([0.2724306, 0.0550531], abs=5.1e-8)
    assert risk(large, 10, 100, 1000, 10_000) == pytest.approx([0.4858930, 0.3797907, 0.1975456, 0.0281802], abs=5.1e-8)
    assert (small["s"] == -1).all()


def test_phase_portrait_marks_the_reference_switching_times(session):
    early, late = draw("figure-4", session).axes
    assert [round(x) for i, (x, _) in enumerate(stars(late)) if i != 1] == [3159, 406, 57, 7]  # none given for 16
    thresholds = [1 / (4 * np.e**2), 1 / 64, 1 / 120, 1 / 480, 1 / 1920]
    assert [y for _, y in stars(late)] == pytest.approx(thresholds, rel=1e-12)
    series = drawn(early)
    assert [max(series[i].values()) for i in (2, 3, 4)] == pytest.approx([1.731372, 8.378849, 32.80848], rel=1e-6)


def test_increases_are_counted(session):
    times = certificate_times(SIZES["figure-4"]["quick"].horizon)
    measured = measure(session, [two_point(eta, times) for eta in PORTRAIT_STEPSIZES])
    assert [results["last_increase"][0] for results in measured] == [-1, -1, 15, 9, 5]
    for results in measured[:2]:
        assert (results["increases"] == 0).all()
    for results in measured[2:]:
        at_every_step = np.diff(results["risk"][0, :41]) > 0  # record times begin with every t up to 40
        assert (np.diff(results["increases"][0, :41]) == at_every_step).all()
        assert results["increases"][0, -1] == at_every_step.sum()


@pytest.mark.slow
def test_acceleration_draws_the_reference_values(session, monkeypatch):
    monkeypatch.setitem(SIZES["figure-5"], "quick", Size(100_000))
    (panel,) = draw("figure-5", session).axes
    linear, network, fixed = drawn(panel)
    T = (10_000, 30_000, 100_000)
    assert [linear[t] for t in T] == pytest.approx([1.2467244087e-2, 1.3431492241e-3, 1.2011273567e-4], rel=1e-9)
    assert [network[t] for t in (T[0], T[2])] == pytest.approx([2.0583733e-2, 1.9219587e-4], rel=1e-7)
    assert [fixed[t] for t in T] == pytest.approx([6.272897e-4, 2.086351e-4, 6.253185e-5], rel=1e-6)
    ratios = [series[100_000] / law[-1, 1] for series, law in zip((linear, network, fixed), lines(panel), strict=True)]
    assert ratios == pytest.approx([1.000939, 1.001020, 1.0005096], abs=2e-6)


# Average risk and optimised bound at t = 100 and 10^4, by stepsize.
AVERAGES = {
    1: ((0.562852, 0.818147), (0.0497679, 0.108354)),
    10: ((0.253658, 1.943147), (0.00732500, 0.0560759)),
    100: ((0.382183, 13.1931), (0.00418858, 0.157853)),
    1000: ((2.803953, 125.693), (0.0280395, 1.28162)),
}


def test_bound_tightness_draws_the_reference_values(session):
    panels = draw("figure-6", session).axes
    for panel, reference in zip(panels, AVERAGES.values(), strict=True):
        (average,) = drawn(panel)
        bound, closed = ({round(x): y for x, y in curve} for curve in lines(panel))
        for t, (risk, optimised) in zip((100, 10_000), reference, strict=True):
            assert average[t] == pytest.approx(risk, rel=3e-6)  # six digits are given
            assert bound[t] == pytest.approx(optimised, rel=6e-6)
            assert bound[t] <= closed[t]


@pytest.mark.slow
def test_xor_approaches_its_limits(session, monkeypatch):
    monkeypatch.setitem(SIZES["figure-1"], "quick", Size(3000, 6))
    drawing = draw("figure-1", session)
    risk, scaled, margin = drawing.axes
    assert len(drawn(risk)) == len(drawn(scaled)) == len(drawn(margin)) == len(XOR_STEPSIZES)
    for i in (2, 3):  # eta = 8 and 32: the correction is O(log t/t + 1/(eta t L)), a percent at t = 3000
        assert drawn(scaled)[i][3000] == pytest.approx(1, abs=0.03)
        assert 0.9 < drawn(margin)[i][3000] < 1
    assert all(length > 0 for length in bars(scaled)[3000])
    assert len(stars(risk)) == 3  # eta = .5 and 2 reach their thresholds near t = 12000 and 3000
    assert "6 seeds" in drawing.legends[0].get_title().get_text()


@pytest.mark.slow
def test_digits_draw(session, monkeypatch):
    monkeypatch.setitem(SIZES["digits"], "quick", Size(20, 6))
    drawing = draw("digits", session)
    assert len(drawing.axes) == 4
    for average_axes in drawing.axes[1::2]:
        for series, bound in zip(drawn(average_axes), lines(average_axes), strict=True):
            values = np.array(list(series.values()))
            assert values[0] == pytest.approx(np.log(2), rel=0.1)
            assert (values <= bound[:, 1]).all()


@pytest.mark.slow
def test_user_data_draws(session, monkeypatch, tmp_path):
    monkeypatch.setitem(SIZES["digits"], "quick", Size(10, 6))
    X = np.array([[0.6, 0.3], [-0.4, 0.8], [0.6, 0.3]])
    np.savez(tmp_path / "con_flict $.npz", X=2 * X, y=[1, 0, 0])  # not separable
    with pytest.raises(InputError, match="unit ball"):
        on_data(str(tmp_path / "con_flict $.npz"))
    (figure,) = on_data(str(tmp_path / "con_flict $.npz"), rescale=True)
    with styled():
        drawing = figure.draw(session)
        drawing.draw_without_rendering()  # lays out all labels
    assert all(len(drawn(panel)) == 4 for panel in drawing.axes)
    assert not any(np.isfinite(bound[:, 1]).any() for panel in drawing.axes[1::2] for bound in lines(panel))


@pytest.mark.parametrize("source", ["digits:3,3", "digits:3", "none.npz", "mnist"])
def test_bad_data_are_refused(source):
    with pytest.raises(InputError):
        on_data(source)


@pytest.mark.parametrize(("horizon", "per_decade"), [(1, 1), (7, 3), (1000, 4), (2500, 8), (10**6, 6)])
def test_decade_times_hold_decades_and_ends(horizon, per_decade):
    times = decade_times(horizon, per_decade)
    assert times[0] == 0
    assert times[-1] == horizon
    assert all(a < b for a, b in itertools.pairwise(times))
    assert {10**k for k in range(7) if 10**k <= horizon} <= set(times)
    assert len(times) <= per_decade * (np.log10(horizon) + 1) + 3


def test_bad_times_and_thresholds_are_refused():
    for horizon, per_decade in ((0, 1), (10, 0)):
        with pytest.raises(InputError):
            decade_times(horizon, per_decade)
    with pytest.raises(InputError, match="threshold"):
        Curve(two_point(1.0, (0, 1)), -1.0)
