"""Stage I claims at the quick preset, and their measurements against reference values and independent quadrature."""

import re

import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.papers.single_index_icl import pretraining
from theorysim.papers.single_index_icl.pretraining import (
    CORRELATED,
    HE2_PADDED,
    Neurons,
    Noise,
    Step,
    noises,
    steps,
    tasks_of,
)
from theorysim.papers.single_index_icl.setting import HE2, Tasks
from theorysim.papers.single_index_icl.theory import links, stage_one
from theorysim.verify import Design, Session

CHECKS = [(claim, check) for claim in pretraining.CLAIMS for check in claim.checks]
SESSION = Session(preset="quick")


@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=[f"{c.id}: {k.name}" for c, k in CHECKS])
def test_every_check_has_presets_and_a_control(claim, check):
    assert set(check.design) == {"quick", "standard", "paper"}
    changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
    assert check.control.breaks and sum(change is not None for change in changed) == 1


EXACT = [(c, k) for c, k in CHECKS if k.experiment not in (pretraining.STEP, pretraining.GIVEN)]


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), EXACT, ids=[f"{c.id}: {k.name}" for c, k in EXACT])
def test_quick_verifies_and_the_control_is_refuted(claim, check):
    judgement, control = SESSION.judge(check), SESSION.judge(check.broken())
    assert judgement.status == "verified", judgement
    assert control.status == "refuted", control


(MEAN_STEP,) = pretraining._mean_steps("quick")
"""All simulated steps here are of this one program; directions outside the subspace would be another."""
SEEDS = {pretraining.STEP: 400, pretraining.GIVEN: 16}
DRAWN = [(c, k) for c, k in CHECKS if k.experiment in SEEDS and k.judge.kind == "identity"]


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), DRAWN, ids=[f"{c.id}: {k.name}" for c, k in DRAWN])
def test_simulations_are_near_their_predictions_and_far_from_controls(claim, check):
    """Means over few prompts, whose tails are heavy: to a fifth, or .07 where the scale is known."""
    setting = MEAN_STEP if check.experiment is pretraining.STEP else check.design["quick"].settings[0]
    results = measured(check.experiment, setting, SEEDS[check.experiment])
    inputs = {name: results[name] for name in check.inputs}
    mean = lambda values: np.mean(np.broadcast_to(values, np.shape(check.observable(setting, results))), axis=0)
    observed = mean(check.observable(setting, results))
    scale, tolerance = (1.0, 0.07) if check.judge.absolute else (np.abs(mean(check.predict(setting, inputs))), 0.2)
    distance = lambda predict: np.max(np.abs(observed - mean(predict(setting, inputs))) / scale)
    assert distance(check.predict) < tolerance
    assert distance(check.control.predict) > tolerance


def measured(experiment, setting, count=1):
    """Results of a few samples, by the programs of the claims where shapes agree."""
    return SESSION.measure(experiment, Design((setting,), count))[0]


@pytest.fixture(scope="module")
def run():
    """Far above T1*, with the statistics of every neuron."""
    return MEAN_STEP, measured(pretraining.STEP, MEAN_STEP, 400)


def test_parts_of_the_gradient_add_up(run):
    """To single precision, in which neurons have unit norm; those almost in the subspace are left out."""
    _, found = run
    kept = found["rho"] ** 2 < 0.9
    found = {name: values[kept] for name, values in found.items()}
    along = found["along"] ** 2 / found["rho"] ** 2
    outside = found["outside"] ** 2 / (1 - found["rho"] ** 2)
    assert (found["inside"] >= along * (1 - 1e-5)).all()
    np.testing.assert_allclose(found["full"], found["inside"] + outside + found["orthogonal"], rtol=1e-5)


def test_alignment_is_a_ratio_of_sums(run):
    """Formula over the sphere, which at T1* in dimension 8 is .7334."""
    setting, found = run
    rho, weights = stage_one.uniform_neurons(4, 2)
    formula = stage_one.alignment(pretraining.prompts_of(setting), setting.T1, rho, 0.0, weights)
    assert found["inside"].sum() / found["full"].sum() == pytest.approx(formula, abs=0.02)
    rho, weights = stage_one.uniform_neurons(8, 2)
    law = stage_one.Prompts(links.HE2, 8, 2, 64, 0.3)
    assert stage_one.alignment(law, 392.0, rho, 0.0, weights) == pytest.approx(0.7334, abs=5e-5)


