"""Noisy gradient descent against autodiff of the objective, closed forms of the linear-Gaussian model and NumPy loops."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from theorysim.errors import InputError
from theorysim.kernels import langevin, losses
from theorysim.kernels.langevin import Model, Reduction, Ridge

# The linear-Gaussian model
Z = np.array([[1, 0.5, -0.3], [-0.4, 1.2, 0.8], [0.3, -0.9, 1.1], [1.5, 0.2, 0.6], [-0.7, 0.4, -1.3]])
Y = np.array([1, -1, 0.5, 2, -0.5])
GAUSS = {"lamp": 0.15, "lam": 0.1}
RNG = np.random.default_rng(0)


def network(n, q, N, d, seed=0):
    """Inputs, targets in {-1, 1}, particles."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, q)), rng.choice([-1.0, 1.0], n), rng.normal(size=(N, d))


def own_neuron(x, z):
    return jnp.sin(x[0] * z[0] + x[1]) * jnp.exp(-((x[2] - z[1]) ** 2))


def own_loss(u, y):
    return jnp.log(jnp.cosh(u - y))


NEURONS = {
    "tanh": ("tanh", lambda x, z: np.tanh(x @ z), 0),
    "linear": ("linear", lambda x, z: x @ z, 0),
    "rbf": ("rbf", lambda x, z: np.exp(-np.sum((x - z) ** 2) / 2), 0),
    "3 tanh(w.z+b)": (Ridge("tanh", 3.0, bias=True), lambda x, z: 3 * np.tanh(x[:-1] @ z + x[-1]), 1),
    "softplus": (Ridge("softplus"), lambda x, z: np.log1p(np.exp(x @ z)), 0),
    "own": (own_neuron, lambda x, z: np.sin(x[0] * z[0] + x[1]) * np.exp(-((x[2] - z[1]) ** 2)), 1),
}
LOSSES = {
    "squared": lambda u, y: (u - y) ** 2 / 2,
    "logistic": lambda u, y: jnp.log1p(jnp.exp(-y * u)),
    "own": own_loss,
}


# --- drift ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 12])  # few data are treated one by one
@pytest.mark.parametrize("neuron", NEURONS)
def test_features(neuron, n):
    kernel, h, bias = NEURONS[neuron]
    inputs, y, X = network(n, 2, 7, 2 + bias)
    with jax.enable_x64(True):
        model = Model.of(kernel, "squared", inputs, y, lamp=0.1, lam=0.1)
        ours = jax.jit(lambda X: langevin.predictions(model.neuron, X, model.Z))(X)
    np.testing.assert_allclose(ours, [np.mean([h(x, z) for x in X]) for z in inputs], rtol=1e-13)


@pytest.mark.parametrize(
    ("neuron", "n", "loss"),
    [(neuron, n, "squared") for neuron in NEURONS for n in (3, 12)] + [("tanh", 12, "logistic"), ("own", 3, "own")],
)
def test_drift_is_the_gradient_of_the_objective(neuron, n, loss):
    kernel, _, bias = NEURONS[neuron]
    N, d = 7, 2 + bias
    inputs, y, X = network(n, 2, N, d)
    plain = {
        "tanh": lambda x, z: jnp.tanh(jnp.dot(x, z)),
        "linear": jnp.dot,
        "rbf": lambda x, z: jnp.exp(-jnp.sum((x - z) ** 2) / 2),
        "3 tanh(w.z+b)": lambda x, z: 3 * jnp.tanh(jnp.dot(x[:-1], z) + x[-1]),
        "softplus": lambda x, z: jnp.logaddexp(0.0, jnp.dot(x, z)),
        "own": own_neuron,
    }[neuron]

    def objective(X):
        u = jnp.mean(jax.vmap(lambda x: jax.vmap(lambda z: plain(x, z))(inputs))(X), axis=0)
        return jnp.mean(LOSSES[loss](u, y)) + 0.3 * jnp.mean(jnp.sum(X**2, axis=1))

    with jax.enable_x64(True):
        model = Model.of(kernel, own_loss if loss == "own" else loss, inputs, y, lamp=0.3, lam=0.1)
        value, gradient = jax.value_and_grad(objective), lambda X: langevin.drift(model, X)
        ours, drift, (expected, slope) = jax.jit(lambda X: (langevin.objective(model, X), gradient(X), value(X)))(X)
    np.testing.assert_allclose(ours, expected, rtol=1e-13)
    np.testing.assert_allclose(drift, N * np.asarray(slope), rtol=1e-11, atol=1e-14)


