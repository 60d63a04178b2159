"""Infinite-n predictions and their finite-n bridge, against path sums written out and the exact noise-free circuit."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import eigh_tridiagonal
from scipy.special import gammaln, ndtr
from scipy.stats import binom

from theorysim.errors import InputError
from theorysim.papers.qaoa_spiked_tensor import theory

QUARTER = np.pi / 4
OPTIMUM = np.sqrt(np.log(5) / 32)


# --- independent references -------------------------------------------------------------------------------------------


def path_sum(q, gammas, betas, noise=1.0, passes=None):
    """All 2^{2p+1} paths (a_1, ..., a_p, a_0, a_{-p}, ..., a_{-1}), their weights and G, by fixed-point passes."""
    p = len(gammas)
    a = np.array(list(itertools.product([1, -1], repeat=2 * p + 1)))
    couplings = np.concatenate([gammas, [0.0], -np.asarray(gammas)[::-1]])
    weight = np.full(len(a), 0.5 + 0j)
    for t, beta in enumerate(betas):
        step = lambda x, y, beta=beta: np.where(x == y, np.cos(beta), -1j * np.sin(beta))
        weight *= step(a[:, t], a[:, t + 1]) * step(a[:, 2 * p - t], a[:, 2 * p - t - 1]).conj()
    G = np.einsum("i,ir,is->rs", weight, a, a)
    for _ in range(p if passes is None else passes):
        exponent = np.einsum("r,s,rs,ir,is->i", couplings, couplings, G ** (q - 1), a, a)
        dressed = weight * np.exp(-noise * q / 2 * exponent)
        G = np.einsum("i,ir,is->rs", dressed, a, a)
    return a, dressed, G


def bridging_draws(n, snr, gammas, betas, size, seed, noise=1.0):
    """Conditional mean and variance of R, draw by draw, from the path sum and a pseudo-inverse."""
    p = len(gammas)
    rng = np.random.default_rng(seed)
    a, weight, _ = path_sum(2, gammas, betas, noise)
    times = [*range(p), p]  # columns of a_1, ..., a_p, a_0
    D, xi, phase = np.zeros((size, p + 1)), np.zeros((size, p + 1)), np.ones((size, len(a)), complex)
    V = np.zeros((size, p + 1, p + 1))
    for t in range(p + 1):
        averages = (phase * weight) @ np.stack([a[:, t] * (a[:, s] if s < t else 1) for s in times[: t + 1]], 1)
        D[:, t] = averages[:, t].real
        V[:, t, t] = 1 - D[:, t] ** 2
        for s in range(t):
            V[:, t, s] = V[:, s, t] = averages[:, s].real - D[:, t] * D[:, s]
        if t == 0:
            mean, variance = np.zeros(size), V[:, 0, 0]
        else:
            regression = np.einsum("ns,nsr->nr", V[:, t, :t], np.linalg.pinv(V[:, :t, :t], rcond=1e-10))
            mean = np.einsum("ns,ns->n", regression, xi[:, :t])
            variance = np.maximum(V[:, t, t] - np.einsum("ns,ns->n", regression, V[:, t, :t]), 0)
        if t < p:
            xi[:, t] = mean + np.sqrt(variance) * rng.standard_normal(size)
            field = snr * (D[:, t] + xi[:, t] / np.sqrt(n))
            phase = phase * np.exp(-2j * gammas[t] * field[:, None] * (a[:, t] - a[:, 2 * p - t]))
    return D[:, p] + mean / np.sqrt(n), variance / n


_spectra = {}


def noise_free_moments(n, q, snr, gammas, betas):
    """E R and E R^2 without noise, in the n + 1 symmetric states; the mixer from the spectrum of 2 J_x."""
    if n not in _spectra:
        k = np.arange(1, n + 1)
        _, vectors = eigh_tridiagonal(np.zeros(n + 1), np.sqrt(k * (n - k + 1.0)))
        _spectra[n] = vectors
    vectors, eigenvalues = _spectra[n], np.arange(-n, n + 1, 2)
    k = np.arange(n + 1)
    m = 1 - 2 * k / n
    state = np.exp((gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * np.log(2)) / 2).astype(complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        state = state * np.exp(-1j * gamma * snr * n * m**q)
        state = vectors @ (np.exp(-1j * beta * eigenvalues) * (vectors.T @ state))
    probability = np.abs(state) ** 2
    return probability @ m, probability @ m**2


def quarter_turns_bridge(n, snr, gamma1, gamma2):
    """E R^2 of the bridging law at p = 2, beta = pi/4, no noise, where everything is explicit."""
    y = np.arange(-8, 8.01, 0.1)
    weight = np.exp(-(y**2) / 2)
    weight /= weight.sum()
    first, second = y[:, None], y
    turn = 4 * gamma1 * snr * first / np.sqrt(n)
    entering = np.sin(turn) + np.abs(np.cos(turn)) * second / np.sqrt(n)
    last = 4 * gamma2 * snr * entering
    mean = np.cos(turn) * np.sin(last)
    spread = first * np.cos(last) + np.sign(np.cos(turn)) * second * np.sin(turn) * np.sin(last)
    return weight @ (mean - spread / np.sqrt(n)) ** 2 @ weight


# --- constants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [1.0, 0.3])
@pytest.mark.parametrize(("p", "q"), [(1, 2), (2, 2), (3, 2), (2, 3), (3, 3), (3, 4), (2, 5)])
def test_constants_against_the_path_sum(p, q, noise):
    rng = np.random.default_rng(10 * p + q)
    gammas, betas = rng.uniform(-0.5, 0.5, p), rng.uniform(-1.5, 1.5, p)
    constants = theory.limit_constants(q, gammas, betas, noise=noise)
    _, weight, G = path_sum(q, gammas, betas, noise)
    assert weight.sum() == pytest.approx(1, abs=1e-13)
    np.testing.assert_allclose(constants.correlation, G[: p + 1, : p + 1], rtol=0, atol=1e-13)
    assert constants.amplitude == pytest.approx(G[p, p - 1].imag, abs=1e-13)
    # the other branches follow as documented, and another pass changes nothing
    for later, earlier in itertools.combinations(range(p, -1, -1), 2):
        assert G[2 * p - later, earlier] == pytest.approx(G[later, earlier], abs=1e-13)
        assert G[2 * p - later, 2 * p - earlier] == pytest.approx(np.conj(G[later, earlier]), abs=1e-13)
    np.testing.assert_allclose(path_sum(q, gammas, betas, noise, passes=p + 1)[2], G, atol=1e-13)


@pytest.mark.parametrize("q", [2, 3])
def test_responses_are_derivatives_in_a_field(q):
    """The mean of a_{t'} in a field e^{-i q gamma_s h (a_s - a_{-s})}, differentiated at h = 0."""
    gammas, betas = np.array([0.3, 0.35, 0.3]), np.array([0.6, 0.5, 0.7])
    a, weight, _ = path_sum(q, gammas, betas)
    response, h = theory.limit_constants(q, gammas, betas).response, 1e-4
    for s in range(3):
        turned = weight * np.exp(-1j * q * gammas[s] * h * (a[:, s] - a[:, 6 - s]))
        np.testing.assert_allclose((turned @ a).real[:4] / h, response[:, s], atol=1e-6)


def test_reference_correlations():
    for q, expected in (
        (2, (0.3624 + 0.7259j, -0.1054 + 0.5460j, 0.6967 + 0.5208j)),
        (3, (0.3624 + 0.6406j, -0.0308 + 0.6059j, 0.6967 + 0.4223j)),
    ):
        G = theory.limit_constants(q, [0.25, 0.35], [0.6, 0.4]).correlation
        np.testing.assert_allclose([G[1, 0], G[2, 0], G[2, 1]], expected, atol=8e-5)


def test_reference_responses():
    """Field in layer s -> magnetisation entering layer t': (1,2), (2,3), (1,3), (3,4), (2,4), (1,4)."""
    for q, expected in (
        (2, (0.7803, 0.8201, 0.4519, 0.8123, 0.3348, -0.2791)),
        (3, (0.9777, 0.9173, 0.7728, 0.8789, 0.3960, -0.1419)),
    ):
        r = theory.limit_constants(q, [0.3, 0.35, 0.3], [0.6, 0.5, 0.7]).response
        np.testing.assert_allclose([r[1, 0], r[2, 1], r[2, 0], r[3, 2], r[3, 1], r[3, 0]], expected, atol=6e-5)
    assert np.all(np.triu(r) == 0)


def test_constants_without_noise_and_at_one_step():
    gammas, betas = np.array([0.15, 0.3, 0.2]), np.array([0.4, 0.9, 0.6])
    free = theory.limit_constants(3, gammas, betas, noise=0.0)
    np.testing.assert_allclose(free.chi[:2], 6 * gammas[:2] * np.sin(2 * betas[:2]), rtol=1e-13)
    assert free.amplitude == pytest.approx(np.sin(2 * betas[2]), rel=1e-13)
    for q in (2, 3, 5):
        one = theory.limit_constants(q, [0.3], [0.5], noise=0.7)
        assert one.amplitude == pytest.approx(np.exp(-2 * q * 0.7 * 0.09) * np.sin(1.0), rel=1e-13)


def test_batches_of_angles():
    rng = np.random.default_rng(0)
    gammas, betas = rng.uniform(-0.5, 0.5, (2, 3, 4)), rng.uniform(-1, 1, (2, 3, 4))
    batch = theory.limit_constants(3, gammas, betas)
    assert batch.correlation.shape == (2, 3, 5, 5) and batch.chi.shape == (2, 3, 4) and batch.amplitude.shape == (2, 3)
    single = theory.limit_constants(3, gammas[1, 2], betas[1, 2])
    np.testing.assert_allclose(batch.response[1, 2], single.response, atol=1e-14)
    assert theory.enhancement(3, gammas, betas).shape == (2, 3)


def test_huge_angles_neither_overflow_nor_oscillate():
    constants = theory.limit_constants(3, np.full(5, 30.0), np.full(5, 0.7))
    assert np.all(constants.chi == 0)


# --- the sine-Gaussian law --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "gammas", "betas", "chi", "amplitude", "mean", "second"),
    [
        (2, (0.2242653,), (QUARTER,), (), 0.817765, 0, 0.267496),
        (2, (0.2573, 0.2974), (QUARTER,) * 2, (0.789756,), 0.856477, 0, 0.304008),
        (2, (0.2403, 0.3559, 0.2928), (QUARTER,) * 3, (0.76296, 1.124075), 0.877715, 0, 0.333984),
        (3, (0.1347,), (QUARTER,), (), 0.896852, 0.316652, 0.226215),
        (3, (0.1729, 0.1793), (0.5685, 0.7854), (0.786749,), 0.915651, 0.168999, 0.176041),
        (3, (0.2, 0.2), (0.63, 0.7854), (0.898729,), 0.840583, 0.154110, 0.164283),
    ],
)
def test_reference_limit_laws(q, gammas, betas, chi, amplitude, mean, second):
    constants, law = theory.limit_constants(q, gammas, betas), theory.limit_law(q, gammas, betas)
    np.testing.assert_allclose(constants.chi[:-1], chi, atol=6e-7)
    assert constants.amplitude == pytest.approx(amplitude, abs=6e-7)
    assert law.amplitude == constants.amplitude
    assert law.power == (q - 1) ** len(gammas)
    assert law.mean() == pytest.approx(mean, abs=6e-7)
    assert law.second_moment() == pytest.approx(second, abs=6e-7)
    assert law.std() == pytest.approx(np.sqrt(law.second_moment() - law.mean() ** 2), rel=1e-12)


