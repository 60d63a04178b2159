"""Mean-field Langevin dynamics: noisy gradient descent of N interacting particles, the neurons of a two-layer network.

A network of neurons h(x^i, .) has the prediction h_rho(z) = (1/N) sum_i h(x^i, z); rho is the law of its particles x^i in R^d.
On data (z_j, y_j), j = 1..n, one step is

    x^i <- x^i - eta b^i + sqrt(2 lam eta) xi^i,    b^i = (1/n) sum_j l'(h_rho(z_j), y_j) grad_x h(x^i, z_j) + 2 lamp x^i,

where b^i = N dF/dx^i for the objective F = (1/n) sum_j l(h_rho(z_j), y_j) + lamp (1/N) sum_i |x^i|^2 (Nitanda, Lee, Tan Xing Kai,
Sakaguchi, Suzuki, ICML 2025, arXiv 2502.05784; Chen, Ren, Wang, arXiv 2212.03050).

Functions are of one network; `jit` is the caller's, and `run_replicas` takes many. A step evaluates the N n features once and keeps
them for the gradient. Where they do not fit into a few megabytes, they are evaluated twice, in chunks of particles: once for the
predictions, once for the gradient. (Accumulating the next predictions while particles are written would save nothing, since they
need the moved particles' features, which the next gradient needs again.)

The noise of a coordinate is a function of the key, the step and the coordinate's index alone. So chunking, sharding, batching and
resumption change results by rounding errors only.

>>> model = Model.of("tanh", "squared", Z, y, lamp=0.05, lam=0.05)
>>> state, _ = run_replicas(keys, jax.vmap(init)(particles), model, 0.05, steps=1500)
>>> state, sums = run_replicas(keys, state, model, 0.05, steps=3000, points=points, reduction=moments(points))
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.core import Tracer
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from theorysim.errors import InputError, require
from theorysim.kernels import eigenvalues
from theorysim.kernels.activations import ACTIVATIONS
from theorysim.kernels.losses import Logistic, Loss, as_loss
from theorysim.kernels.noise import counters, key_words, normals

Scalar = Float[Array, ""]
Particles = Float[Array, "N d"]
Features = Float[Array, "N n"]

PRECISE = lax.Precision.HIGHEST
"""No reduced-precision products on accelerators."""

TOGETHER = 2**18
"""Coordinates and features of the networks that take their steps together: a share of the cache. Large arrays, which go through
memory again and again, take two to six times as long on a CPU."""

THIN = 8
"""Most data that are treated one by one, as loops over particles."""

KEPT = 2**23
"""Most features of one network that are kept between prediction and gradient; chunks have an eighth of it."""

BOUND = 1e6
"""A coordinate beyond it has diverged."""

STREAM = 0x4C616E67
"""Of the noise, apart from what callers may draw from, or fold into, the same key."""


# --- neurons ----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Neuron(Protocol):
    """A neuron function h(x, z), differentiated by hand or by JAX."""

    def features(self, X: Particles, Z: Float[Array, "n q"]) -> tuple[Features, Any]:
        """h(x^i, z_j), shape (N, n), and what `pullback` needs."""
        ...

    def pullback(self, saved: Any, X: Particles, Z: Float[Array, "n q"], v: Float[Array, " n"]) -> Particles:
        """sum_j v_j grad_x h(x^i, z_j), shape (N, d)."""
        ...

    def dimension(self, q: int) -> int | None:
        """d for inputs of dimension q; None if it is not known."""
        ...


def _tanh(t: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    value = jnp.tanh(t)
    return value, 1 - value * value


RIDGES = {"tanh": _tanh, **ACTIVATIONS}
"""Activation functions with their slopes, by name."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["radius"], meta_fields=["activation", "bias"])
@dataclass(frozen=True)
class Ridge:
    """h(x, z) = radius phi(<w, z> + b), particles x = (w, b), or x = w without bias; phi a name in `RIDGES`."""

    activation: str
    radius: Scalar | float = 1.0
    bias: bool = False

    def features(self, X: Particles, Z: Float[Array, "n q"]) -> tuple[Features, Any]:
        value, slope = RIDGES[self.activation](_product(X, self._inputs(Z).T))
        return self.radius * value, slope

    def pullback(self, saved: Any, X: Particles, Z: Float[Array, "n q"], v: Float[Array, " n"]) -> Particles:
        return _product(saved * (self.radius * v), self._inputs(Z))

    def dimension(self, q: int) -> int | None:
        return q + self.bias

    def _inputs(self, Z: Float[Array, "n q"]) -> Float[Array, "n d"]:
        return jnp.concatenate([Z, jnp.ones_like(Z[:, :1])], axis=1) if self.bias else Z


