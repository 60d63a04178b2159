"""The scalar channel, state evolution, phases and calibration against quadrature at 30 digits, brute force and known values."""

import itertools

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from theorysim.errors import InputError
from theorysim.papers.tap_amp import theory
from theorysim.papers.tap_amp.theory import S3, U3, BernoulliGaussian, Discrete, Gaussian

BG = BernoulliGaussian(0.2)
UNEVEN = Discrete((-2.0, 0.3, 1.0, 2.0), (0.1, 0.2, 0.3, 0.4))


def shown(reference, value):
    """The reference, printed to so many decimals, is the value rounded."""
    decimals = len(reference.partition(".")[2])
    return abs(float(reference) - value) <= 0.51 * 10.0**-decimals


def expand(prior):
    """Atoms as (weight, mean, variance) of Gaussians, for quadrature that knows nothing of the library."""
    if isinstance(prior, Discrete):
        return [(w, b, 0.0) for w, b in zip(prior.weights, prior.atoms, strict=True)]
    if isinstance(prior, Gaussian):
        return [(1.0, 0.0, prior.v)]
    return [(1 - prior.rho, 0.0, 0.0), (prior.rho, 0.0, prior.v)]


def mp_moments(prior, lam, gam, orders=5):
    """log Z and <beta^r>, r < orders, from the moments of tilted Gaussian components."""
    total = [mp.mpf(0)] * orders
    for w, b, v in expand(prior):
        w, b, v = mp.mpf(w), mp.mpf(b), mp.mpf(v)
        spread = 1 + gam * v
        mass = w / mp.sqrt(spread) * mp.exp((lam * b - gam * b**2 / 2 + lam**2 * v / 2) / spread)
        mean, var = (b + v * lam) / spread, v / spread
        raw = [mp.mpf(1), mean]
        for r in range(2, orders):
            raw.append(mean * raw[-1] + (r - 1) * var * raw[-2])
        total = [t + mass * m for t, m in zip(total, raw, strict=True)]
    return mp.log(total[0]), [t / total[0] for t in total]


def mp_channel(prior, gamma):
    """mmse, E V^2, E[2V^3 - kappa_3^2] and i = gamma E beta^2/2 - E log Z at 30 digits, by Gauss-Legendre on many pieces."""
    with mp.workdps(30):
        gamma = mp.mpf(gamma)
        result = [mp.mpf(0)] * 4
        for w, b, v in expand(prior):
            mean, sd = gamma * b, mp.sqrt(gamma + gamma**2 * mp.mpf(v))
            scale = sd / mp.sqrt(gamma)  # the slab's integrand varies on 1/scale
            inner = [mp.mpf(k) / scale for k in np.arange(0.5, 10, 0.5)] if v else []
            ends = sorted({x for k in inner for x in (-k, k)} | {mp.mpf(k) / 2 for k in range(-24, 25)})

            def averages(z, mean=mean, sd=sd):
                lam = mean + sd * z
                log_z, (_, m1, m2, m3, _) = mp_moments(prior, lam, gamma)
                var, third = m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3
                weight = mp.npdf(z)
                return mp.matrix([var, var**2, 2 * var**3 - third**2, log_z]) * weight

            node, length = np.polynomial.legendre.leggauss(12)
            for low, high in itertools.pairwise(ends):
                for x, h in zip(node, length, strict=True):
                    value = averages((low + high) / 2 + (high - low) / 2 * mp.mpf(x))
                    result = [r + w * h * (high - low) / 2 * u for r, u in zip(result, value, strict=True)]
        second = sum(w * (b**2 + v) for w, b, v in expand(prior))
        return [float(r) for r in (*result[:3], gamma * second / 2 - result[3])]


# --- priors and their tilted laws -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [U3, S3(0.1), UNEVEN, BG, Gaussian(1.7)])
@pytest.mark.parametrize(("lam", "gam"), [(0.0, 0.0), (1.5, 2.0), (-3.0, 4.0), (40.0, 60.0), (2.0, -0.3), (150.0, 2e2)])
def test_tilted_moments(prior, lam, gam):
    tilted = prior.tilted(lam, gam)
    with mp.workdps(60):
        log_z, (_, m1, m2, m3, m4) = mp_moments(prior, mp.mpf(lam), mp.mpf(gam))
        exact = log_z, m1, m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3, m4 - m2**2
        cross = m3 - m1 * m2
    np.testing.assert_allclose(tilted[:3], [float(x) for x in exact[:3]], rtol=2e-13, atol=1e-15)
    np.testing.assert_allclose(tilted[3:], [float(x) for x in exact[3:]], rtol=2e-12, atol=1e-15)
    assert tilted.second_moment == pytest.approx(float(m2), rel=1e-13)
    assert tilted.cross_covariance == pytest.approx(float(cross), rel=1e-12, abs=1e-14)


def test_tilted_reference_values():
    tilted = U3.tilted(1.5, 2.0)
    assert shown("-.09401539", tilted.log_partition) and shown(".57369001", tilted.mean)
    assert shown(".63380778", tilted.second_moment) and shown(".30468756", tilted.variance)
    tilted = BG.tilted(3.0, 4.0)
    assert shown(".01979634", tilted.log_partition) and shown(".12940881", tilted.mean)
    assert shown(".12078155", tilted.second_moment) and shown(".10403491", tilted.variance)