def test_one_step_law_in_closed_form():
    law = theory.limit_law(3, [0.2], [0.5], 0.7)
    assert law.frequency == pytest.approx(6 * 0.2 * 0.7, rel=1e-14)
    law = theory.limit_law(2, [OPTIMUM], [QUARTER])
    assert law.amplitude == pytest.approx(5**-0.125, rel=1e-13)
    assert law.second_moment() == pytest.approx(0.4 * 5**-0.25, rel=1e-12)
    assert law.moment(4) / law.second_moment() ** 2 == pytest.approx(1.720, abs=6e-4)
    wrong = theory.limit_law(2, [np.log(5) / 32], [QUARTER]).second_moment()  # gamma in place of gamma^2
    assert wrong == pytest.approx(0.0381, abs=6e-5)
    half_damped = theory.limit_law(2, [OPTIMUM], [QUARTER], noise=0.5).second_moment()
    assert half_damped > 1.2 * law.second_moment()


def test_the_signal_enters_as_the_response_power():
    """Lambda^{S_p}: p = 2, q = 3 has the sixth power of Lambda in E R^2 at weak signal."""
    weak = [theory.limit_law(3, [0.2, 0.2], [0.6, 0.7], scale).second_moment() for scale in (0.01, 0.02)]
    assert weak[1] / weak[0] == pytest.approx(2**6, rel=1e-3)


