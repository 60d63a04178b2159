"""LASSO state evolution, the Donoho-Tanner curve and Z2 synchronisation against quadrature, iteration and known values."""

import mpmath as mp
import numpy as np
import pytest
from scipy.stats import norm

from theorysim.errors import InputError
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.theory import S3, Discrete

SKEWED = Discrete((-1.0, 0.0, 2.0), (0.1, 0.8, 0.1))

# --- LASSO ------------------------------------------------------------------------------------------------------------


def soft(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def gaussian_average(function, kinks):
    """E function(Z) by Gauss-Legendre between the kinks."""
    node, weight = np.polynomial.legendre.leggauss(60)
    ends = np.unique(np.clip(np.concatenate([np.linspace(-12, 12, 25), kinks]), -12, 12))
    middle, half = (ends[1:] + ends[:-1]) / 2, np.diff(ends) / 2
    z = middle[:, None] + half[:, None] * node
    return np.sum(half[:, None] * weight * norm.pdf(z) * function(z))


@pytest.mark.parametrize("alpha", [0.6, 1.49, 3.0])
@pytest.mark.parametrize("u", [0.0, 0.4, -2.0, 5.0])
def test_risk_of_soft_thresholding(u, alpha):
    kinks = [alpha - u, -alpha - u]
    risk, kept = theory._soft_threshold(u, alpha)
    assert risk == pytest.approx(gaussian_average(lambda z: (soft(u + z, alpha) - u) ** 2, kinks), rel=1e-12)
    assert kept == pytest.approx(gaussian_average(lambda z: np.abs(u + z) > alpha, kinks), rel=1e-12)


@pytest.mark.parametrize(("prior", "delta", "alpha"), [(S3(0.1), 0.5, 1.2), (SKEWED, 0.8, 0.5), (S3(0.3), 1.7, 0.7)])
def test_lasso_by_iteration(prior, delta, alpha):
    """tau^2 by plain iteration, with averages by quadrature."""
    s, tau2 = 0.2, 1.0
    atoms, weights = np.array(prior.atoms), np.array(prior.weights)
    average = lambda f, tau: sum(
        w * gaussian_average(lambda z, b=b: f(b, z), [alpha - b / tau, -alpha - b / tau])
        for w, b in zip(weights, atoms, strict=True)
    )
    for _ in range(120):
        tau = np.sqrt(tau2)
        tau2 = s**2 + average(lambda b, z, tau=tau: (soft(b + tau * z, alpha * tau) - b) ** 2, tau) / delta
    found = theory.lasso_at_threshold(prior, delta, s, alpha)
    nonzero = average(lambda b, z: np.abs(b + tau * z) > alpha * tau, tau)
    assert found.tau2 == pytest.approx(tau2, rel=1e-9) and found.nonzero == pytest.approx(nonzero, rel=1e-9)
    assert found.mse == pytest.approx(delta * (tau2 - s**2), rel=1e-9)
    assert found.penalty == pytest.approx(alpha * np.sqrt(tau2) * (1 - nonzero / delta), rel=1e-9)
    if found.penalty > 0:
        assert theory.lasso(prior, delta, s, found.penalty).alpha == pytest.approx(alpha, rel=1e-9)


def test_lasso_reference_values():
    found = theory.lasso(S3(0.1), 0.5, 0.2, 0.3)
    assert found.alpha == pytest.approx(1.4907458467, abs=6e-11)
    assert found.tau2 == pytest.approx(0.1234804954, abs=2e-10)
    assert found.mse == pytest.approx(0.0417402, abs=6e-8) and found.nonzero == pytest.approx(0.21366, abs=6e-6)
    assert found.penalty == pytest.approx(0.3, abs=1e-12)
    assert found.alpha * np.sqrt(found.tau2) == pytest.approx(0.5238, abs=6e-5)  # without the bracket
    assert theory.lasso_alpha_min(0.5) == pytest.approx(0.4052338, abs=6e-8)
    assert theory.lasso_alpha_min(1.0) == 0


def test_lasso_penalty_increases_with_the_threshold():
    alpha_min = theory.lasso_alpha_min(0.5)
    penalties = [theory.lasso_at_threshold(S3(0.1), 0.5, 0.2, alpha_min + x).penalty for x in (1e-4, 1e-2, 0.1, 1, 3)]
    assert np.all(np.diff(penalties) > 0) and penalties[0] < -1


# --- Donoho-Tanner ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delta", "rho", "alpha"),
    [
        (0.1, 0.1894293678, 1.7356702),
        (0.25, 0.2673835524, 1.2922394),
        (0.5, 0.3856896662, 0.8769010),
        (0.8, 0.5733133174, 0.4809489),
    ],
)
def test_donoho_tanner_reference_values(delta, rho, alpha):
    found = theory.donoho_tanner(delta)
    assert found.rho == pytest.approx(rho, abs=6e-11) and found.alpha == pytest.approx(alpha, abs=6e-8)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("delta", [1e-3, 0.05, 0.3, 0.7, 0.99])
def test_donoho_tanner_two_ways(delta, signed):
    variational = theory.donoho_tanner_variational(delta, signed=signed)
    assert theory.donoho_tanner(delta, signed=signed).rho == pytest.approx(variational, abs=1e-10)