def test_tilted_broadcasts_and_keeps_tiny_variances():
    lam, gam = np.array([-700.0, 0.0, 700.0])[:, None], np.array([0.0, 900.0])
    tilted = U3.tilted(lam, gam)
    assert all(np.shape(value) == (3, 2) for value in tilted)
    odds = np.exp(-(450.0 - 0.0))  # of +1 or -1 against 0 at lam = 0, gam = 900
    assert tilted.variance[1, 1] == pytest.approx(2 * odds, rel=1e-13)
    assert tilted.variance[2, 0] == pytest.approx(np.exp(-700.0), rel=1e-12)
    assert np.shape(U3.log_probabilities(lam, gam)[1]) == (3, 3, 2)


@pytest.mark.parametrize("prior", [U3, S3(0.1), UNEVEN, BG, Gaussian(0.5)])
def test_moments_of_the_prior(prior):
    tilted = prior.tilted(0.0, 0.0)
    for value, exact in ((prior.mean, tilted.mean), (prior.variance, tilted.variance)):
        assert value == pytest.approx(exact, abs=1e-15)
    assert prior.second_moment == pytest.approx(tilted.second_moment, rel=1e-14)
    assert prior.width == (prior.atoms[-1] - prior.atoms[0] if isinstance(prior, Discrete) else np.inf)


# --- scalar channel ---------------------------------------------------------------------------------------------------

CHANNEL_VALUES = [
    (U3, 0.5, (".4973614117", ".2604976943", ".1436329378")),
    (U3, 2.0, (".2674459865", ".0880484592", ".4150412462")),
    (U3, 5.0, (".1292888533", ".0245046662", ".6905946535")),
    (U3, 20.0, (".0128209385", ".0018345340", "1.0527285554")),
    (S3(0.1), 5.0, (".0555316723", ".0073819402", ".1920853942")),
    (BG, 5.0, (".0651008636", ".0104634432", ".2892286932")),
    (BG, 20.0, (".0176399374", ".0009157788", ".5305866866")),
]


@pytest.mark.parametrize(("prior", "gamma", "values"), CHANNEL_VALUES)
def test_channel_reference_values(prior, gamma, values):
    found = theory.mmse(prior, gamma), theory.mean_square_variance(prior, gamma), theory.information(prior, gamma)
    assert all(shown(reference, value) for reference, value in zip(values, found, strict=True))


@pytest.mark.parametrize(("prior", "gamma"), [(U3, 60.0), (S3(0.1), 0.3), (UNEVEN, 8.0), (BG, 3e3), (BG, 1e5)])
def test_channel_at_thirty_digits(prior, gamma):
    np.testing.assert_allclose(theory.scalar_channel(prior, gamma), mp_channel(prior, gamma), rtol=1e-11, atol=1e-14)


def test_gaussian_channel():
    gamma = np.geomspace(1e-3, 1e6, 10)
    v = 2 / (1 + 2 * gamma)
    np.testing.assert_allclose(
        theory.scalar_channel(Gaussian(2.0), gamma), [v, v**2, 2 * v**3, np.log1p(2 * gamma) / 2], rtol=1e-14
    )


PRIORS = st.lists(st.tuples(st.floats(-2, 2), st.floats(0.05, 1)), min_size=2, max_size=5).filter(
    lambda rows: min(np.diff(sorted(b for b, _ in rows)), default=0) > 1e-2
)


@settings(max_examples=40)
@given(PRIORS, st.floats(0.02, 60))
def test_channel_identities(rows, gamma):
    """i' = mmse/2, mmse' = -E V^2, mmse'' as given, Nishimori, and bounds."""
    b, w = np.array(sorted(rows)).T
    prior = Discrete(tuple(b.tolist()), tuple((w / w.sum()).tolist()))
    h = 1e-4 * gamma
    low, here, high = (theory.scalar_channel(prior, g) for g in (gamma - h, gamma, gamma + h))
    slope = lambda name: (getattr(high, name) - getattr(low, name)) / (2 * h)
    assert slope("information") == pytest.approx(here.mmse / 2, abs=1e-7)
    assert slope("mmse") == pytest.approx(-here.mean_square_variance, abs=1e-7)
    assert slope("mean_square_variance") == pytest.approx(-here.curvature, abs=1e-6)
    assert 0 <= here.mmse <= min(prior.variance, 1 / gamma) * (1 + 1e-12) and high.mmse <= low.mmse
    assert theory.bayes_marginals(prior, gamma).mse == pytest.approx(here.mmse, abs=1e-13)


def test_channel_does_not_depend_on_its_batch():
    gamma = np.geomspace(1e-3, 400, 37)
    for prior in (U3, BG):
        batch = theory.mmse(prior, gamma.reshape(37, 1))
        assert batch.shape == (37, 1)
        np.testing.assert_array_equal(batch[:, 0], [theory.mmse(prior, g) for g in gamma])
    assert theory.mmse(U3, 0.0) == pytest.approx(U3.variance, rel=1e-15)