@pytest.mark.parametrize("power", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize(("amplitude", "frequency"), [(0.8, 0.9), (-0.8, 2.0), (0.5, -1.3)])
def test_sine_gaussian_cdf(amplitude, frequency, power):
    """Against the share of a grid of 2 10^5 values, whose own error is up to 1.5e-4 where the sine turns fast."""
    law = theory.SineGaussian(amplitude, frequency, power)
    edge = abs(amplitude)
    x = np.concatenate([[-1.0, -edge], np.linspace(-0.999, 0.999, 21) * edge, [0.0, edge, 1.0]])
    g = np.linspace(-7, 7, 200_001)
    weight = np.exp(-(g**2) / 2) / np.exp(-(g**2) / 2).sum()
    values = law.values(g)
    order = np.argsort(values)
    expected = np.concatenate([[0.0], np.cumsum(weight[order])])[np.searchsorted(values[order], x, side="right")]
    np.testing.assert_allclose(law.cdf(x), expected, rtol=0, atol=2e-4)
    assert np.all(np.diff(law.cdf(np.linspace(-edge, edge, 501))) >= -1e-12)
    np.testing.assert_allclose(law.cdf(np.array([-1.01, 1.01])), [0, 1], atol=1e-12)


def test_sine_gaussian_cdf_is_exact_in_one_dimension():
    """A small frequency keeps the sine monotone: the cdf is Phi(arcsin(x/A)/B) to rounding."""
    law = theory.SineGaussian(0.9, 0.1, 1)
    x = np.linspace(-0.6, 0.6, 13)
    np.testing.assert_allclose(law.cdf(x), ndtr(np.arcsin(x / 0.9) / 0.1), atol=1e-15)
    np.testing.assert_array_equal(theory.SineGaussian(0.0, 1.0, 2).cdf(np.array([-0.1, 0.0, 0.1])), [0, 1, 1])


def test_sine_gaussian_moments_are_those_of_its_cdf():
    law = theory.limit_law(3, [0.1729, 0.1793], [0.5685, 0.7854])
    w = np.linspace(-1, 1, 8001)  # the density diverges at +-A, and at 0 as x^{-3/4}
    x = law.amplitude * np.sin(np.pi / 2 * w**5)
    assert law.mean() == pytest.approx(law.amplitude - np.trapezoid(law.cdf(x), x), abs=1e-6)
    second = law.amplitude**2 - np.trapezoid(2 * x * law.cdf(x), x)
    assert law.second_moment() == pytest.approx(second, abs=1e-6)


def test_smeared_pmf_by_quadrature():
    for law in (theory.SineGaussian(0.8, 0.9, 1), theory.SineGaussian(-0.7, 1.2, 2), theory.SineGaussian(1.0, 0.5, 4)):
        pmf = law.smeared_pmf(5)
        assert pmf.sum() == pytest.approx(1, abs=1e-12)
        for k in (0, 2):
            share = lambda g, k=k, law=law: binom.pmf(k, 5, (1 - law.values(g)) / 2) * np.exp(-(g**2) / 2)
            expected = sum(quad(share, a, a + 0.5, limit=200)[0] for a in np.arange(-8, 8, 0.5)) / np.sqrt(2 * np.pi)
            assert pmf[k] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("n", "distance", "gaussian"),
    [(12, 0.0083, 0.050), (16, 0.0074, 0.062), (20, 0.0070, 0.057), (30, 0.0065, 0.060), (40, 0.0051, 0.061)],
)
def test_smeared_law_against_the_exact_one(n, distance, gaussian):
    """sup |cdf - cdf| of the number of minus spins; a Gaussian of the same variance, at cell edges, is far off."""
    exact = np.cumsum(theory.one_step_pmf(n, 2, np.sqrt(n), OPTIMUM, QUARTER))
    smeared = np.cumsum(theory.limit_law(2, [OPTIMUM], [QUARTER]).smeared_pmf(n))
    assert np.abs(exact - smeared).max() == pytest.approx(distance, abs=6e-5)
    width = np.sqrt(theory.one_step_moments(n, 2, np.sqrt(n), OPTIMUM, QUARTER)[1])
    edges = (2 * np.arange(n + 1) + 1) / n - 1
    assert np.abs(exact - ndtr(edges / width)).max() == pytest.approx(gaussian, abs=6e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.limit_constants(2, [0.1, 0.2], [0.1]), "gammas and betas must be equally many angles"),
        (lambda: theory.limit_constants(2, [], []), "gammas and betas must be equally many angles"),
        (lambda: theory.limit_law(2, np.ones((2, 1)), np.ones((2, 1))), "takes one set of angles"),
        (lambda: theory.bridging_law(8, 1.0, np.ones((2, 1)), np.ones((2, 1))), "takes one set of angles"),
        (lambda: theory.bridging_law(8, 1.0, [0.1] * 5, [0.1] * 5), "nodes, at most 10000000"),
        (lambda: theory.bridging_law(8, 1.0, [0.1], [0.1], spacing=2.0), "spacing of the quadrature must lie in"),
        (lambda: theory.power_iteration_limit(1, 2, 0.0), "scale must be positive, got 0.0"),
        (lambda: theory.power_iteration_limit(1, 2, variance=-1.0), "variance must be positive, got -1.0"),
        (lambda: theory.symmetrised_variance(2, 3), "known for p = 1 or q = 2, got p = 2, q = 3"),
        (lambda: theory.best_enhancement(2, 2, restarts=0), "restarts must be at least 1, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


# --- approach to the limit without noise --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "gammas", "betas", "power", "rates"),
    [
        (2, (0.15, 0.2), (QUARTER,) * 2, 2, (-0.368, -0.390)),
        (2, (0.15, 0.35, 0.2), (QUARTER,) * 3, 2, (-0.778, -0.796)),
        (2, (0.25, 0.2), (QUARTER,) * 2, 2, (-0.969, -0.987)),
        (2, (0.25, 0.25, 0.2), (QUARTER,) * 3, 2, (-1.27, -1.36)),
        (3, (0.1, 0.05), (QUARTER,) * 2, 1, (0.2308, 0.2367)),
        (3, (0.1, 0.05), (0.6, QUARTER), 1, (0.3333, 0.3327)),
    ],
)
def test_noise_free_circuit_tends_to_the_limit_law(q, gammas, betas, power, rates):
    """n^{eps_p} (moment - limit) at the sizes of the references: 100 and 400 at q = 2, 200 and 800 at q = 3."""
    p = len(gammas)
    limit = theory.limit_law(q, gammas, betas, noise=0.0).moment(power)
    for n, rate in zip((100, 400) if q == 2 else (200, 800), rates, strict=True):
        exact = noise_free_moments(n, q, theory.signal_to_noise(n, p, q), gammas, betas)[power - 1]
        assert n ** theory.epsilon(p, q) * (exact - limit) == pytest.approx(rate, abs=6e-3 if rate < -1 else 6e-4)