class Rbf(NamedTuple):
    """h(x, z) = e^{-|x - z|^2/2}, the exponent as <x, z> - |x|^2/2 - |z|^2/2."""

    def features(self, X: Particles, Z: Float[Array, "n q"]) -> tuple[Features, Any]:
        h = jnp.exp(_product(X, Z.T) - jnp.sum(X**2, axis=1)[:, None] / 2 - jnp.sum(Z**2, axis=1) / 2)
        return h, h

    def pullback(self, saved: Any, X: Particles, Z: Float[Array, "n q"], v: Float[Array, " n"]) -> Particles:
        weights = saved * v
        return _product(weights, Z) - jnp.sum(weights, axis=1)[:, None] * X

    def dimension(self, q: int) -> int | None:
        return q


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["function"])
@dataclass(frozen=True)
class Pointwise:
    """Any h(x, z) of one particle, shape (d,), and one input, shape (q,), differentiated by JAX.

    Functions of inner products <x, z> become matrix products.
    """

    function: Callable[[Float[Array, " d"], Float[Array, " q"]], Scalar]

    def features(self, X: Particles, Z: Float[Array, "n q"]) -> tuple[Features, Any]:
        table = jax.vmap(jax.vmap(self.function, (None, 0)), (0, None))
        return jax.vjp(lambda X: table(X, Z), X)

    def pullback(self, saved: Any, X: Particles, Z: Float[Array, "n q"], v: Float[Array, " n"]) -> Particles:
        return saved(jnp.broadcast_to(v, (len(X), len(v))))[0]

    def dimension(self, q: int) -> int | None:
        return None


def _product(a: Float[Array, "i k"], b: Float[Array, "k j"]) -> Float[Array, "i j"]:
    # Thin products are faster as part of the loops around them.
    if b.shape[0] <= THIN and b.shape[1] * b.shape[0] <= 4 * THIN:
        return functools.reduce(operator.add, (a[:, k, None] * b[k] for k in range(len(b))))
    return jnp.matmul(a, b, precision=PRECISE)


NEURONS: dict[str, Neuron] = {"tanh": Ridge("tanh"), "linear": Ridge("linear"), "rbf": Rbf()}


# --- model ------------------------------------------------------------------------------------------------------------


class Model(NamedTuple):
    """neuron: h. loss: l. Z: inputs, shape (n, q). y: targets, shape (n,). lamp: lambda' > 0 of the regulariser lamp |x|^2.
    lam: the temperature lambda >= 0."""

    neuron: Neuron
    loss: Loss
    Z: Float[Array, "n q"]
    y: Float[Array, " n"]
    lamp: Scalar | float
    lam: Scalar | float

    @classmethod
    def of(
        cls,
        neuron: Neuron | Callable[..., Any] | str,
        loss: Loss | Callable[..., Any] | str,
        Z: Float[Array, "n q"] | Float[np.ndarray, "n q"],
        y: Float[Array, " targets"] | Float[np.ndarray, " targets"],
        *,
        lamp: Scalar | float,
        lam: Scalar | float,
    ) -> Model:
        """A model from names or functions.

        neuron: a name in `NEURONS`, a `Neuron` such as Ridge("tanh", radius=3.0, bias=True), or h(x, z) of shapes (d,), (q,).
        loss: a name in `losses.LOSSES`, a `Loss`, or l(u, y) of two scalars, convex and smooth in u.

        Raises InputError for an unknown name, unless n, q >= 1 and Z and y agree; and, where values are known (not under
        `jit`), unless Z and y are finite, labels of the logistic loss are -1 or 1, lamp > 0 and lam >= 0.
        """
        if isinstance(neuron, str):
            if neuron not in NEURONS:
                raise InputError(f"neuron must be one of {', '.join(NEURONS)}, or a function h(x, z), got {neuron!r}")
            neuron = NEURONS[neuron]
        elif not isinstance(neuron, Neuron):
            neuron = Pointwise(neuron)
        if isinstance(neuron, Ridge) and neuron.activation not in RIDGES:
            raise InputError(f"activation must be one of {', '.join(RIDGES)}, got {neuron.activation!r}")
        model = cls(neuron, as_loss(loss), jnp.asarray(Z), jnp.asarray(y), lamp, lam)
        n, q = model.Z.shape
        require(n >= 1, f"number of data n must be at least 1, got {n}")
        require(q >= 1, f"dimension q of the inputs must be at least 1, got {q}")
        require(model.y.shape == (n,), f"y must have shape ({n},) as Z has {n} rows, got {model.y.shape}")
        _check(model.Z, lambda Z: np.isfinite(Z).all(), "inputs Z must be finite")
        _check(model.y, lambda y: np.isfinite(y).all(), "targets y must be finite")
        if isinstance(model.loss, Logistic):
            _check(model.y, lambda y: (np.abs(y) == 1).all(), "labels y of the logistic loss must be -1 or 1")
        _check(lamp, lambda v: 0 < v < math.inf, "regularisation lamp must be positive, got {}")
        _check(lam, lambda v: 0 <= v < math.inf, "temperature lam must be at least 0, got {}")
        return model


