"""Claims on regression from one prompt at the quick preset, and their measurements against other formulas and reference values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reduced_designs import Reduction, assert_told_apart, at
from threadpoolctl import threadpool_limits

from theorysim.errors import InputError
from theorysim.papers.single_index_icl import regression
from theorysim.papers.single_index_icl.regression import (
    LONG,
    MIXTURE,
    SHORT,
    SQUARE,
    Plane,
    Regression,
    Smoothing,
    Staircase,
    link_of,
    prior,
)
from theorysim.papers.single_index_icl.setting import HE2, HE3, MIX, Coefficients, Tasks
from theorysim.papers.single_index_icl.theory import kernel_regression, prompt_only, zonal
from theorysim.verify import Design, Ordering, Session

CHECKS = [(claim, check) for claim in regression.CLAIMS for check in claim.checks]
SESSION = Session(preset="quick")
FAST = ("chain", "long prompts", "step", "plateaus")


def label(pair):
    return f"{pair[0].id}: {pair[1].name}"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices are small: on a busy machine the threads of the linear algebra would wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=map(label, CHECKS))
def test_every_check_has_presets_and_a_control(claim, check):
    assert set(check.design) == {"quick", "standard", "paper"}
    changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
    assert check.control.breaks and sum(change is not None for change in changed) == 1


QUICK = [pair for pair in CHECKS if any(name in pair[1].name for name in FAST)]
"""Those whose programs are small; the others are run by the quick preset itself."""


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), QUICK, ids=map(label, QUICK))
def test_quick_verifies_and_the_control_is_refuted(claim, check):
    assert SESSION.judge(check).status == "verified"
    assert SESSION.judge(check.broken()).status == "refuted"


REDUCED = Reduction(seeds=64, change=at(n=64), settings=1)
SMALL = [pair for pair in CHECKS if pair[1].name in ("d = 8", "linear optimum below the floor")]


@pytest.mark.parametrize(("claim", "check"), SMALL, ids=map(label, SMALL))
def test_learning_curves_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, REDUCED(check))


VALUES = [pair for pair in QUICK if not isinstance(pair[1].judge, Ordering)]


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize(("claim", "check"), VALUES, ids=map(label, VALUES))
def test_a_prediction_ten_percent_off_is_refuted(claim, check, factor):
    off = dataclasses.replace(check, predict=lambda s, inputs: factor * np.asarray(check.predict(s, inputs)))
    assert SESSION.judge(off).status == "refuted"


# --- measurements -----------------------------------------------------------------------------------------------------


def results(name):
    """Setting and results of a check at the quick preset, reduced as above."""
    check = next(check for _, check in CHECKS if check.name == name)
    design = SESSION.design((REDUCED(check) if any(check is one for _, one in SMALL) else check).design)
    return design.settings[0], SESSION.measure(check.experiment, design)[0]


@pytest.mark.parametrize(
    "link", [HE2, HE3, MIX, Coefficients(np.array([0, 1.0, 2.0, -1.0]))], ids=["he2", "he3", "mix", "odd and even"]
)
def test_prior_kernel(link):
    """Against the zonal expansion."""
    X, Z = np.random.default_rng(0).normal(size=(2, 6, 5))
    with jax.enable_x64(True):
        found = prior(Tasks(7, 3, link, 0.1))(jnp.asarray(X), jnp.asarray(Z))
    np.testing.assert_allclose(found, zonal.prior_kernel(X[:, :3], Z[:, :3], link_of(link)), rtol=1e-10, atol=1e-11)


def test_chain_reference_values():
    """Bayes and linear optimum at tau = .3 within five standard errors (known to 1 to 3 %)."""
    _, found = results("chain")
    known = {
        "bayes": [0.2544, 0.1250, 0.0332, 0.00905, 0.00356, 0.00159, 0.000749, 0.000363],
        "linear": [0.4836, 0.2446, 0.0940, 0.0358, 0.01274, 0.00554, 0.00242],
    }
    for name, values in known.items():
        risk = found[name][:, : len(values)]
        error = risk.std(0) / len(risk) ** 0.5
        # The tail of a posterior with two modes is rare: up to sixteen examples the references scatter by 6 %.
        assert (np.abs(risk.mean(0) - values) < 5 * error + 0.06 * np.array(values)).all()


@pytest.mark.slow
def test_plane_against_brute_force():
    """Posterior mean on a grid, the linear optimum by its kernel matrix, risks as averages over the query."""
    link = Coefficients(np.array([0, 0.5, 1.0, -0.7]))
    setting = Plane(link, 0.3, (3, 7), assumed=link, angles=512)
    wrong = dataclasses.replace(setting, assumed=SQUARE)
    with jax.enable_x64(True):
        key = jax.random.key(3)
        law = Tasks(2, 2, link, 0.3, noise="gaussian").law()
        prompt = regression.prompts.sample(key, law, jnp.zeros(1, jnp.uint32), length=6, dtype=jnp.float64)
        measure = jax.jit(regression.plane)
        found, misled = (jax.device_get(measure(key, s)) for s in (setting, wrong))
    X, y, beta = (np.asarray(leaf[0]) for leaf in (prompt.X, prompt.y, prompt.beta))
    node, weight = np.polynomial.hermite_e.hermegauss(6)
    Z = np.stack(np.meshgrid(node, node), -1).reshape(-1, 2)
    w = np.outer(weight, weight).ravel() / weight.sum() ** 2
    theta = 2 * np.pi * np.arange(1000) / 1000
    directions = np.stack([np.cos(theta), np.sin(theta)])
    f = {name: link_of(one) for name, one in (("true", link), ("wrong", HE2))}
    for k, N in enumerate(setting.lengths):
        mean = {}
        for name, sigma in f.items():
            squares = ((y[:N, None] - sigma(X[:N] @ directions)[0]) ** 2).sum(0)
            posterior = np.exp(-(squares - squares.min()) / (2 * 0.3**2))
            posterior /= posterior.sum()
            values = sigma(Z @ directions)[0]
            mean[name] = values @ posterior
            if name == "true":
                assert found["bayes"][k] == pytest.approx(w @ ((values - mean[name][:, None]) ** 2 @ posterior))
        truth = f["true"](Z @ beta)[0]
        assert misled["bayes"][k] == pytest.approx(w @ (truth - mean["wrong"]) ** 2)
        assert found["linear"][k] == pytest.approx(w @ prompt_only.linear_optimum(X[:N], Z, f["true"], 0.3).risk)


def test_long_prompts():
    """N Bayes/tau^2 has no more than a correction of order 1/N."""
    _, found = results("chain")
    scaled = np.array(SHORT + LONG) * found["bayes"].mean(0) / 0.3**2
    np.testing.assert_allclose(scaled[-4:-1], [1.133, 1.065, 1.033], atol=0.025)


def test_regression_reference_values():
    """Simulations on the sphere at d = 8, and the linear optimum at r = 8."""
    _, found = results("d = 8")
    assert found["risk"].mean() == pytest.approx(0.124, abs=0.012)
    _, found = results("linear optimum below the floor")
    assert found["risk"].mean() == pytest.approx(0.0215, abs=0.005)


def test_staircase_against_the_spectrum():
    for link, degree in ((HE2, 2), (MIXTURE, 1)):
        dimensions = np.array([16, 64, 512])
        n = 0.7 * dimensions**degree
        with jax.enable_x64(True):
            found = jax.jit(lambda s: regression.staircase(jax.random.key(0), s))(
                Staircase(link, dimensions, n, degree)
            )["risk"]
        for k, d in enumerate(dimensions.tolist()):
            spectrum = kernel_regression.sphere_spectrum(link_of(link), d)
            assert found[k] == pytest.approx(
                kernel_regression.ridge_regression_risk(n[k], spectrum, 0.01, 0.1), rel=1e-8
            )


def test_step_reference_values():
    """The formula at n = alpha n_2(d), and its limits with and without the tail of the kernel."""
    steps = regression._steps()
    limits = [regression._step(s, {}) for s in steps]
    np.testing.assert_allclose(limits, [0.60405, 0.33402, 0.10779], atol=6e-6)
    broken = [regression._step_without_tail(s, {}) for s in steps]
    np.testing.assert_allclose(broken, [0.514, 0.1327, 0.0127], atol=6e-4)
    _, found = results("inside the step")
    np.testing.assert_allclose(found["risk"][0, :4], [0.63141, 0.61810, 0.61117, 0.60763], atol=2.5e-4)


@pytest.mark.slow
def test_smoothers():
    """Every kind of learner occurs, weights reproduce the risk, and none is below the optimum."""
    setting = Smoothing(Tasks(3, 3, HE3, 0.2), 12, queries=4)
    (found,) = SESSION.measure(regression.SMOOTHING, Design((setting,), 60))
    np.testing.assert_allclose(found["risk"].mean(1), regression._smoother_risk(2.0, setting, found), rtol=1e-9)
    slack = found["risk"] - regression._least_risk(setting, found)
    assert slack.min() > -1e-12
    optima, averages = (slack.max(1) < 1e-12).mean(), (np.abs(found["weights"].sum(2) - 1) < 1e-12).all(1).mean()
    assert 0.02 < optima < 0.2 and 0.08 < averages < 0.4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Regression(Tasks(4, 4, HE2, 0.1), 0), "number of examples n must be at least 1, got 0"),
        (lambda: Regression(Tasks(4, 4, HE2, 0.1), 2, ridge=0), "ridge must be positive, got 0.0"),
        (lambda: Plane(HE2, 0.0, (2,)), "tau must be positive, got 0.0"),
        (lambda: Plane(HE2, 0.1, (0, 2)), r"lengths must be at least 1, got \(0, 2\)"),
        (lambda: Smoothing(Tasks(4, 4, HE2, 0.1), 1), "number of examples n must be at least 2, got 1"),
        (lambda: Staircase(HE2, np.array([4]), np.array([2.0]), 1), r"dimensions must be at least 8, got \[4\]"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
