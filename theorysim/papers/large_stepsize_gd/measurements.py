"""What is measured along gradient descent: risks at recorded times, running sums, and extremes over the stable phase.

Everything is a functional of the iterates; no bound and no predicted value enters here.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from theorysim.errors import require
from theorysim.kernels.activations import ACTIVATIONS, leaky
from theorysim.kernels.gradient_descent import Diagnostics, Linear, Reduction, TwoLayer, blank, init, problem, run, step
from theorysim.papers.large_stepsize_gd.setting import (
    Budget,
    Contest,
    Instance,
    RandomInstances,
    RandomTwoPoint,
    Training,
)
from theorysim.sweep import setting

Scalar = Float[Array, ""]

SETTLED = 1e-9
"""Once eta lam^2 L is below this, one step changes the risk by less than rounding does: monotonicity is not observable."""


def describe_instance(instance: Instance) -> dict[str, Array]:
    """What the instance is, for predictions: n, m, gamma, eta, leak, ||W_0||^2/m and mean_j a_j <w_0j, w*>."""
    predictor = instance.predictor
    width = jnp.asarray(predictor.width) * 1.0
    signs = predictor.signs if isinstance(predictor, TwoLayer) else jnp.ones(1)
    return {
        "samples": jnp.asarray(instance.samples),
        "width": width,
        "gamma": jnp.asarray(instance.gamma),
        "eta": jnp.asarray(instance.eta),
        "leak": jnp.asarray(predictor.leak if isinstance(predictor, TwoLayer) else 0.0),
        "norm2": jnp.sum(instance.weights**2) / width,
        "alignment": jnp.sum(signs * (instance.weights @ instance.direction)) / width,
    }


def records(key: Array, setting: Training | RandomTwoPoint) -> dict[str, Array]:
    """The instance's description; risk, log risk, ||W||_F, min margin and W at the recorded times (leading axis K).

    Also the number of risk increases, the last t with L_t > L_{t-1} (-1 if none) and min over t >= 1 of t L_t.
    """
    instance = setting.draw(key)

    def observe(d: Diagnostics, _) -> dict[str, Array]:
        return {
            "risk": d.risk,
            "log_risk": d.log_risk,
            "norm": d.norm,
            "min_margin": d.min_margin,
            "weights": d.weights,
        }

    def update(carry, d: Diagnostics):
        previous, increases, last, smallest = carry
        rose = d.risk > previous
        scaled = jnp.where(d.step >= 1, d.step * d.risk, jnp.inf)
        return d.risk, increases + rose, jnp.where(rose, d.step, last), jnp.minimum(smallest, scaled)

    start = (jnp.inf, jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32), jnp.inf)
    _, trace, (_, increases, last, smallest) = run(
        init(instance.weights),
        instance.predictor,
        instance.problem,
        instance.eta,
        times=jnp.asarray(setting.times),
        observe=observe,
        reduction=Reduction(start, update),
    )
    counts = {"increases": increases, "last_increase": last, "least_scaled_risk": smallest}
    return describe_instance(instance) | trace | counts


def budget(key: Array, setting: Budget) -> dict[str, Array]:
    """Risk at the recorded times of the training."""
    return {"risk": records(key, setting.training)["risk"]}


def advantage(key: Array, setting: Contest) -> dict[str, Array]:
    """L(slow)/L(fast) at the recorded times."""
    return {"ratio": records(key, setting.slow)["risk"] / records(key, setting.fast)["risk"]}


class Stable(NamedTuple):
    """Running sums and the extremes over the stable phase t >= s, where s is the first t with L(W_t) <= thr.

    Ratios are of consecutive iterates within the stable phase, so that 1 is no change.
    rate_*: of (1/L_t - 1/L_s)/(eta (t - s)), the speed at which the reciprocal risk grows.
    worst_step: max of L_t/L_{t-1} over all steps; worst_calm_step: over those after the first t with eta L(W_t) <=
        min{1/lam^2, 1/((e-2) lam^2 + beta/2)}.
    best: max_r gbar_r (u_r/log(1/L_r)) exp(-C L_r/u_r) over s <= r <= t; near_monotone: min_t gbar_t / best.
    """

    risk_sum: Scalar
    slope_sum: Scalar
    previous: Scalar
    increases: Int[Array, ""]
    last_increase: Int[Array, ""]
    calm: Bool[Array, ""]
    worst_step: Scalar
    worst_calm_step: Scalar
    s: Int[Array, ""]
    risk_s: Scalar
    log_gc_s: Scalar
    log_gc: Scalar
    norm: Scalar
    log_gbar: Scalar
    min_norm_ratio: Scalar
    min_gc_ratio: Scalar
    min_gbar_ratio: Scalar
    min_lower: Scalar
    min_middle: Scalar
    min_upper: Scalar
    best: Scalar
    near_monotone: Scalar
    rate_min: Scalar
    rate_max: Scalar


def stable_phase(key: Array, setting: Training | RandomInstances) -> dict[str, Array]:
    """Sums of risk and slope over k < t at the recorded times, first time s under the threshold, stable-phase extremes.

    Returns the instance's description, `risk_sum` and `slope_sum` of shape (K,), and the scalars of `Stable`; s = -1 where
    the threshold is not reached by the horizon. Ratios are infinite where no step of the stable phase could be observed.
    """
    instance = setting.draw(key)
    eta, n, margin = instance.eta, instance.samples, instance.margin
    lam2 = margin.lam**2
    threshold = jnp.minimum(1 / (eta * (4 * lam2 + 2 * margin.beta)), 1 / (2 * jnp.exp(margin.kappa + 2) * n))
    ceiling = jnp.minimum(1 / lam2, 1 / ((jnp.e - 2) * lam2 + margin.beta / 2))
    correction = margin.sign * (4 / 3) * (n + eta * (lam2 + margin.beta / 2))

    def update(c: Stable, d: Diagnostics) -> Stable:
        log_risk = jnp.log(d.risk)  # far from underflow where anything is recorded: see SETTLED
        u = -jnp.log(2 * n) - log_risk - margin.kappa
        log_norm = jnp.log(d.norm)
        shrink = correction * d.risk / u
        log_gc = jnp.log(u) - log_norm - shrink
        log_gbar = jnp.log(d.min_margin) - log_norm
        first = (c.s < 0) & (d.risk <= threshold)
        moving = ~(eta * lam2 * d.risk < SETTLED)  # so that a risk of NaN is recorded
        inside = (c.s >= 0) & moving  # W_{t-1} and W_t both in the stable phase
        here = (first & moving) | inside
        risk_s = jnp.where(first, d.risk, c.risk_s)
        rate = (1 / d.risk - 1 / risk_s) / (eta * (d.step - c.s))
        best = jnp.where(here, jnp.maximum(c.best, log_gbar + jnp.log(u / -log_risk) - shrink), c.best)
        rose = d.risk > c.previous
        ratio = d.risk / c.previous  # zero at t = 0, where no risk went before
        least = lambda known, value, where: jnp.where(where, jnp.minimum(known, value), known)
        return Stable(
            risk_sum=c.risk_sum + d.risk,
            slope_sum=c.slope_sum + d.slope,
            previous=d.risk,
            increases=c.increases + rose,
            last_increase=jnp.where(rose, d.step, c.last_increase),
            calm=c.calm | (eta * d.risk <= ceiling),
            worst_step=jnp.where(moving, jnp.maximum(c.worst_step, ratio), c.worst_step),
            worst_calm_step=jnp.where(c.calm & moving, jnp.maximum(c.worst_calm_step, ratio), c.worst_calm_step),
            s=jnp.where(first, d.step, c.s),
            risk_s=risk_s,
            log_gc_s=jnp.where(first, log_gc, c.log_gc_s),
            log_gc=log_gc,
            norm=d.norm,
            log_gbar=log_gbar,
            min_norm_ratio=least(c.min_norm_ratio, d.norm / c.norm, inside),
            min_gc_ratio=least(c.min_gc_ratio, log_gc - c.log_gc, inside),
            min_gbar_ratio=least(c.min_gbar_ratio, log_gbar - c.log_gbar, inside),
            min_lower=least(c.min_lower, jnp.exp(shrink), here),
            min_middle=least(c.min_middle, d.min_margin / u, here),
            min_upper=least(c.min_upper, -log_risk / d.min_margin, here),
            best=best,
            near_monotone=least(c.near_monotone, log_gbar - best, here),
            rate_min=least(c.rate_min, rate, inside),
            rate_max=jnp.where(inside, jnp.maximum(c.rate_max, rate), c.rate_max),
        )

    inf = jnp.asarray(jnp.inf)
    zero, never = jnp.zeros_like(inf), jnp.full((), -1, jnp.int32)
    start = Stable(
        risk_sum=zero, slope_sum=zero, previous=inf, increases=never + 1, last_increase=never, calm=never > 0,
        worst_step=zero, worst_calm_step=zero, s=never, risk_s=inf, log_gc_s=zero, log_gc=zero, norm=zero, log_gbar=zero,
        min_norm_ratio=inf, min_gc_ratio=inf, min_gbar_ratio=inf, min_lower=inf, min_middle=inf, min_upper=inf,
        best=-inf, near_monotone=inf, rate_min=inf, rate_max=-inf,
    )  # fmt: skip
    _, sums, final = run(
        init(instance.weights),
        instance.predictor,
        instance.problem,
        eta,
        times=jnp.asarray(setting.times),
        observe=lambda d, c: (c.risk_sum, c.slope_sum),
        reduction=Reduction(start, update),
    )
    exponentials = {name: jnp.exp(getattr(final, name)) for name in ("min_gc_ratio", "min_gbar_ratio", "near_monotone")}
    plain = (
        "increases",
        "last_increase",
        "calm",
        "worst_step",
        "worst_calm_step",
        "s",
        "risk_s",
        "log_gc_s",
        "min_norm_ratio",
        "min_lower",
        "min_middle",
    )
    plain += ("min_upper", "rate_min", "rate_max")
    extremes = {name: getattr(final, name) for name in plain}
    sums = {"risk_sum": sums[0], "slope_sum": sums[1]}
    return describe_instance(instance) | sums | extremes | exponentials


# --- one step ---------------------------------------------------------------------------------------------------------


WALK = 16
"""Random states are at most WALK - 1 steps from an initialisation."""


@setting
class OneStep:
    """One step of gradient descent from a random state, with the largest stepsize that is said not to raise the risk.

    The state is W_j of a random instance, j uniform in 0..WALK - 1. The stepsize is ceiling/L(W_j).
    instances: where data, predictor, initialisation and the stepsize of the first j steps come from.
    ceilings: bound on eta L, one for each of the instances' leaks, shape (L,).
    """

    instances: RandomInstances
    ceilings: Float[np.ndarray, " L"]

    def validate(self) -> None:
        leaks = self.instances.leaks
        require(
            self.ceilings.shape == leaks.shape, f"ceilings must have shape {leaks.shape}, got {self.ceilings.shape}"
        )
        fine = bool(np.all((self.ceilings > 0) & np.isfinite(self.ceilings)))
        require(fine, f"ceilings of eta L must be positive and finite, got {self.ceilings}")


@setting
class TwoPointStep:
    """One step from the states in which two points of a linear predictor pull against each other.

    x = (g, sqrt(1-g^2)), (g, -sqrt(1-g^2)), y = +1; ell_1 = 2 C/(eta (1 + r)), ell_2 = r ell_1, r = e^{-a}, so eta L = C.
    eta: stepsize. g: the coordinate that both points share. ceiling: C, where one is asked for.
    """

    eta: float
    g: float = 1e-3
    ceiling: float = 2.0

    def validate(self) -> None:
        require(0 < self.eta < np.inf, f"stepsize eta must be positive and finite, got {self.eta}")
        require(0 < self.g < 1, f"shared coordinate g must lie in (0, 1), got {self.g}")
        require(0 < self.ceiling < self.eta, f"ceiling of eta L must lie in (0, eta), got {self.ceiling}")


LOG_RATIOS = np.concatenate([np.geomspace(0.01, 0.2, 100), np.linspace(0.21, 3.0, 280)])
"""Grid of a = log(ell_1/ell_2) in `TwoPointStep`; the increase just above C = 2 is missed by a grid coarser than .01."""


def _two_point_risks(setting: TwoPointStep, ceiling: Scalar) -> tuple[Float[Array, " A"], Float[Array, " A"]]:
    """Risk before and after one step, over the grid of log-ratios a."""
    across = jnp.sqrt(1 - setting.g**2)
    data = problem(
        jnp.stack([jnp.stack([setting.g * 1.0, across]), jnp.stack([setting.g * 1.0, -across])]), jnp.ones(2)
    )

    def one(a: Scalar) -> tuple[Scalar, Scalar]:
        r = jnp.exp(-a)
        loss = 2 * ceiling / (setting.eta * (1 + r)) * jnp.stack([jnp.ones_like(r), r])
        margins = -jnp.log(jnp.expm1(loss))
        total, difference = margins[0] + margins[1], margins[0] - margins[1]
        weights = jnp.stack([total / (2 * setting.g), difference / (2 * across)])[None, :]
        state, before = step(init(weights), Linear(), data, setting.eta)
        _, after = step(state, Linear(), data, setting.eta)
        return before.risk, after.risk

    return jax.vmap(one)(jnp.asarray(LOG_RATIOS))


def one_step(key: Array, setting: OneStep | TwoPointStep) -> dict[str, Array]:
    """Risk before and after one step (for `TwoPointStep` at the worst log-ratio), with what the descent bound needs."""
    if isinstance(setting, TwoPointStep):
        before, after = _two_point_risks(setting, jnp.asarray(setting.ceiling))
        worst = jnp.argmax(after / before)
        absent = jnp.zeros(())
        return {
            "risk": before[worst],
            "next_risk": after[worst],
            "slope": absent,
            "grad_norm2": absent,
            "eta": jnp.asarray(setting.eta),
            "width": absent + 1,
            "leak": absent,
        }
    draw_key, steps_key = jax.random.split(key)
    instance = setting.instances.draw(draw_key)
    leak = jnp.asarray(instance.predictor.leak if isinstance(instance.predictor, TwoLayer) else 0.0)
    ceiling = jnp.asarray(setting.ceilings)[jnp.argmin(jnp.abs(jnp.asarray(setting.instances.leaks) - leak))]
    j = jax.random.randint(steps_key, (), 0, WALK)

    # One loop, so that the program holds one copy of the step: up to WALK - 1 steps to the state, one idle to look at it,
    # the step itself, and one idle to look at what it did.
    def advance(i, carry):
        state, seen = carry
        eta = jnp.where(i < j, instance.eta, jnp.where(i == WALK, ceiling / seen[0].risk, 0.0))
        state, now = step(state, instance.predictor, instance.problem, eta)
        return state, (now, seen[0])

    state = init(instance.weights)
    unseen = blank(state, instance.problem)
    _, (then, now) = jax.lax.fori_loop(0, WALK + 2, advance, (state, (unseen, unseen)))
    return {
        "risk": now.risk,
        "next_risk": then.risk,
        "slope": now.slope,
        "grad_norm2": now.grad_norm2,
        "eta": ceiling / now.risk,
        "width": jnp.asarray(instance.predictor.width) * 1.0,
        "leak": leak,
    }


def descent_location(key: Array, setting: TwoPointStep) -> dict[str, Array]:
    """Bracket of the C at which some two-point state first sees its risk rise, by 40 bisections of [1, 4] on real steps."""

    def bisect(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        before, after = _two_point_risks(setting, middle)
        rises = jnp.max(after / before) > 1
        return jnp.where(rises, low, middle), jnp.where(rises, middle, high)

    low, high = jax.lax.fori_loop(0, 40, bisect, (jnp.asarray(1.0), jnp.asarray(4.0)))
    return {"low": low, "high": high}


# --- activations ------------------------------------------------------------------------------------------------------


@setting
class Leak:
    """Leaky activations phi_c(z) = c z + (1 - c) phi(z), all of them at one leak c."""

    leak: float

    def validate(self) -> None:
        require(0 <= self.leak < 1, f"leak c must lie in [0, 1), got {self.leak}")


GRID_BLOCKS, GRID_BLOCK = 400, 10_000
"""Grid of z on [-40, 40] with step 2e-5: a smooth maximum is attained to 1e-10."""


def activation_extremes(key: Array, setting: Leak) -> dict[str, Array]:
    """sup|phi - z phi'|, sup|phi''|, inf phi', sup phi' over the grid, for each activation, shape (5, 4).

    phi'' is the derivative of the kernel's slope by automatic differentiation. `single` and `double` are the same on every
    200th point, rounded to float32, in float32 and in float64: what rounding does.
    """

    def extremes(z: Float[Array, " Z"]) -> Float[Array, "5 4"]:
        leak = jnp.asarray(setting.leak, z.dtype)
        rows = []
        for activation in ACTIVATIONS:
            slope_of = lambda z, activation=activation: leaky(activation, z, leak)[1]
            value, _ = leaky(activation, z, leak)
            slope, second = jax.jvp(slope_of, (z,), (jnp.ones_like(z),))
            rows.append(
                [jnp.max(jnp.abs(value - z * slope)), jnp.max(jnp.abs(second)), -jnp.min(slope), jnp.max(slope)]
            )
        return jnp.stack([jnp.stack(row) for row in rows])

    def block(i, known):
        z = -40.0 + 2e-5 * (i * GRID_BLOCK + jnp.arange(GRID_BLOCK, dtype=jnp.float64))
        return jnp.maximum(known, extremes(z))

    fine = jax.lax.fori_loop(0, GRID_BLOCKS + 1, block, jnp.full((len(ACTIVATIONS), 4), -jnp.inf))
    coarse = jnp.linspace(-40.0, 40.0, 20_001).astype(jnp.float32)
    sign = jnp.asarray([1.0, 1.0, -1.0, 1.0])
    single, double = extremes(coarse).astype(jnp.float64), extremes(coarse.astype(jnp.float64))
    return {"extremes": sign * fine, "single": sign * single, "double": sign * double}


def near_homogeneity(key: Array, setting: RandomInstances) -> dict[str, Array]:
    """For random W, W', x: ||grad f||, |f - <grad f, W>|, ||grad f(W) - grad f(W')|| and |f|, each of shape (5,).

    One network of each activation has the drawn weights, signs and leak (the setting's own activation is not used). f and
    its gradient are those of the kernel; W' is W plus a Gaussian of log-uniform size from 1e-3 to 10. Also ||x||, ||W - W'||.
    """
    draw_key, shift_key, size_key = jax.random.split(key, 3)
    instance = setting.draw(draw_key)
    weights, x = instance.weights, instance.problem.X[:1]
    drawn = instance.predictor
    assert isinstance(drawn, TwoLayer)
    size = 10 ** jax.random.uniform(size_key, (), minval=-3.0, maxval=1.0)
    real = (drawn.signs != 0)[:, None] & (instance.direction != 0)[None, :]
    other = weights + size * jax.random.normal(shift_key, weights.shape) * real
    norm = lambda array: jnp.sqrt(jnp.sum(array**2))
    rows = []
    for activation in ACTIVATIONS:
        predictor = dataclasses.replace(drawn, activation=activation)

        def value_and_gradient(weights, predictor=predictor):
            output, saved = predictor.forward(weights, x)
            return output[0], predictor.backward(saved, x, jnp.ones(1)) / predictor.width

        value, gradient = value_and_gradient(weights)
        _, there = value_and_gradient(other)
        defect = jnp.abs(value - jnp.sum(gradient * weights))
        rows.append(
            {"gradient": norm(gradient), "defect": defect, "change": norm(gradient - there), "size": jnp.abs(value)}
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows) | {
        "distance": norm(weights - other),
        "norm": norm(x),
        "width": jnp.asarray(drawn.width) * 1.0,
        "leak": jnp.asarray(drawn.leak),
    }