# --- the bridging law ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gammas", [(0.25, 0.2), (0.2573, 0.2974), (-0.4, 0.3)])
@pytest.mark.parametrize("n", [8, 100, 10**6])
def test_bridging_law_in_closed_form(n, gammas):
    law = theory.bridging_law(n, n**0.25, gammas, (QUARTER, QUARTER), noise=0.0)
    assert law.second_moment() == pytest.approx(quarter_turns_bridge(n, n**0.25, *gammas), abs=1e-12)
    np.testing.assert_allclose(law.spreads * np.sqrt(n), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("gammas", "values"),
    [
        ((0.25, 0.2), {25: -0.278, 50: -0.301, 100: -0.290, 200: -0.266, 400: -0.243}),
        ((0.2573, 0.2974), {25: -0.110, 100: 0.196, 400: 0.250}),
    ],
)
def test_bridging_law_against_the_noise_free_circuit(gammas, values):
    """n (exact - law) stays bounded, where the limit law is off by n^{-1/2}."""
    for n, value in values.items():
        exact = noise_free_moments(n, 2, n**0.25, gammas, (QUARTER,) * 2)[1]
        law = theory.bridging_law(n, n**0.25, gammas, (QUARTER,) * 2, noise=0.0)
        assert n * (exact - law.second_moment()) == pytest.approx(value, abs=2e-3)