def test_channel_limits():
    """Discrete: everything is learned. Bernoulli-Gaussian: mmse ~ rho/gamma, information ~ (rho/2) log gamma + H."""
    assert theory.information(U3, 1e9) == pytest.approx(np.log(3), abs=1e-15) and theory.mmse(U3, 1e9) == 0
    gamma = 1e13
    assert gamma * theory.mmse(BG, gamma) == pytest.approx(0.2, abs=1e-4)
    label = -0.2 * np.log(0.2) - 0.8 * np.log(0.8)
    assert theory.information(BG, gamma) == pytest.approx(0.1 * np.log(gamma) + label, abs=1e-4)


@pytest.mark.parametrize("prior", [U3, S3(0.1), UNEVEN, BG])
def test_interpolation_is_as_good_as_quadrature(prior):
    gamma = np.exp(np.random.default_rng(1).uniform(*np.log(prior.gamma_range), 300))
    error, information = theory._interpolated(prior, gamma)
    exact = theory.scalar_channel(prior, gamma)
    np.testing.assert_allclose(error, exact.mmse, rtol=0, atol=1e-13)
    np.testing.assert_allclose(information, exact.information, rtol=0, atol=1e-14)


# --- potential, state evolution, fixed points -------------------------------------------------------------------------

FIXED_POINTS = [
    (U3, 1.0, 0.3, ("4.068899395",), (".155766706",), (".809937247",)),
    (U3, 1.0, 0.5, ("1.898882857",), (".276625429",), ()),
    (U3, 1.0, 0.2, ("15.336716433",), (), ()),
    (S3(0.1), 0.5, 0.2, ("5.394895557",), (".052680200",), (".270733160",)),
    (BG, 0.6, 0.1, ("25.098496240",), (), ()),
    (
        U3,
        0.65,
        0.1,
        ("3.411412498", "10.594268872", "64.809289018"),
        (".180536911", ".051353927", ".00002942649"),
        ("1.219364011", "1.240734029", "1.098501542"),
    ),
    (U3, 0.5, 0.1, ("1.544083", "17.315603", "48.798650"), (), ("0.976160", "1.133410", "1.097759")),
    (U3, 0.8, 0.1, ("79.967780",), (), ()),
]


@pytest.mark.parametrize(("prior", "delta", "sigma", "gammas", "errors", "potentials"), FIXED_POINTS)
def test_fixed_point_reference_values(prior, delta, sigma, gammas, errors, potentials):
    found = theory.fixed_points(prior, delta, sigma)
    assert len(found) == len(gammas)
    values = found, theory.mmse(prior, found), theory.rs_potential(prior, delta, sigma, found)
    for references, row in zip((gammas, errors, potentials), values, strict=True):
        assert all(shown(reference, value) for reference, value in zip(references, row, strict=False))
    np.testing.assert_allclose(found * (sigma**2 + values[1]), delta, rtol=1e-12)
    np.testing.assert_allclose(theory.rs_slope(prior, delta, sigma, found), 0, atol=1e-13)
    # every second fixed point is a maximum of phi, and unstable
    curvature, slope = theory.rs_curvature(prior, delta, found), theory.state_evolution_slope(prior, delta, found)
    np.testing.assert_array_equal(curvature > 0, np.arange(len(found)) % 2 == 0)
    np.testing.assert_array_equal(slope < 1, curvature > 0)


def test_potential_derivatives():
    gamma, h = np.geomspace(0.3, 60, 9), 1e-4
    for prior in (U3, BG):
        values = [theory.rs_potential(prior, 0.65, 0.1, gamma * (1 + k * h)) for k in (-1, 0, 1)]
        np.testing.assert_allclose(
            (values[2] - values[0]) / (2 * h * gamma), theory.rs_slope(prior, 0.65, 0.1, gamma), atol=1e-7
        )
        slopes = [theory.rs_slope(prior, 0.65, 0.1, gamma * (1 + k * h)) for k in (-1, 1)]
        np.testing.assert_allclose(
            (slopes[1] - slopes[0]) / (2 * h * gamma), theory.rs_curvature(prior, 0.65, gamma), rtol=1e-5, atol=1e-7
        )


def test_state_evolution():
    errors = theory.state_evolution(U3, 1.0, 0.3, 30).mse
    for t, reference in (
        (0, ".341964"),
        (1, ".242108"),
        (2, ".199334"),
        (4, ".168013"),
        (8, ".156846"),
        (15, ".155783"),
        (29, ".155767"),
    ):
        assert shown(reference, errors[t])
    settings_ = np.array([0.6, 0.9, 1.5]), np.array([0.1, 0.1, 0.4])
    cold, warm = (theory.state_evolution(U3, *settings_, 300, informed=informed) for informed in (False, True))
    assert cold.gamma.shape == cold.mse.shape == (300, 3)
    assert np.all(np.diff(cold.gamma, axis=0) > -1e-12) and np.all(np.diff(warm.gamma, axis=0) < 1e-12)
    np.testing.assert_allclose(cold.gamma[-1], theory.gamma_alg(U3, *settings_), rtol=1e-10)
    np.testing.assert_allclose(warm.gamma[-1], theory.gamma_informed(U3, *settings_), rtol=1e-10)
    np.testing.assert_allclose(cold.gamma[0], settings_[0] / (settings_[1] ** 2 + 2 / 3), rtol=1e-15)