def objective(model: Model, particles: Particles) -> Scalar:
    """F(rho) = (1/n) sum_j l(h_rho(z_j), y_j) + lamp (1/N) sum_i |x^i|^2."""
    u = predictions(model.neuron, particles, model.Z)
    penalty = model.lamp * jnp.mean(jnp.sum(particles**2, axis=1))
    return jnp.mean(model.loss.value(u, model.y)) + penalty


def predictions(
    neuron: Neuron,
    particles: Particles,
    points: Float[Array, "T q"],
    *,
    chunk: int | None = None,
    axis: str | None = None,
) -> Float[Array, " T"]:
    """h_rho(z) at the points. chunk, axis: as in `run`."""
    own = lambda X: jnp.concatenate([jnp.sum(neuron.features(X, z)[0], axis=0) for z in _parts(points)])
    N, T = len(particles), len(points)
    whole, rest = _chunks(particles, _chunk_size(N, T, chunk))
    total = own(rest)
    if len(whole):
        total = total + lax.scan(lambda sums, X: (sums + own(X), None), jnp.zeros_like(total), whole)[0]
    return _mean(total / N, axis)


def drift(
    model: Model,
    particles: Particles,
    *,
    prediction: Float[Array, " n"] | None = None,
    chunk: int | None = None,
    axis: str | None = None,
) -> Particles:
    """b^i, shape (N, d). prediction, chunk, axis: as in `run`."""
    neuron, Z = model.neuron, model.Z
    N, n = len(particles), len(Z)

    parts = _parts(Z)

    def features(X: Particles) -> tuple[Float[Array, " n"], list[Any]]:
        H, saved = zip(*(neuron.features(X, z) for z in parts), strict=True)
        return jnp.concatenate([jnp.mean(h, axis=0) for h in H]), list(saved)

    def pulled(X: Particles, saved: list[Any], u: Float[Array, " n"]) -> Particles:
        slopes = _parts(model.loss.slope(u, model.y) / n)
        terms = (neuron.pullback(kept, X, z, v) for kept, z, v in zip(saved, parts, slopes, strict=True))
        return functools.reduce(operator.add, terms)

    size = _chunk_size(N, n, chunk)
    if size == N:
        mean, saved = features(particles)
        data = pulled(particles, saved, _mean(mean, axis) if prediction is None else prediction)
    else:
        u = predictions(neuron, particles, Z, chunk=size, axis=axis) if prediction is None else prediction
        again = lambda X: pulled(X, features(X)[1], u)
        whole, rest = _chunks(particles, size)
        data = jnp.concatenate([lax.map(again, whole).reshape(-1, particles.shape[1]), again(rest)])
    return data + 2 * model.lamp * particles


