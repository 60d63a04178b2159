"""TAP and naive mean-field free energies of Bayesian linear models: values, gradients, Hessians, minimisers.

Model: y = X beta + N(0, sigma^2 I_n), beta_j ~ P0 independent, X of shape (n, p), delta = n/p. A product law of tilted priors
P_{lam_j,gam_j} (`theorysim.kernels.priors`) has means m, second moments s and variances V = s - m^2; its free energy is

    F(m, s) = (n/2) log(2 pi sigma^2) + sum_j KL(P_{lam_j,gam_j} || P0) + ||y - X m||^2/(2 sigma^2) + penalty(V)

    naive mean field   sum_j ||X_j||^2 V_j / (2 sigma^2)         F is minus the evidence lower bound
    TAP                (n/2) log(1 + mean(V)/sigma^2)            entries of X independent, of variance 1/p

(Celentano, Fan, Lin, Mei, arXiv 2311.08442). Everything is computed in natural parameters (lam, gam), where no constraint binds and
the minimisers are fixed points of

    lam = g m + X^T (y - X m)/sigma^2,    gam = g,    g = 2 d penalty/dV:  delta/(sigma^2 + mean(V)), or ||X_j||^2/sigma^2.

Pure functions of one instance; `jit` and `vmap` are the caller's. float64 is for energies, which are sums of p terms, and Hessians.

>>> model = Model(Dense(X), y, sigma**2, prior)
>>> descent = minimise(model, point, step=1 / relative_smoothness(model, start), tolerance=1e-10, most_steps=10_000)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import InputError, require
from theorysim.kernels import eigenvalues
from theorysim.kernels.designs import Dense, Design
from theorysim.kernels.eigenvalues import Eigenpair
from theorysim.kernels.priors import Discrete, Moments, Prior

Vector = Float[Array, " p"]
Scalar = Float[Array, ""]


# --- model ------------------------------------------------------------------------------------------------------------


class Penalty(Protocol):
    """What the variances cost, a function of V, shape (p,), and of its place in a model of n observations and noise sigma^2."""

    def energy(self, variance: Vector, noise: Scalar, n: int) -> Scalar:
        """The penalty."""
        ...

    def precision(self, variance: Vector, noise: Scalar, n: int) -> Float[Array, "..."]:
        """g = 2 d penalty/dV, shape () or (p,)."""
        ...

    def curvature(self, variance: Vector, noise: Scalar, n: int) -> Scalar:
        """c where the second derivative in V is -c 1 1^T."""
        ...


class Tap(NamedTuple):
    """(n/2) log(1 + mean(V)/sigma^2), the Onsager reaction."""

    def energy(self, variance: Vector, noise: Scalar, n: int) -> Scalar:
        return n / 2 * jnp.log1p(jnp.mean(variance) / noise)

    def precision(self, variance: Vector, noise: Scalar, n: int) -> Float[Array, "..."]:
        return n / variance.size / (noise + jnp.mean(variance))

    def curvature(self, variance: Vector, noise: Scalar, n: int) -> Scalar:
        return n / 2 / (variance.size * (noise + jnp.mean(variance))) ** 2


class MeanField(NamedTuple):
    """sum_j squared_norms_j V_j / (2 sigma^2).

    squared_norms: ||X_j||^2 of the columns, shape (p,), for the evidence lower bound; n/p in all places for its version with
    penalty n mean(V)/(2 sigma^2), which is nowhere below the TAP free energy.
    """

    squared_norms: Vector

    def energy(self, variance: Vector, noise: Scalar, n: int) -> Scalar:
        return jnp.sum(self.squared_norms * variance) / (2 * noise)

    def precision(self, variance: Vector, noise: Scalar, n: int) -> Float[Array, "..."]:
        return self.squared_norms / noise

    def curvature(self, variance: Vector, noise: Scalar, n: int) -> Scalar:
        return jnp.zeros((), variance.dtype)


def mean_field(design: Dense) -> MeanField:
    """The penalty of the evidence lower bound for this design."""
    return MeanField(jnp.sum(design.matrix**2, axis=0))


class Model(NamedTuple):
    """design: X, (n, p). response: y, shape (n,). noise: sigma^2 > 0, shape (). prior: P0. penalty: `Tap()` or `MeanField(...)`."""

    design: Design
    response: Float[Array, " n"]
    noise: Scalar | float
    prior: Prior
    penalty: Penalty = Tap()


class Point(NamedTuple):
    """Natural parameters of the marginals, shapes (p,): lam, gam of P_{lam_j,gam_j}."""

    lam: Vector
    gam: Vector


# --- energy and gradient ----------------------------------------------------------------------------------------------


class Evaluation(NamedTuple):
    """F at a point, and what comes with it.

    energy: F, shape (). moments: of the marginals, shapes (p,).
    lam_residual: lam - g m - X^T(y - X m)/sigma^2 = dF/dm at fixed s, shape (p,). gam_residual: gam - g = -2 dF/ds, shape (p,).
    """

    energy: Scalar
    moments: Moments
    lam_residual: Vector
    gam_residual: Vector

    @property
    def gradient_norm(self) -> Scalar:
        """Euclidean norm of both residuals: zero at stationary points alone."""
        return jnp.sqrt(jnp.sum(self.lam_residual**2) + jnp.sum(self.gam_residual**2))


def evaluate(model: Model, point: Point) -> Evaluation:
    """F and its gradient in (m, s), at the price of one visit to the design."""
    n, _ = model.design.shape
    noise = jnp.asarray(model.noise, model.response.dtype)
    moments = model.prior.moments(point.lam, point.gam)
    z, correlation = model.design.residual(model.response, moments.mean)
    g = model.penalty.precision(moments.variance, noise, n)
    energy = n / 2 * jnp.log(2 * np.pi * noise) + jnp.sum(moments.divergence) + jnp.sum(z**2) / (2 * noise)
    energy = energy + model.penalty.energy(moments.variance, noise, n)
    return Evaluation(energy, moments, point.lam - g * moments.mean - correlation / noise, point.gam - g)


def free_energy(model: Model, point: Point) -> Scalar:
    """F, approximately minus the log evidence -log p(y | X); for the evidence lower bound never below it."""
    return evaluate(model, point).energy


def gradient(model: Model, point: Point) -> Point:
    """(dF/dlam, dF/dgam), shapes (p,): the gradient in (m, s) through the derivatives of (m, s) in (lam, -gam/2), which are C."""
    now = evaluate(model, point)
    c = model.prior.covariance(point.lam, point.gam)
    of_m, of_s = now.lam_residual, -now.gam_residual / 2
    return Point(c.c11 * of_m + c.c12 * of_s, -(c.c12 * of_m + c.c22 * of_s) / 2)


# --- descent ----------------------------------------------------------------------------------------------------------


def relative_smoothness(model: Model, start: Vector) -> Scalar:
    """L = 1 + Vmax |X|^2 / sigma^2, Vmax the largest variance on the support: Hess F <= L Hess(sum_j KL) everywhere.

    So natural gradient descent with any step up to 1/L never raises F, from any start. Infinite for an unbounded support.
    start: random, for the operator norm |X|, shape (p,). Derived here.
    """
    largest = jnp.asarray(model.prior.half_range()) * eigenvalues.operator_norm(model.design, start)
    return 1 + largest**2 / model.noise


def descend(point: Point, now: Evaluation, step: Scalar | float) -> Point:
    """One step of natural gradient descent, the gradient in (m, s) subtracted from (lam, -gam/2)."""
    return Point(point.lam - step * now.lam_residual, point.gam - step * now.gam_residual)


def run(
    model: Model,
    point: Point,
    step: Scalar | float,
    *,
    steps: int,
    observe: Callable[[Point, Evaluation], Any] = lambda point, now: (now.energy, now.gradient_norm),
) -> tuple[Point, Any]:
    """A fixed number of steps of natural gradient descent of fixed step size.

    observe: what to record of each point before its step, (energy, gradient norm) by default; each leaf of the trace gets a
    leading axis of length `steps`. Returns (last point, trace).
    """

    def advance(point: Point, _: None) -> tuple[Point, Any]:
        now = evaluate(model, point)
        return descend(point, now, step), observe(point, now)

    return lax.scan(advance, point, length=steps)


class Descent(NamedTuple):
    """Where `minimise` stopped.

    point, evaluation: the last point that was accepted. step: the next step size. steps: tried. rejected: of these.
    converged: whether the gradient norm is below the tolerance.
    """

    point: Point
    evaluation: Evaluation
    step: Scalar
    steps: Int[Array, ""]
    rejected: Int[Array, ""]
    converged: Bool[Array, ""]


def minimise(
    model: Model,
    point: Point,
    *,
    step: Scalar | float,
    tolerance: Scalar | float,
    most_steps: int,
    backtrack: bool = False,
) -> Descent:
    """Natural gradient descent until the gradient norm is below `tolerance` or `most_steps` are tried.

    step: its size; at most 1/L (`relative_smoothness`) for a guarantee.
    backtrack: `step` is then the first size only. A step that raises F, or leaves its domain, is taken back and the size halved;
        after any other it grows by a twentieth. F never rises by more than 1e-13 |F|; changes smaller than that are judged by
        the gradients at both ends.
    """

    def advance(now: Descent) -> Descent:
        point = descend(now.point, now.evaluation, now.step)
        evaluation = evaluate(model, point)
        accepted = _not_risen(now.evaluation, evaluation) if backtrack else jnp.asarray(True)
        pick = lambda a, b: jnp.where(accepted, a, b)
        point, evaluation = jax.tree.map(pick, (point, evaluation), (now.point, now.evaluation))
        size = now.step * pick(1.05, 0.5) if backtrack else now.step
        converged = evaluation.gradient_norm < tolerance
        return Descent(point, evaluation, size, now.steps + 1, now.rejected + ~accepted, converged)

    evaluation = evaluate(model, point)
    count = jnp.zeros((), jnp.int32)
    size = jnp.asarray(step, evaluation.energy.dtype)
    start = Descent(point, evaluation, size, count, count, evaluation.gradient_norm < tolerance)
    return lax.while_loop(lambda now: ~now.converged & (now.steps < most_steps), advance, start)


class Ascent(NamedTuple):
    """Where `coordinate_ascent` stopped. sweeps: over all coordinates. change: the largest one of a mean in the last sweep."""

    point: Point
    sweeps: Int[Array, ""]
    change: Scalar


def coordinate_ascent(model: Model, point: Point, *, tolerance: Scalar | float, most_sweeps: int) -> Ascent:
    """Coordinate ascent of the evidence lower bound: each marginal in turn at its optimum given the others.

    The bound rises at every update, also where natural gradient descent of all coordinates at once cycles. Until no mean changes
    by more than `tolerance` in a sweep. Needs a dense design and its `mean_field` penalty.

    Raises InputError for another design or penalty.
    """
    design, penalty = model.design, model.penalty
    if not isinstance(design, Dense):
        raise InputError(f"coordinate ascent needs a Dense design, got {type(design).__name__}")
    if not isinstance(penalty, MeanField):
        raise InputError(f"coordinate ascent needs a MeanField penalty, got {type(penalty).__name__}")
    gam = penalty.squared_norms / model.noise

    def update(residual: Array, coordinate: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        column, gam, mean = coordinate
        lam = gam * mean + column @ residual / model.noise
        new = model.prior.moments(lam, gam).mean
        return residual - (new - mean) * column, (lam, new)

    def sweep(carry: tuple[Ascent, Array]) -> tuple[Ascent, Array]:
        now, mean = carry
        residual = model.response - design.forward(mean)
        _, (lam, new) = lax.scan(update, residual, (columns, gam, mean))
        return Ascent(Point(lam, gam), now.sweeps + 1, jnp.max(jnp.abs(new - mean))), new

    columns = design.matrix.T
    mean = model.prior.moments(point.lam, point.gam).mean
    start = Ascent(point, jnp.zeros((), jnp.int32), jnp.full((), jnp.inf, mean.dtype))
    going = lambda carry: (carry[0].change > tolerance) & (carry[0].sweeps < most_sweeps)
    return lax.while_loop(going, sweep, (start, mean))[0]


# --- Hessian ----------------------------------------------------------------------------------------------------------


class Hessian(NamedTuple):
    """Second derivatives of F in (m, s) at a point, by products with vectors (dm, ds) of shape (2, p).

    Hess F = C^{-1} + [[X^T X/sigma^2 - diag(g), 0], [0, 0]] - c u u^T, u = (2m, -1), C = diag of the 2 x 2 covariances of
    (beta, beta^2). C = L L^T with L = [[l11, 0], [l21, l22]] for each coordinate.
    """

    design: Design
    noise: Scalar
    mean: Vector
    precision: Float[Array, "..."]
    curvature: Scalar
    l11: Vector
    l21: Vector
    l22: Vector

    def product(self, v: Float[Array, "2 p"]) -> Float[Array, "2 p"]:
        """Hess F v, for laws that are far from a single or from two atoms (V_j > 1e-3): C^{-1} loses what C^{-1} C would regain."""
        first = v[0] / self.l11
        second = (v[1] - self.l21 * first) / self.l22**2
        of_inverse = jnp.stack([(first - self.l21 * second) / self.l11, second])
        return of_inverse + self._coupling(v)

    def whitened_product(self, v: Float[Array, "2 p"]) -> Float[Array, "2 p"]:
        """L^T Hess F L v, with the spectrum of C^{1/2} Hess F C^{1/2}; finite however small the variances are."""
        return v + self.factor_transposed(self._coupling(self.factor(v)))

    def factor(self, v: Float[Array, "2 p"]) -> Float[Array, "2 p"]:
        """L v."""
        return jnp.stack([self.l11 * v[0], self.l21 * v[0] + self.l22 * v[1]])

    def factor_transposed(self, v: Float[Array, "2 p"]) -> Float[Array, "2 p"]:
        """L^T v."""
        return jnp.stack([self.l11 * v[0] + self.l21 * v[1], self.l22 * v[1]])

    def _coupling(self, v: Float[Array, "2 p"]) -> Float[Array, "2 p"]:
        dm, ds = v
        _, minus_gram = self.design.residual(jnp.zeros(self.design.shape[0], dm.dtype), dm)
        shared = self.curvature * jnp.sum(2 * self.mean * dm - ds)
        of_m = -minus_gram / self.noise - self.precision * dm - 2 * self.mean * shared
        return jnp.stack([of_m, jnp.full_like(ds, shared)])


def hessian(model: Model, point: Point) -> Hessian:
    """Hess F in (m, s) at a point. Raises InputError for a prior of fewer than three atoms, whose (m, s) lie on a curve."""
    _require_three_atoms(model.prior)
    n, _ = model.design.shape
    noise = jnp.asarray(model.noise, model.response.dtype)
    moments, c = model.prior.moments(point.lam, point.gam), model.prior.covariance(point.lam, point.gam)
    l11 = jnp.sqrt(c.c11)
    return Hessian(
        design=model.design,
        noise=noise,
        mean=moments.mean,
        precision=model.penalty.precision(moments.variance, noise, n),
        curvature=model.penalty.curvature(moments.variance, noise, n),
        l11=l11,
        l21=_divide(c.c12, l11),
        l22=jnp.sqrt(c.schur),
    )


def smallest_eigenvalue(hessian: Hessian, start: Float[Array, "2 p"], *, tolerance: Scalar | float = 1e-8) -> Eigenpair:
    """Of Hess F in (m, s), from a random start. Its vector has norm 1 and shape (2p,), dm before ds.

    With v = L x, Hess F v = theta v is L^T Hess F L x = theta L^T L x, which has no inverse of C: variances may be as small as
    they like, and zero for laws of a single atom, whose moments are then held.
    """
    flat = lambda f: lambda x: f(x.reshape(start.shape)).ravel()
    metric = flat(lambda x: hessian.factor_transposed(hessian.factor(x)))
    product = flat(hessian.whitened_product)
    pair = eigenvalues.smallest(product, metric(start.ravel()), metric=metric, tolerance=tolerance)
    return pair._replace(vector=hessian.factor(pair.vector.reshape(start.shape)).ravel())


def whitened_extremes(
    hessian: Hessian, start: Float[Array, "2 p"], *, tolerance: Scalar | float = 1e-8
) -> tuple[Eigenpair, Eigenpair]:
    """The smallest and the largest eigenvalue mu of C^{1/2} Hess F C^{1/2}, from a random start.

    At a minimiser, natural gradient descent of step eta converges like max(|1 - eta mu_min|, |1 - eta mu_max|)^t.
    """
    flat = lambda sign: lambda v: sign * hessian.whitened_product(v.reshape(start.shape)).ravel()
    low, high = (eigenvalues.smallest(flat(sign), start.ravel(), tolerance=tolerance) for sign in (1, -1))
    return low, high._replace(value=-high.value)


# --- coordinates ------------------------------------------------------------------------------------------------------


class Inversion(NamedTuple):
    """point: natural parameters, shapes (p,). error: largest difference of a moment, shape (). steps: of Newton's method."""

    point: Point
    error: Scalar
    steps: Int[Array, ""]