def test_ground_state():
    """Against the minimum of phi over a fine grid; gamma_stat is the largest fixed point in the hard phase."""
    for delta, sigma in ((0.65, 0.1), (0.5, 0.1), (1.0, 0.3)):
        gamma = np.geomspace(1e-2, delta / sigma**2, 4000)
        potential = theory.rs_potential(U3, delta, sigma, gamma)
        assert theory.information_rate(U3, delta, sigma) == pytest.approx(potential.min(), abs=1e-5)
        assert theory.gamma_stat(U3, delta, sigma) == pytest.approx(gamma[potential.argmin()], rel=1e-2)
    rates = theory.evidence_rate(U3, np.array([0.65, 0.5]), 0.1) - theory.noise_entropy(np.array([0.65, 0.5]), 0.1)
    np.testing.assert_allclose(rates, [1.098501542, 0.976160], atol=6e-7)
    assert theory.noise_entropy(0.5, 0.3) == pytest.approx(0.25 * np.log(2 * np.pi * np.e * 0.09), rel=1e-15)


def test_fixed_points_about_to_merge():
    """1e-9 from a spinodal there are three, closer together than any grid; 1e-9 beyond, one."""
    lines = theory.phase_lines(U3, 0.1)
    for line, inside in ((lines.low, 1), (lines.algorithmic, -1)):
        assert len(theory.fixed_points(U3, line + inside * 1e-9, 0.1)) == 3
        assert len(theory.fixed_points(U3, line - inside * 1e-9, 0.1)) == 1
    assert theory.gamma_alg(U3, 0.65, 1e-3) == pytest.approx(0.65e6, rel=1e-8)  # good point, at 1e-8 of the bound


# --- phases -----------------------------------------------------------------------------------------------------------

PHASE_LINES = [
    (U3, 0.05, (".130542", ".411345", ".662282")),
    (U3, 0.1, (".394527", ".572336", ".707901")),
    (U3, 0.15, (".705883", ".756341", ".797529")),
    (S3(0.1), 0.05, (".118295", ".220212", ".315638")),
    (S3(0.1), 0.1, (".337011", ".360032", ".380165")),
    (BG, 0.02, (".349458", ".355384", ".361396")),
    (BernoulliGaussian(0.1), 0.012724, (".187796", ".198482", ".209641")),
]


@pytest.mark.parametrize(("prior", "sigma", "references"), PHASE_LINES)
def test_phase_line_reference_values(prior, sigma, references):
    lines = theory.phase_lines(prior, sigma)
    assert all(shown(reference, line) for reference, line in zip(references, lines, strict=True))


@pytest.mark.parametrize(
    ("prior", "references"),
    [
        (U3, ("12.467593", ".184128", ".904167")),
        (S3(0.1), ("14.296555", ".123067", ".436996")),
        (BG, ("26.736718", ".027965", ".368646")),
        (BernoulliGaussian(0.1), ("23.834673", ".025447", ".217363")),
    ],
)
def test_cusp_reference_values(prior, references):
    cusp = theory.cusp(prior)
    assert cusp is not None
    assert all(shown(reference, value) for reference, value in zip(references, cusp, strict=True))
    inside, outside = theory.phase_lines(prior, cusp.sigma * np.array([1 - 1e-4, 1 + 1e-4]))[1]
    assert inside == pytest.approx(cusp.delta, rel=1e-3) and np.isnan(outside)


def test_no_transition():
    assert theory.cusp(Gaussian(2.0)) is None
    assert np.isnan(theory.phase_lines(Gaussian(2.0), 0.1)).all()
    assert theory.phase(Gaussian(2.0), 0.5, 0.1) == "easy"
    assert theory.noiseless_lines(Gaussian(2.0)) == (1.0, 1.0, 1.0)


def test_noiseless_limit():
    for prior, reference in ((U3, ".648198"), (S3(0.1), ".296869")):
        assert theory.noiseless_lines(prior)[:2] == (0, 0)
        assert shown(reference, theory.noiseless_lines(prior).algorithmic)
    for rho, v, reference in ((0.1, 1.0, ".207559"), (0.2, 1.0, ".355411"), (0.4, 9.0, ".589246")):
        lines = theory.noiseless_lines(BernoulliGaussian(rho, v))
        assert lines[:2] == (rho, rho) and shown(reference, lines.algorithmic)
    lines = theory.phase_lines(BG, np.array([1e-2, 1e-3, 1e-4, 1e-6]))
    for reference, line in zip((".332235", ".283728", ".259079", ".236396"), lines.information, strict=True):
        assert shown(reference, line)
    # far beyond where gamma E beta^2/2 - E log Z could be used
    lines = theory.phase_lines(BG, 1e-8)
    assert (lines.information - 0.2) * np.log(1e16) == pytest.approx(0.975, abs=0.03)
    assert lines.low == pytest.approx(0.2, abs=1e-4) and lines.algorithmic == pytest.approx(0.355411, abs=1e-6)