# --- dynamics ---------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """particles: X_k, shape (N, d), always finite. step: k.

    diverged: whether a coordinate of X_{k+1} would not be finite or exceed `BOUND`; such a network stays at X_k.
    """

    particles: Particles
    step: Int[Array, ""]
    diverged: Bool[Array, ""]


class Snapshot(NamedTuple):
    """What a reduction sees of X_k. What nobody reads is never computed.

    step: k. particles: X_k, shape (N, d); of this device alone if they are sharded. predictions: at the points, shape (T,).
    """

    step: Int[Array, ""]
    particles: Particles
    predictions: Float[Array, " T"]


class Reduction(NamedTuple):
    """A running reduction over steps: `start`, then `update(accumulated, snapshot)`. To continue one, replace its start."""

    start: Any
    update: Callable[[Any, Snapshot], Any]


NOTHING = Reduction((), lambda accumulated, snapshot: accumulated)


class Moments(NamedTuple):
    """Sums over steps of h_rho(z) and h_rho(z)^2, shapes (T,), and the number of steps."""

    first: Float[Array, " T"]
    second: Float[Array, " T"]
    count: Int[Array, ""]


def moments(points: Float[Array, "T q"] | Float[np.ndarray, "T q"]) -> Reduction:
    """The reduction to `Moments` of the predictions at `points`."""
    zeros = jnp.zeros(len(points), jnp.asarray(points).dtype)

    def update(sums: Moments, now: Snapshot) -> Moments:
        h = now.predictions
        return Moments(sums.first + h, sums.second + h * h, sums.count + 1)

    return Reduction(Moments(zeros, zeros, jnp.zeros((), jnp.int32)), update)


def init(particles: Particles) -> State:
    """State at k = 0.

    Raises InputError unless N, d >= 1 and N d < 2^32; and, where values are known, unless particles are finite.
    """
    N, d = particles.shape
    require(N >= 1, f"number of particles N must be at least 1, got {N}")
    require(d >= 1, f"dimension d of the particles must be at least 1, got {d}")
    require(N * d < 2**32, f"N d must be below 2^32, got {N * d}")
    _check(particles, lambda X: np.isfinite(X).all(), "particles must be finite")
    return State(particles, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def run(
    key: Key[Array, ""],
    state: State,
    model: Model,
    eta: Scalar | float,
    *,
    steps: Int[Array, ""] | int,
    points: Float[Array, "T q"] | None = None,
    reduction: Reduction = NOTHING,
    every: Int[Array, ""] | int = 1,
    prediction: Float[Array, " n"] | None = None,
    chunk: int | None = None,
    axis: str | None = None,
) -> tuple[State, Any]:
    """`steps` further steps of size eta; (state, what the reduction has accumulated). Neither number enters the program.

    key: of this network's noise (threefry), the same for all steps and after a resumption.
    points: where the reduction's predictions are taken. Without them at the inputs Z.
    reduction: over the steps k > state.step that are multiples of `every`.
    prediction: independent particles instead, driven by this prediction at Z in the place of their own h_rho.
    chunk: particles whose features are in memory at a time; by default all where N n <= `KEPT`.
    axis: the mapped axis over which the particles are sharded, in equal parts in order, inside `shard_map`.

    A network that diverges stops: see `State`, `require_converged`. Nothing of it is accumulated from there on.

    Raises InputError if the dimensions of particles and inputs do not fit, for keys of another kind, for chunk < 1; and, where
    values are known, unless eta > 0, steps >= 0 and every >= 1.
    """
    _check(eta, lambda v: 0 < v < math.inf, "step size eta must be positive, got {}")
    _check(steps, lambda v: v >= 0, "steps must be at least 0, got {}")
    _check(every, lambda v: v >= 1, "every must be at least 1, got {}")
    stop, every = state.step + steps, jnp.asarray(every, state.step.dtype)
    points = model.Z if points is None else points
    _check_dimensions(model, state.particles, points)
    words = key_words(key, STREAM)
    step = functools.partial(_step, words, model=model, eta=eta, prediction=prediction, chunk=chunk, axis=axis)

    def block(carry: tuple[State, Any]) -> tuple[State, Any]:
        state, accumulated = carry
        upto = jnp.minimum(stop, (state.step // every + 1) * every)
        state = lax.while_loop(lambda s: (s.step < upto) & ~s.diverged, step, state)
        if reduction is NOTHING:
            return state, accumulated

        def update(accumulated: Any) -> Any:
            at_points = predictions(model.neuron, state.particles, points, chunk=chunk, axis=axis)
            return reduction.update(accumulated, Snapshot(state.step, state.particles, at_points))

        due = (state.step % every == 0) & ~state.diverged
        return state, lax.cond(due, update, lambda accumulated: accumulated, accumulated)

    going = lambda carry: (carry[0].step < stop) & ~carry[0].diverged
    return lax.while_loop(going, block, (state, reduction.start))


def record(
    key: Key[Array, ""],
    state: State,
    model: Model,
    eta: Scalar | float,
    *,
    times: Int[Array, " K"] | Int[np.ndarray, " K"],
    observe: Callable[[Snapshot], Any] = lambda now: now.predictions,
    points: Float[Array, "T q"] | None = None,
    prediction: Float[Array, " n"] | None = None,
    chunk: int | None = None,
    axis: str | None = None,
) -> tuple[State, Any]:
    """A history: what `observe` gives at the steps `times`, each leaf with a leading axis K; (state at the last one, trace).

    times: not decreasing, none before state.step, shape (K,); only K enters the program. The other arguments: as in `run`. After a
    divergence the entries are those of the last finite state, and their `step` says so.
    """
    points = model.Z if points is None else points

    def interval(state: State, time: Int[Array, ""]) -> tuple[State, Any]:
        state, _ = run(key, state, model, eta, steps=time - state.step, prediction=prediction, chunk=chunk, axis=axis)
        at_points = predictions(model.neuron, state.particles, points, chunk=chunk, axis=axis)
        return state, observe(Snapshot(state.step, state.particles, at_points))

    return lax.scan(interval, state, jnp.asarray(times, state.step.dtype))


def run_replicas(
    keys: Key[Array, " R"],
    states: State,
    model: Model,
    eta: Scalar | float,
    *,
    together: int | None = None,
    **options: Any,
) -> tuple[State, Any]:
    """`run` for R independent networks: leaves of `states` and of both results have a leading axis R.

    together: networks that take their steps together, one group after the other to the end. By default as many as make
        up `TOGETHER`, which is fastest on a CPU. Does not change results beyond rounding.
    options: keyword arguments of `run`.

    Raises InputError for together < 1, and as `run` does.
    """
    R, N, d = states.particles.shape
    size = max(TOGETHER // (N * (d + len(model.Z))), 1) if together is None else together
    require(size >= 1, f"together must be at least 1, got {size}")
    one = lambda both: run(both[0], both[1], model, eta, **options)
    return lax.map(one, (keys, states), batch_size=min(size, R) if size > 1 else None)


def run_sharded(
    key: Key[Array, ""],
    state: State,
    model: Model,
    eta: Scalar | float,
    *,
    mesh: Mesh | AbstractMesh,
    axis: str,
    **options: Any,
) -> tuple[State, Any]:
    """`run` with the particles spread over the devices of a mesh axis; a step costs one mean over the devices of n numbers.

    The reduction may use predictions, but not particles, of which each device sees its own.

    Raises InputError unless N is a multiple of the number of devices, and as `run` does.
    """
    require(axis in mesh.axis_names, f"axis must be one of {mesh.axis_names}, got {axis!r}")
    N, devices = len(state.particles), mesh.shape[axis]
    require(N % devices == 0, f"number of particles N must be a multiple of the {devices} devices, got {N}")
    spread = State(P(axis), P(), P())  # pyright: ignore[reportArgumentType]
    local = lambda key, state, model, eta: run(key, state, model, eta, axis=axis, **options)
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(P(), spread, P(), P()), out_specs=(spread, P()))
    return mapped(key, state, model, eta)


def merge(predictions: Float[Array, "R T"], M: int) -> Float[Array, "G T"]:
    """Predictions of the R/M networks that result from merging each M successive ones: averages, shape (R/M, T).

    The average of M networks of N neurons is one network, of their M N neurons. Raises InputError unless M divides R.
    """
    R = len(predictions)
    require(M >= 1 and R % M == 0, f"M must be a divisor of the {R} networks, got {M}")
    return jnp.mean(predictions.reshape(R // M, M, -1), axis=1)


# --- stability --------------------------------------------------------------------------------------------------------


def stability_limit(model: Model, particles: Particles) -> Scalar:
    """2 over the largest eigenvalue of the Jacobian of the drift at these particles: a larger step size eta lets deviations grow.

    The Jacobian is N Hess F, 2 lamp plus the curvature of the data term; in the linear model with squared loss 2 lamp plus the
    largest eigenvalue of Z^T Z / n, at all particles. Memory is 120 N d numbers.
    """
    shape = particles.shape

    def product(v: Float[Array, " Nd"]) -> Float[Array, " Nd"]:
        return -jax.jvp(lambda X: drift(model, X), (particles,), (v.reshape(shape),))[1].ravel()

    start = random.normal(random.key(0), (particles.size,), particles.dtype)
    tolerance = 1e-8 if particles.dtype == jnp.float64 else 1e-3
    return -2 / eigenvalues.smallest(product, start, tolerance=tolerance, most_steps=200).value


def require_converged(state: State, model: Model, eta: float, start: Particles) -> None:
    """Raise InputError if a network has diverged, naming its step and the stability limit at `start`; not under `jit`.

    state: of one network, or of several with leading axes. start: initial particles of one of them, shape (N, d).
    """
    diverged = np.atleast_1d(np.asarray(state.diverged)).ravel()
    if not diverged.any():
        return
    first = np.atleast_1d(np.asarray(state.step)).ravel()[diverged].min()
    limit = float(jax.jit(stability_limit)(model, start))
    of = f"{diverged.sum()} of {diverged.size} networks" if diverged.size > 1 else "the network"
    raise InputError(
        f"step size eta must be below the stability limit, {limit:.4g} at the start, got {eta:.4g}:"
        f" {of} diverged, first at step {first + 1}"
    )


# --- parts ------------------------------------------------------------------------------------------------------------


def _step(
    words: UInt32[Array, "2"],
    state: State,
    *,
    model: Model,
    eta: Scalar | float,
    prediction: Float[Array, " n"] | None,
    chunk: int | None,
    axis: str | None,
) -> State:
    X = state.particles
    first = 0 if axis is None else lax.axis_index(axis) * X.size
    noise = normals(words, counters(first, X.size), state.step, X.dtype)
    scale = jnp.sqrt(jnp.asarray(2 * model.lam * eta, X.dtype))
    b = drift(model, X, prediction=prediction, chunk=chunk, axis=axis)
    # Flat, since loops over few coordinates are slow.
    old = X.ravel()
    new = old - jnp.asarray(eta, X.dtype) * b.ravel() + scale * noise
    bad = ~jnp.all(jnp.abs(new) <= BOUND)  # true for NaN
    if axis is not None:
        bad = lax.pmax(bad.astype(jnp.int32), axis) > 0
    return State(jnp.where(bad, old, new).reshape(X.shape), state.step + ~bad, bad)


def _parts(data: Array) -> list[Array]:
    """Rows one by one if they are few."""
    return [data[j : j + 1] for j in range(len(data))] if len(data) <= THIN else [data]


def _chunk_size(N: int, n: int, chunk: int | None) -> int:
    if chunk is None:
        return N if N * n <= KEPT else max(KEPT // 8 // n, 1)
    require(chunk >= 1, f"chunk must be at least 1, got {chunk}")
    return min(chunk, N)


def _chunks(particles: Particles, size: int) -> tuple[Float[Array, "K C d"], Float[Array, "r d"]]:
    """Equal chunks, and a last one of 1 to `size` particles."""
    N, d = particles.shape
    count = (N - 1) // size
    return particles[: count * size].reshape(count, size, d), particles[count * size :]


def _mean(values: Float[Array, " n"], axis: str | None) -> Float[Array, " n"]:
    return values if axis is None else lax.pmean(values, axis)


def _check_dimensions(model: Model, particles: Particles, points: Array) -> None:
    q, d = model.Z.shape[1], particles.shape[1]
    due = model.neuron.dimension(q)
    require(due is None or d == due, f"dimension d of the particles must be {due} for inputs of dimension {q}, got {d}")
    require(points.shape[1] == q, f"points must have dimension {q} as the inputs Z, got {points.shape[1]}")


def _check(value: Any, allowed: Callable[[Any], Any], message: str) -> None:
    """Values are unknown under `jit`."""
    if not isinstance(value, Tracer):
        require(bool(allowed(np.asarray(value))), message.format(value))