def test_losses_are_differentiated_right():
    u, y = RNG.normal(size=50) * 3, RNG.choice([-1.0, 1.0], 50)
    with jax.enable_x64(True):
        for name, plain in LOSSES.items():
            loss = losses.as_loss(own_loss if name == "own" else name)
            slope, curvature = (jax.vmap(f) for f in (jax.grad(plain), jax.grad(jax.grad(plain))))
            ours, expected = jax.jit(
                lambda u, y, loss=loss, plain=plain, slope=slope, curvature=curvature: (
                    (loss.value(u, y), loss.slope(u, y), loss.curvature(u, y)),
                    (plain(u, y), slope(u, y), curvature(u, y)),
                )
            )(u, y)
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_replicas_share_one_matrix_product():
    inputs, y, _ = network(40, 10, 1, 1)
    model = Model.of("tanh", "squared", inputs.astype("f4"), y.astype("f4"), lamp=0.1, lam=0.1)
    X = jnp.zeros((6, 5, 10), jnp.float32)
    text = str(jax.make_jaxpr(jax.vmap(lambda X: langevin.drift(model, X)))(X))
    assert text.count("dot_general[") == 2
    assert len(re.findall(r"dimension_numbers=\(\(.*?\), \(\[\], \[\]\)\)", text)) == 2  # none is batched
    assert "6,5,40,10" not in text.replace(" ", "")  # no array of replicas, particles, data and coordinates


# --- dynamics ---------------------------------------------------------------------------------------------------------


def test_without_noise_it_is_gradient_descent():
    inputs, y, X = network(12, 2, 5, 2)
    expected = X.copy()
    for _ in range(25):
        h = np.tanh(expected @ inputs.T)
        g = (h.mean(0) - y) / 12
        expected -= 0.3 * ((g * (1 - h**2)) @ inputs + 2 * 0.05 * expected)
    with jax.enable_x64(True):
        model = Model.of("tanh", "squared", inputs, y, lamp=0.05, lam=0.0)
        state, _ = jax.jit(lambda X: langevin.run(random.key(0), langevin.init(X), model, 0.3, steps=25))(X)
    np.testing.assert_allclose(state.particles, expected, rtol=1e-12)
    assert state.step == 25
    assert not state.diverged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_linear_model_follows_its_closed_form(dtype):
    # Independent AR(1) modes: mean mode of rate a0 + s_a along the eigenvectors of Z^T Z/n, all others of rate a0.
    N, R, eta, m0, v0 = 8, 4000, 0.2, np.array([1.0, 1, -1]), 2.0
    s, V = np.linalg.eigh(Z.T @ Z / 5)
    a0, lam = 2 * GAUSS["lamp"], GAUSS["lam"]
    theta = np.linalg.solve(Z.T @ Z / 5 + a0 * np.eye(3), Z.T @ Y / 5)
    times = np.array([1, 5, 20, 60])
    with jax.enable_x64(dtype == "float64"):
        model = Model.of("linear", "squared", Z.astype(dtype), Y.astype(dtype), **GAUSS)
        X = m0 + np.sqrt(v0) * np.random.default_rng(1).normal(size=(R, N, 3))
        states = jax.vmap(langevin.init)(jnp.asarray(X, dtype))
        keys = random.split(random.key(7), R)
        observe = lambda now: (now.step, now.particles)
        history = lambda key, state: langevin.record(key, state, model, eta, times=times, observe=observe)[1]
        steps, trajectory = jax.jit(jax.vmap(history))(keys, states)
    assert trajectory.dtype == dtype
    assert (np.asarray(steps) == times).all()
    trajectory = np.asarray(trajectory, np.float64)

    def variance(a, k):
        stationary = lam / (a * (1 - eta * a / 2))
        return stationary + (v0 - stationary) * (1 - eta * a) ** (2 * k)

    for i, k in enumerate(times):
        mean = trajectory[:, i].mean(1)
        a = a0 + s
        expected = theta + V @ ((1 - eta * a) ** k * (V.T @ (m0 - theta)))
        # 12 z scores and 16 variance ratios: 4.2 and five standard errors have a false alarm probability below .002
        z = V.T @ (mean.mean(0) - expected) / np.sqrt(variance(a, k) / N / R)
        assert np.abs(z).max() < 4.2
        ratio = N * (mean @ V).var(axis=0) / variance(a, k)
        assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / R)
        inner = (trajectory[:, i] - mean[:, None]).var() * N / (N - 1) / variance(a0, k)
        assert abs(inner - 1) < 5 * np.sqrt(2 / (R * (N - 1) * 3))


