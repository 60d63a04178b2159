"""Claims about time on reduced designs: not refuted, controls and distorted predictions refuted; measurements against NumPy."""

import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest
from reduced_designs import Reduction, assert_told_apart

from theorysim.errors import InputError
from theorysim.kernels import langevin
from theorysim.papers.mean_field_langevin import dynamics
from theorysim.papers.mean_field_langevin.dynamics import (
    Ensembles,
    Flow,
    GaussianLaws,
    GaussianNetworks,
    GibbsLaws,
    Networks,
    RandomFlow,
    StationaryChain,
)
from theorysim.papers.mean_field_langevin.setting import Problem, gauss, tanh1d, tanhlog
from theorysim.papers.mean_field_langevin.theory import dynamics as chain_theory
from theorysim.papers.mean_field_langevin.theory import finite_n
from theorysim.papers.mean_field_langevin.theory import mean_field as theory
from theorysim.sweep import run
from theorysim.verify import Equivalence, Identity, Limit, Rate, Session


def smaller(setting):
    return dataclasses.replace(setting, neurons=256, snapshots=12) if isinstance(setting, Ensembles) else setting


def reduced(check):
    """Skewed data are judged from 64 seeds on."""
    return Reduction(64 if check.experiment is dynamics.ENSEMBLES else 32, smaller)(check)


CHECKS = [(claim, reduced(check)) for claim in dynamics.CLAIMS for check in claim.checks]
IDS = [f"{c.id}: {k.name}" for c, k in CHECKS]
SESSION = Session(preset="quick")


def only(experiment, setting, seeds=1):
    """Results of one setting, the leading axis is the seed."""
    return {name: field.values[0] for name, field in run(experiment, (setting,), seeds, seed=3).items()}


# --- claims -----------------------------------------------------------------------------------------------------------


def test_ids():
    names = (
        "mf-exponential-rate gaussian-trajectory time-uniform-bound step-size-bias time-uniform-poc ensemble-tradeoff"
    )
    assert [claim.id for claim in dynamics.CLAIMS] == [f"mean-field-langevin.{name}" for name in names.split()]


@pytest.mark.parametrize("claim", dynamics.CLAIMS, ids=lambda claim: claim.id)
def test_every_check_has_presets_and_a_control(claim):
    for check in claim.checks:
        assert set(check.design) == {"quick", "standard", "paper"}
        changed = [getattr(check.control, name) for name in ("predict", "observable", "design", "experiment")]
        assert check.control.breaks and sum(change is not None for change in changed) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_claims_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, check)


DISTORTED = [(c, k) for c, k in CHECKS if isinstance(k.judge, Equivalence | Identity | Limit)]


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize(("claim", "check"), DISTORTED, ids=[f"{c.id}: {k.name}" for c, k in DISTORTED])
def test_a_prediction_thirty_percent_off_is_refuted(claim, check, factor):
    off = dataclasses.replace(check, predict=lambda s, i: factor * np.asarray(check.predict(s, i)))
    assert SESSION.judge(off).status == "refuted"


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_rate_two_tolerances_off_is_refuted(sign):
    (check,) = (k for _, k in CHECKS if isinstance(k.judge, Rate))
    judge = check.judge
    assert isinstance(judge, Rate)
    off = dataclasses.replace(check, predict=lambda s, i: check.predict(s, i) + 2 * sign * judge.tolerance)
    assert SESSION.judge(off).status == "refuted"


def test_rates_of_tanh1d_to_the_digits_known():
    (check,) = (k for _, k in CHECKS if isinstance(k.judge, Rate))
    (setting,) = check.design["quick"].settings
    assert check.predict(setting, {}) == pytest.approx(-2 * 0.14942, abs=2e-5)
    assert check.broken().predict(setting, {}) == pytest.approx(-2 * 0.043532, abs=2e-6)


# --- measurements -----------------------------------------------------------------------------------------------------


