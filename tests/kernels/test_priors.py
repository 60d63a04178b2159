"""Tilted priors against mpmath, automatic differentiation, quadrature by brute force, and reference values."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from theorysim.errors import InputError
from theorysim.kernels.priors import (
    BernoulliGaussian,
    Prior,
    bernoulli_gaussian,
    channel,
    discrete,
    gaussian,
    sample,
    three_point,
    two_point,
)

PRIORS = {
    "U3": three_point(),
    "S3(.1)": three_point(0.1),
    "signs": two_point(),
    "own atoms": discrete([2.5, -0.3, 0.1], [0.1, 0.6, 0.3]),
    "far from zero": discrete([1000.0, 1001.0, 1002.0], [0.2, 0.3, 0.5]),
    "BG(.2,1)": bernoulli_gaussian(0.2),
    "BG(.05,9)": bernoulli_gaussian(0.05, 9.0),
    "N(0,2)": gaussian(2.0),
}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


moments_of = jax.jit(lambda prior, lam, gam: prior.moments(lam, gam))
covariance_of = jax.jit(lambda prior, lam, gam: prior.covariance(lam, gam))
channel_of = jax.jit(channel)
draw = jax.jit(sample)


def scalar(x):
    return jnp.asarray(x, jnp.float64)


def exact(prior, lam, gam):
    """Every moment with 800 digits, since V may be 1e-300: of atoms by the definitions, of a Gaussian slab from raw moments."""
    with mp.workdps(800):
        lam, gam = mp.mpf(float(lam)), mp.mpf(float(gam))
        if isinstance(prior, BernoulliGaussian):
            rho, v = mp.mpf(float(prior.rho)), mp.mpf(float(prior.slab_variance))
            a = 1 + gam * v
            mu, sv = v * lam / a, v / a
            spike, slab = 1 - rho, rho / mp.sqrt(a) * mp.exp(sv * lam**2 / 2)
            log_partition = mp.log(spike + slab)
            normal = [mu, mu**2 + sv, mu**3 + 3 * mu * sv, mu**4 + 6 * mu**2 * sv + 3 * sv**2]
            m, s, third, fourth = (slab * moment / (spike + slab) for moment in normal)
            c11, c12, c22 = s - m**2, third - m * s, fourth - s**2
            schur = c22 - c12**2 / c11
        else:
            atoms, weights = [[mp.mpf(float(x)) for x in field] for field in prior]
            total = sum(weights)
            masses = [w / total * mp.exp(lam * b - gam * b**2 / 2) for b, w in zip(atoms, weights, strict=True)]
            log_partition = mp.log(sum(masses))
            mean_of = lambda f: sum(q * f(b) for b, q in zip(atoms, masses, strict=True)) / sum(masses)
            m, s = mean_of(lambda b: b), mean_of(lambda b: b**2)
            c11, c12 = mean_of(lambda b: (b - m) ** 2), mean_of(lambda b: (b - m) * (b**2 - s))
            c22 = mean_of(lambda b: (b**2 - s) ** 2)
            schur = mean_of(lambda b: (b**2 - s - c12 / c11 * (b - m)) ** 2)
        values = {
            "log_partition": log_partition,
            "mean": m,
            "second_moment": s,
            "variance": c11,
            "divergence": lam * m - gam * s / 2 - log_partition,
            "c11": c11,
            "c12": c12,
            "c22": c22,
            "schur": schur,
        }
        return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "far from zero"])
@pytest.mark.parametrize("gamma", [1e-6, 1e-3, 0.3, 4.0, 50.0, 1e4, 1e6])
def test_mpmath_at_any_signal_to_noise_ratio(name, gamma):
    prior = PRIORS[name]
    rng = np.random.default_rng(int(1e6 * gamma) % 2**32)
    beta = float(draw(jax.random.key(0), prior, scalar(0.0), scalar(0.0)))
    lams = jnp.asarray(gamma * beta + np.sqrt(gamma) * np.append(rng.normal(size=2), 6.0))
    found = {**moments_of(prior, lams, scalar(gamma))._asdict(), **covariance_of(prior, lams, scalar(gamma))._asdict()}
    for i, lam in enumerate(lams):
        expected = exact(prior, lam, gamma)
        # An input rounded by one unit changes probabilities by a relative error of eps (|lam| + gamma) times the support's length.
        rounding = 1e-13 + 2e-15 * (abs(lam) + gamma)
        for field, values in found.items():
            if (
                field == "schur"
            ):  # of differences: where the law has not shrunk to one atom, their rounding enters, squared
                absolute = 1e-31 if expected["c22"] > 1e-17 or name == "signs" else 1e-30 * expected["c22"]
            elif field in ("variance", "c11", "c22"):
                absolute = 1e-28 if (name, field) == ("signs", "c22") else 1e-305  # beta^2 is constant; underflow
            else:
                absolute = 1e-15 * max(1.0, abs(expected["log_partition"]))
            np.testing.assert_allclose(
                values[i], expected[field], rtol=rounding, atol=absolute, err_msg=f"{field}, {lam=}"
            )


def test_reference_values():
    """To the digits given, independently computed."""
    moments = moments_of(PRIORS["U3"], scalar(1.5), scalar(2.0))
    np.testing.assert_allclose(moments[:4], [-0.09401539, 0.57369001, 0.63380778, 0.30468756], atol=5e-9)
    moments = moments_of(PRIORS["BG(.2,1)"], scalar(3.0), scalar(4.0))
    np.testing.assert_allclose(moments[:4], [0.01979634, 0.12940881, 0.12078155, 0.10403491], atol=5e-9)
    for name, gamma, expected in [
        ("U3", 0.5, (0.4973614117, 0.2604976943, 0.1436329378)),
        ("U3", 2.0, (0.2674459865, 0.0880484592, 0.4150412462)),
        ("U3", 5.0, (0.1292888533, 0.0245046662, 0.6905946535)),
        ("U3", 20.0, (0.0128209385, 0.0018345340, 1.0527285554)),
        ("S3(.1)", 5.0, (0.0555316723, 0.0073819402, 0.1920853942)),
        ("BG(.2,1)", 5.0, (0.0651008636, 0.0104634432, 0.2892286932)),
        ("BG(.2,1)", 20.0, (0.0176399374, 0.0009157788, 0.5305866866)),
    ]:
        np.testing.assert_allclose(channel_of(PRIORS[name], scalar(gamma)), expected, atol=6e-11)


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "signs"])
def test_derivatives_of_the_log_partition_function(name):
    """Gradient (m, -s/2) in (lam, gam), Hessian C in (lam, -gam/2): by automatic differentiation of log Z alone."""
    prior = PRIORS[name]
    centre = 1001.0 if name == "far from zero" else 0.0
    lam, gam = jnp.asarray([0.0, 1.3, -3.0, 4.0]), jnp.asarray([0.0, 2.0, 0.7, 5.0])
    lam = lam + gam * centre
    moments, c = moments_of(prior, lam, gam), covariance_of(prior, lam, gam)
    gradients, hessians = derivatives(prior, jnp.stack([lam, -gam / 2], axis=1))
    scale = max(1.0, centre) ** 2
    np.testing.assert_allclose(gradients, np.stack([moments.mean, moments.second_moment], 1), atol=1e-13 * scale)
    matrix = np.moveaxis([[c.c11, c.c12], [c.c12, c.c22]], -1, 0)
    np.testing.assert_allclose(hessians, matrix, atol=1e-11 * scale**2)
    np.testing.assert_allclose(c.c11 * c.schur, np.linalg.det(matrix), rtol=1e-6 * scale)
    np.testing.assert_allclose(moments.variance, c.c11, rtol=1e-12)


@jax.jit
def derivatives(prior, thetas):
    log_z = lambda theta: prior.moments(theta[0], -2 * theta[1]).log_partition
    return jax.vmap(jax.grad(log_z))(thetas), jax.vmap(jax.hessian(log_z))(thetas)


def test_a_prior_far_from_zero_loses_no_digits():
    """Shifted by t, exactly representable: the same V and KL at lam + gam t."""
    near, far = discrete([-1.0, 0.0, 1.0], [0.2, 0.3, 0.5]), PRIORS["far from zero"]
    for lam, gam in [(0.5, 1.0), (-2.0, 4.0)]:
        a, b = moments_of(near, scalar(lam), scalar(gam)), moments_of(far, scalar(lam + 1001 * gam), scalar(gam))
        np.testing.assert_allclose([b.variance, b.divergence], [a.variance, a.divergence], rtol=1e-13)
        np.testing.assert_allclose(b.mean, 1001 + a.mean, rtol=1e-15)


def test_divergence_does_not_cancel_where_the_tilt_is_strong():
    """A law concentrated on one atom is log(1/w) away from P0, whatever the size of lam m - gam s/2 and log Z."""
    moments = moments_of(PRIORS["U3"], scalar(1e9), scalar(1e9))
    np.testing.assert_allclose(moments.divergence, np.log(3), rtol=1e-15)


# --- the scalar channel -----------------------------------------------------------------------------------------------


def test_channel_of_a_gaussian_in_closed_form():
    gamma = jnp.geomspace(1e-6, 1e6, 25)
    found = channel_of(gaussian(2.0), gamma)
    np.testing.assert_allclose(found.mmse, 2 / (1 + 2 * gamma), rtol=1e-12)
    np.testing.assert_allclose(found.variance2, (2 / (1 + 2 * gamma)) ** 2, rtol=1e-12)
    np.testing.assert_allclose(found.information, np.log1p(2 * gamma) / 2, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["U3", "own atoms", "BG(.2,1)", "BG(.05,9)"])
@pytest.mark.parametrize("gamma", [1e-4, 0.1, 3.0, 60.0, 300.0, 2000.0])
def test_channel_by_brute_force(name, gamma):
    """A rectangle rule of 400 000 points in lam over the whole channel law, in NumPy."""
    prior = PRIORS[name]
    if isinstance(prior, BernoulliGaussian):
        rho, v = prior
        sds = np.sqrt([gamma, gamma * (1 + gamma * v)])
        parts = [(1 - rho, 0.0, sds[0]), (rho, 0.0, sds[1])]
    else:
        parts = [(w, gamma * b, np.sqrt(gamma)) for b, w in zip(prior.atoms, prior.weights, strict=True)]
    mmse = variance2 = 0.0
    for weight, centre, sd in parts:
        z = np.linspace(-11, 11, 400_001)
        lam = centre + sd * z
        if isinstance(prior, BernoulliGaussian):
            odds = (1 - rho) / rho * np.sqrt(1 + gamma * v) * np.exp(-v / (1 + gamma * v) * lam**2 / 2)
            slab, mu, sv = 1 / (1 + odds), v * lam / (1 + gamma * v), v / (1 + gamma * v)
            variance = slab * sv + slab * (1 - slab) * mu**2
        else:
            logits = np.log(prior.weights)[:, None] + prior.atoms[:, None] * lam - gamma * prior.atoms[:, None] ** 2 / 2
            q = np.exp(logits - logits.max(0))
            q /= q.sum(0)
            variance = (q * (prior.atoms[:, None] - prior.atoms @ q) ** 2).sum(0)
        density = weight * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
        mmse, variance2 = mmse + density @ variance, variance2 + density @ variance**2
    found = channel_of(prior, scalar(gamma))
    np.testing.assert_allclose(found.mmse, mmse, rtol=1e-10, atol=1e-22)
    np.testing.assert_allclose(found.variance2, variance2, rtol=1e-9, atol=1e-22)


@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=5, unique=True),
    st.lists(st.floats(0.05, 1), min_size=5, max_size=5),
    st.floats(0.02, 60),
)
def test_channel_identities(atoms, weights, gamma):
    """i' = mmse/2, mmse' = -E V^2 by central differences; 0 <= mmse <= min(Var P0, 1/gamma)."""
    with jax.enable_x64(True):
        atoms, weights = np.array(atoms) / 10, np.array(weights[: len(atoms)]) / sum(weights[: len(atoms)])
        h = 1e-4 * gamma
        low, found, high = (channel_of(discrete(atoms, weights), scalar(g)) for g in (gamma - h, gamma, gamma + h))
        assert abs((high.information - low.information) / (2 * h) - found.mmse / 2) < 1e-7
        assert abs((high.mmse - low.mmse) / (2 * h) + found.variance2) < 1e-7
        variance = weights @ atoms**2 - (weights @ atoms) ** 2
        assert 0 <= found.mmse <= min(variance, 1 / gamma) * (1 + 1e-12)


# --- draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["U3", "own atoms", "BG(.2,1)", "N(0,2)"])
@pytest.mark.parametrize(("lam", "gam"), [(0.0, 0.0), (1.5, 3.0)])
def test_draws_have_the_law(name, lam, gam):
    """Randomised probability integral transforms of draws are uniform: Kolmogorov-Smirnov at a fixed key, false alarm 1e-4; and
    the first two moments within four standard errors."""
    prior, count = PRIORS[name], 20_000
    beta, transform, moments = draws(prior, jnp.full(count, lam), jnp.full(count, gam))
    assert kstest(transform, "uniform").pvalue > 1e-4
    assert abs(np.mean(beta) - moments.mean[0]) < 4 * np.std(beta) / np.sqrt(count)
    assert abs(np.mean(beta**2) - moments.second_moment[0]) < 4 * np.std(beta**2) / np.sqrt(count)


@jax.jit
def draws(prior, lam, gam):
    beta = sample(jax.random.key(7), prior, lam, gam)
    below, at = prior.cdf(beta, lam, gam)
    return beta, below + jax.random.uniform(jax.random.key(8), lam.shape) * at, prior.moments(lam, gam)


def test_probabilities_of_the_atoms():
    prior = PRIORS["own atoms"]
    found = prior.probabilities(scalar(1.0), scalar(2.0))
    expected = prior.weights * np.exp(prior.atoms - prior.atoms**2)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-14)
    below, at = prior.cdf(scalar(0.1), scalar(1.0), scalar(2.0))
    np.testing.assert_allclose([below, at], [found[1], found[2]], rtol=1e-14)


# --- use --------------------------------------------------------------------------------------------------------------


def test_priors_are_pytrees():
    """A batch of priors under vmap and jit is its members; results follow the dtype of (lam, gam)."""
    densities, lam = np.array([0.1, 0.5, 0.9]), jnp.linspace(-3, 3, 7)
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[three_point(x) for x in densities])
    together = jax.jit(jax.vmap(lambda prior: prior.moments(lam, scalar(2.0))))(batch)
    for i, x in enumerate(densities):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-13, atol=1e-15),
            together,
            three_point(x).moments(lam, scalar(2.0)),
        )
    for prior in PRIORS.values():
        assert isinstance(prior, Prior)
    for prior in (PRIORS["U3"], PRIORS["BG(.2,1)"]):
        fields = (*moments_of(prior, *SINGLE), *covariance_of(prior, *SINGLE), *channel_of(prior, SINGLE[0]))
        assert {field.dtype for field in fields} == {jnp.dtype("float32")}
    single = moments_of(PRIORS["U3"], *SINGLE)
    np.testing.assert_allclose(single, moments_of(PRIORS["U3"], scalar(1.5), scalar(2.0)), rtol=1e-6)


SINGLE = (np.float32(1.5), np.float32(2.0))


def test_half_range():
    assert three_point().half_range() == 1
    assert discrete([5.0], [1.0]).half_range() == 0
    assert bernoulli_gaussian(0.2).half_range() == np.inf


def test_atoms_of_weight_zero_are_left_out():
    prior = discrete([3.0, 1.0, 2.0], [0.0, 0.4, 0.6 + 1e-9])
    np.testing.assert_array_equal(prior.atoms, [1.0, 2.0])
    np.testing.assert_allclose(prior.weights.sum(), 1, rtol=1e-15)


def test_bad_input_is_refused():
    for arguments, message in [
        (([], []), r"atoms must be a vector of one or more, got shape \(0,\)"),
        (([1.0, 2.0], [1.0]), r"weights must be as many as the 2 atoms, got shape \(1,\)"),
        (([1.0, np.nan], [0.5, 0.5]), r"atoms must be finite, got \[1.0, nan\]"),
        (([1.0, 1.0], [0.5, 0.5]), r"atoms must be distinct, got \[1.0, 1.0\]"),
        (([1.0, 2.0], [-0.5, 1.5]), r"weights must be finite and not negative, got \[-0.5, 1.5\]"),
        (([1.0, 2.0], [0.5, 0.4]), "weights must sum to one, got the sum 0.9"),
    ]:
        with pytest.raises(InputError, match=message):
            discrete(*arguments)
    with pytest.raises(InputError, match=r"density .* must lie in \(0, 1\), got 1.0"):
        three_point(1.0)
    with pytest.raises(InputError, match=r"weight .* must lie in \(0, 1\), got 0"):
        two_point(0)
    with pytest.raises(InputError, match=r"weight rho of the Gaussian must lie in \(0, 1\], got 0"):
        bernoulli_gaussian(0)
    with pytest.raises(InputError, match="variance must be positive and finite, got -1"):
        gaussian(-1)
