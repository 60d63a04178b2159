"""Finite-n predictions: one step of the QAOA against dense density matrices, one of power iteration against draws."""

import itertools
from functools import reduce

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson

from theorysim.errors import InputError
from theorysim.papers.qaoa_spiked_tensor import theory

OPTIMUM = np.sqrt(np.log(5) / 32)


def averaged_state(n, q, snr, gamma, beta, noise):
    """The 2^n x 2^n density matrix after one step, averaged over W by its covariance n (z.z'/n)^q, and the spins."""
    spins = np.array(list(itertools.product([1.0, -1.0], repeat=n)))
    signal = snr * n * spins.mean(1) ** q
    kernel = np.exp(-noise * gamma**2 * n * (1 - (spins @ spins.T / n) ** q))
    rho = kernel * np.exp(-1j * gamma * (signal[:, None] - signal)) / 2**n
    one = np.array([[np.cos(beta), -1j * np.sin(beta)], [-1j * np.sin(beta), np.cos(beta)]])
    mixer = reduce(np.kron, [one] * n)
    return mixer @ rho @ mixer.conj().T, spins


@np.vectorize
def matrix_closed_form(n, snr, gamma, beta):
    """E R^2 at q = 2, written out for matrices, at 30 digits."""
    with mp.workdps(30):
        n, snr, gamma, beta = mp.mpf(int(n)), mp.mpf(snr), mp.mpf(gamma), mp.mpf(beta)
        theta = 4 * gamma * snr / n
        first = mp.sin(4 * beta) * mp.exp(-4 * gamma**2 * (1 - 1 / n)) * mp.sin(theta) * mp.cos(theta) ** (n - 2)
        second = mp.sin(2 * beta) ** 2 / 2 * mp.exp(-8 * gamma**2 * (1 - 2 / n)) * (1 - mp.cos(2 * theta) ** (n - 2))
        return float(1 / n + (1 - 1 / n) * (first + second))


def overlaps(n):
    return 1 - 2 * np.arange(n + 1) / n


# --- scales -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "q", "power"), [(1, 2, 1), (4, 2, 4), (1, 3, 1), (2, 3, 3), (3, 3, 7), (3, 4, 13)])
def test_response_power(p, q, power):
    assert theory.response_power(p, q) == power
    assert theory.epsilon(p, q) == pytest.approx((q - 2) / ((q - 1) ** p - 1) if q > 2 else 1 / p, rel=1e-15)


@pytest.mark.parametrize(("p", "q"), [(p, q) for p in (1, 2, 5) for q in (2, 3, 4)])
def test_snr_exponent_makes_the_last_response_of_order_one(p, q):
    """x -> a + (q - 1) x from -1/2 reaches 0 after p steps."""
    x = -0.5
    for _ in range(p):
        x = theory.snr_exponent(p, q) + (q - 1) * x
    assert x == pytest.approx(0, abs=1e-9)
    assert theory.signal_to_noise(50, p, q, 0.7) == pytest.approx(0.7 * 50 ** theory.snr_exponent(p, q), rel=1e-15)


def test_one_step_and_matrix_scales():
    assert [theory.snr_exponent(1, q) for q in (2, 3, 4)] == [0.5, 1.0, 1.5]
    assert [theory.snr_exponent(p, 2) for p in (1, 2, 4)] == [0.5, 0.25, 0.125]
    assert [theory.unfolding_exponent(4, p) for p in (1, 2, None)] == [1.5, 1.0, 0.5]