def test_noise_lines():
    lines = theory.noise_lines(U3, np.array([0.65, 0.8, 0.5, 1.0]))
    assert shown(".000325168", lines.algorithmic[0] ** 2) and shown(".022807310", lines.algorithmic[1] ** 2)
    assert shown(".122311", lines.information[0]) and shown(".160529", lines.information[1])
    assert shown(".019906531", lines.last[0] ** 2) and shown(".027350604", lines.last[1] ** 2)
    assert lines.algorithmic[2] == 0 < lines.information[2] < lines.last[2]  # .5 < delta_alg(0)
    assert np.isnan([line[3] for line in lines]).all()  # 1 > delta_c
    for prior, delta in ((U3, 0.8), (S3(0.1), 0.36), (BG, 0.36)):  # the inverse functions of the phase lines
        lines = theory.noise_lines(prior, delta)
        for line, name in ((lines.algorithmic, "algorithmic"), (lines.information, "information"), (lines.last, "low")):
            assert getattr(theory.phase_lines(prior, line), name) == pytest.approx(delta, rel=1e-9)
    below = theory.noise_lines(BG, np.array([0.1, 0.2 + 1e-3]))  # below the dimension; too close above it
    assert np.isnan(below.last[0]) and below.information[1] == 0 < below.last[1]


def test_phases_by_brute_force():
    """From state evolution run 2,000 steps from both starts, away from the lines."""
    rng = np.random.default_rng(0)
    delta, sigma = rng.uniform(0.2, 0.9, 40), rng.uniform(0.05, 0.2, 40)
    low, high = delta / (sigma**2 + 2 / 3), delta / sigma**2
    grid = np.geomspace(1e-2, 400, 1000)
    table = np.array([theory.mmse(U3, g) for g in grid])
    error = lambda gamma: np.exp(np.interp(np.log(gamma), np.log(grid), np.log(np.maximum(table, 1e-25))))
    for _ in range(2000):
        low, high = delta / (sigma**2 + error(low)), delta / (sigma**2 + error(high))
    bad, good = (theory.rs_potential(U3, delta, sigma, gamma) for gamma in (low, high))
    single = np.abs(np.log(high / low)) < 1e-3
    expected = np.where(single, "easy", np.where(good < bad, "hard", "impossible"))
    found = theory.phase(U3, delta, sigma)
    assert set(found) == {"easy", "hard", "impossible"}
    np.testing.assert_array_equal(found, expected)


def test_phase_map_agrees_with_the_lines():
    delta, sigma = np.meshgrid(np.linspace(0.05, 1.0, 40), np.linspace(0.02, 0.2, 30))
    for prior in (U3, S3(0.1)):
        phase, lines = theory.phase(prior, delta, sigma), theory.phase_lines(prior, sigma[:, 0])
        low, information, algorithmic = (line[:, None] for line in lines)
        np.testing.assert_array_equal(phase == "impossible", (delta > low) & (delta < information))
        np.testing.assert_array_equal(phase == "hard", (delta > information) & (delta < algorithmic))


def test_several_transitions():
    """Atoms at two scales: coarse structure is learned first, and one delta need not tell all transitions."""
    two_scales = Discrete((-1.1, -0.9, 0.9, 1.1), (0.25,) * 4)
    with pytest.raises(InputError, match=r"sigma must be where the prior has one transition at most.*got 0.01"):
        theory.phase_lines(two_scales, np.array([0.15, 0.01]))
    assert theory.phase_lines(two_scales, 0.15).information > 0
    for delta, sigma in ((1.2, 0.02), (0.9, 0.05), (1.0, 0.1)):
        points = theory.fixed_points(two_scales, delta, sigma)
        gamma = np.geomspace(delta / (sigma**2 + two_scales.variance), delta / sigma**2, 20_000)
        value = gamma * (sigma**2 + theory._interpolated(two_scales, gamma)[0]) - delta
        assert len(points) == np.count_nonzero(np.diff(np.sign(value[:-1]))) + (np.sign(value[-2]) < 0)


# --- marginals --------------------------------------------------------------------------------------------------------

LEVELS = np.array([0.5, 0.8, 0.9, 0.95])


@pytest.mark.parametrize(("prior", "gamma"), [(U3, 4.0688994), (U3, 0.2), (U3, 64.8), (S3(0.1), 5.3949), (UNEVEN, 3.0)])
def test_bayes_marginals_are_calibrated(prior, gamma):
    law, channel = theory.bayes_marginals(prior, gamma), theory.scalar_channel(prior, gamma)
    assert law.joint.sum() == pytest.approx(1, abs=1e-13)
    assert law.mse == pytest.approx(channel.mmse, abs=1e-13) and law.variance == pytest.approx(channel.mmse, abs=1e-13)
    assert law.nll == pytest.approx(law.entropy, abs=1e-13)
    assert law.entropy == pytest.approx(prior.entropy - channel.information, abs=1e-13)
    np.testing.assert_allclose(law.coverage(LEVELS), LEVELS, atol=1e-13)
    np.testing.assert_allclose(law.pit_cdf(np.linspace(0, 1, 11)), np.linspace(0, 1, 11), atol=1e-13)
    reliability = law.reliability(np.linspace(0, 1, 11), np.array(prior.atoms) != prior.atoms[1])
    kept = reliability.share > 1e-3
    np.testing.assert_allclose(reliability.frequency[kept], reliability.reported[kept], atol=1e-12)
    assert reliability.share.sum() == pytest.approx(1, abs=1e-13)