def test_independent_particles_have_the_law_of_a_single_one():
    # Driven by the optimum's prediction, particles of the linear model are AR(1) processes of rate a0 in all directions.
    N, eta, k = 20000, 0.2, 40
    a0, lam = 2 * GAUSS["lamp"], GAUSS["lam"]
    theta = np.linalg.solve(Z.T @ Z / 5 + a0 * np.eye(3), Z.T @ Y / 5)
    with jax.enable_x64(True):
        model = Model.of("linear", "squared", Z, Y, **GAUSS)
        start = langevin.init(jnp.zeros((N, 3)))
        go = lambda key: langevin.run(key, start, model, eta, steps=k, prediction=jnp.asarray(Z @ theta))
        X = np.asarray(jax.jit(go)(random.key(3))[0].particles)
    expected = lam / (a0 * (1 - eta * a0 / 2)) * (1 - (1 - eta * a0) ** (2 * k))
    # pull of the data term is constant: theta (1 - (1 - eta a0)^k) along the way
    np.testing.assert_allclose(X.mean(0), theta * (1 - (1 - eta * a0) ** k), atol=4.5 * np.sqrt(expected / N))
    np.testing.assert_allclose(np.cov(X.T), expected * np.eye(3), atol=5 * expected * np.sqrt(2 / N))


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_of_a_step_has_variance_2_lam_eta_and_is_independent():
    # A linear neuron on one zero input: pure noise and decay.
    N, d, R, eta, lam = 50, 3, 400, 0.1, 0.7
    with jax.enable_x64(True):
        model = Model.of("linear", "squared", np.zeros((1, d)), np.zeros(1), lamp=1e-9, lam=lam)
        states = jax.vmap(langevin.init)(jnp.zeros((R, N, d)))
        keys = random.split(random.key(2), R)
        observe = lambda now: now.particles
        history = lambda k, s: langevin.record(k, s, model, eta, times=np.array([1, 2]), observe=observe)[1]
        X = np.asarray(jax.jit(jax.vmap(history))(keys, states))
    noise = np.stack([X[:, 0], X[:, 1] - X[:, 0]], axis=1) / np.sqrt(
        2 * lam * eta
    )  # replica, step, particle, coordinate
    assert abs((noise**2).mean() - 1) < 5 * np.sqrt(2 / noise.size)
    others = [noise[:, 0] * noise[:, 1], noise[1:] * noise[:-1], noise[:, :, 1:] * noise[:, :, :-1]]
    others.append(noise[..., 1:] * noise[..., :-1])
    for product in others:
        assert abs(product.mean()) < 5 / np.sqrt(product.size)


# --- divisions that must not matter -----------------------------------------------------------------------------------


