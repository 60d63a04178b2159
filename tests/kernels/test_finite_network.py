"""The law of N neurons: Hubbard-Stratonovich against enumeration and quadrature, sampling against both, published digits."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels import finite_network
from theorysim.kernels.langevin import Model
from theorysim.kernels.losses import Logistic
from theorysim.kernels.mean_field import Grid, Optimum, ball_grid, masses, optimum

POINTS = np.array([0.7, 2.0, 1.0, -0.5, 3.0])[:, None]

solve = jax.jit(optimum)
gibbs_law = jax.jit(finite_network.gibbs_law, static_argnames=("count", "cutoff"))
gibbs_pairs = jax.jit(finite_network.gibbs_pairs, static_argnames=("count", "cutoff"))
quadrature_law = jax.jit(finite_network.quadrature_law, static_argnames="N")
accumulate = jax.jit(finite_network.accumulate, static_argnames=("samples", "chunk"))
estimate = jax.jit(finite_network.estimate)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def squared(n=2, lam=0.05):
    Z, y = np.array([0.7, 2.0, -1.3])[:n, None], np.array([0.8, -0.4, 0.3])[:n]
    return Model.of("tanh", "squared", Z, y, lamp=0.05, lam=lam)


def tanhlog():
    return Model.of("tanh", "logistic", np.array([[0.7], [2.0], [-1.0]]), np.array([1.0, -1, 1]), lamp=0.05, lam=0.05)


def rbf(lam):
    return Model.of("rbf", "squared", np.array([[-1.5], [1.5]]), np.ones(2), lamp=0.02, lam=lam)


def enumerate_law(model, grid, best, N):
    """Sums over all G^N configurations: Delta_N, E B, KL, first and second moment at `POINTS`, marginal, pair density."""
    x, n = np.asarray(grid.nodes)[:, 0], len(model.y)
    p, y = np.asarray(masses(grid, best.log_density)), np.asarray(model.y)
    H = np.tanh(x[:, None] * np.asarray(model.Z)[:, 0])
    f = np.tanh(x[:, None] * POINTS[:, 0])
    f = f - p @ f
    logistic = isinstance(model.loss, Logistic)
    loss = (lambda u: np.log1p(np.exp(-y * u))) if logistic else (lambda u: (u - y) ** 2 / 2)
    slope = (lambda u: -y / (1 + np.exp(y * u))) if logistic else (lambda u: u - y)
    u, G = np.asarray(best.u), len(x)
    Z, EB, first, second, P = 0.0, 0.0, np.zeros(5), np.zeros(5), np.zeros((G,) * N)
    for index in product(range(G), repeat=N):
        v, deviation = H[list(index)].mean(0), f[list(index)].mean(0)
        B = (loss(v) - loss(u) - slope(u) * (v - u)).sum() / n
        weight = p[list(index)].prod() * np.exp(-N / model.lam * B)
        P[index] = weight
        Z, EB = Z + weight, EB + weight * B
        first, second = first + weight * deviation, second + weight * deviation**2
    gap = -model.lam / N * np.log(Z)
    pair = P.sum(axis=tuple(range(2, N))) / Z if N > 1 else np.diag(P / Z)
    one = P.sum(axis=tuple(range(1, N))) / Z
    return gap, EB / Z, N / model.lam * (gap - EB / Z), first / Z, second / Z, one / p, pair / p[:, None] / p


@pytest.mark.slow
@pytest.mark.parametrize(("n", "N"), [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 3)])
def test_against_enumeration(n, N):
    """A coarse grid is a law like any other: P* on nine nodes to the power N."""
    model, grid = squared(n), ball_grid(3.0, 9)
    best = solve(model, grid)
    law = gibbs_law(model, grid, best, N, POINTS, count=121 if n < 3 else 81)
    *expected, pairs = enumerate_law(model, grid, best, N)
    assert law.resolved
    for name, value in zip(law._fields, expected, strict=False):
        np.testing.assert_allclose(getattr(law, name), value, atol=3e-13, err_msg=name)
    np.testing.assert_allclose(law.variance, expected[4] - expected[3] ** 2, atol=3e-13)
    if N > 1:
        found = gibbs_pairs(model, grid, best, N, count=121 if n < 3 else 81)
        np.testing.assert_allclose(found, pairs, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("model", [squared(), tanhlog()])
@pytest.mark.parametrize("N", [1, 2])
def test_quadrature_against_enumeration(model, N):
    grid = ball_grid(3.0, 11)
    best = solve(model, grid)
    law = quadrature_law(model, grid, best, N, POINTS)
    for name, value in zip(law._fields, enumerate_law(model, grid, best, N)[:-1], strict=False):
        np.testing.assert_allclose(getattr(law, name), value, atol=1e-13, err_msg=name)


def test_reference_values_of_the_squared_loss():
    """N Delta_N; N bias and N variance at z = 0.7, 2: tanh neurons, and the gap of radial ones."""
    expected = {
        1: (0.08590942, -0.10743046, -0.09701844, 0.01551201, 0.09703572),
        2: (0.05717951, 0.03100460, 0.08476452, 0.03284319, 0.05010294),
        4: (0.05867819, -0.01025265, 0.01308042, 0.03059513, 0.07100746),
        8: (0.05696166, -0.01466122, -0.00711835, 0.02895103, 0.06737438),
        64: (0.0560488146, -0.01392775, -0.00684642, 0.02883003, 0.06660188),
        256: (0.05595390, -0.01387515, -0.00686666, 0.02881575, 0.06652670),
    }
    model, grid = squared(), ball_grid(8.0, 601)
    best = solve(model, grid)
    for N, values in expected.items():
        law = gibbs_law(model, grid, best, N, POINTS[:2])
        np.testing.assert_allclose(N * np.r_[law.gap, law.bias, law.variance], values, atol=6e-9)
        if N <= 2:
            direct = quadrature_law(model, grid, best, N, POINTS[:2])
            for found, exact in zip(law[:5], direct[:5], strict=True):
                np.testing.assert_allclose(found, exact, atol=3e-13)
    for lam, eight, many in (
        (0.1, 0.05054645, 0.04959818),
        (0.02, 0.02467446, 0.02451618),
        (0.005, 0.00697657, 0.00960118),
    ):
        model, grid = rbf(lam), ball_grid(10.0, 801)
        best = solve(model, grid)
        for N, value in (8, eight), (64, many):
            np.testing.assert_allclose(N * gibbs_law(model, grid, best, N).gap, value, atol=6e-9)


@pytest.mark.slow
def test_reference_values_of_local_chaos():
    """N^2 KL of one and of two neurons, KL of all. N^2 W_2^2 tends to 0.020837, with a remainder O(1/N)."""
    model, grid = squared(), ball_grid(5.5, 401)
    best = solve(model, grid)
    p, distances = masses(grid, best.log_density), {}
    for N, (one, two, whole) in {16: (0.040486, 0.52839, 0.64965), 256: (0.039428, 0.47617, 0.64236)}.items():
        law = gibbs_law(model, grid, best, N)
        np.testing.assert_allclose(N**2 * finite_network.relative_entropy(p, law.marginal), one, atol=6e-7)
        if N == 256:
            pairs = gibbs_pairs(model, grid, best, N, count=61)
            np.testing.assert_allclose(pairs @ p, law.marginal, atol=1e-12)
            entropy = jax.jit(finite_network.relative_entropy)(p[:, None] * p, pairs)
            np.testing.assert_allclose(N**2 * entropy, two, atol=6e-6)
        np.testing.assert_allclose(law.kl, whole, atol=6e-6)
        marginal = best.log_density + jnp.log(law.marginal)
        distances[N] = N**2 * jax.jit(finite_network.wasserstein2_line)(grid, marginal, best.log_density)
    np.testing.assert_allclose((16 * distances[256] - distances[16]) / 15, 0.020837, atol=1e-6)


def test_reference_values_of_the_logistic_loss():
    model, grid = tanhlog(), ball_grid(8.0, 401)
    best = solve(model, grid)
    expected = {
        1: (0.0088299, -0.081122, -0.096616, 0.065988, 0.062471),
        2: (0.0098872, -0.047459, -0.056642, 0.044699, 0.049657),
    }
    for N, values in expected.items():
        law = quadrature_law(model, grid, best, N, jnp.asarray([[2.0], [3.0]]))
        np.testing.assert_allclose(np.r_[N * law.gap, law.bias, law.variance], values, atol=6e-7)


def test_one_program_for_many_problems():
    """Gaps of random data, temperatures and sizes lie between 0 and tr K/(2 n N); each equal to that of its own program."""

    def gap(Z, y, lam, lamp, N, extent):
        model = Model.of("tanh", "squared", Z, y, lamp=lamp, lam=lam)
        grid = ball_grid(extent, 301)
        best = optimum(model, grid)
        law = finite_network.gibbs_law(model, grid, best, N, count=101)
        h = jnp.tanh(grid.nodes @ Z.T) - best.u
        return law.gap, jnp.sum(masses(grid, best.log_density) @ h**2) / (4 * N), law.resolved & best.converged

    rng = np.random.default_rng(0)
    arguments = [rng.uniform(-2, 2, (5, 2, 1)), rng.uniform(-1.5, 1.5, (5, 2)), 10 ** rng.uniform(-1, 0.5, 5)]
    arguments += [10 ** rng.uniform(-1, 0.3, 5), rng.integers(1, 33, 5)]
    arguments += [8 * np.sqrt(arguments[2] / arguments[3]) + 3]
    arguments = [jnp.asarray(a) for a in arguments]
    gaps, bounds, resolved = jax.jit(jax.vmap(gap))(*arguments)
    assert resolved.all()
    assert (gaps > 0).all()
    assert (gaps <= bounds).all()
    assert (gaps > bounds / 10).all()
    np.testing.assert_allclose(
        [jax.jit(gap)(*(a[i] for a in arguments))[0] for i in (0, 3)], np.asarray(gaps)[[0, 3]], rtol=1e-11
    )


def test_a_coarse_quadrature_is_reported():
    model, grid = squared(lam=1e-3), ball_grid(3.0, 201)
    best = solve(model, grid)
    coarse, fine = (gibbs_law(model, grid, best, 4, count=count) for count in (41, 401))
    assert not coarse.resolved
    assert fine.resolved
    np.testing.assert_allclose(gibbs_law(model, grid, best, 4, count=801).gap, fine.gap, rtol=1e-11)
    assert abs(coarse.gap / fine.gap - 1) > 1e-3


def test_powers():
    base = jnp.asarray([0.3 - 0.8j, 0.0, -1.0, 1e-200j])
    for k in (0, 1, 2, 7, 300):
        expected = np.array([(complex(b)) ** k for b in base])
        np.testing.assert_allclose(jax.jit(finite_network._power)(base, jnp.asarray(k)), expected, rtol=1e-12)


def test_wasserstein_distance_of_gaussians():
    """(m - m')^2 + (s - s')^2."""
    grid = ball_grid(10.0, 801)
    x = grid.nodes[:, 0]
    normal = lambda m, s: -((x - m) ** 2) / (2 * s**2) - jnp.log(s * np.sqrt(2 * np.pi))
    distance = jax.jit(finite_network.wasserstein2_line)
    np.testing.assert_allclose(distance(grid, normal(0.3, 0.9), normal(-0.5, 1.2)), 0.73, rtol=1e-6)
    np.testing.assert_allclose(distance(grid, normal(0.0, 1.0), normal(1e-3, 1.001)), 2e-6, rtol=1e-3)
    np.testing.assert_allclose(distance(grid, normal(0.0, 1.0), normal(0.0, 1.0)), 0, atol=1e-14)


# --- two neurons ------------------------------------------------------------------------------------------------------


def pair_model():
    return Model.of("tanh", "squared", np.array([[0.7], [1.2]]), np.array([0.5, -0.4]), lamp=0.4, lam=0.1)


@pytest.mark.slow
def test_identities_of_two_neurons():
    """gap(P) = E B + (lam/2) KL(P || mu* x mu*) = Delta_2 + (lam/2) KL(P || P*), for tempered laws and others."""
    model, grid = pair_model(), ball_grid(3.5, 161)
    best = solve(model, grid)
    P_star = jax.jit(finite_network.pair_gibbs)(model, grid)
    reference = best.log_density[:, None] + best.log_density
    Delta = finite_network.pair_objective(model, grid, P_star) - best.free_energy
    np.testing.assert_allclose(Delta, 0.01720025, atol=6e-9)
    np.testing.assert_allclose(gibbs_law(model, grid, best, 2).gap, Delta, atol=1e-13)
    draw = jax.jit(finite_network.random_pair_law)
    laws = [draw(jax.random.key(i), grid) for i in range(4)]
    laws += [draw(jax.random.key(i), grid, temper=P_star) for i in range(4)]
    for P in laws:
        gap = jax.jit(finite_network.pair_objective)(model, grid, P) - best.free_energy
        energy = jax.jit(finite_network.pair_bregman)(model, grid, best, P)
        np.testing.assert_allclose(energy + 0.05 * finite_network.pair_kl(grid, P, reference), gap, atol=1e-13)
        np.testing.assert_allclose(Delta + 0.05 * finite_network.pair_kl(grid, P, P_star), gap, atol=1e-13)
        np.testing.assert_allclose(np.exp(P).sum() * grid.weights[0] ** 2, 1, rtol=1e-12)
        np.testing.assert_array_equal(P, P.T)
    assert np.unique([float(P[80, 80]) for P in laws]).size == 8


def test_fisher_information_of_gaussians():
    """Two Gaussian laws: E |x/v' - x/v|^2 + |m|^2/v'^2 = 2 v (1/v' - 1/v)^2 + |m|^2/v'^2 about the mean m of the first."""
    grid = ball_grid(6.0, 201)
    x = grid.nodes[:, 0]
    one = -((x - 0.4) ** 2) / (2 * 0.5)
    P = finite_network.normalise_pair(grid, one[:, None] + one)
    Q = finite_network.normalise_pair(grid, -(x[:, None] ** 2 + x**2) / (2 * 0.8))
    expected = 2 * 0.5 * (1 / 0.8 - 1 / 0.5) ** 2 + 2 * 0.4**2 / 0.8**2
    np.testing.assert_allclose(jax.jit(finite_network.pair_fisher)(grid, P, Q), expected, rtol=1e-9)
    quartic = finite_network.normalise_pair(grid, -(jnp.sin(x)[:, None] + jnp.sin(x)))
    smooth = 2 * np.sum(np.exp(one) * (-(x - 0.4) / 0.5 + np.cos(x)) ** 2) / np.sum(np.exp(one))
    np.testing.assert_allclose(finite_network.pair_fisher(grid, P, quartic), smooth, rtol=1e-6)


# --- importance sampling ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("model", "N"), [(squared(), 1), (squared(), 4), (tanhlog(), 1), (tanhlog(), 2)])
def test_sampling_agrees_with_exact_laws(model, N):
    """Thirteen z-scores in each of four cases: one beyond 4.5 with probability 4e-4 in all."""
    grid = ball_grid(8.0, 401)
    best = solve(model, grid)
    exact = quadrature_law(model, grid, best, N, POINTS) if N < 4 else gibbs_law(model, grid, best, N, POINTS)
    sums = accumulate(jax.random.key(0), model, grid, best, N, POINTS, samples=40_000, chunk=500)
    found, errors = estimate(model, N, sums)
    for name in ("gap", "bregman", "kl", "bias", "variance"):
        z = (getattr(found, name) - getattr(exact, name)) / getattr(errors, name)
        assert np.abs(z).max() < 4.5, name
    assert 0.2 < found.effective < 1


def test_errors_of_sampling():
    """Over 40 keys: the spread of the estimates is that reported, within four standard errors 1/sqrt(80)."""
    model, grid, N = squared(), ball_grid(8.0, 201), 3
    best = solve(model, grid)

    def run(key):
        sums = finite_network.accumulate(key, model, grid, best, N, POINTS, samples=4000, chunk=100)
        return finite_network.estimate(model, N, sums)

    found, errors = jax.jit(lambda keys: jax.lax.map(run, keys))(jax.random.split(jax.random.key(1), 40))
    for name in ("gap", "bias", "variance"):
        ratio = np.std(getattr(found, name), axis=0, ddof=1) / np.sqrt(np.mean(getattr(errors, name) ** 2, axis=0))
        np.testing.assert_allclose(ratio, 1, atol=4 / np.sqrt(80))


def test_draws_are_those_of_the_sums():
    model, grid, N = squared(), ball_grid(8.0, 401), 4
    best = solve(model, grid)
    options = {"samples": 20_000, "chunk": 1000}
    draws = jax.jit(partial(finite_network.sample, **options))(jax.random.key(2), model, grid, best, N, POINTS)
    sums = accumulate(jax.random.key(2), model, grid, best, N, POINTS, **options)
    assert draws.deviation.shape == (20_000, 5)
    W, P = np.exp(draws.log_weight), draws.deviation / np.sqrt(N)
    np.testing.assert_allclose(np.sum(sums.weight), W.sum(), rtol=1e-12)
    np.testing.assert_allclose(np.sum(sums.weighted, axis=0), [W @ P, W @ P**2], rtol=1e-9)
    np.testing.assert_allclose(np.sum(sums.plain, axis=0), [P.sum(0), (P**2).sum(0)], rtol=1e-9)
    # Resampled networks have the law P*: mean and variance within 4.5 standard errors (effective size about 6 000)
    exact = gibbs_law(model, grid, best, N, POINTS)
    S = finite_network.resample(jax.random.key(3), draws, 30_000) / np.sqrt(N)
    assert np.abs((S.mean(0) - exact.bias) / np.sqrt(exact.variance / 5000)).max() < 4.5
    np.testing.assert_allclose(S.var(0), exact.variance, rtol=4.5 * np.sqrt(2 / 5000))


def test_neurons_are_drawn_from_the_optimum():
    """Frequencies of the values of a feature that tells all nodes apart, N = 1: chi^2 of 20 cells below its 1 - 1e-4 quantile."""
    grid = Grid(jnp.linspace(-2, 2, 21)[:, None], jnp.full(21, 0.2))
    model = squared()
    best: Optimum = solve(model, grid)
    draws = finite_network.sample(jax.random.key(4), model, grid, best, 1, POINTS[:1], samples=20_000, chunk=4000)
    p = np.asarray(masses(grid, best.log_density))
    h = np.tanh(np.asarray(grid.nodes)[:, 0] * 0.7)
    nearest = np.argmin(np.abs(np.asarray(draws.deviation) + p @ h - h), axis=1)
    counts = np.bincount(nearest, minlength=21)
    assert np.sum((counts - 20_000 * p) ** 2 / (20_000 * p)) < 52.4


def test_bad_input_is_refused():
    model, grid = squared(), ball_grid(3.0, 11)
    best = solve(model, grid)
    law = partial(finite_network.gibbs_law, model, grid, best)
    with pytest.raises(InputError, match="number of neurons N must be at least 1, got 0"):
        law(0)
    with pytest.raises(InputError, match="number of neurons N must be at least 2, got 1"):
        finite_network.gibbs_pairs(model, grid, best, 1)
    with pytest.raises(InputError, match="count must be odd and at least 3, got 40"):
        law(2, count=40)
    with pytest.raises(InputError, match="loss must be squared, got Logistic"):
        finite_network.gibbs_law(tanhlog(), grid, solve(tanhlog(), grid), 2)
    wide = model._replace(Z=jnp.ones((4, 1)), y=jnp.ones(4))
    with pytest.raises(InputError, match="number of data n must be at most 3, got 4"):
        finite_network.gibbs_law(wide, grid, solve(wide, grid), 2)
    with pytest.raises(InputError, match="number of neurons N must be 1 or 2, got 3"):
        finite_network.quadrature_law(model, grid, best, 3)
    with pytest.raises(InputError, match="samples must be a positive multiple of chunk = 4000, got 5000"):
        finite_network.sample(jax.random.key(0), model, grid, best, 2, samples=5000)
    sums = accumulate(jax.random.key(0), model, grid, best, 2, samples=100, chunk=100)
    with pytest.raises(InputError, match="sums must be of at least 2 chunks, got 1"):
        finite_network.estimate(model, 2, sums)
    plane = Grid(jnp.zeros((4, 2)), jnp.ones(4))
    with pytest.raises(InputError, match="nodes must be on a line, got dimension d = 2"):
        finite_network.pair_fisher(plane, jnp.zeros((4, 4)), jnp.zeros((4, 4)))
