"""Identities, evidence and exact posterior on reduced designs: not refuted, controls and distorted predictions refuted; what
is measured against NumPy and SciPy at small sizes."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax import random
from reduced_designs import Reduction, assert_told_apart
from scipy import integrate, optimize

from theorysim.errors import InputError
from theorysim.papers import claims
from theorysim.papers.tap_amp import identities, theory
from theorysim.papers.tap_amp.setting import U3, SpikeAndSlab, model, three_point
from theorysim.verify import Bound, Rate, Session

CLAIMS = [claim for claim in claims("tap-amp") if claim in identities.CLAIMS]


def smaller(setting):
    if isinstance(setting, identities.Ridge):
        return dataclasses.replace(setting, model=model(0.5, 0.3, 30, SpikeAndSlab(1.0)))
    if isinstance(setting, identities.Sampled):
        size = min(setting.instance.size, 32.0)
        small = identities.Small(size, 32, 0.5, U3)
        return dataclasses.replace(setting, instance=small, sweeps=60, burn_in=20)
    return setting


def reduced(check):
    """Identities count from 100 samples on; mean field misses the evidence by little more than the tolerance, and its errors
    vary from instance to instance by several times their mean."""
    seeds = {identities.ENERGIES: 300, identities.POSTERIOR: 192}
    return Reduction(seeds.get(check.experiment, 104), smaller)(check)


CHECKS = [(claim, reduced(check)) for claim in CLAIMS for check in claim.checks]
IDS = [f"{claim.id}: {check.name}" for claim, check in CHECKS]
SESSION = Session(preset="quick")

compiled = functools.cache(jax.jit)


def measure(function, setting, seed=0):
    with jax.enable_x64(True):
        return {name: np.asarray(value) for name, value in compiled(function)(random.key(seed), setting).items()}


def landscape(sigma, prior, **changes):
    """Settings of one program."""
    return measure(identities.landscape, identities.Landscape(model(0.65, sigma, 20, prior), **changes))


# --- claims -----------------------------------------------------------------------------------------------------------


def test_the_eight_claims_are_there():
    names = [claim.id.split(".")[1] for claim in CLAIMS]
    assert len(names) == len(set(names)) == 8


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


def planted(check):
    """The check with its prediction distorted: 30 % in value, three tolerances in an exponent or where these are absolute."""

    def predict(setting, inputs):
        value = np.asarray(check.predict(setting, inputs))
        if isinstance(check.judge, Rate) or getattr(check.judge, "absolute", False):
            return value + 3 * check.judge.tolerance
        return 1.3 * value

    return dataclasses.replace(check, predict=predict)


DISTORTED = [pair for pair in CHECKS if not isinstance(pair[1].judge, Bound)]


@pytest.mark.parametrize(("claim", "check"), DISTORTED, ids=[f"{c.id}: {k.name}" for c, k in DISTORTED])
def test_a_planted_distortion_is_refuted(claim, check):
    assert SESSION.judge(planted(check)).status == "refuted"


# --- measurements -----------------------------------------------------------------------------------------------------


def moments(prior, lam, gam):
    """log Z, m, s, V from the definition."""
    b, w = np.array(prior.atoms)[:, None], np.array(prior.weights)[:, None]
    weight = w * np.exp(lam * b - gam * b**2 / 2)
    Z = weight.sum(0)
    m, s = (weight * b).sum(0) / Z, (weight * b**2).sum(0) / Z
    return np.log(Z), m, s, s - m**2


def free_energy(prior, X, y, sigma, lam, gam, penalty):
    n = len(X)
    log_Z, m, s, V = moments(prior, lam, gam)
    divergence = lam * m - gam * s / 2 - log_Z
    fixed = n / 2 * np.log(2 * np.pi * sigma**2) + divergence.sum() + np.sum((y - X @ m) ** 2) / (2 * sigma**2)
    if penalty == "tap":
        return fixed + n / 2 * np.log1p(V.mean() / sigma**2)
    return fixed + np.sum((X**2).sum(0) * V) / (2 * sigma**2)


def minimum(prior, X, y, sigma, penalty):
    """Least F over (lam, gam) and the means there, by a general-purpose minimiser."""
    p = X.shape[1]
    energy = lambda v: free_energy(prior, X, y, sigma, v[:p], v[p:], penalty)
    found = optimize.minimize(energy, np.zeros(2 * p), method="BFGS", jac="3-point", options={"gtol": 1e-7})
    return found.fun, moments(prior, found.x[:p], found.x[p:])[1]


def test_the_random_channel_is_that_of_adaptive_quadrature():
    drawn = measure(identities.random_channel, identities.RandomChannel())
    atoms, weights, gamma = drawn["atoms"], drawn["weights"], drawn["gamma"]
    assert (np.diff(atoms) > 0).all() and abs(weights.sum() - 1) < 1e-12 and 0.02 <= gamma <= 60
    prior = theory.Discrete(tuple(atoms.tolist()), tuple(weights.tolist()))

    def average(function):
        density = lambda z, b: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * function(gamma * b + np.sqrt(gamma) * z, b)
        parts = (integrate.quad(density, -9, 9, args=(b,), epsabs=1e-12, limit=200)[0] for b in atoms)
        return np.dot(weights, list(parts))

    tilted = lambda lam: moments(prior, np.array([lam]), gamma)
    assert abs(average(lambda lam, b: tilted(lam)[3][0]) - drawn["mmse"]) < 1e-9
    assert abs(average(lambda lam, b: tilted(lam)[1][0] * b) - drawn["overlap"]) < 1e-9
    assert abs(drawn["slopes"][0] - drawn["mmse"] / 2) < 1e-7


def test_the_gradient_is_that_of_differences_of_the_formula():
    drawn = landscape(0.2, three_point(0.1))
    prior, at = theory.S3(0.1), np.concatenate([drawn["theta"][0], -2 * drawn["theta"][1]])
    energy = lambda v: free_energy(prior, drawn["X"], drawn["y"], 0.2, v[:20], v[20:], "tap")
    h = 1e-5
    slopes = [(energy(at + h * e) - energy(at - h * e)) / (2 * h) for e in np.eye(40)]
    np.testing.assert_allclose(drawn["gradient"].ravel(), slopes, rtol=1e-6, atol=1e-5)


def test_the_second_derivatives_are_those_of_differences_of_the_gradient():
    drawn = landscape(0.2, U3)

    def gradient(theta):
        """In (m, s)."""
        _, m, _, V = moments(theory.U3, theta[0], -2 * theta[1])
        g = 0.65 / (0.04 + V.mean())
        of_m = theta[0] - g * m - drawn["X"].T @ (drawn["y"] - drawn["X"] @ m) / 0.04
        return np.stack([of_m, theta[1] + g / 2])

    step = 1e-5 * drawn["direction"]
    difference = (gradient(drawn["theta"] + step) - gradient(drawn["theta"] - step)) / 2e-5
    np.testing.assert_allclose(drawn["change"], difference, rtol=1e-6, atol=1e-5)


def test_the_symmetric_point_is_a_saddle_of_the_known_eigenvalue():
    # a dense Hessian of the formula at s = .1
    rng, s, p, n = np.random.default_rng(0), 0.1, 20, 13
    X = rng.normal(size=(n, p)) / np.sqrt(p)
    inverse_C = np.concatenate([np.full(p, 1 / s), np.full(p, 1 / (s * (1 - s)))])
    tau = 0.01 + s
    H = np.diag(inverse_C)
    H[:p, :p] += X.T @ X / 0.01 - n / p / tau * np.eye(p)
    H[p:, p:] -= n / p / (2 * p * tau**2)
    assert abs(np.linalg.eigvalsh(H)[0] + 15.748393) < 1e-6
    drawn = landscape(0.1, U3)
    eigenvalue = theory.symmetric_point_eigenvalue(drawn["s"], 0.65, 0.1)
    np.testing.assert_allclose(drawn["alike"], np.stack([np.zeros(20), np.full(20, eigenvalue)]), atol=1e-10)


def test_amp_ends_at_a_stationary_point_unless_its_reaction_is_wrong():
    for reaction, stationary in ((1.0, True), (0.65, False)):
        drawn = landscape(0.2, three_point(0.1), reaction=reaction)
        _, m, _, V = moments(theory.S3(0.1), drawn["lam"], drawn["gamma"])
        g = 0.65 / (0.04 + V.mean())
        residual = drawn["lam"] - g * m - drawn["X"].T @ (drawn["y"] - drawn["X"] @ m) / 0.04
        assert (np.abs(residual).max() < 1e-9) == stationary


def test_ridge_energies_and_trace_are_those_of_gaussian_formulas():
    v, sigma = 0.7, 0.4
    drawn = measure(identities.ridge, identities.Ridge(model(0.5, sigma, 12, SpikeAndSlab(1.0, v))))
    X, y, n, p = drawn["X"], drawn["y"], 6, 12
    precision = X.T @ X / sigma**2 + np.eye(p) / v
    mean = np.linalg.solve(precision, X.T @ y / sigma**2)
    np.testing.assert_allclose(drawn["mean"], mean, atol=1e-12)
    assert abs(drawn["trace"] - np.trace(np.linalg.inv(precision)) / p) < 1e-12

    def energy(V, penalty):
        divergence = np.sum((V + mean**2) / v - 1 - np.log(V / v)) / 2
        return (
            n / 2 * np.log(2 * np.pi * sigma**2) + divergence + np.sum((y - X @ mean) ** 2) / (2 * sigma**2) + penalty
        )

    V = np.full(p, theory.gaussian_tap_variance(v, 0.5, sigma))
    assert abs(drawn["energy"] - energy(V, n / 2 * np.log1p(V.mean() / sigma**2))) < 1e-10
    norms = (X**2).sum(0)
    V = 1 / (1 / v + norms / sigma**2)
    assert abs(drawn["mean_field_energy"] - energy(V, np.sum(norms * V) / (2 * sigma**2))) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_energies_and_errors_of_a_model_with_room_to_spare(seed):
    small = identities.Small(3.0, 5, 0.5, U3)
    drawn = measure(identities.energies, small, seed)
    assert not drawn["X"][3:].any() and not drawn["X"][:, 3:].any() and not drawn["y"][3:].any()
    X, y, lam, gam = drawn["X"][:3, :3], drawn["y"][:3], drawn["lam"][:3], drawn["gam"][:3]
    exact = theory.exact_posterior(theory.U3, X, y, 0.5)
    gibbs = identities.Sampled(small, chains=400, sweeps=400, burn_in=50)
    sampled = measure(identities.posterior_errors, gibbs, seed)
    for k, penalty in enumerate(("tap", "mean-field")):
        assert abs(drawn["at_random"][k] - free_energy(theory.U3, X, y, 0.5, lam, gam, penalty)) < 1e-9
        energy, means = minimum(theory.U3, X, y, 0.5, penalty)
        assert abs(drawn["at_minimum"][k] - energy) < 1e-5  # as flat as it is there, for either minimiser
        assert abs(sampled["error"][k] - np.mean((means - exact.mean) ** 2)) < 1e-3
    assert abs(sampled["energy"] - drawn["at_minimum"][0] / 3) < 1e-6


@pytest.mark.parametrize(("rho", "threshold"), [(0.1, 0.207559), (0.2, 0.355411), (0.4, 0.589246)])
def test_the_noiseless_threshold_has_its_known_values(rho, threshold):
    found = measure(identities.transition, identities.Transition(SpikeAndSlab(rho, 2.0)))
    assert abs(found["algorithmic"] - threshold) < 1e-6


@pytest.mark.parametrize(("sigma", "threshold"), [(1e-2, 0.332235), (1e-4, 0.259079), (1e-6, 0.236396)])
def test_the_information_threshold_has_its_known_values(sigma, threshold):
    found = measure(identities.transition, identities.Transition(SpikeAndSlab(0.2), sigma))
    assert abs(found["information"] - threshold) < 1e-6


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: identities.RandomChannel(atoms=1), "atoms must be at least 2, got 1"),
        (lambda: identities.RandomChannel(difference=1.0), "difference must lie in (0, 1), got 1.0"),
        (lambda: identities.Landscape(model(1.0, 0.3, 4), steps=0), "steps must be at least 1, got 0"),
        (lambda: identities.Ridge(model(1.0, 0.3, 4)), "prior must have rho = 1, got "),
        (lambda: identities.Small(7.0, 6, 0.5, U3), "size must be an integer from 1 to room = 6, got 7.0"),
        (lambda: identities.Small(2.5, 6, 0.5, U3), "size must be an integer from 1 to room = 6, got 2.5"),
        (lambda: identities.Small(2.0, 6, 0.0, U3), "noise sigma must be positive and finite, got 0.0"),
        (lambda: identities.Sampled(identities.Small(2.0, 2, 0.5, U3), chains=1), "chains must be at least 2, got 1"),
        (
            lambda: identities.Sampled(identities.Small(2.0, 2, 0.5, U3), sweeps=9, burn_in=9),
            "burn_in must lie in 0 ... 8, got 9",
        ),
        (lambda: identities.Transition(SpikeAndSlab(0.2), 1.0), "noise sigma must lie in [0, 1), got 1.0"),
        (lambda: identities.Transition(SpikeAndSlab(0.2), points=9), "points must be at least 100, got 9"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
