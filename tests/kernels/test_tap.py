"""Free energies, gradients, Hessians and minimisers against enumeration, automatic differentiation and dense algebra."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels import amp, tap
from theorysim.kernels.designs import Dense, marchenko_pastur
from theorysim.kernels.priors import bernoulli_gaussian, discrete, gaussian, three_point, two_point
from theorysim.kernels.tap import MeanField, Model, Point, Tap

U3 = three_point()
PRIORS = {
    "U3": U3,
    "skewed": discrete([-1.0, 0.5, 2.0], [0.5, 0.3, 0.2]),
    "BG": bernoulli_gaussian(0.3, 2.0),
}
PENALTIES = ["tap", "mean field"]

evaluate = jax.jit(tap.evaluate)
free_energy = jax.jit(tap.free_energy)
minimise = jax.jit(tap.minimise, static_argnames=("most_steps", "backtrack"))
norm_of = jax.jit(lambda model, point: tap.evaluate(model, point).gradient_norm)
run = jax.jit(tap.run, static_argnames="steps")
smoothness = jax.jit(tap.relative_smoothness)
hessian = jax.jit(tap.hessian)
extremes = jax.jit(tap.whitened_extremes)
smallest = jax.jit(tap.smallest_eigenvalue)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def make(n, p, noise, prior=U3, penalty="tap", seed=0):
    rng = np.random.default_rng(seed)
    X = jnp.asarray(rng.normal(size=(n, p)) / np.sqrt(p))
    y = X @ rng.choice([-1.0, 0.0, 1.0], size=p) + np.sqrt(noise) * rng.normal(size=n)
    penalty = Tap() if penalty == "tap" else tap.mean_field(Dense(X))
    return Model(Dense(X), y, jnp.asarray(noise), prior, penalty)


def anywhere(p, seed=0, wide=True):
    """Natural parameters far from any stationary point; gam >= 0 for all priors alike."""
    rng = np.random.default_rng(seed)
    return Point(
        jnp.asarray((4 if wide else 1) * rng.normal(size=p)), jnp.asarray(rng.uniform(0, 12 if wide else 4, p))
    )


def origin(p):
    return Point(jnp.zeros(p), jnp.zeros(p))


@cache
def reference():
    """The instance of the reference values."""
    rng = np.random.default_rng(2024)
    X = rng.normal(size=(200, 200)) / np.sqrt(200)
    beta = rng.choice([-1, 0, 1], size=200, p=[1 / 3] * 3)
    y = X @ beta + 0.3 * rng.normal(size=200)
    with jax.enable_x64(True):
        model = Model(Dense(jnp.asarray(X)), jnp.asarray(y), jnp.asarray(0.09), U3)
        start = jnp.asarray(rng.normal(size=(2, 200)))
        L = smoothness(model, start[0])
        return model, beta, start, L, minimise(model, origin(200), step=1 / L, tolerance=1e-10, most_steps=8000)


# --- energy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_energies_by_enumeration(seed):
    """The mean-field energy is KL(q || posterior) - log p(y | X), summed over all 3^5 configurations; TAP in formulas."""
    n, p, noise = 4, 5, 0.3
    model = make(n, p, noise, penalty="mean field", seed=seed)
    point = anywhere(p, seed)
    atoms, X, y = np.array([-1.0, 0, 1]), np.asarray(model.design.matrix), np.asarray(model.response)
    q = np.exp(np.outer(point.lam, atoms) - np.outer(point.gam, atoms**2) / 2)
    q /= q.sum(1, keepdims=True)
    energy = 0.0
    for configuration in product(range(3), repeat=p):
        probability = np.prod(q[range(p), configuration])
        residual = y - X @ atoms[list(configuration)]
        log_joint = -p * np.log(3) - residual @ residual / (2 * noise) - n / 2 * np.log(2 * np.pi * noise)
        energy += probability * (np.log(probability) - log_joint)
    np.testing.assert_allclose(free_energy(model, point), energy, rtol=1e-12)

    m, V = q @ atoms, q @ atoms**2 - (q @ atoms) ** 2
    terms = np.sum(q * np.log(3 * q)) + np.sum((y - X @ m) ** 2) / (2 * noise) + n / 2 * np.log(2 * np.pi * noise)
    of_tap = free_energy(model._replace(penalty=Tap()), point)
    np.testing.assert_allclose(of_tap, terms + n / 2 * np.log1p(V.mean() / noise), rtol=1e-12)
    even = free_energy(model._replace(penalty=MeanField(jnp.full(p, n / p))), point)
    np.testing.assert_allclose(even, terms + n * V.mean() / (2 * noise), rtol=1e-12)
    assert of_tap <= even


def test_reference_minimiser():
    """Independent values, to the digits given; message passing stops at the same point."""
    model, beta, _, L, descent = reference()
    np.testing.assert_allclose(1 / L, 0.022662122, atol=5e-10)
    assert descent.converged
    assert 5900 < descent.steps < 5950  # 5922 from the same start at this step
    moments = descent.evaluation.moments
    np.testing.assert_allclose(descent.evaluation.energy, 197.18604788640, atol=1e-10)
    np.testing.assert_allclose(descent.point.gam, 3.89576668707, atol=2e-11)
    np.testing.assert_allclose(moments.variance.mean(), 0.16668888317, atol=5e-12)
    np.testing.assert_allclose(np.mean((moments.mean - beta) ** 2), 0.17668317064, atol=5e-12)
    np.testing.assert_allclose(moments.mean[:3], (-0.08654319, 0.41848051, 0.99543727), atol=5e-9)

    def passed(model):
        state = amp.init(model.design, model.response, 0.0, 2 / 3)
        return amp.run(state, model.design, model.response, U3.moments, 0.09, steps=400)[0]

    state = jax.jit(passed)(model)
    np.testing.assert_allclose(state.mean, moments.mean, atol=1e-9)
    assert norm_of(model, Point(state.lam, jnp.full(200, state.gamma))) < 1e-11


# --- gradient ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradient_by_automatic_differentiation(prior, penalty):
    model, point = make(15, 30, 0.2, PRIORS[prior], penalty), anywhere(30)
    expected = jax.jit(jax.grad(tap.free_energy, argnums=1))(model, point)
    found = jax.jit(tap.gradient)(model, point)
    scale = max(float(jnp.abs(x).max()) for x in expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11 * scale)


# --- Hessian ----------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=1)
def dense(hessian, product):
    p = hessian.mean.size
    return jax.vmap(lambda v: product(hessian, v.reshape(2, p)).ravel())(jnp.eye(2 * p))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_hessian_is_the_derivative_of_the_gradient(prior, penalty):
    """With C = L L^T and theta = (lam, -gam/2): (L^T Hess L)(L^T dtheta) = L^T dgrad, dgrad by automatic differentiation."""
    model, p = make(15, 30, 0.2, PRIORS[prior], penalty), 30

    @jax.jit
    def both(model, point, direction):
        def gradient(point):
            now = tap.evaluate(model, point)
            return jnp.stack([now.lam_residual, -now.gam_residual / 2])

        h = tap.hessian(model, point)
        change = jax.jvp(gradient, (point,), (direction,))[1]
        theta = jnp.stack([direction.lam, -direction.gam / 2])
        left = h.whitened_product(h.factor_transposed(theta))
        in_moments = h.product(h.factor(h.factor_transposed(theta)))
        return left, h.factor_transposed(change), in_moments, change

    rng = np.random.default_rng(1)
    direction = Point(*jnp.asarray(rng.normal(size=(2, p))))
    for wide in (True, False):
        left, right, in_moments, change = both(model, anywhere(p, wide=wide), direction)
        np.testing.assert_allclose(left, right, atol=1e-10 * float(jnp.abs(right).max()))
    # In (m, s) itself where all atoms have mass.
    np.testing.assert_allclose(in_moments, change, atol=1e-9 * float(jnp.abs(change).max()))


def test_hessian_in_blocks():
    """diag(C^{-1}) + [[X^T X/sigma^2 - g, 0], [0, 0]] - (delta/(2 p tau^2)) u u^T, assembled in NumPy, symmetric."""
    n, p, noise = 65, 100, 0.2
    model, point = make(n, p, noise), anywhere(p, wide=False)
    atoms, X = np.array([-1.0, 0, 1]), np.asarray(model.design.matrix)
    q = np.exp(np.outer(point.lam, atoms) - np.outer(point.gam, atoms**2) / 2)
    q /= q.sum(1, keepdims=True)
    m, s = q @ atoms, q @ atoms**2
    expected = np.zeros((2 * p, 2 * p))
    for j in range(p):
        deviations = np.stack([atoms - m[j], atoms**2 - s[j]])
        C = (q[j] * deviations) @ deviations.T
        expected[np.ix_([j, j + p], [j, j + p])] = np.linalg.inv(C)
    tau = noise + np.mean(s - m**2)
    expected[:p, :p] += X.T @ X / noise - n / p / tau * np.eye(p)
    u = np.concatenate([2 * m, -np.ones(p)])
    expected -= n / p / (2 * p * tau**2) * np.outer(u, u)
    h = hessian(model, point)
    np.testing.assert_allclose(dense(h, tap.Hessian.product), expected, atol=1e-9)
    start = jnp.asarray(np.random.default_rng(3).normal(size=(2, p)))
    np.testing.assert_allclose(smallest(h, start).value, np.linalg.eigvalsh(expected)[0], rtol=1e-10)
    whitened = np.linalg.eigvalsh(dense(h, tap.Hessian.whitened_product))
    for pair, value in zip(extremes(h, start), (whitened[0], whitened[-1]), strict=True):
        assert pair.converged
        np.testing.assert_allclose(pair.value, value, rtol=1e-10)


def test_the_landscape_is_not_convex_everywhere():
    """U3 at m = 0, s = 0.1: the direction of equal s has eigenvalue 1/(s(1-s)) - delta/(2 (sigma^2+s)^2)."""
    n, p, s = 65, 100, 0.1
    model = make(n, p, 0.01)
    h = hessian(model, Point(jnp.zeros(p), jnp.full(p, 2 * np.log(2 * (1 - s) / s))))
    start = jnp.asarray(np.random.default_rng(3).normal(size=(2, p)))
    pair = smallest(h, start)
    np.testing.assert_allclose(pair.value, -15.748393, atol=5e-7)
    np.testing.assert_allclose(pair.value, 1 / (s * (1 - s)) - n / p / (2 * (0.01 + s) ** 2), rtol=1e-12)
    np.testing.assert_allclose(np.abs(pair.vector), np.repeat([0, 1 / np.sqrt(p)], p), atol=1e-7)
    assert smallest(h._replace(curvature=jnp.zeros(())), start).value > 0


def test_reference_spectrum():
    model, _, start, _, descent = reference()
    h = hessian(model, descent.point)
    np.testing.assert_allclose(smallest(h, start).value, 0.45629284079, atol=1e-10)
    low, high = extremes(h, start)
    np.testing.assert_allclose([low.value, high.value], [0.173602165, 8.378883820], atol=2e-8)


@pytest.mark.parametrize("lam", [25.0, 40.0, 90.0, 700.0, 2000.0])
def test_spectra_stay_exact_where_variances_vanish(lam):
    """Ten laws of two atoms or nearly one, V from 1e-10 to 0: their moments are held, and the others have the Hessian that they
    would have alone."""
    model, p = make(65, 100, 0.2), 100
    point = Point(jnp.asarray(np.repeat([0.3, -1.0, lam], [50, 40, 10])), jnp.full(p, 5.0))
    h, start = hessian(model, point), jnp.asarray(np.random.default_rng(3).normal(size=(2, p)))
    low, high = extremes(h, start)
    whitened = np.linalg.eigvalsh(dense(h, tap.Hessian.whitened_product))
    np.testing.assert_allclose([low.value, high.value], whitened[[0, -1]], rtol=1e-10)
    inner = h._replace(
        design=Dense(model.design.matrix[:, :90]),
        **{name: getattr(h, name)[:90] for name in ("mean", "l11", "l21", "l22")},
    )
    found = smallest(h, start)
    assert found.converged
    np.testing.assert_allclose(found.value, np.linalg.eigvalsh(dense(inner, tap.Hessian.product))[0], rtol=1e-7)
    assert np.abs(found.vector.reshape(2, p)[:, 90:]).max() < 1e-7


# --- descent ----------------------------------------------------------------------------------------------------------


def test_convergence_is_linear_at_the_rate_of_the_whitened_spectrum():
    """The reference instance at 1/L, where max |1 - eta mu| = 0.9960658; the observed rate is 0.9960519."""
    model, _, start, L, descent = reference()
    low, _ = extremes(hessian(model, descent.point), start)
    _, (energies, norms) = run(model, origin(200), 1 / L, steps=5922)
    inside = np.flatnonzero((norms < 1e-7) & (norms > 1e-9))
    rate = np.exp(np.polyfit(inside, np.log(norms[inside]), 1)[0])
    np.testing.assert_allclose(rate, 0.9960519, atol=1e-6)
    assert abs((1 - rate) / (low.value / L) - 1) < 0.01
    assert np.diff(energies).max() < 1e-12 * energies[0]
    np.testing.assert_allclose(norms[-1], descent.evaluation.gradient_norm, rtol=0.02)


@pytest.mark.parametrize("noise", [0.01, 0.09, 1.0])
def test_energy_never_rises_at_one_over_L(noise):
    """From far away, at steps up to the bound; also the bound itself, on the whitened spectrum anywhere."""
    n, p = 65, 100
    model = make(n, p, noise)
    start = jnp.asarray(np.random.default_rng(3).normal(size=(2, p)))
    L = smoothness(model, start[0])
    np.testing.assert_allclose(L, 1 + np.linalg.norm(model.design.matrix, 2) ** 2 / noise, rtol=1e-9)
    for seed in range(3):
        point = anywhere(p, seed)
        _, (energies, _) = run(model, point, 1 / L, steps=300)
        assert np.diff(energies).max() < 1e-12 * np.abs(energies[0])
        assert extremes(hessian(model, point), start)[1].value <= L


def test_beyond_two_over_mu_max_there_is_no_convergence():
    model, _, _, _, descent = reference()
    for factor, settles in [(1.8, True), (2.2, False)]:
        found = minimise(model, descent.point, step=factor / 8.37888382, tolerance=0.0, most_steps=1000)
        assert (found.evaluation.gradient_norm < 1e-7) == settles


def test_backtracking_finds_the_minimiser_in_fewer_steps():
    model, _, _, L, descent = reference()
    found = minimise(model, origin(200), step=1 / L, tolerance=1e-10, most_steps=2000, backtrack=True)
    assert found.converged
    assert found.steps < 1000
    assert 0 < found.rejected < found.steps / 5
    assert found.step > 2 / L
    np.testing.assert_allclose(found.evaluation.moments.mean, descent.evaluation.moments.mean, atol=1e-9)


def test_backtracking_never_raises_the_energy():
    """Step by step in the hard phase, from a first step far too long."""
    model = make(65, 100, 0.01)
    one = jax.jit(lambda point, step: tap.minimise(model, point, step=step, tolerance=0, most_steps=1, backtrack=True))
    point, step, energies = anywhere(100), jnp.asarray(5.0), []
    for _ in range(200):
        found = one(point, step)
        point, step = found.point, found.step
        energies.append(float(found.evaluation.energy))
    assert np.diff(energies).max() <= 1e-13 * abs(energies[0])
    assert energies[-1] < energies[0] - 1


def test_backtracking_stays_in_the_domain_of_an_unbounded_prior():
    """1 + gam v > 0 is given up by the first trial step, where F is not a number; L is infinite."""
    prior = bernoulli_gaussian(0.2)
    model = make(60, 100, 0.01, prior)
    assert smoothness(model, jnp.ones(100)) == np.inf
    start = Point(jnp.zeros(100), jnp.full(100, 200.0))
    trial = tap.descend(start, evaluate(model, start), 5.0)
    assert jnp.isnan(free_energy(model, trial))
    found = minimise(model, start, step=5.0, tolerance=1e-6, most_steps=20_000, backtrack=True)
    assert found.converged
    assert found.rejected > 0


@pytest.mark.parametrize(("n", "p", "penalty"), [(50, 100, "tap"), (100, 60, "tap"), (50, 100, "mean field")])
def test_ridge_regression_is_the_gaussian_prior(n, p, penalty):
    """TAP and mean-field means are the posterior mean at every size; TAP variances solve their quadratic equation, mean-field
    variances are 1/(1/v + ||X_j||^2/sigma^2)."""
    v, noise = 1.3, 0.25
    model = make(n, p, noise, gaussian(v), penalty)
    X, y = np.asarray(model.design.matrix), np.asarray(model.response)
    ridge = np.linalg.solve(X.T @ X / noise + np.eye(p) / v, X.T @ y / noise)
    found = minimise(model, origin(p), step=0.05, tolerance=1e-10, most_steps=20_000, backtrack=True)
    assert found.converged
    np.testing.assert_allclose(found.evaluation.moments.mean, ridge, atol=1e-9)
    E = np.asarray(found.evaluation.moments.variance)
    if penalty == "tap":
        np.testing.assert_allclose(E**2 / v + E * (noise / v + n / p - 1), noise, rtol=1e-9)
    else:
        np.testing.assert_allclose(E, 1 / (1 / v + (X**2).sum(0) / noise), rtol=1e-9)


# --- naive mean field -------------------------------------------------------------------------------------------------


def test_coordinate_ascent_raises_the_bound_to_a_stationary_point():
    model = make(60, 100, 0.04, penalty="mean field")
    ascend = jax.jit(tap.coordinate_ascent, static_argnames="most_sweeps")
    point, energies = origin(100), []
    for _ in range(7):
        point = ascend(model, point, tolerance=0.0, most_sweeps=1).point
        energies.append(free_energy(model, point))
    assert np.diff(energies).max() <= 0
    found = ascend(model, origin(100), tolerance=1e-12, most_sweeps=2000)
    assert found.change <= 1e-12
    assert norm_of(model, found.point) < 1e-9
    np.testing.assert_allclose(found.point.gam, (np.asarray(model.design.matrix) ** 2).sum(0) / 0.04, rtol=1e-12)


def test_one_sweep_by_hand():
    model = make(6, 5, 0.3, penalty="mean field")
    X, y = np.asarray(model.design.matrix), np.asarray(model.response)
    m = np.zeros(5)
    lam = np.zeros(5)
    for j in range(5):
        norm = X[:, j] @ X[:, j]
        lam[j] = (X[:, j] @ (y - X @ m) + norm * m[j]) / 0.3
        plus, minus = np.exp(lam[j] - norm / 0.6), np.exp(-lam[j] - norm / 0.6)
        m[j] = (plus - minus) / (1 + plus + minus)
    found = jax.jit(partial(tap.coordinate_ascent, tolerance=0, most_sweeps=1))(model, origin(5))
    np.testing.assert_allclose(found.point.lam, lam, atol=1e-13)
    assert found.sweeps == 1


# --- coordinates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", PRIORS)
def test_natural_parameters_invert_the_moments(prior):
    prior = PRIORS[prior]
    point = anywhere(300)
    moments_of = jax.jit(lambda prior, point: prior.moments(*point))
    moments = moments_of(prior, point)
    found = jax.jit(tap.natural_parameters)(prior, moments.mean, moments.second_moment)
    assert found.error <= 1e-13
    assert found.steps < 60
    again = moments_of(prior, found.point)
    np.testing.assert_allclose(again.mean, moments.mean, atol=1e-13)
    np.testing.assert_allclose(again.second_moment, moments.second_moment, atol=1e-13)
    c = jax.jit(lambda prior, point: prior.covariance(*point))(prior, point)
    determined = np.asarray(c.schur) > 1e-3
    assert determined.sum() > 20
    np.testing.assert_allclose(found.point.lam[determined], point.lam[determined], atol=1e-8)


def test_natural_parameters_of_a_symmetric_three_point_law():
    m, s = jnp.asarray([0.1, -0.3, 0.0]), jnp.asarray([0.5, 0.4, 0.9])
    plus, minus, zero = (s + m) / 2, (s - m) / 2, 1 - s
    found = jax.jit(tap.natural_parameters)(U3, m, s).point
    np.testing.assert_allclose(found.lam, np.log(plus / minus) / 2, atol=1e-10)
    np.testing.assert_allclose(found.gam, 2 * np.log(zero) - np.log(plus) - np.log(minus), atol=1e-10)


# --- use --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_batches_and_matrix_free_designs():
    models = [make(40, 50, 0.25, seed=seed) for seed in range(2)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    solve = partial(tap.minimise, step=0.05, tolerance=1e-8, most_steps=3000, backtrack=True)
    together = jax.jit(jax.vmap(lambda model: solve(model, origin(50))))(batch)
    assert together.converged.all()
    for i, model in enumerate(models):
        found = Point(together.point.lam[i], together.point.gam[i])
        assert norm_of(model, found) < 1.1e-8
        design = marchenko_pastur(jax.random.key(i), 40, 50, jnp.float64)
        held = model._replace(design=Dense(design.forward(jnp.eye(50)).T))
        np.testing.assert_allclose(norm_of(model._replace(design=design), found), norm_of(held, found), rtol=1e-11)


def test_bad_input_is_refused():
    model = make(5, 6, 0.3, two_point())
    with pytest.raises(InputError, match="needs three atoms or more, got 2"):
        tap.hessian(model, origin(6))
    with pytest.raises(InputError, match="needs three atoms or more, got 2"):
        tap.natural_parameters(two_point(), jnp.zeros(3), jnp.ones(3))
    with pytest.raises(InputError, match="needs a MeanField penalty, got Tap"):
        tap.coordinate_ascent(model, origin(6), tolerance=1e-6, most_sweeps=3)
    spectral = model._replace(design=marchenko_pastur(jax.random.key(0), 5, 6))
    with pytest.raises(InputError, match="needs a Dense design, got Spectral"):
        tap.coordinate_ascent(spectral, origin(6), tolerance=1e-6, most_sweeps=3)
