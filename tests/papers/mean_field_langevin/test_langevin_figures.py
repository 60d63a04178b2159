"""The figures of mean-field Langevin dynamics: their numbers against reference values and theory, at tiny sizes; own problems."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from experiment_scripts import script
from matplotlib.axes import Axes

from theorysim.errors import InputError
from theorysim.kernels import langevin
from theorysim.papers.mean_field_langevin import figures_dynamics, figures_ensemble, figures_gibbs
from theorysim.papers.mean_field_langevin.dynamics import PAPER
from theorysim.papers.mean_field_langevin.empirical import reference
from theorysim.papers.mean_field_langevin.figures import FIGURES
from theorysim.papers.mean_field_langevin.measurements import (
    Training,
    pooled,
    require_converged,
    starts,
    training,
)
from theorysim.papers.mean_field_langevin.own import load_data, own_problem
from theorysim.papers.mean_field_langevin.setting import Problem, gauss, tanh1d
from theorysim.papers.mean_field_langevin.theory import mean_field
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
    assert list(BY_NAME) == [f"figure-{k}" for k in range(1, 8)]
    assert all(figure.id.startswith(f"{PAPER}.") and figure.question.endswith("?") for figure in FIGURES)
    sizes = (
        figures_ensemble.MAPS,
        figures_ensemble.MERGING,
        figures_gibbs.SIZES,
        figures_gibbs.TEMPERATURES,
        figures_dynamics.PATHS,
        figures_dynamics.OBJECTIVES,
        figures_dynamics.FLOWS,
    )
    assert all(list(presets) == ["quick", "standard", "paper"] for presets in sizes)


# --- theory that the figures draw -------------------------------------------------------------------------------------


def test_chain_follows_the_reference_trajectory():
    """h, v, b at z = 2 and k = 1, 10, 20."""
    chain = figures_dynamics.chain(20, 161)
    expected = np.array(
        [[0.804694, 0.118882, 0.025324], [0.342412, 0.251175, 0.085114], [0.160972, 0.160132, 0.077953]]
    )
    found = np.stack([chain.value[[1, 10, 20], 1], chain.variance[[1, 10, 20], 1], chain.bias[[1, 10, 20], 1]], axis=1)
    assert found == pytest.approx(expected, abs=2e-6)
    assert chain.iid[20, 1] == pytest.approx(0.680, abs=2e-3)


def test_laws_of_a_width():
    """Exact bias and variance at z = 3 and N = 1, and first-order ones at N = 4, with eta beta in the bias."""
    bias, variance = figures_ensemble.of_width(1)
    assert (bias, variance) == pytest.approx((-0.096616 + 0.05 * 0.0265109, 0.062471), abs=2e-6)
    bias, variance = figures_ensemble.of_width(4)
    assert (bias, variance) == pytest.approx((-0.11209993 / 4 + 0.05 * 0.0265109, 0.13479241 / 4), abs=1e-6)


def test_error_of_all_subsets():
    """Against the enumeration of pairs."""
    e = np.random.default_rng(0).normal(size=(2, 3, 5))
    pairs = [(e[..., i] + e[..., j]) ** 2 / 4 for i in range(5) for j in range(i)]
    assert figures_ensemble.merged_error(e, 2) == pytest.approx(np.mean(pairs, axis=(0, 2)))
    assert figures_ensemble.merged_error(e, 5) == pytest.approx(np.mean(e.mean(axis=2) ** 2, axis=1))


# --- simulation -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_merged_networks_on_circles(session, monkeypatch):
    size = figures_ensemble.Map((8, 16), (1, 4), 8, 3, 3, 200, 31)
    monkeypatch.setitem(figures_ensemble.MAPS, "quick", size)
    _, rate, *_ = drawn(BY_NAME["figure-1"], session).axes
    (single,) = series(rate)
    law = figures_ensemble.predicted(3, 31)
    assert single[0, 1] == pytest.approx(law.rms(8, 1), rel=0.4)
    assert law._replace(variance=law.iid).rms(8, 1) > 2.5 * law.rms(8, 1)


@pytest.mark.slow
def test_gaps_tend_to_kappa(session, monkeypatch):
    monkeypatch.setitem(figures_gibbs.SIZES, "quick", 2)
    monkeypatch.setattr(figures_gibbs, "WIDTHS", np.array([1, 16]))
    monkeypatch.setattr(figures_gibbs, "SAMPLED", np.array([1, 4]))
    drawing = drawn(BY_NAME["figure-2"], session)
    tanh, logistic = drawing.axes[0], drawing.axes[3]
    exact = next(line.get_ydata() for line in tanh.lines if line.get_marker() == "o")
    assert exact == pytest.approx([0.08590942, 0.0564332477], abs=1e-8)
    levels = [
        float(line.get_ydata()[0]) for line in tanh.lines if len(line.get_ydata()) == 2 and line.get_marker() != "o"
    ]
    assert levels == pytest.approx([0.055922369, 0.19507865, 0.5], abs=1e-7)
    assert series(logistic)[0][:, 1] == pytest.approx([0.0088299, 0.010424], rel=0.02)


@pytest.mark.slow
def test_objectives_reach_their_floor(session, monkeypatch):
    monkeypatch.setitem(figures_dynamics.OBJECTIVES, "quick", figures_dynamics.Objectives((8,), 200, 4))
    (panel,) = drawn(BY_NAME["figure-5"], session).axes
    middle = series(panel)[1]
    start, end = middle[0, 1], middle[-1, 1]
    assert start == pytest.approx(1.953251951158, rel=0.03)
    assert end == pytest.approx(0.0222464959009, rel=0.1)


@pytest.mark.slow
def test_decay_has_the_predicted_slope(session, monkeypatch):
    monkeypatch.setitem(figures_dynamics.FLOWS, "quick", (0.1, 161))
    drawing = drawn(BY_NAME["figure-7"], session)
    flow, sharp, frozen = (line.get_xydata() for line in drawing.axes[1].lines)
    rate = np.log(flow[15, 1] / flow[-1, 1]) / (flow[-1, 0] - flow[15, 0])
    for line, expected in ((sharp, 2 * 0.149419), (frozen, 2 * 0.043532)):
        slope = np.log(line[0, 1] / line[-1, 1]) / (line[-1, 0] - line[0, 0])
        assert slope == pytest.approx(expected, rel=2e-3)
    assert rate == pytest.approx(2 * 0.149419, rel=0.03)


def test_reference_of_wide_networks_is_that_of_the_optimum():
    """v and h* of tanh1d from the neurons of wide networks."""
    points = np.array([[0.7], [2.0], [3.0]])
    setting = Training(tanh1d(), 2000, 0.1, np.array([400]), points, 4)
    results = {name: np.asarray(value)[None] for name, value in jax.jit(pooled)(jax.random.key(0), setting).items()}
    found = reference(setting, results)
    assert found.value == pytest.approx([0.07611106, 0.01256058, -0.03177930], abs=0.01)
    assert found.variance == pytest.approx([0.02881101, 0.06650159, 0.08990385], rel=0.1)
    assert found.iid_variance == pytest.approx([0.21368611, 0.56662848, 0.69133819], rel=0.05)


def test_neurons_start_as_without_data():
    problem = gauss()
    X = starts(jax.random.key(0), Training(problem, 500, 0.1, np.array([0]), np.eye(3), 40))
    # five standard errors of a variance from 60 000 normals
    assert np.var(X) == pytest.approx(problem.lam / (2 * problem.lamp), rel=5 * (2 / X.size) ** 0.5)


def test_divergence_names_step_and_limit():
    setting = Training(gauss(), 3, 2.0, np.array([10, 100]), np.eye(3), 2)
    results = {name: np.asarray(value)[None] for name, value in jax.jit(training)(jax.random.key(0), setting).items()}
    assert np.isfinite(results["h"]).all()
    with pytest.raises(
        InputError, match=r"stability limit, 1\.40.*2 of 2 networks diverged, first at step \d+"
    ) as raised:
        require_converged(setting, results)
    assert "\n" not in str(raised.value)
    require_converged(setting, results | {"diverged": np.zeros((1, 2), bool)})


def test_training_refuses_settings():
    for change, message in (
        ({"N": 0}, "N must be at least 1"),
        ({"eta": 0.0}, "step size eta must be positive"),
        ({"times": np.array([5, 5])}, "times must be at least 0 and increase"),
        ({"times": np.array([], int)}, "times must be at least 0 and increase"),
        ({"networks": 0}, "networks must be at least 1"),
        ({"points": np.ones((2, 2))}, "points must have dimension 1"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(Training(tanh1d(), 2, 0.1, np.array([1]), np.ones((1, 1))), **change)


# --- problems of one's own --------------------------------------------------------------------------------------------

NEURON = """
import jax.numpy as jnp
DIMENSION = 3
def h(x, z):
    return 3 * jnp.tanh(x[:2] @ z + x[2])