@pytest.mark.parametrize(
    ("prior", "sigma", "mse", "variance", "coverage", "nll", "entropy", "margin"),
    [
        (U3, 0.5, ".2906", ".1637", ".8382", ".7836", ".5002", ".386"),
        (U3, 0.6, ".331142", ".225793", ".85740", "", "", ""),
        (S3(0.2), 0.4, ".15184", ".10364", ".8644", "", "", ""),
    ],
)
def test_mean_field_reference_values(prior, sigma, mse, variance, coverage, nll, entropy, margin):
    found = theory.mean_field(prior, 0.5 if prior != U3 else 1.0, sigma)
    law = found.marginals
    values = law.mse, law.variance, law.coverage(0.9), law.nll, law.entropy, found.margin
    references = mse, variance, coverage, nll, entropy, margin
    assert all(shown(reference, value) for reference, value in zip(references, values, strict=True) if reference)
    assert found.stable and law.variance < law.mse and law.nll > law.entropy


def test_mean_field_by_inverting_the_estimator():
    """The same fixed point with r(lam) inverted on a grid, averages over Z, by the trapezoidal rule."""
    delta, sigma = 1.0, 0.5
    g0, error, response = delta / sigma**2, 0.4, 0.0
    node = np.linspace(-8, 8, 1601)
    weight = np.exp(-(node**2) / 2) / np.sum(np.exp(-(node**2) / 2))
    lam = np.linspace(-60, 60, 400_001)
    mean = 2 * np.sinh(lam) * np.exp(-g0 / 2) / (1 + 2 * np.cosh(lam) * np.exp(-g0 / 2))
    square = 2 * np.cosh(lam) * np.exp(-g0 / 2) / (1 + 2 * np.cosh(lam) * np.exp(-g0 / 2))
    for _ in range(300):
        kappa = (delta - response) / sigma**2
        r = np.array([-1.0, 0, 1])[:, None] + np.sqrt((sigma**2 + error) / delta) * node
        at = np.interp(r, (lam - (g0 - kappa) * mean) / kappa, lam)
        m, v = np.interp(at, lam, mean), np.interp(at, lam, square - mean**2)
        average = lambda f, weight=weight: float(np.mean(f @ weight))
        slope = v * kappa / (1 - v * (g0 - kappa))
        error += (average((m - np.array([-1.0, 0, 1])[:, None]) ** 2) - error) / 2
        response += (average(slope) - response) / 2
    found = theory.mean_field(U3, delta, sigma)
    assert found.marginals.mse == pytest.approx(error, abs=2e-7)
    assert found.marginals.variance == pytest.approx(average(v), abs=2e-7)
    assert found.slope == pytest.approx(average(slope**2) / delta, abs=2e-6)
    assert found.margin == pytest.approx(1 - response / sigma**2 * np.max(square - mean**2), abs=1e-6)
    truth, event = np.array([-1, 0, 1])[:, None], np.interp(at, lam, square)
    edges = np.linspace(0, 1, 5)
    bins = [(event >= low) & (event < high) for low, high in itertools.pairwise(edges)]
    reliability = found.marginals.reliability(edges, np.array([True, False, True]))
    np.testing.assert_allclose(reliability.share, [average(inside) for inside in bins], atol=4e-3)
    frequency = [average(inside & (truth != 0)) / average(inside) for inside in bins]
    np.testing.assert_allclose(reliability.frequency, frequency, atol=2e-3)
    assert np.max(np.abs(reliability.frequency - reliability.reported)) > 0.1
    p = np.stack([(square - mean) / 2, 1 - square, (square + mean) / 2])
    below = np.cumsum(p, 0) - p
    inside = [np.interp(at[k], lam, np.clip((0.95 - below[k]) / np.maximum(p[k], 1e-300), 0, 1)) for k in range(3)]
    assert found.marginals.pit_cdf(0.95) == pytest.approx(average(np.array(inside)), abs=1e-5)


def test_mean_field_admissibility():
    """Stable above sigma = .427; a formal fixed point of slope 1.16 at .42; not convex at .3."""
    assert theory.mean_field(U3, 1.0, 0.428).stable
    assert theory.mean_field(U3, 1.0, 0.42).slope == pytest.approx(1.16, abs=5e-3)
    with pytest.raises(InputError, match="margin of convexity of mean field must be positive"):
        theory.mean_field(U3, 1.0, 0.3)