def test_donoho_tanner_nonnegative():
    assert theory.donoho_tanner(0.5, signed=False).rho == pytest.approx(0.5582276913, abs=6e-11)


@pytest.mark.parametrize(("rho", "recovers"), [(0.37, True), (0.40, False)])
def test_donoho_tanner_is_where_the_largest_risk_allows_recovery(rho, recovers):
    """tau^2 -> tau^2 [rho delta (1 + a^2) + (1 - rho delta) 2 G(a)]/delta, the largest risk, contracts for some a."""
    delta, alpha = 0.5, np.linspace(0.1, 3, 300)
    zeros = 2 * ((1 + alpha**2) * norm.cdf(-alpha) - alpha * norm.pdf(alpha))
    factor = (rho * delta * (1 + alpha**2) + (1 - rho * delta) * zeros) / delta
    assert (factor.min() < 1) == recovers


# --- Z2 synchronisation -----------------------------------------------------------------------------------------------


def test_z2_reference_values():
    for snr, q in ((1.1, 0.1917337793), (1.2, 0.3576591182), (2.0, 0.9165110110)):
        assert theory.z2_overlap(snr) == pytest.approx(q, abs=1e-10)
    assert theory.z2_information(1.2) == pytest.approx(0.3547373117, abs=6e-11)
    assert theory.z2_information(2.0) == pytest.approx(0.6270357229, abs=6e-11)
    assert theory.z2_energy(1.2) == pytest.approx(-1.05841, abs=6e-6)
    assert theory.z2_energy(2.0) == pytest.approx(-2.0661, abs=6e-5)
    q = theory.z2_state_evolution(np.array([1.2, 2.0]), 3)
    np.testing.assert_allclose(q[1:], [[0.3289, 0.9080], [0.3366, 0.9148]], atol=6e-5)


def test_z2_overlap_by_quadrature():
    """q = E tanh(gamma + sqrt(gamma) Z) at 20 digits; state evolution converges to it."""
    for snr in (1.05, 1.5, 3.0):
        q, gamma = theory.z2_overlap(snr), snr**2 * theory.z2_overlap(snr)
        with mp.workdps(20):
            average = mp.quad(lambda z, g=gamma: mp.npdf(z) * mp.tanh(g + mp.sqrt(g) * z), list(range(-10, 11)))
            square = mp.quad(lambda z, g=gamma: mp.npdf(z) * mp.tanh(g + mp.sqrt(g) * z) ** 2, list(range(-10, 11)))
        assert q == pytest.approx(float(average), abs=1e-12) and q == pytest.approx(float(square), abs=1e-12)
        assert theory.z2_state_evolution(snr, 200)[-1] == pytest.approx(q, abs=1e-7 if snr == 1.05 else 1e-12)


def test_z2_transition():
    snr = np.array([0.3, 1.0, 1.001, 1.3, 2.5])
    q = theory.z2_overlap(snr)
    assert q[0] == q[1] == 0 and q[2] / 0.002 == pytest.approx(1, abs=3e-3)
    assert np.all(q[2:] > theory.bbp_overlap(snr)[2:])
    np.testing.assert_allclose(theory.z2_information(snr[:2]), snr[:2] ** 2 / 4, rtol=1e-14)
    # I-MMSE for the matrix: d(I/n)/d(l^2) = (1 - q^2)/4
    h = 1e-4
    for level in (1.69, 4.0):
        slope = (theory.z2_information(np.sqrt(level + h)) - theory.z2_information(np.sqrt(level - h))) / (2 * h)
        assert slope == pytest.approx((1 - theory.z2_overlap(np.sqrt(level)) ** 2) / 4, abs=1e-7)


def test_bbp():
    np.testing.assert_allclose(theory.bbp_eigenvalue(np.array([0.8, 1.0, 2.0])), [2, 2, 2.5])
    np.testing.assert_allclose(theory.bbp_overlap(np.array([0.8, 1.0, 2.0])), [0, 0, 0.75])
    n = 300
    G = np.random.default_rng(0).normal(size=(n, n))
    values, vectors = np.linalg.eigh((G + G.T) / np.sqrt(2 * n) + 2.0 / n)
    assert values[-1] == pytest.approx(theory.bbp_eigenvalue(2.0), abs=0.15)
    assert vectors[:, -1].sum() ** 2 / n == pytest.approx(theory.bbp_overlap(2.0), abs=0.1)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.lasso_at_threshold(S3(0.1), 0.5, 0.2, 0.4), "alpha must exceed alpha_min = 0.405234"),
        (lambda: theory.lasso(S3(0.1), 0.5, 0.2, 0.0), "penalty must be positive and finite, got 0"),
        (lambda: theory.lasso_at_threshold(S3(0.1), 0.5, 0.0, 1.0), "s must be positive and finite, got 0"),
        (lambda: theory.lasso_alpha_min(0.0), "delta must be positive and finite, got 0"),
        (lambda: theory.donoho_tanner(1.0), r"delta must lie in \(0, 1\), got 1.0"),
        (lambda: theory.z2_overlap(-1.0), "snr must be positive and finite, got -1"),
        (lambda: theory.z2_state_evolution(0.9, 5), "snr must be above 1 for a spectral start, got 0.9"),
    ],
)
def test_bad_input_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