"""


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(6, 2))
    np.savez(tmp_path / "data.npz", Z=Z, y=np.sign(Z[:, 0]))
    (tmp_path / "neuron.py").write_text(NEURON)
    return tmp_path / "data.npz", tmp_path / "neuron.py"


@pytest.mark.slow
def test_own_problem_is_the_built_in_one(files):
    """The same neuron, by hand and by JAX: the same drift."""
    own = own_problem(*files, lam=0.05, lamp=0.1)
    same = Problem("tanh-with-bias", "squared", own.Z, own.y, 0.05, 0.1)
    assert own.d == same.d == 3
    X = jax.random.normal(jax.random.key(0), (5, 3))
    by_jax, by_hand = (np.asarray(jax.jit(langevin.drift)(problem.kernel(), X)) for problem in (own, same))
    assert by_jax == pytest.approx(by_hand, abs=1e-5)


def test_loss_of_ones_own(files):
    data, neuron = files
    neuron.write_text(NEURON + "def loss(u, y):\n    return jnp.logaddexp(0.0, -y * u)\n")
    found = own_problem(data, neuron, lam=0.05, lamp=0.1).kernel()
    u = jnp.linspace(-2, 2, 6)
    expected = mean_field.LOGISTIC.slope(np.asarray(u), np.asarray(found.y))
    assert np.asarray(found.loss.slope(u, found.y)) == pytest.approx(expected, abs=1e-6)
    neuron.write_text(NEURON + 'loss = "logistic"\n')
    by_name = own_problem(data, neuron, lam=0.05, lamp=0.1).kernel()
    assert np.asarray(by_name.loss.slope(u, found.y)) == pytest.approx(expected, abs=1e-6)


BROKEN = {
    "does not import: SyntaxError": "def h(x, z",
    "does not import: ModuleNotFoundError": "import no_such_module",
    r"must define a function h\(x, z\), got None": "DIMENSION = 3",
    "DIMENSION in .* must be an integer of at least 1": NEURON.replace("DIMENSION = 3", "DIMENSION = 0"),
    r"must be a real scalar, got float32 of shape \(2,\)": "DIMENSION = 3\ndef h(x, z): return x[:2] * z",
    "must be a real scalar, got int32": "DIMENSION = 3\ndef h(x, z): return 1",
    "fails: TypeError": "DIMENSION = 4\ndef h(x, z): return x @ z",
    "fails: TracerBoolConversionError": "DIMENSION = 3\ndef h(x, z): return x[0] if x[0] > 0 else x[1]",
    r"h\(x, z\) in .* must be finite": "import jax.numpy as jnp\nDIMENSION = 3\ndef h(x, z): return jnp.log(x[0])",
    r"grad h\(x, z\) in .* must be finite": "import jax.numpy as jnp\nDIMENSION = 1\ndef h(x, z): return jnp.sqrt(0 * x[0])",
    "loss in .* must be a function": NEURON + "loss = 'hinge'",
    r"loss\(u, y\) in .* must be a real scalar": NEURON + "def loss(u, y): return jnp.ones(2) * u",
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_neuron_files(message, files):
    data, neuron = files
    neuron.write_text(BROKEN[message])
    with pytest.raises(InputError, match=message) as raised:
        own_problem(data, neuron, lam=0.05, lamp=0.1)
    assert "\n" not in str(raised.value)


def test_data_files(tmp_path):
    Z, y = np.random.default_rng(0).normal(size=(5, 2)), np.ones(5)
    bad: dict[str, dict[str, np.ndarray]] = {
        "must hold arrays Z and y, got X, y": {"X": Z, "y": y},
        r"y in .* must have shape \(5,\)": {"Z": Z, "y": y[:3]},
        r"Z in .* must have shape \(n, q\)": {"Z": Z[:, 0], "y": y},
        "Z in .* must be finite, got": {"Z": np.where(Z > 0, np.nan, Z), "y": y},
        "real numbers": {"Z": Z.astype(complex), "y": y},
    }
    for message, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(InputError, match=message) as raised:
            load_data(tmp_path / "bad.npz")
        assert "\n" not in str(raised.value)
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("text.npz", "missing.npz"):
        with pytest.raises(InputError, match=r"must be an \.npz file"):
            load_data(tmp_path / name)


def test_options_of_ones_own(files, monkeypatch):
    module = script("langevin_own", monkeypatch)
    data, neuron = files
    for options, message in (
        ({"data": data}, "--data and --neuron must come together, got no --neuron"),
        ({"neuron": neuron}, "--data and --neuron must come together, got no --data"),
        ({"data": data, "neuron": data}, "--neuron must be a Python file"),
        ({"data": data, "neuron": neuron, "eta": 0.0}, "--eta must be positive"),
        ({"data": data, "neuron": neuron, "steps": 1}, "--steps must be at least 2"),
        ({"data": data, "neuron": neuron, "lam": 0.0}, "temperature lam must be positive"),
        ({"data": data, "neuron": neuron, "lamp": -1.0}, "regularisation lamp must be positive"),
    ):
        with pytest.raises(InputError, match=message):
            module.Given(**options).figures()


@pytest.mark.slow
def test_ones_own_is_drawn_and_printed(files, session, monkeypatch, capsys):
    module = script("langevin_own", monkeypatch)
    monkeypatch.setitem(module.SIZES, "quick", module.Size((2,), (4, 2), 4, 2))
    data, neuron = files
    (figure,) = module.Given(data=data, neuron=neuron).figures()
    drawn(figure, session)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[0] for row in rows] == ["2", "wide,", "independent"]
    assert all(np.isfinite(float(row[1])) for row in rows[:1])
    for eta, message in ((50.0, "diverged, first at step"), (5.0, "--eta must be below the stability limit")):
        (figure,) = module.Given(data=data, neuron=neuron, eta=eta, steps=40).figures()
        with pytest.raises(InputError, match=message) as raised:
            figure.draw(session)
        assert "\n" not in str(raised.value)