# --- Gaussian prior ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("v", "delta", "sigma"), [(1.0, 0.5, 0.3), (2.0, 1.0, 0.5), (0.7, 3.0, 1.2), (1.0, 0.4, 1e-4)])
def test_gaussian_variances(v, delta, sigma):
    E = theory.gaussian_tap_variance(v, delta, sigma)
    assert E**2 / v + E * (sigma**2 / v + delta - 1) - sigma**2 == pytest.approx(0, abs=1e-14)
    gamma = theory.gamma_alg(Gaussian(v), delta, sigma)
    assert v / (1 + gamma * v) == pytest.approx(E, rel=1e-11)
    # the trace of (I/v + X^T X/sigma^2)^{-1}, over the Marchenko-Pastur law of X^T X of ratio p/n = 1/delta
    edge = (1 - np.sqrt(delta)) ** 2, (1 + np.sqrt(delta)) ** 2
    angle = (np.arange(20_000) + 0.5) * np.pi / 20_000
    x = (edge[0] + edge[1]) / 2 - (edge[1] - edge[0]) / 2 * np.cos(angle)
    root = (edge[1] - edge[0]) / 2 * np.sin(angle)
    density = root**2 / (2 * np.pi * x)
    exact = np.mean(density / (1 / v + x / sigma**2)) * np.pi + max(0, 1 - delta) * v
    assert exact == pytest.approx(E, rel=1e-6)
    assert theory.gaussian_mean_field_variance(v, delta, sigma) == pytest.approx(1 / (1 / v + delta / sigma**2))


def test_gaussian_reference_values():
    assert shown(".1525", theory.gaussian_mean_field_variance(1.0, 0.5, 0.3))
    assert shown(".5684", theory.gaussian_tap_variance(1.0, 0.5, 0.3))
    assert np.shape(theory.gaussian_tap_variance(1.0, np.ones((2, 1)), np.ones(3))) == (2, 3)


@pytest.mark.parametrize(("n", "p"), [(7, 11), (40, 25)])
def test_ridge_posterior(n, p):
    rng = np.random.default_rng(n)
    X, y, v, sigma = rng.normal(size=(n, p)) / np.sqrt(p), rng.normal(size=n), 1.3, 0.4
    covariance = np.linalg.inv(np.eye(p) / v + X.T @ X / sigma**2)
    found = theory.ridge_posterior(X, y, v, sigma)
    np.testing.assert_allclose(found.mean, covariance @ X.T @ y / sigma**2, rtol=1e-11, atol=1e-13)
    assert found.mean_variance == pytest.approx(np.trace(covariance) / p, rel=1e-12)
    gaussian = multivariate_normal(np.zeros(n), sigma**2 * np.eye(n) + v * X @ X.T)
    assert found.log_evidence == pytest.approx(gaussian.logpdf(y), rel=1e-12)


def test_ridge_limit():
    X = np.random.default_rng(5).normal(size=(300, 600)) / np.sqrt(600)
    found = theory.ridge_posterior(X, X[:, 0], 1.0, 0.3)
    assert found.mean_variance == pytest.approx(theory.gaussian_tap_variance(1.0, 0.5, 0.3), abs=5 / 600)


# --- landscape --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [2 / 3, 0.1])
def test_symmetric_point(epsilon):
    """The second derivative of F_TAP/p along s_j = s at m = 0, where D = KL of (s/2, 1-s, s/2) from the prior."""
    delta, sigma = 0.65, 0.1

    def energy(s):
        kl = s * mp.log(s / epsilon) + (1 - s) * mp.log((1 - s) / (1 - epsilon))
        return kl + mp.mpf(delta) / 2 * mp.log(1 + s / mp.mpf(sigma) ** 2)

    with mp.workdps(40):
        for s in (0.1, 0.5, 0.9):
            exact = float(mp.diff(energy, s, 2))
            assert theory.symmetric_point_eigenvalue(s, delta, sigma) == pytest.approx(exact, rel=1e-12)
    assert shown("-15.748393", theory.symmetric_point_eigenvalue(0.1, delta, sigma))


def test_smoothness_and_rate():
    X = np.random.default_rng(2024).normal(size=(200, 200)) / np.sqrt(200)
    step = 1 / theory.smoothness(U3, 0.3, np.linalg.norm(X, 2))
    assert shown(".022662122", step)
    assert shown(".9960658", theory.ngd_rate(step, 0.173602165, 8.378883820))
    assert theory.ngd_rate(0.0225, 0.1972, 7.218) == pytest.approx(0.995567, abs=5e-6)  # its inputs are rounded
    assert theory.ngd_rate(2.2 / 8.378883820, 0.173602165, 8.378883820) == pytest.approx(1.2)
    assert theory.spectral_norm_limit(1.0) == 2 and np.linalg.norm(X, 2) == pytest.approx(2, abs=0.05)
    assert theory.smoothness(BG, 0.3, 2.0) == np.inf
    assert theory.smoothness(UNEVEN, 0.5, 1.5) == pytest.approx(1 + 4 * 1.5**2 / 0.25)