def test_neurons_are_uniform_on_the_sphere(run):
    """E rho^2 = r/d and E rho^4 = r(r + 2)/(d(d + 2))."""
    _, found = run
    assert (found["rho"] ** 2).mean() == pytest.approx(1 / 2, abs=0.02)
    assert (found["rho"] ** 4).mean() == pytest.approx(1 / 3, abs=0.02)


def test_critical_tasks_by_quadrature_at_reference_values():
    """tau = .3, r = 2, b = 0, degree 2."""
    found = measured(pretraining.NOISE, pretraining.SIZES[0])["tasks"][0]
    reference = [391.9, 1904.9, 5866.4, 28848.9, 89769, 50.2, 486.5, 6124]
    np.testing.assert_allclose(found, reference, rtol=1e-3)


@pytest.mark.parametrize(("bias", "A", "B"), [(0.0, 0.00746039, -0.00046627), (1.0, 0.00274452, 0.0)])
def test_population_gradient_by_quadrature_at_reference_values(bias, A, B):
    """r = 2, rho^2 = 1/8, degree 2."""
    setting = Neurons(HE2_PADDED, 2.0, np.full(5, 0.125**0.5), bias)
    np.testing.assert_allclose(measured(pretraining.POPULATION, setting)["mean"][0, :, 0], [A, B], atol=6e-9)


def test_local_slopes_of_the_critical_number_of_tasks():
    """From d = 128 to 256: 3.991 and 4.003 for N1 = 16, 2.0114 and 2.0231 for N1 = inf."""
    settings = noises([128, 256] * 4, [2] * 4 + [4] * 4, [16, 16, np.inf, np.inf] * 2)
    tasks = measured(pretraining.NOISE, settings)["tasks"].reshape(4, 2)
    np.testing.assert_allclose(np.log2(tasks[:, 1] / tasks[:, 0]), [3.991, 2.0114, 4.003, 2.0231], atol=6e-4)


def test_given_moments_are_those_of_plain_sampling():
    """Importance weights against samples of N(0, I) in NumPy, at degree 2 where tails are light."""
    s = pretraining.Given(HE2_PADDED, 0.5, 0.7, 0.3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_000_000, 4))
    y = (x[:, 0] ** 2 - 1) / 2**0.5 + 0.3 * rng.choice([-1, 1], len(x))
    along = 0.5 * x[:, 0] + 0.24**0.5 * x[:, 1] + 0.51**0.5 * x[:, 2]
    active = along + 0.3 > 0
    plain = [np.mean(y**2 * active), np.mean(y**2 * active * (along + 0.3) ** 2), np.mean(y * active * x[:, 0])]
    found = measured(pretraining.GIVEN, s, 16)["moments"].mean(0)
    np.testing.assert_allclose(found[[0, 1, 7]], plain, rtol=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step(Tasks(4, 2, HE2, 0.1), 0.5), "number of tasks T1 must be at least 1, got 0.5"),
        (lambda: Step(Tasks(4, 2, HE2, 0.1), 5.0, m=0), "width m must be at least 1, got 0"),
        (lambda: Step(tasks_of(4), 5.0, plane=4), "plane must be less than d = 4, got 4"),
        (lambda: Neurons(HE2, 0.5, np.array([0.1]), 0.0), "dimension r must be at least 1, got 0.5"),
        (lambda: Neurons(HE2, 2, np.array([1.0]), 0.0), "rho must lie in (0, 1), got [1.0]"),
        (lambda: Noise(CORRELATED, np.ones(2), np.ones(2), np.ones(2)), "every r must lie in [1, d)"),
        (
            lambda: Noise(CORRELATED, np.full(2, 9.0), np.ones(2), np.zeros(2)),
            "prompt lengths N1 must be at least 1, got [0.0, 0.0]",
        ),
        (lambda: pretraining.Given(HE2, 0.8, 0.7, 0.0), "rho must lie in [|s| = 0.8, 1], got 0.7"),
        (lambda: pretraining.Autodiff(tasks_of(4), np.zeros(2)), "gamma must be positive, got [0.0, 0.0]"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_reference_critical_tasks_of_the_designs():
    assert [run.T1 for d in (8, 12, 16, 24) for run in steps(d, 1.0)] == [392, 1905, 5866, 28849]
    assert stage_one.critical_tasks(stage_one.Prompts(links.HE2, 8, 2, 16, 0.3)) == pytest.approx(1485, abs=1)
