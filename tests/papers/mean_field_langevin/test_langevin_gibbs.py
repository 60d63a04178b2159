"""The claims without simulated particles on reduced designs, and their measurements against NumPy and reference values."""

import dataclasses
import re

import numpy as np
import pytest
from reduced_designs import Reduction, assert_told_apart
from threadpoolctl import threadpool_limits

from theorysim.errors import InputError
from theorysim.papers.mean_field_langevin import gibbs, identities
from theorysim.papers.mean_field_langevin.gibbs import (
    Cooling,
    Networks,
    Outputs,
    Pairs,
    RandomNetworks,
    Samples,
    column,
)
from theorysim.papers.mean_field_langevin.identities import GaussianLaws, Laws, PairLaws, model_of, optimum_of
from theorysim.papers.mean_field_langevin.setting import circles, gauss, rbf, tanh1d
from theorysim.papers.mean_field_langevin.theory import finite_n
from theorysim.papers.mean_field_langevin.theory import mean_field as theory
from theorysim.verify import Bound, Law, Rate, Session

CLAIMS = identities.CLAIMS + gibbs.CLAIMS
# Identities count from 100 samples on.
REDUCED = Reduction(seeds=104)
CHECKS = [(claim, REDUCED(check)) for claim in CLAIMS for check in claim.checks]
IDS = [f"{c.id}: {k.name}" for c, k in CHECKS]
SESSION = Session(preset="quick")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices are small: on a busy machine the threads of the linear algebra would wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_check_has_presets_and_a_control(claim):
    for check in claim.checks:
        assert set(check.design) == {"quick", "standard", "paper"}
        changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
        assert check.control.breaks and sum(change is not None for change in changed) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_claims_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, check)


def distorted(judge, predicted, sign):
    """Off by 30 %, exponents by three tolerances, laws by 30 % in scale."""
    if isinstance(judge, Rate):
        return predicted + 3 * sign * judge.tolerance
    if isinstance(judge, Law):
        return type(predicted.dist)().freeze(scale=predicted.std() * (1 + 0.3 * sign))
    return (1 + 0.3 * sign) * np.asarray(predicted)


VALUES = [(c, k) for c, k in CHECKS if not isinstance(k.judge, Bound)]


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("claim", "check"), VALUES, ids=[f"{c.id}: {k.name}" for c, k in VALUES])
def test_a_prediction_thirty_percent_off_is_refuted(claim, check, sign):
    off = dataclasses.replace(check, predict=lambda s, i: distorted(check.judge, check.predict(s, i), sign))
    assert SESSION.judge(off).status == "refuted"


# --- measurements -----------------------------------------------------------------------------------------------------


def results(claim, name):
    """Setting and results of a check on its reduced design."""
    check = next(check for other, check in CHECKS if other is claim and check.name == name)
    design = SESSION.design(check.design)
    return design.settings[0], SESSION.measure(check.experiment, design)[0]


def test_exact_networks():
    """Against the transform in NumPy, with other quadratures in zeta."""
    setting, found = results(gibbs.GAP_FORMULA, "transform")
    best = optimum_of(setting.problem, 6.0, 401)
    for k, N in enumerate(setting.sizes.tolist()):
        law = finite_n.gibbs_law(best, N, setting.points)
        assert found["gap"][0, k] == pytest.approx(law.gap, abs=1e-13)
        assert found["kl"][0, k] == pytest.approx(law.kl(best.model.lam), abs=1e-12)
        np.testing.assert_allclose(found["bias"][0, :, k], law.bias, atol=1e-12)
        np.testing.assert_allclose(found["variance"][0, :, k], law.variance, atol=1e-12)
    distances = finite_n.chaos_distances(best, finite_n.gibbs_marginals(best, 16))
    assert found["one_kl"][0, 4] == pytest.approx(distances.single, rel=1e-8)
    assert found["transport"][0, 4] == pytest.approx(distances.transport, rel=1e-4)
    pairs = results(gibbs.CHAOS, "two neurons")[1]
    assert pairs["kl"][0, 0] == pytest.approx(distances.pair, rel=1e-8)


def test_local_chaos_reference_values():
    """Finite N, of P*: N^2 KL of one neuron and of two, KL of all, N^2 W_2^2."""
    setting, found = results(gibbs.CHAOS, "one neuron and all")
    at = [0, 2, 4]
    squares = setting.sizes[at] ** 2
    np.testing.assert_allclose(squares * found["one_kl"][0, at], [0.040486, 0.039641, 0.039428], atol=6e-7)
    np.testing.assert_allclose(found["kl"][0, at], [0.64965, 0.64380, 0.64236], atol=6e-6)
    np.testing.assert_allclose(squares * found["transport"][0, at], [0.0214687, 0.020996, 0.0208768], atol=6e-7)
    pairs = results(gibbs.CHAOS, "two neurons")[1]["kl"][0]
    np.testing.assert_allclose([16**2 * pairs[0], 64**2 * pairs[2]], [0.52839, 0.48584], atol=6e-6)


def test_random_networks():
    setting, found = results(gibbs.POC_BOUND, "random problems")
    few = {name: values[:3] for name, values in found.items()}
    for k, model in enumerate(gibbs.models_of(setting, few)):
        best = theory.mf_optimum(model, theory.ball_grid(float(found["extent"][k]), 201))
        law = finite_n.gibbs_law(best, int(found["N"][k]), column(float(found["point"][k])))
        assert found["gap"][k] == pytest.approx(law.gap, rel=1e-9)
        assert found["bias"][k] == pytest.approx(law.bias[0], abs=1e-11)
        assert found["second_moment"][k] == pytest.approx(law.mean_square[0], rel=1e-9)
        assert found["bregman"][k] == pytest.approx(law.bregman, rel=1e-8)
        assert found["kl"][k] == pytest.approx(law.kl(model.lam), rel=1e-5)