# --- exact posterior --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prior", "n", "p"), [(U3, 3, 3), (S3(0.1), 2, 4), (UNEVEN, 5, 3), (theory.RADEMACHER, 4, 4)])
def test_exact_posterior_by_loops(prior, n, p):
    rng = np.random.default_rng(p)
    X, y, sigma = rng.normal(size=(n, p)) / np.sqrt(p), rng.normal(size=n), 0.5
    evidence, marginals = 0.0, np.zeros((p, len(prior.atoms)))
    for state in itertools.product(range(len(prior.atoms)), repeat=p):
        density = 1.0
        for k in state:
            density *= prior.weights[k]
        for i in range(n):
            residual = y[i] - sum(X[i, j] * prior.atoms[k] for j, k in enumerate(state))
            density *= np.exp(-(residual**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)
        evidence += density
        for j, k in enumerate(state):
            marginals[j, k] += density
    found = theory.exact_posterior(prior, X, y, sigma)
    assert found.log_evidence == pytest.approx(np.log(evidence), rel=1e-12)
    np.testing.assert_allclose(found.marginals, marginals / evidence, rtol=1e-11)
    mean = marginals @ prior.atoms / evidence
    np.testing.assert_allclose(found.mean, mean, rtol=1e-11)
    np.testing.assert_allclose(
        found.variance, marginals @ np.square(prior.atoms) / evidence - mean**2, rtol=1e-9, atol=1e-15
    )


def test_exact_posterior_of_a_batch():
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(2, 3, 4, 3)), rng.normal(size=(2, 3, 4))
    together = theory.exact_posterior(S3(0.3), X, y, 0.4)
    for index in np.ndindex(2, 3):
        alone = theory.exact_posterior(S3(0.3), X[index], y[index], 0.4)
        for whole, part in zip(together, alone, strict=True):
            np.testing.assert_allclose(whole[index], part, rtol=1e-12)


def test_exact_posterior_is_nishimori():
    """Averaged over the model, the posterior variance is the error of the posterior mean, and log evidence the entropy."""
    rng = np.random.default_rng(3)
    p, sigma, runs = 4, 0.5, 600
    gaps = []
    for _ in range(runs):
        X, beta = rng.normal(size=(p, p)) / np.sqrt(p), rng.integers(-1, 2, p).astype(float)
        found = theory.exact_posterior(U3, X, X @ beta + sigma * rng.normal(size=p), sigma)
        gaps.append(np.mean((found.mean - beta) ** 2 - found.variance))
    assert abs(np.mean(gaps)) < 5 * np.std(gaps) / np.sqrt(runs)  # five standard errors: false alarms 6e-7


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Discrete((0.0, 1.0), (0.5, 0.4)), "weights must sum to 1, got"),
        (lambda: Discrete((0.0, 1.0), (1.5, -0.5)), "weights must be positive, got"),
        (lambda: Discrete((0.0, 1.0), (np.nan, 0.5)), "weights must be positive, got"),
        (lambda: Discrete((0.0, 1.0), (1.0,)), "weights must be as many as atoms, got 1 for 2"),
        (lambda: Discrete((0.0,), (1.0,)), "needs at least 2 atoms, got 1"),
        (lambda: Discrete((1.0, 0.0), (0.5, 0.5)), "atoms must increase, got"),
        (lambda: Discrete((0.0, np.inf), (0.5, 0.5)), "atoms must increase, got"),
        (lambda: BernoulliGaussian(0.0), r"rho must lie in \(0, 1\), got 0.0"),
        (lambda: BernoulliGaussian(1.0), r"rho must lie in \(0, 1\), got 1.0"),
        (lambda: BernoulliGaussian(0.2, 0.0), "v must be positive and finite, got 0"),
        (lambda: Gaussian(-1.0), "v must be positive and finite, got -1"),
        (lambda: S3(1.0), r"epsilon must lie in \(0, 1\), got 1.0"),
        (lambda: theory.mmse(U3, -1.0), "gamma must be >= 0 and finite, got -1"),
        (lambda: theory.mmse(U3, np.array([1.0, np.nan])), "gamma must be >= 0 and finite, got nan"),
        (lambda: BG.tilted(0.0, -1.0), r"1 \+ gam v must be positive, got 0"),
        (lambda: theory.gamma_alg(U3, 0.0, 0.1), "delta must be positive and finite, got 0"),
        (lambda: theory.gamma_stat(U3, 0.5, 0.0), "sigma must be positive and finite, got 0"),
        (lambda: theory.phase(U3, 0.5, np.array([0.1, -0.1])), "sigma must be positive and finite, got -0.1"),
        (lambda: theory.rs_potential(U3, 0.5, 0.1, 0.0), "gamma must be positive and finite, got 0"),
        (lambda: theory.state_evolution(U3, 1.0, 0.3, 0), "steps must be at least 1, got 0"),
        (lambda: theory.symmetric_point_eigenvalue(1.0, 0.5, 0.1), r"s must be in \(0, 1\), got 1"),
        (lambda: theory.exact_posterior(U3, np.ones((2, 13)), np.ones(2), 0.5), r"K\^p must be at most 600000"),
        (lambda: theory.exact_posterior(U3, np.ones((2, 3)), np.ones(2), 0.0), "sigma must be positive"),
    ],
)
def test_bad_input_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