def test_bridging_law_needs_covariances_in_the_field():
    """Those at zero field leave n times the difference growing as sqrt n."""
    difference = []
    for n in (25, 100, 400):
        exact = noise_free_moments(n, 2, n**0.25, (0.25, 0.2), (QUARTER,) * 2)[1]
        law = theory.bridging_law(n, n**0.25, (0.25, 0.2), (QUARTER,) * 2, noise=0.0, zero_field_covariance=True)
        difference.append(n * (exact - law.second_moment()))
    np.testing.assert_allclose(difference, [0.77, 4.2, 11.4], atol=0.1)


@pytest.mark.parametrize(("n", "bound"), [(100, 0.8), (1000, 0.8), (10**5, 0.8)])
def test_bridging_law_at_one_step(n, bound):
    """Against the exact one-step formula: n times the difference is bounded, also at sin(4 beta) != 0."""
    for beta in (QUARTER, 0.5):
        exact = theory.one_step_moments(n, 2, np.sqrt(n), 0.2, beta)[1]
        law = theory.bridging_law(n, np.sqrt(n), [0.2], [beta])
        assert n * abs(exact - law.second_moment()) < bound


@pytest.mark.parametrize(
    ("n", "gammas", "betas"),
    [
        (8, (0.2573, 0.2974), (QUARTER,) * 2),
        (20, (0.25, 0.2), (0.5, 0.7)),
        (12, (0.2403, 0.3559, 0.2928), (QUARTER,) * 3),
        (50, (0.3, -0.2, 0.25), (0.5, 0.9, 0.7)),
    ],
)
def test_bridging_law_against_draws(n, gammas, betas):
    """4 s.e. of 15000 draws of the path sum (false alarm 2.5e-4 over the four)."""
    snr = theory.signal_to_noise(n, len(gammas), 2)
    law = theory.bridging_law(n, snr, gammas, betas)
    mean, variance = bridging_draws(n, snr, gammas, betas, 15_000, seed=n)
    second = mean**2 + variance
    assert law.second_moment() == pytest.approx(second.mean(), abs=4 * second.std() / np.sqrt(len(second)))
    x = np.array([-0.8, -0.3, 0.1, 0.6])
    shares = ndtr((x - mean[:, None]) / np.sqrt(np.maximum(variance[:, None], 1e-300)))
    np.testing.assert_allclose(law.cdf(x), shares.mean(0), atol=4 * 0.5 / np.sqrt(len(second)))