def test_mean_field_flow_follows_the_one_in_numpy():
    setting = Flow(tanh1d(), 1.0, 0.25, 0.1 * np.arange(1, 25), 0.05, extent=5.0)
    found = only(dynamics.FLOW, setting)
    model, grid = theory.tanh1d(), theory.ball_grid(5.0, 601)
    path = chain_theory.flow(model, grid, theory.normal_density(grid, 1.0, 0.25), 0.05, 48)
    excess = path.objective - theory.mf_optimum(model, grid).value
    np.testing.assert_allclose(found["initial"][0], excess[0], rtol=1e-9)
    np.testing.assert_allclose(found["excess"][0], excess[2::2], rtol=1e-9)


def test_random_flows_are_of_log_concave_laws():
    (check,) = (k for _, k in CHECKS if k.experiment is dynamics.RANDOM_FLOW)
    (found,) = SESSION.measure(check.experiment, check.design["quick"])
    assert np.abs(found["y"]).max() <= 1 and found["Z"].min() >= 0.3 and found["Z"].max() <= 0.7
    for Z, y, lam, lamp in zip(*(found[k][:50] for k in ("Z", "y", "lam", "lamp")), strict=True):
        assert theory.tanh_lsi(theory.Model(theory.TANH, Z, y, float(lam), float(lamp))) > 0


def test_gaussian_laws_by_the_affine_map_of_all_coordinates():
    problem, eta, mean, N = gauss(), 0.3, np.array([1.0, 0.5, -1.0]), 8
    found = only(dynamics.GAUSSIAN_LAWS, GaussianLaws(problem, N, eta, mean, 1.5))
    S, pull = problem.Z.T @ problem.Z / problem.n, problem.Z.T @ problem.y / problem.n
    slope = np.kron(np.full((N, N), 1 / N), S) + 2 * problem.lamp * np.eye(3 * N)
    A, m, C = np.eye(3 * N) - eta * slope, np.tile(mean, N), 1.5 * np.eye(3 * N)
    for k in range(61):
        np.testing.assert_allclose(found["mean"][0, k], m[:3], rtol=1e-10)
        np.testing.assert_allclose(found["own"][0, k], C[:3, :3], atol=1e-12)
        np.testing.assert_allclose(found["cross"][0, k], C[:3, -3:], atol=1e-12)
        m, C = A @ m + eta * np.tile(pull, N), A @ C @ A.T + 2 * problem.lam * eta * np.eye(3 * N)


def test_gaussian_gaps_to_the_digits_known():
    found = only(dynamics.GAUSSIAN_LAWS, GaussianLaws(gauss(), 8, 0.2, np.array([1.0, 1.0, -1.0]), 2.0))
    known = [1.953251951158, 1.294103434021, 0.350156547176, 0.032847540772, 0.022246578545]
    np.testing.assert_allclose(found["gap"][0, [0, 1, 5, 20, 100]], known, atol=1e-12)
    np.testing.assert_allclose(8 * found["floor"][0], 0.17649332597875, atol=1e-13)


def test_gaussian_networks_start_with_the_declared_moments():
    setting = GaussianNetworks(gauss(), 8, 0.2, np.array([1.0, 0.5, -1.0]), 2.0, np.arange(4))
    found = {name: values[:, 0].mean(0) for name, values in only(dynamics.GAUSSIAN_NETWORKS, setting, 64).items()}
    np.testing.assert_allclose(found["mean"], setting.mean, atol=5 * np.sqrt(2 / (8 * 64000)))
    np.testing.assert_allclose(found["mode"], 2.0, rtol=5 * np.sqrt(2 / 64000))
    np.testing.assert_allclose(found["orthogonal"], 2.0, rtol=5 * np.sqrt(2 / (21 * 64000)))


def test_stationary_chain_follows_the_one_in_numpy():
    points = np.array([0.7, 2.0, -1.0])
    found = only(dynamics.STATIONARY_CHAIN, StationaryChain(tanh1d(), 0.3, points))
    model, grid = theory.tanh1d(), theory.ball_grid(5.0, 581)
    mass = chain_theory.stationary_mass(chain_theory.make_chain(model, grid, 0.3))
    shift = (mass - theory.mf_optimum(model, grid).density * grid.weight) @ model.features(grid.nodes, points[:, None])
    np.testing.assert_allclose(found["slope"][0], shift / 0.3, rtol=1e-8)