def single(model, X, key=0, **options):
    steps = options.pop("steps", 12)
    go = lambda key, X: langevin.run(key, langevin.init(X), model, 0.1, steps=steps, **options)
    return jax.jit(go)(random.key(key), X)


@pytest.mark.slow
@pytest.mark.parametrize(("neuron", "chunk"), [("tanh", 1), ("tanh", 4), ("rbf", 10), ("own", 5)])
def test_chunks_do_not_matter(neuron, chunk):
    kernel, _, bias = NEURONS[neuron]
    inputs, y, X = network(12, 2, 11, 2 + bias)
    with jax.enable_x64(True):
        X = jnp.asarray(X)
        model = Model.of(kernel, "logistic", inputs, y, lamp=0.05, lam=0.1)
        options = {"reduction": langevin.moments(inputs)}
        whole, chunked = single(model, X, **options), single(model, X, chunk=chunk, **options)
        np.testing.assert_allclose(chunked[0].particles, whole[0].particles, rtol=1e-11)
        np.testing.assert_allclose(chunked[1].second, whole[1].second, rtol=1e-11)
        given = lambda chunk: langevin.drift(model, X, prediction=jnp.asarray(y) / 2, chunk=chunk)
        np.testing.assert_allclose(*jax.jit(lambda: (given(chunk), given(None)))(), rtol=1e-12)


def test_a_resumed_run_is_the_same():
    inputs, y, X = network(12, 2, 6, 2)
    model = Model.of("tanh", "squared", inputs.astype("f4"), y.astype("f4"), lamp=0.05, lam=0.1)
    reduction = langevin.moments(model.Z)

    @jax.jit
    def go(state, start, steps, every):
        resumed = Reduction(start, reduction.update)
        return langevin.run(random.key(4), state, model, 0.1, steps=steps, every=every, reduction=resumed)

    start = langevin.init(jnp.asarray(X, jnp.float32))
    for every in (1, 3):
        state, sums = go(start, reduction.start, 20, every)
        parts = (start, reduction.start)
        for steps in (7, 2, 0, 11):
            parts = go(*parts, steps, every)
        for whole, part in zip(jax.tree.leaves((state, sums)), jax.tree.leaves(parts), strict=True):
            np.testing.assert_array_equal(part, whole)
        assert sums.count == 20 // every
    assert go._cache_size() == 1


@pytest.mark.parametrize("together", [None, 1, 5])
def test_replicas_are_the_single_runs(together):
    inputs, y, _ = network(12, 2, 1, 2)
    X = RNG.normal(size=(7, 6, 2))
    with jax.enable_x64(True):
        model = Model.of("tanh", "squared", inputs, y, lamp=0.05, lam=0.1)
        keys, options = random.split(random.key(1), 7), {"steps": 9, "reduction": langevin.moments(inputs[:3])}
        options["points"] = jnp.asarray(inputs[:3])
        go = lambda keys, X: langevin.run_replicas(
            keys, jax.vmap(langevin.init)(X), model, 0.1, together=together, **options
        )
        states, sums = jax.jit(go)(keys, X)
        one = jax.jit(lambda key, X: langevin.run(key, langevin.init(X), model, 0.1, **options))
        for r in range(7):
            state, own = one(keys[r], X[r])
            np.testing.assert_allclose(states.particles[r], state.particles, rtol=1e-12)
            np.testing.assert_allclose(sums.first[r], own.first, rtol=1e-12)
    assert (np.asarray(states.step) == 9).all()