def natural_parameters(
    prior: Prior, mean: Vector, second_moment: Vector, *, tolerance: Scalar | float = 1e-13, most_steps: int = 200
) -> Inversion:
    """The (lam, gam) whose moments are (m, s), for points inside the convex hull of {(b, b^2): b in the support}, shapes (p,).

    Newton's method with backtracking for the concave maximum of lam m - gam s/2 - log Z, all coordinates at once, from (0, 0).
    Judge by `error`: where a variance is tiny, many (lam, gam) have the same moments to rounding.

    Raises InputError for a prior of fewer than three atoms, whose (m, s) lie on a curve.
    """
    _require_three_atoms(prior)

    def dual(point: Point) -> tuple[Vector, Moments]:
        moments = prior.moments(point.lam, point.gam)
        return point.lam * mean - point.gam * second_moment / 2 - moments.log_partition, moments

    def advance(carry):
        point, value, moments, size, _, steps = carry
        c = prior.covariance(point.lam, point.gam)
        of_m, of_s = mean - moments.mean, second_moment - moments.second_moment
        of_second = _divide(of_s - _divide(c.c12, c.c11) * of_m, c.schur)
        of_first = _divide(of_m - c.c12 * of_second, c.c11)
        trial = Point(point.lam + size * of_first, point.gam - 2 * size * of_second)
        new, new_moments = dual(trial)
        # Near the maximum, gains are below rounding.
        accepted = new >= value - 1e-14 * (1 + jnp.abs(value))
        pick = lambda a, b: jnp.where(accepted, a, b)
        point, value, moments = jax.tree.map(pick, (trial, new, new_moments), (point, value, moments))
        size = jnp.where(accepted, jnp.minimum(2 * size, 1), size / 2)
        return point, value, moments, size, error(moments), steps + 1

    def error(moments: Moments) -> Scalar:
        of_s = jnp.max(jnp.abs(second_moment - moments.second_moment))
        return jnp.maximum(jnp.max(jnp.abs(mean - moments.mean)), of_s)

    origin = Point(jnp.zeros_like(mean), jnp.zeros_like(mean))
    value, moments = dual(origin)
    start = (origin, value, moments, jnp.ones_like(mean), error(moments), jnp.zeros((), jnp.int32))
    going = lambda carry: (carry[-2] > tolerance) & (carry[-1] < most_steps)
    point, *_, worst, steps = lax.while_loop(going, advance, start)
    return Inversion(point, worst, steps)


# --- parts ------------------------------------------------------------------------------------------------------------


def _not_risen(old: Evaluation, new: Evaluation) -> Bool[Array, ""]:
    """Whether F is no larger at the new point; by the trapezoid rule for its gradient where the difference is rounding."""
    of_m = (old.lam_residual + new.lam_residual) * (new.moments.mean - old.moments.mean)
    of_s = (old.gam_residual + new.gam_residual) * (new.moments.second_moment - old.moments.second_moment)
    change, rounding = new.energy - old.energy, 1e-13 * jnp.abs(old.energy)
    return jnp.where(jnp.abs(change) > rounding, change < 0, jnp.sum(of_m - of_s / 2) <= 0)


def _divide(a: Array, b: Array) -> Array:
    """a / b for b >= 0, zero where b is zero: there a law has shrunk to fewer atoms."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _require_three_atoms(prior: Prior) -> None:
    atoms = prior.atoms.shape[0] if isinstance(prior, Discrete) else 3
    require(atoms >= 3, f"a prior on (m, s) needs three atoms or more, got {atoms}")