def test_networks_start_with_the_declared_moments():
    setting = Networks(tanh1d(), 32, 0.2, np.arange(4), np.array([0.7, 2.0]))
    found = {name: values[:, 0].mean(0) for name, values in only(dynamics.NETWORKS, setting, 64).items()}
    x, w = np.polynomial.hermite_e.hermegauss(60)
    h = np.tanh(np.multiply.outer(setting.points, 1 + 0.5 * x))
    mean = h @ w / w.sum()
    variance = h**2 @ w / w.sum() - mean**2
    count = 64 * setting.networks
    np.testing.assert_allclose(found["mean"], mean, atol=5 * np.sqrt(variance.max() / (32 * count)))
    np.testing.assert_allclose(found["variance"], variance, rtol=5 * np.sqrt(2 / count))


def test_merged_error_is_the_average_over_all_choices():
    e = np.random.default_rng(0).normal(0.3, 1.0, (7, 2))
    with jax.enable_x64(True):
        for M in (1, 3, 7):
            chosen = [jax.numpy.asarray(e[list(some)]) for some in itertools.combinations(range(7), M)]
            expected = np.mean([np.asarray(langevin.merge(h, M)) ** 2 for h in chosen])
            np.testing.assert_allclose(jax.jit(dynamics.merged_error, static_argnums=1)(e, M), expected, rtol=1e-12)


def test_gibbs_laws_follow_those_in_numpy():
    setting = GibbsLaws(tanh1d(), (16, 32, 64, 128), np.array([0.7, 2.0, 3.0]), False)
    found = only(dynamics.GIBBS_LAWS, setting)
    best = theory.mf_optimum(theory.tanh1d())
    for k, N in enumerate(setting.widths[:2]):
        law = finite_n.gibbs_law(best, N, setting.points[:, None])
        np.testing.assert_allclose(found["bias"][0, :, k], law.bias, rtol=1e-8)
        np.testing.assert_allclose(found["variance"][0, :, k], law.variance, rtol=1e-8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flow(tanh1d(), 0.0, 0.0, np.ones(1), 0.1), "variance must be positive, got 0.0"),
        (lambda: RandomFlow(np.array([2.0, 1.0]), 0.1), "times must be positive and increasing, got [2.0, 1.0]"),
        (lambda: RandomFlow(np.array([1.0]), 2.0), "time step dt must lie in (0, 1.0], got 2.0"),
        (lambda: GaussianLaws(tanh1d(), 2, 0.1, np.ones(1), 1.0), "neuron must be linear, got tanh"),
        (lambda: GaussianLaws(gauss(), 2, 2.0, np.ones(3), 1.0), "step size eta must lie in (0, 1.40391), got 2.0"),
        (lambda: GaussianLaws(gauss(), 2, 0.1, np.ones(2), 1.0), "mean must have shape (3,), got (2,)"),
        (lambda: GaussianNetworks(gauss(), 1, 0.1, np.ones(3), 1.0, np.arange(2)), "N must be at least 2, got 1"),
        (lambda: StationaryChain(tanh1d(), 0.01, np.ones(1)), "spacing must be at most sqrt(2 lam eta)/3 = 0.0105"),
        (lambda: Networks(tanh1d(), 0, 0.1, np.arange(2), np.ones(1)), "N must be at least 1, got 0"),
        (
            lambda: Networks(tanh1d(), 2, 0.1, np.array([3, 3]), np.ones(1)),
            "times must be increasing numbers of steps, got [3, 3]",
        ),
        (lambda: Ensembles(tanhlog(), ((5, 2),), 8), "M must lie between 1 and the 4 networks of 2 neurons, got 5"),
        (lambda: Ensembles(tanhlog(), ((1, 5),), 8), "N must lie between 1 and half of 8 neurons, got 5"),
        (lambda: GibbsLaws(tanhlog(), (1, 3), np.ones(1), True), "widths must be 1 or 2, got (1, 3)"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_problems_are_translated_for_the_predictions():
    model = dynamics.model_of(Problem("rbf", "logistic", np.array([[1.0]]), np.array([1.0]), 0.1, 0.2))
    assert (model.neuron, model.loss, model.lam, model.lamp) == (theory.RBF, theory.LOGISTIC, 0.1, 0.2)