def test_sweep_of_temperatures():
    """Reference values; the Poincare constant up to the spacing squared."""
    _, found = results(gibbs.LSI_FREE, "follows kappa")
    np.testing.assert_allclose(found["poincare"][0], [0.41278, 0.37539, 0.14716, 0.018718, 0.00015213], rtol=1e-2)
    eight = [0.05054645, 0.03943308, 0.02467446, 0.01406272, 0.00697657]
    many = [0.04959818, 0.03863589, 0.02451618, 0.01576532, 0.00960118]
    np.testing.assert_allclose(np.array([8, 64]) * found["gap"][0], np.stack([eight, many], axis=1), atol=1e-8)


def test_samples_at_two_neurons():
    """Averages over seeds against quadrature, within five standard errors."""
    setting, found = results(gibbs.GAP_FORMULA, "independent neurons, logistic loss")
    best = gibbs.optimum(setting)
    for k in (0, 1):
        law = finite_n.direct_law(best, k + 1, setting.points)
        for name in ("gap", "bias", "variance"):
            values = found[name][..., k]
            error = 5 * values.std(0) / len(values) ** 0.5
            assert (np.abs(values.mean(0) - getattr(law, name)) < error).all()


def test_resampled_networks():
    setting, found = results(gibbs.VARIANCE, "normal law")
    draws, N = found["deviation"], int(setting.size)
    law = finite_n.gibbs_law(gibbs.optimum(setting), N, column(setting.point))
    for values, exact in ((draws, N**0.5 * law.bias[0]), (draws**2, N * law.mean_square[0])):
        assert abs(values.mean() - exact) < 5 * values.mean(1).std() / len(draws) ** 0.5


def test_pair_laws():
    """Gap and Fisher information of the density, the latter with differences of another order."""
    setting, found = results(identities.SANDWICH, "two neurons")
    best = optimum_of(setting.problem, setting.extent, setting.count)
    gibbs_law = finite_n.pair_gibbs(best.model, best.grid)
    for k, log_density in enumerate(found["log_density"][:20]):
        gap = finite_n.pair_objective(best.model, best.grid, np.exp(log_density)) - best.value
        assert found["gap"][k] == pytest.approx(gap, abs=1e-12)
        fisher = finite_n.fisher_information(best.grid, log_density, gibbs_law)
        assert found["fisher"][k] == pytest.approx(fisher, rel=0.1)
    assert found["delta"] == pytest.approx(0.01720, abs=5e-6)


def test_directional_constant():
    assert finite_n.directional_lsi(model_of(identities.LSI_PROBLEM), 2, 3.5) == pytest.approx(2.818955, abs=1e-6)


def test_distances_of_linear_neurons():
    setting, found = results(gibbs.WASSERSTEIN, "linear neurons")
    alpha, lam = 3.0, 0.1
    total = (
        found["gibbs_transport"][0],
        2 / alpha * found["gibbs_kl"][0],
        2 * setting.N / (alpha * lam) * found["delta"][0],
    )
    np.testing.assert_allclose(total, [0.19867, 0.49601, 1.17662], atol=5e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Laws(tanh1d(), 0.0, 401), "extent must be positive, got 0.0"),
        (lambda: Laws(tanh1d(), 6.0, 400), "count must be odd and at least 3, got 400"),
        (lambda: Laws(tanh1d(), 6.0, 401, regulariser=0.0), "regulariser must be positive, got 0.0"),
        (lambda: PairLaws(circles(), 3.5, 41), "particles must be of dimension d = 1, got d = 3"),
        (lambda: PairLaws(tanh1d(), 3.5, 5), "count must be odd and at least 7, got 5"),
        (lambda: GaussianLaws(tanh1d(), 4), "neuron must be linear, got tanh"),
        (lambda: GaussianLaws(gauss(), 0), "N must be at least 1, got 0"),
        (lambda: GaussianLaws(gauss(), 4, eta=-0.1), "step size eta must be positive, got -0.1"),
        (lambda: Networks(circles(), np.array([4]), column(0.0)), "particles must be of dimension d = 1, got d = 3"),
        (lambda: Networks(tanh1d(), np.array([0, 4]), column(0.0)), "sizes must be at least 1, got [0, 4]"),
        (lambda: Pairs(tanh1d(), np.array([1, 4])), "sizes must be at least 2, got [1, 4]"),
        (lambda: Samples(tanh1d(), np.array([4]), column(0.0), samples=3), "samples must be even and positive, got 3"),
        (lambda: Outputs(tanh1d(), np.array(4), 0.0, draws=5000), "draws must lie between 1 and 4000, got 5000"),
        (lambda: RandomNetworks("tanh", 3), "number of data n must be 1 or 2, got 3"),
        (
            lambda: Cooling(rbf(0.1), np.array([0.1, 0.2]), np.array([8])),
            "temperatures lam must be positive and decrease",
        ),
    ],
)
def test_inadmissible_settings(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("claim", [gibbs.POC_BOUND, gibbs.ENSEMBLE_BOUND], ids=lambda claim: claim.id)
def test_only_gaps_that_rounding_explains_are_left_out(claim):
    """A negative gap must stay in to violate, NaN to be invalid."""
    (check,) = claim.checks
    results = {"gap": np.array([1e-3, 1e-9, -1e-9, -1e-3, np.nan]), "resolved": np.full(5, True)}
    kept = check.admissible(gibbs.RandomNetworks("tanh"), results)
    np.testing.assert_array_equal(kept, [True, False, False, True, True])