def test_history_and_reduction_agree():
    inputs, y, X = network(12, 2, 6, 2)
    with jax.enable_x64(True):
        model = Model.of("tanh", "squared", inputs, y, lamp=0.05, lam=0.1)
        points = jnp.asarray(inputs[:4] / 2)
        largest = Reduction(jnp.full(4, -jnp.inf), lambda high, now: jnp.maximum(high, now.predictions))
        times = np.arange(2, 21, 2)
        go = lambda X: langevin.record(random.key(0), langevin.init(X), model, 0.1, times=times, points=points)
        state, trace = jax.jit(go)(X)
        last, sums = single(model, X, steps=20, points=points, every=2, reduction=langevin.moments(points))
        _, high = single(model, X, steps=20, points=points, every=2, reduction=largest)
    trace = np.asarray(trace)
    np.testing.assert_array_equal(last.particles, state.particles)
    np.testing.assert_allclose(sums.first, trace.sum(0), rtol=1e-13)
    np.testing.assert_allclose(sums.second, (trace**2).sum(0), rtol=1e-13)
    np.testing.assert_allclose(high, trace.max(0), rtol=1e-13)


def test_merged_networks_are_one_wide_network():
    inputs, *_ = network(12, 2, 1, 2)
    X = RNG.normal(size=(6, 5, 2))
    with jax.enable_x64(True):
        neuron = langevin.NEURONS["tanh"]
        at = jax.jit(jax.vmap(lambda X: langevin.predictions(neuron, X, jnp.asarray(inputs))))
        merged = langevin.merge(at(X), 3)
        np.testing.assert_allclose(merged, at(X.reshape(2, 15, 2)), rtol=1e-13)
        with pytest.raises(InputError, match="M must be a divisor of the 6 networks, got 4"):
            langevin.merge(at(X), 4)


# --- stability --------------------------------------------------------------------------------------------------------


def test_stability_limit():
    a0, s = 2 * GAUSS["lamp"], np.linalg.eigvalsh(Z.T @ Z / 5)
    inputs, y, X = network(12, 2, 4, 2)
    with jax.enable_x64(True):
        linear = Model.of("linear", "squared", Z, Y, **GAUSS)
        limit = jax.jit(langevin.stability_limit)
        np.testing.assert_allclose(limit(linear, RNG.normal(size=(6, 3))), 2 / (a0 + s[-1]), rtol=1e-10)
        model = Model.of("tanh", "logistic", inputs, y, lamp=0.1, lam=0.1)
        hessian = jax.jit(jax.hessian(lambda X: langevin.objective(model, X)))(X).reshape(8, 8) * 4
        np.testing.assert_allclose(limit(model, X), 2 / np.linalg.eigvalsh(hessian)[-1], rtol=1e-8)


def test_divergence_is_reported_at_its_step():
    # Without noise the top mode grows by |1 - eta a| a step, until a coordinate exceeds the bound.
    s, V = np.linalg.eigh(Z.T @ Z / 5)
    a0, eta = 2 * GAUSS["lamp"], 2.5
    theta = np.linalg.solve(Z.T @ Z / 5 + a0 * np.eye(3), Z.T @ Y / 5)
    position = lambda k: theta - V @ ((1 - eta * (a0 + s)) ** k * (V.T @ theta))
    expected = next(k for k in range(1000) if np.abs(position(k)).max() > langevin.BOUND)
    with jax.enable_x64(True):
        model = Model.of("linear", "squared", Z, Y, lamp=GAUSS["lamp"], lam=0.0)
        start = jnp.zeros((2, 4, 3))
        go = jax.jit(
            lambda etas, X: jax.vmap(
                lambda eta, X: langevin.run(
                    random.key(0), langevin.init(X), model, eta, steps=500, reduction=langevin.moments(Z)
                )
            )(etas, X)
        )
        states, sums = go(jnp.array([eta, 0.2]), start)
        assert list(states.diverged) == [True, False]
        assert list(states.step) == [expected - 1, 500]
        assert list(sums.count) == [expected - 1, 500]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states.particles, sums)))
        np.testing.assert_allclose(states.particles[0, 0], position(expected - 1), rtol=1e-9)
        np.testing.assert_allclose(states.particles[1], np.broadcast_to(theta, (4, 3)), rtol=1e-12)
        limit = 2 / (a0 + s[-1])
        message = (
            f"stability limit, {limit:.4g} at the start, got 2.5: 1 of 2 networks diverged, first at step {expected}"
        )
        with pytest.raises(InputError, match=re.escape(message)):
            langevin.require_converged(states, model, eta, start[0])
        langevin.require_converged(jax.tree.map(lambda leaf: leaf[1], states), model, 0.2, start[0])