def test_unfolding_is_a_matrix_problem():
    """Signal and noise of the rescaled unfolding, entry by entry; the two sizes at which it is simulated."""
    n, q, snr = 4, 4, 3.0
    spins, snr_matrix = theory.unfolded(n, q, snr)
    assert spins == n ** (q // 2)
    rescaling = np.sqrt(n / spins)
    assert snr_matrix / spins == pytest.approx(rescaling * snr / n ** (q / 2), rel=1e-14)
    assert 1 / np.sqrt(spins) == pytest.approx(rescaling / np.sqrt(n), rel=1e-14)
    for n, value in ((3, 0.35056), (4, 0.31545)):
        spins, snr_matrix = theory.unfolded(n, 4, n * np.sqrt(n))
        assert snr_matrix == pytest.approx(np.sqrt(spins), rel=1e-14)
        assert theory.one_step_moments(spins, 2, snr_matrix, 0.2243, np.pi / 4)[1] == pytest.approx(value, abs=1e-5)
    # without the rescaling the cost is sqrt(N/n) times too large, as if gamma were
    wrong = theory.one_step_moments(9, 2, 3.0, 0.2243 * np.sqrt(3), np.pi / 4)[1]
    assert wrong == pytest.approx(0.285, abs=2e-3)


# --- one step, exact --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [1.0, 0.4, 0.0])
@pytest.mark.parametrize(("n", "q"), [(2, 2), (2, 3), (3, 4), (4, 3), (5, 5), (6, 4), (7, 2), (8, 3)])
def test_one_step_against_the_averaged_density_matrix(n, q, noise):
    rng = np.random.default_rng(100 * n + q)
    for _ in range(3):
        snr, gamma, beta = rng.uniform(0.2, 3) * n ** ((q - 2) / 2), rng.uniform(-0.6, 0.6), rng.uniform(-2, 2)
        rho, spins = averaged_state(n, q, snr, gamma, beta, noise)
        probability = np.real(np.diag(rho))
        minus = (spins < 0).sum(1)
        pmf = theory.one_step_pmf(n, q, snr, gamma, beta, noise=noise)
        np.testing.assert_allclose(pmf, np.bincount(minus, probability, n + 1), rtol=0, atol=3e-15)
        for order in range(n + 1):
            correlator = theory.one_step_correlator(order, n, q, snr, gamma, beta, noise=noise)
            assert correlator == pytest.approx(probability @ spins[:, :order].prod(1), abs=1e-14)
        moments = theory.one_step_moments(n, q, snr, gamma, beta, orders=6, noise=noise)
        np.testing.assert_allclose(moments, [probability @ spins.mean(1) ** r for r in range(1, 7)], atol=1e-14)


def test_reference_probabilities():
    pmf = theory.one_step_pmf(6, 2, np.sqrt(6), 0.2243, np.pi / 4)
    np.testing.assert_allclose(pmf, [0.09578, 0.18236, 0.15422, 0.13528, 0.15422, 0.18236, 0.09578], atol=5e-6)
    pmf = theory.one_step_pmf(7, 3, 0.8 * 7, 0.2, 0.6)
    expected = [0.13443, 0.18272, 0.33171, 0.08714, 0.11148, 0.07486, 0.04627, 0.03138]
    np.testing.assert_allclose(pmf, expected, atol=5e-6)


def test_reference_moments():
    assert theory.one_step_moments(7, 3, 0.8 * 7, 0.2, 0.6)[1] == pytest.approx(0.361375, abs=5e-7)
    assert theory.one_step_moments(6, 4, 0.6 * 6**1.5, 0.12, 0.9)[1] == pytest.approx(0.248635, abs=5e-7)
    mean, _, third, fourth = theory.one_step_moments(9, 3, 0.8 * 9, 0.2, 0.6, orders=4)
    np.testing.assert_allclose([mean, third, fourth], [0.2948437, 0.1470285, 0.1771708], atol=5e-8)


@pytest.mark.parametrize(
    ("n", "value"),
    [(16, 0.3154468), (24, 0.2997947), (26, 0.2973563), (100, 0.2753634), (1000, 0.2682860), (10**5, 0.2675040)],
)
def test_reference_second_moment_at_the_optimum(n, value):
    assert theory.one_step_moments(n, 2, np.sqrt(n), OPTIMUM, np.pi / 4)[1] == pytest.approx(value, abs=6e-8)


@pytest.mark.parametrize("n", [2, 3, 10, 1000, 10**6])
def test_matrix_closed_form(n):
    snr = np.array([0.3, 1.0, 2.0])[:, None] * np.sqrt(n)
    gamma, beta = np.array([0.05, 0.2, -0.4]), np.array([np.pi / 4, 0.5, 1.1])
    second = theory.one_step_moments(n, 2, snr, gamma, beta)[1]
    np.testing.assert_allclose(second, matrix_closed_form(n, snr, gamma, beta), rtol=1e-12)


@pytest.mark.parametrize(("n", "q"), [(n, q) for n in (8, 33, 70, 100) for q in (2, 3, 4)])
def test_moments_are_those_of_the_law(n, q):
    """Two algorithms, and a law that sums to one: the moments from correlators, the law from a mixture of circuits."""
    snr = theory.signal_to_noise(n, 1, q, 0.8)
    pmf = theory.one_step_pmf(n, q, snr, 0.2, 0.6)
    moments = theory.one_step_moments(n, q, snr, 0.2, 0.6, orders=5)
    assert pmf.min() >= 0
    assert pmf.sum() == pytest.approx(1, abs=1e-13)
    np.testing.assert_allclose([pmf @ overlaps(n) ** r for r in range(1, 6)], moments, rtol=0, atol=1e-13)


@settings(max_examples=40)
@given(
    n=st.integers(2, 12),
    q=st.integers(2, 5),
    snr=st.floats(0, 20),
    gamma=st.floats(-1, 1),
    beta=st.floats(-3, 3),
    noise=st.floats(0, 3),
)
def test_symmetries_of_one_step(n, q, snr, gamma, beta, noise):
    """Complex conjugation flips both angles; an odd cost flips R with gamma; an even one leaves R symmetric."""
    pmf = theory.one_step_pmf(n, q, snr, gamma, beta, noise=noise)
    assert pmf.sum() == pytest.approx(1, abs=1e-13)
    np.testing.assert_allclose(theory.one_step_pmf(n, q, snr, -gamma, -beta, noise=noise), pmf, atol=1e-13)
    mirrored = theory.one_step_pmf(n, q, snr, -gamma, beta, noise=noise) if q % 2 else pmf
    np.testing.assert_allclose(mirrored[::-1], pmf, atol=1e-13)


def test_weak_signal_keeps_its_digits():
    """E R^2 - 1/n at n = 10^6 against the limit law's low-signal value, over eight decades of Lambda^2."""
    n, gamma = 10**6, 1 / (2 * np.sqrt(3))
    for scale in (1e-2, 1e-4, 1e-6):
        excess = (1 - 1 / n) * theory.one_step_correlator(2, n, 3, scale * n, gamma, np.pi / 4)
        limit = theory.limit_law(3, [gamma], [np.pi / 4], scale).second_moment()
        assert excess == pytest.approx(limit, rel=3e-5)


def test_arguments_broadcast():
    snr, gamma = np.array([[1.0], [2.0]]), np.array([0.1, 0.2, 0.3])
    moments = theory.one_step_moments(10, 3, snr, gamma, 0.6, orders=3)
    assert moments.shape == (3, 2, 3)
    np.testing.assert_allclose(moments[:, 1, 2], theory.one_step_moments(10, 3, 2.0, 0.3, 0.6, orders=3), rtol=1e-13)
    assert theory.one_step_correlator(0, 10, 3, snr, gamma, 0.6).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.one_step_moments(1, 2, 1.0, 0.1, 0.1), "n must be at least 2, got 1"),
        (lambda: theory.one_step_pmf(4, 1, 1.0, 0.1, 0.1), "order q must be at least 2, got 1"),
        (lambda: theory.one_step_pmf(2000, 2, 1.0, 0.1, 0.1), "n must be at most 1000"),
        (lambda: theory.one_step_pmf(4, 2, 1.0, 0.1, 0.1, noise=-1.0), "noise must be >= 0 and finite, got -1.0"),
        (lambda: theory.one_step_correlator(5, 4, 2, 1.0, 0.1, 0.1), "order of the correlator must lie in"),
        (lambda: theory.one_step_moments(4, 2, 1.0, 0.1, 0.1, orders=0), "number of moments must be at least 1"),
        (lambda: theory.response_power(0, 2), "depth p must be at least 1, got 0"),
        (lambda: theory.unfolded(4, 3, 1.0), "order q must be even"),
        (lambda: theory.PowerIterationStep(1, 2, 1.0), "n must be at least 2, got 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


# --- optima and threshold ---------------------------------------------------------------------------------------------

SIZES = (64, 256, 1024, 4096, 16384)


@pytest.mark.parametrize(
    ("q", "exponent", "values"),
    [
        (2, 0.25, (0.0885, 0.0447, 0.0226, 0.0114, 0.0057)),
        (2, 0.5, (0.2797, 0.2702, 0.2678, 0.2672, 0.2670)),
        (2, 0.75, (0.4443, 0.4635, 0.4780, 0.4874, 0.4930)),
        (3, 0.75, (0.1347, 0.0893, 0.0583, 0.0360, 0.0209)),
        (3, 1.0, (0.2436, 0.2305, 0.2272, 0.2263, 0.2261)),
        (3, 1.25, (0.3348, 0.3439, 0.3607, 0.3778, 0.3933)),
    ],
)
def test_best_one_step(q, exponent, values):
    best = [theory.best_one_step(n, q, n**exponent).second_moment for n in SIZES]
    np.testing.assert_allclose(best, values, rtol=0, atol=6e-5)


def test_best_gamma_falls_above_threshold():
    """At q = 2, R tends to the sine of a uniform phase, E R^2 = 1/2, with a gamma that falls as sqrt n/lambda_n."""
    gammas = [theory.best_one_step(n, 2, n**0.75).gamma for n in SIZES]
    slope = np.polyfit(np.log(SIZES), np.log(gammas), 1)[0]
    assert -0.25 < slope < -0.1
    assert theory.best_one_step(10**6, 2, 1e5).second_moment == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("q", [2, 3, 4])
def test_weak_signal_best(q):
    """The asymptote, at a signal where corrections are 1e-3 and the 1/n is subtracted from both."""
    n, scale = 10**7, {2: 2e-2, 3: 2e-3, 4: 2e-4}[q]
    snr = theory.signal_to_noise(n, 1, q, scale)
    best = theory.best_one_step(n, q, snr, gammas=np.linspace(0.2, 0.4, 41)).second_moment
    assert best - 1 / n == pytest.approx(theory.weak_signal_second_moment(n, q, snr) - 1 / n, rel=3e-3)


def test_weak_signal_is_asymptotic_in_n():
    ratio = [theory.best_one_step(n, 2, n**0.25)[0] / theory.weak_signal_second_moment(n, 2, n**0.25) for n in SIZES]
    assert np.all(np.diff(ratio) > 0)
    assert ratio[-1] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_optimal_gamma(scale):
    gammas = theory.optimal_gamma(scale) * np.array([0.999, 1.0, 1.001])
    second = [theory.limit_law(2, [g], [np.pi / 4], scale).second_moment() for g in gammas]
    assert second[1] > max(second[0], second[2])
    assert theory.optimal_gamma(1.0) == pytest.approx(OPTIMUM, rel=1e-15)


@pytest.mark.parametrize(("gamma", "scale"), [(OPTIMUM, 1.0), (0.15, 0.5), (0.3, 2.0)])
def test_second_moment_correction(gamma, scale):
    limit = theory.limit_law(2, [gamma], [np.pi / 4], scale).second_moment()
    scaled = [
        n * (theory.one_step_moments(n, 2, scale * np.sqrt(n), gamma, np.pi / 4)[1] - limit) for n in (10**4, 10**5)
    ]
    correction = theory.second_moment_correction(gamma, scale)
    assert scaled[1] == pytest.approx(correction, abs=2e-3)
    assert abs(scaled[1] - correction) < abs(scaled[0] - correction) / 5


def test_reference_second_moment_correction():
    assert theory.second_moment_correction(OPTIMUM) == pytest.approx(0.790244, abs=1e-6)
    for n, value in ((8, 0.7415), (16, 0.7672), (40, 0.7813), (100, 0.7867), (1000, 0.7899)):
        second = theory.one_step_moments(n, 2, np.sqrt(n), OPTIMUM, np.pi / 4)[1]
        assert n * (second - 0.4 * 5**-0.25) == pytest.approx(value, abs=6e-5)


# --- power iteration --------------------------------------------------------------------------------------------------


def power_iteration_draws(n, q, snr, size, seed):
    """The overlap from four independent variables: the start's coordinate, and the contraction along u and across it."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(size)
    m = start / np.sqrt(start**2 + rng.chisquare(n - 1, size))
    along = np.sqrt(n) * snr * m ** (q - 1) + rng.standard_normal(size)
    return along / np.sqrt(along**2 + rng.chisquare(n - 1, size))


@pytest.mark.parametrize(("n", "q", "scale"), [(2, 2, 1.0), (3, 3, 1.0), (10, 4, 0.5), (50, 2, 1.0), (400, 3, 2.0)])
def test_power_iteration_step_against_draws(n, q, scale):
    """4 s.e. of 3 10^5 draws; the cdf at 5 points within 4 binomial s.e. (false alarm 1e-3 over all cases)."""
    snr = theory.signal_to_noise(n, 1, q, scale)
    law = theory.PowerIterationStep(n, q, snr)
    draws = power_iteration_draws(n, q, snr, 300_000, seed=n)
    for r, value in ((1, law.mean()), (2, law.second_moment())):
        error = (draws**r).std() / np.sqrt(len(draws))
        assert (draws**r).mean() == pytest.approx(value, abs=4 * error)
    x = np.array([-0.9, -0.3, 0.05, 0.4, 0.8])
    np.testing.assert_allclose((draws[:, None] <= x).mean(0), law.cdf(x), atol=4 * 0.5 / np.sqrt(len(draws)))


@pytest.mark.parametrize(("n", "q"), [(2, 3), (50, 2), (50, 3)])
def test_power_iteration_step_moments_are_those_of_its_cdf(n, q):
    law = theory.PowerIterationStep(n, q, theory.signal_to_noise(n, 1, q))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 401)  # the density of r diverges at +-1 for n = 2
    x, cdf = np.sin(angle), law.cdf(np.sin(angle))
    assert cdf[0] == 0 and cdf[-1] == pytest.approx(1, abs=1e-14) and np.all(np.diff(cdf) >= -1e-14)
    assert law.mean() == pytest.approx(1 - simpson(cdf * np.cos(angle), angle), abs=1e-6)
    assert law.second_moment() == pytest.approx(1 - simpson(2 * x * cdf * np.cos(angle), angle), abs=1e-6)
    assert law.std() == pytest.approx(np.sqrt(law.second_moment() - law.mean() ** 2), rel=1e-12)


@pytest.mark.parametrize(
    ("q", "sizes", "seconds"),
    [
        (2, (50, 100, 400, 1600), (0.3566, 0.3504, 0.3456, 0.3447)),
        (3, (25, 50, 100, 200, 400), (0.3533, 0.3384, 0.3308, 0.3265, 0.3250)),
    ],
)
def test_reference_power_iteration_step(q, sizes, seconds):
    """References are Monte Carlo, +-.0002."""
    laws = [theory.PowerIterationStep(n, q, theory.signal_to_noise(n, 1, q)) for n in sizes]
    np.testing.assert_allclose([law.second_moment() for law in laws], seconds, atol=6e-4)
    if q == 3:
        np.testing.assert_allclose([law.mean() for law in laws], [0.4583, 0.4543, 0.4521, 0.4505, 0.4505], atol=7e-4)


@pytest.mark.parametrize(("q", "slope"), [(2, 0.623), (3, 0.756)])
def test_power_iteration_step_tends_to_its_limit(q, slope):
    limit = theory.power_iteration_limit(1, q).second_moment()
    for n in (100, 400, 1600):
        exact = theory.PowerIterationStep(n, q, theory.signal_to_noise(n, 1, q)).second_moment()
        assert n * (exact - limit) == pytest.approx(slope, abs=2e-3)


def test_power_iteration_without_signal_is_uniform_on_the_sphere():
    law = theory.PowerIterationStep(7, 3, 0.0)
    assert law.second_moment() == pytest.approx(1 / 7, rel=1e-12)
    assert law.mean() == 0
    np.testing.assert_allclose(law.cdf(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])), [0, 0, 0.5, 1, 1], atol=1e-12)