@pytest.mark.parametrize(
    ("gammas", "betas", "values", "accuracy"),
    [
        ((0.2573, 0.2974), (QUARTER,) * 2, {8: 0.2711, 12: 0.2619, 16: 0.2605, 18: 0.2608, 20: 0.2612}, 1e-3),
        ((0.25, 0.2), (0.5, 0.7), {8: 0.2659, 12: 0.2437, 16: 0.2330, 20: 0.2266}, 1e-3),
        ((0.2403, 0.3559, 0.2928), (QUARTER,) * 3, {8: 0.1965, 12: 0.1787, 16: 0.1769}, 1e-3),
    ],
)
def test_reference_bridging_laws(gammas, betas, values, accuracy):
    """References are Monte Carlo, +-.0006."""
    for n, value in values.items():
        law = theory.bridging_law(n, theory.signal_to_noise(n, len(gammas), 2), gammas, betas)
        assert law.second_moment() == pytest.approx(value, abs=accuracy)


@pytest.mark.parametrize(
    ("gammas", "betas"), [((0.2573, 0.2974), (QUARTER,) * 2), ((0.2403, 0.3559, 0.2928), (QUARTER,) * 3)]
)
def test_bridging_law_tends_to_the_limit_law(gammas, betas):
    """At rate n^{-eps_p}: the same multiple of it is left at n = 10^8, 10^10 and 10^12."""
    p = len(gammas)
    limit = theory.limit_law(2, gammas, betas)
    scaled = [
        n ** theory.epsilon(p, 2) * (law.second_moment() - limit.second_moment())
        for n in (1e8, 1e10, 1e12)
        for law in [theory.bridging_law(int(n), theory.signal_to_noise(n, p, 2), gammas, betas, spacing=0.5)]
    ]
    np.testing.assert_allclose(scaled[:2], scaled[2], rtol=0.05)


