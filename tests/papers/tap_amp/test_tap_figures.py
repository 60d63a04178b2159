"""The figures of TAP: the numbers that they draw, against reference values and theory, at tiny sizes; data of one's own."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest
from experiment_scripts import script
from matplotlib.axes import Axes

from theorysim.errors import InputError
from theorysim.papers.tap_amp import figures_inference, figures_landscape, figures_secondary, theory
from theorysim.papers.tap_amp.figures import FIGURES
from theorysim.papers.tap_amp.inference import PAPER
from theorysim.papers.tap_amp.matrices import load_matrix, permuted, standardised
from theorysim.papers.tap_amp.spectrum import bulk_density, extremes
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


def test_figures_are_named_and_asked():
    assert list(BY_NAME) == [f"figure-{k}" for k in range(1, 9)]
    assert all(figure.id.startswith(f"{PAPER}.") and figure.question.endswith("?") for figure in FIGURES)
    sizes = (
        figures_inference.EVOLUTION,
        figures_inference.CALIBRATED,
        figures_inference.AGAINST_GIBBS,
        figures_landscape.MAPS,
        figures_landscape.OPTIMISED,
        figures_landscape.APPROACH,
        figures_landscape.SPECTRA,
        figures_secondary.SIZES,
    )
    assert all(list(presets) == ["quick", "standard", "paper"] for presets in sizes)


def test_potential_marks_the_fixed_points(session):
    phi, curve = drawn(BY_NAME["figure-1"], session).axes
    marked = sorted(float(x) for line in phi.lines if line.get_marker() == "o" for x in line.get_xdata())
    # at delta = .65: 3.411412498, 10.594268872, 64.809289018
    for value in (3.411412498, 10.594268872, 64.809289018):
        assert min(abs(value - x) for x in marked) < 1e-8
    heights = [float(line.get_ydata()[0]) for line in curve.lines if line.get_linestyle() == ":"]
    assert heights == pytest.approx([0.394527, 0.572336, 0.707901], abs=1e-6)


# --- spectrum ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_design() -> tuple[np.ndarray, np.ndarray, float]:
    """X^T X, and lam of the scalar channel, independent of X, at gamma of U3, delta = 1, sigma = .3."""
    rng, p = np.random.default_rng(0), 1000
    X = rng.normal(size=(p, p)) / p**0.5
    gamma = float(theory.gamma_alg(theory.U3, 1.0, 0.3))
    return X.T @ X, gamma * rng.choice([-1, 0, 1], p) + gamma**0.5 * rng.normal(size=p), gamma


@pytest.fixture(scope="module")
def bulk() -> tuple[np.ndarray, np.ndarray]:
    """mu, and the density of the bulk at U3, delta = 1, sigma = .3."""
    mu = np.linspace(-0.1, 9, 200)
    return mu, bulk_density(theory.U3, 1.0, 0.3, mu, height=0.02)


def test_bulk_density_is_that_of_an_independent_design(random_design, bulk):
    gram, lam, gamma = random_design
    p, variance = lam.size, theory.U3.tilted(lam, gamma).variance
    root = np.sqrt(variance)
    values = np.linalg.eigvalsh(np.eye(p) - gamma * np.diag(variance) + root[:, None] * gram * root / 0.09)
    mu, density = bulk
    below = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(mu))])
    assert below[-1] == pytest.approx(1, abs=0.01)
    places = np.array([0.3, 0.6, 0.9, 1.2, 2.0, 3.0, 5.0, 7.0])
    share = np.searchsorted(values, places) / p
    assert np.interp(places, mu, below) == pytest.approx(share, abs=0.02)


def test_mean_of_the_bulk(bulk):
    """E mu = 1 - g E V + delta E V/sigma^2."""
    mu, density = bulk
    gamma = float(theory.gamma_alg(theory.U3, 1.0, 0.3))
    expected = 1 + float(theory.mmse(theory.U3, gamma)) * (1 / 0.09 - gamma)
    assert np.trapezoid(mu * density, mu) == pytest.approx(expected, rel=0.02)


def test_extremes_are_those_of_the_hessian_by_blocks():
    """Against C^{1/2} Hess C^{1/2} from explicit inverses of the 2 x 2 blocks."""
    rng, p, sigma = np.random.default_rng(1), 12, 0.4
    X = rng.normal(size=(8, p)) / p**0.5
    lam, gam = rng.normal(size=p), rng.uniform(0.5, 3, p)
    hessian, C = np.zeros((2 * p, 2 * p)), np.zeros((2 * p, 2 * p))
    atoms, delta = np.array([-1.0, 0.0, 1.0]), 8 / p
    weight = np.exp(lam[:, None] * atoms - gam[:, None] * atoms**2 / 2)
    weight /= weight.sum(1, keepdims=True)
    m, s = weight @ atoms, weight @ atoms**2
    for j in range(p):
        block = np.cov(np.stack([atoms, atoms**2]), aweights=weight[j], ddof=0)
        C[np.ix_([j, p + j], [j, p + j])] = block
        hessian[np.ix_([j, p + j], [j, p + j])] = np.linalg.inv(block)
    tau = sigma**2 + np.mean(s - m**2)
    hessian[:p, :p] += X.T @ X / sigma**2 - delta / tau * np.eye(p)
    u = np.concatenate([2 * m, -np.ones(p)])
    hessian -= delta / (2 * p * tau**2) * np.outer(u, u)
    expected = np.sort(np.linalg.eigvals(hessian @ C).real)
    assert extremes(theory.U3, X.T @ X, lam, gam, delta, sigma) == pytest.approx(expected[[0, -1]], rel=1e-9)


def test_bulk_density_refuses_a_height_of_zero():
    with pytest.raises(InputError, match="height must be positive"):
        bulk_density(theory.U3, 1.0, 0.3, np.ones(1), height=0.0)


# --- simulation -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_optimisation_has_the_predicted_slopes(session, monkeypatch):
    monkeypatch.setitem(figures_landscape.OPTIMISED, "quick", (30, 2))
    drawing = drawn(BY_NAME["figure-6"], session)
    easy = drawing.axes[0]
    curves = [line.get_xydata() for line in easy.lines if line.get_linestyle() == "-"]
    slopes = [line.get_xydata() for line in easy.lines if line.get_linestyle() == ":"]
    assert len(slopes) == 3
    for curve, slope in zip(curves[2:4], slopes[1:], strict=True):  # those with steps near 1/mu_max have settled
        rate = np.log(slope[-1, 1] / slope[0, 1]) / (slope[-1, 0] - slope[0, 0])
        at = np.interp(slope[[0, -1], 0], curve[:, 0], np.log(curve[:, 1]))
        assert np.diff(at)[0] / np.ptp(slope[:, 0]) == pytest.approx(rate, rel=0.1)


@pytest.mark.slow
def test_against_posterior_is_drawn(session, monkeypatch):
    size = figures_inference.Sizes((16,), (16,))
    monkeypatch.setitem(figures_inference.AGAINST_GIBBS, "quick", size)
    of_tap, _, rate = drawn(BY_NAME["figure-5"], session).axes
    scatter = next(line.get_xydata() for line in of_tap.lines if line.get_marker() == ".")
    assert np.mean((scatter[:, 0] - scatter[:, 1]) ** 2) < 0.01
    tap, mean_field = series(rate)
    assert tap[0, 1] < mean_field[0, 1]


def test_half_recovers_a_logistic_crossing(monkeypatch):
    module = script("tap_phase_diagram", monkeypatch)
    rng, deltas = np.random.default_rng(0), np.linspace(0.5, 0.9, 12)
    success = rng.uniform(size=(4000, 12)) < 1 / (1 + np.exp(-40 * (deltas - 0.71)))
    assert module.half(deltas, success) == pytest.approx(0.71, abs=3e-3)


# --- designs ----------------------------------------------------------------------------------------------------------


def test_standardised_columns():
    rng = np.random.default_rng(0)
    X = standardised(np.column_stack([rng.normal(5, 3, 40), np.ones(40), rng.exponential(size=40)]))
    assert X.shape == (40, 2)
    assert X.mean(0) == pytest.approx(np.zeros(2), abs=1e-14)
    assert X.var(0) == pytest.approx([0.5, 0.5])
    with pytest.raises(InputError, match="not constant"):
        standardised(np.ones((5, 2)))


def test_matrix_files(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(2, 3, (9, 4)), rng.normal(1, 1, 9)
    np.savez(tmp_path / "good.npz", X=X, y=y)
    matrix, raw = load_matrix(tmp_path / "good.npz"), load_matrix(tmp_path / "good.npz", raw=True)
    assert matrix.name == "good"
    assert matrix.X.var(0) == pytest.approx([0.25] * 4)
    assert matrix.y == pytest.approx(y - y.mean())
    assert np.array_equal(raw.X, X) and raw.y is not None and np.array_equal(raw.y, y)
    assert np.array_equal(np.sort(permuted(raw).X, axis=0), np.sort(X, axis=0))
    bad: dict[str, dict[str, np.ndarray]] = {
        "must hold an array X": {"Z": X},
        "must have shape \\(9,\\)": {"X": X, "y": y[:3]},
        "must be finite": {"X": np.where(X > 2, np.nan, X)},
        "real numbers": {"X": X.astype(complex)},
        "n, p >= 2": {"X": X[:, :1]},
    }
    for message, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(InputError, match=message) as raised:
            load_matrix(tmp_path / "bad.npz")
        assert "\n" not in str(raised.value)
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("text.npz", "missing.npz"):
        with pytest.raises(InputError, match=r"must be an \.npz file"):
            load_matrix(tmp_path / name)


def test_options_of_the_designs(monkeypatch, tmp_path):
    module = script("tap_designs", monkeypatch)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "X.npz", X=rng.normal(size=(9, 4)))
    np.savez(tmp_path / "Xy.npz", X=rng.normal(size=(9, 4)), y=rng.normal(size=9))
    with pytest.raises(InputError, match="--sigma must come with --data"):
        module.Designs(sigma=0.3).figures()
    with pytest.raises(InputError, match="--sigma must be given"):
        module.Designs(data=tmp_path / "Xy.npz").figures()
    with pytest.raises(InputError, match="--density must lie in"):
        module.Designs(data=tmp_path / "X.npz", density=1.5).figures()
    with pytest.raises(InputError, match="noise sigma must be positive"):
        module.Designs(data=tmp_path / "X.npz", sigma=-1.0).figures()


@pytest.mark.slow
def test_a_design_and_a_response_of_ones_own(session, monkeypatch, tmp_path):
    """A well-conditioned design, on which all methods agree with the posterior, by enumeration."""
    module = script("tap_designs", monkeypatch)
    monkeypatch.setitem(module.SIZES, "quick", (500, 2, 4))
    rng, p = np.random.default_rng(0), 4
    X = np.linalg.qr(rng.normal(size=(40, p)))[0] * 3
    y = X @ np.array([1.0, 0, -1, 0]) + 0.9 * rng.normal(size=40)
    np.savez(tmp_path / "Xy.npz", X=X, y=y)
    (figure,) = module.Designs(data=tmp_path / "Xy.npz", sigma=0.9, raw=True).figures()
    _, means = drawn(figure, session).axes
    exact = theory.exact_posterior(theory.U3, X, y, 0.9)
    mean_field = next(line.get_xydata() for line in means.lines if line.get_marker() == "s")
    # Orthogonal columns: the posterior factorises, and naive mean field is exact.
    assert mean_field[:, 1] == pytest.approx(exact.mean, abs=1e-5)
    assert mean_field[:, 0] == pytest.approx(exact.mean, abs=1e-5)