def test_a_diverged_network_stays_put():
    model = Model.of("linear", "squared", Z.astype("f4"), Y.astype("f4"), **GAUSS)
    state, _ = single(model, jnp.full((2, 3), 1e38, jnp.float32), steps=5)  # beyond the bound from the start
    assert state.diverged
    assert state.step == 0
    again, _ = jax.jit(lambda s: langevin.run(random.key(0), s, model, 0.1, steps=5))(state)
    assert again.diverged
    np.testing.assert_array_equal(again.particles, state.particles)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lamp": 0.0}, "lamp must be positive, got 0.0"),
        ({"lam": -0.1}, "lam must be at least 0, got -0.1"),
        ({"lam": float("nan")}, "lam must be at least 0, got nan"),
        ({"Z": np.zeros((0, 2))}, "number of data n must be at least 1, got 0"),
        ({"Z": np.zeros((3, 0))}, "dimension q of the inputs must be at least 1, got 0"),
        ({"Z": np.full((3, 2), np.nan)}, "inputs Z must be finite"),
        ({"y": np.array([1, np.inf, 1])}, "targets y must be finite"),
        ({"y": np.ones(2)}, re.escape("y must have shape (3,) as Z has 3 rows, got (2,)")),
        ({"y": np.array([1, 0.5, -1]), "loss": "logistic"}, "labels y of the logistic loss must be -1 or 1"),
        ({"loss": "hinge"}, "loss must be one of squared, logistic, or a function"),
        ({"neuron": "relu"}, "neuron must be one of tanh, linear, rbf, or a function"),
        ({"neuron": Ridge("relu")}, "activation must be one of tanh, .*, got 'relu'"),
    ],
)
def test_bad_models(change, message):
    good = {"neuron": "tanh", "loss": "squared", "Z": np.ones((3, 2)), "y": np.ones(3), "lamp": 0.1, "lam": 0.1}
    with jax.enable_x64(True), pytest.raises(InputError, match=message):
        Model.of(**(good | change))


def test_bad_runs():
    with jax.enable_x64(True):
        model = Model.of(Ridge("tanh", bias=True), "squared", np.ones((3, 2)), np.ones(3), lamp=0.1, lam=0.1)
        state, key = langevin.init(jnp.zeros((4, 3))), random.key(0)
        for X, message in (
            (np.zeros((0, 3)), "number of particles N must be at least 1, got 0"),
            (np.zeros((4, 0)), "dimension d of the particles must be at least 1, got 0"),
            (np.full((4, 3), np.inf), "particles must be finite"),
        ):
            with pytest.raises(InputError, match=message):
                langevin.init(jnp.asarray(X))
        for options, message in (
            ({"eta": 0.0}, "eta must be positive, got 0.0"),
            ({"steps": -1}, "steps must be at least 0, got -1"),
            ({"every": 0}, "every must be at least 1, got 0"),
            ({"chunk": 0}, "chunk must be at least 1, got 0"),
            ({"points": jnp.zeros((2, 3))}, "points must have dimension 2 as the inputs Z, got 3"),
            ({"key": random.key(0, impl="rbg")}, "key must be one of threefry2x32"),
            ({"state": langevin.init(jnp.zeros((4, 2)))}, "must be 3 for inputs of dimension 2, got 2"),
        ):
            good = {"key": key, "state": state, "model": model, "eta": 0.1, "steps": 1}
            with pytest.raises(InputError, match=message):
                langevin.run(**(good | options))
        one = jax.tree.map(lambda leaf: leaf[None], state)
        with pytest.raises(InputError, match="together must be at least 1, got 0"):
            langevin.run_replicas(key[None], one, model, 0.1, steps=1, together=0)