def test_bridging_quadrature_has_converged():
    for gammas, betas in (((0.25, 0.2), (0.5, 0.7)), ((0.3, -0.2, 0.25), (0.5, 0.9, 0.7))):
        snr = theory.signal_to_noise(12, len(gammas), 2)
        coarse, fine = (theory.bridging_law(12, snr, gammas, betas, spacing=h).second_moment() for h in (0.25, 0.2))
        assert coarse == pytest.approx(fine, abs=1e-8)
    x, snr = np.linspace(-1, 1, 21), theory.signal_to_noise(26, 2, 2)
    coarse, fine = (
        theory.bridging_law(26, snr, (0.2573, 0.2974), (QUARTER,) * 2, spacing=h).cdf(x) for h in (0.25, 0.1)
    )
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=1e-5)


def test_gaussian_mixture():
    """Two Gaussians and an atom: cdf and moments by hand; parts of the mixture are arrays of any order."""
    law = theory.GaussianMixture(np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 0.5]), np.array([1.0, 0.5, 0.0]))
    assert law.cdf(0.2) == pytest.approx(0.5 * ndtr(0.2) + 0.3 * ndtr(-1.6), abs=1e-15)
    assert law.cdf(0.6) == pytest.approx(0.5 * ndtr(0.6) + 0.3 * ndtr(-0.8) + 0.2, abs=1e-15)
    assert law.cdf(np.zeros((2, 3))).shape == (2, 3)
    assert law.mean() == pytest.approx(0.4)
    assert law.second_moment() == pytest.approx(0.5 + 0.3 * 1.25 + 0.2 * 0.25)
    assert law.std() == pytest.approx(np.sqrt(law.second_moment() - 0.16))


# --- power iteration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "q", "variance", "mean", "second"),
    [
        (1, 2, 1.0, 0, 0.344320),
        (3, 2, 1.0, 0, 0.344320),
        (1, 2, 0.5, 0, 0.454359),
        (1, 3, 1.0, 0.450072, 0.323237),
        (1, 3, 1 / 3, 0.551072, 0.436122),
    ],
)
def test_reference_power_iteration_limits(p, q, variance, mean, second):
    law = theory.power_iteration_limit(p, q, variance=variance)
    assert law.mean() == pytest.approx(mean, abs=6e-7)
    assert law.second_moment() == pytest.approx(second, abs=6e-7)


@pytest.mark.parametrize(("p", "q", "scale"), [(1, 2, 0.7), (2, 3, 1.2), (2, 4, 0.8)])
def test_power_iteration_limit_cdf(p, q, scale):
    law = theory.power_iteration_limit(p, q, scale, variance=0.6)
    g = np.linspace(-8, 8, 100_001)
    weight = np.exp(-(g**2) / 2) / np.exp(-(g**2) / 2).sum()
    x = np.linspace(-0.95, 0.95, 21)
    expected = np.array([weight[law.values(g) <= level].sum() for level in x])
    np.testing.assert_allclose(law.cdf(x), expected, atol=1e-4)
    np.testing.assert_array_equal(law.cdf(np.array([-1.0, 1.0])), [0, 1])


def test_symmetrised_power_iteration():
    """Its own enhancement at q = 2; 1/q at one step, so that the QAOA's factor against it is e^{-1/2} for every q."""
    factors = [theory.symmetrised_variance(p, 2) ** (-1 / (2 * p)) for p in (1, 2, 3, 4)]
    np.testing.assert_allclose(factors, [1.414, 1.189, 1.081, 1.017], atol=6e-4)
    for q in (2, 3, 6):
        own = theory.symmetrised_variance(1, q) ** -0.5
        assert theory.best_enhancement(1, q).factor / own == pytest.approx(np.exp(-0.5), rel=1e-12)


# --- enhancement --------------------------------------------------------------------------------------------------------

FACTORS = {
    2: (0.85776, 0.96635, 1.02039, 1.04870),
    3: (1.05054, 1.05046, 1.03139, 1.01443),
    4: (1.21306, 1.19159, 1.16146, 1.14186),
    5: (1.35624, 1.28819, 1.25548, 1.24468),
    6: (1.48569, 1.41673, 1.38733, 1.37946),
}


@pytest.mark.parametrize("q", FACTORS)
def test_best_angles_attain_the_factors(q):
    assert theory.best_enhancement(1, q).factor == pytest.approx(FACTORS[q][0], abs=6e-6)
    for p in (2, 3, 4):
        assert theory.enhancement(q, *theory.BEST_ANGLES[p, q]) == pytest.approx(FACTORS[q][p - 1], abs=6e-6)


@pytest.mark.parametrize(("p", "q"), [(1, 2), (1, 5), (2, 2), (2, 3), (2, 4), (2, 5), (2, 6), (3, 2)])
def test_optimiser_finds_the_factors(p, q):
    best = theory.best_enhancement(p, q, restarts=16)
    assert best.factor == pytest.approx(FACTORS[q][p - 1], abs=6e-6)
    assert theory.enhancement(q, best.gammas, best.betas) == pytest.approx(best.factor, rel=1e-9)


def test_one_step_optimum_in_closed_form():
    for q in (2, 3, 4, 6):
        best = theory.best_enhancement(1, q)
        assert best.factor == pytest.approx(np.sqrt(q / np.e), rel=1e-14)
        assert theory.enhancement(q, best.gammas, best.betas) == pytest.approx(best.factor, rel=1e-13)
        doubled = theory.enhancement(q, 2 * best.gammas, best.betas)
        assert doubled / best.factor == pytest.approx(2 * np.exp(-1.5), rel=1e-12)


@pytest.mark.parametrize(
    ("q", "scale", "ratio"), [(2, 0.2, 0.75631), (3, 0.2, 0.86242), (3, 0.01, 1.10362), (2, 0.01, 0.73583)]
)
def test_finite_signal_ratio_to_power_iteration(q, scale, ratio):
    """E R^2 of the limits, and of the exact formula at n = 10^6 less 1/n."""
    gamma = 1 / (2 * np.sqrt(q))
    qaoa = theory.limit_law(q, [gamma], [QUARTER], scale).second_moment()
    power = theory.power_iteration_limit(1, q, scale).second_moment()
    assert qaoa / power == pytest.approx(ratio, abs=6e-6)
    n = 10**6
    exact = theory.one_step_moments(n, q, theory.signal_to_noise(n, 1, q, scale), gamma, QUARTER)[1] - 1 / n
    assert exact == pytest.approx(qaoa, rel=1e-5)


@pytest.mark.parametrize("q", [2, 3])
def test_enhancement_is_the_weak_signal_slope(q):
    """|R| = eta^{S_p} Lambda^{S_p} |g|^{(q-1)^p} as Lambda -> 0."""
    gammas, betas = [0.2, 0.3], [0.6, 0.7]
    law, power = theory.limit_law(q, gammas, betas, 1e-3), theory.response_power(2, q)
    slope = abs(law.amplitude * law.frequency) / 1e-3**power
    assert slope == pytest.approx(theory.enhancement(q, gammas, betas) ** power, rel=1e-12)
