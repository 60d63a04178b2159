"""The least risk of one-layer linear attention, the attention that attains it, and what its prompts' length must be.

Settings, measurements and claims. Averages over beta and over angles are spherical designs, exact for the degrees at hand, so
that the operator equation of the best attention is a matrix equation; nothing here uses the zonal expansion, which is what is
predicted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from math import factorial, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.special import erf
from jaxtyping import Array, Float, Int, Key

from theorysim.errors import InputError, require
from theorysim.kernels import linear_attention, prompts
from theorysim.papers.single_index_icl.pretraining import (
    CORRELATED,
    HE2_PADDED,
    HE3_PADDED,
    SINGLE,
    SOURCE,
    exact,
    hermite_values,
    moment_root,
    sphere_rule,
)
from theorysim.papers.single_index_icl.regression import PAPER, every, link_of, reading
from theorysim.papers.single_index_icl.setting import HE2, HE3, HE4, MIX, Coefficients, Link
from theorysim.papers.single_index_icl.theory import attention_floor, prompt_only, zonal
from theorysim.papers.single_index_icl.trained import PRETRAINING, SEEDS, Pretraining, best, models
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Bound, Check, Claim, Control, Equivalence, ExpectationBound, Identity, Limit, Rate, Search
from theorysim.verify.claim import Results

# --- quadrature -------------------------------------------------------------------------------------------------------


def design(r: int, degree: int) -> Float[np.ndarray, "points r"]:
    """Points on S^{r-1} with the mean of every polynomial of that degree: equidistant angles for r = 2; for r = 4 the 24 roots of
    D4, or from degree 6 the 48 of F4; the 240 of E8. Degree 7 is the most for r = 4 and 8."""
    if r == 2:
        angle = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    if r not in (4, 8) or degree > 7:
        raise InputError(f"dimension r must be 2, or 4 or 8 with degree at most 7, got r = {r}, degree = {degree}")
    signs = itertools.product(itertools.combinations(range(r), 2), (1, -1), (1, -1))
    pairs = np.array([a * np.eye(r)[i] + b * np.eye(r)[j] for (i, j), a, b in signs]) / np.sqrt(2)
    halves = np.array(list(itertools.product((0.5, -0.5), repeat=r)))
    if r == 8:
        return np.concatenate([pairs, halves[np.prod(halves, 1) > 0] / np.sqrt(2)])
    return pairs if degree <= 5 else np.concatenate([pairs, np.eye(4), -np.eye(4), halves])


class Grid(NamedTuple):
    """Quadrature of N(0, I_r)."""

    points: Float[np.ndarray, "g r"]
    weights: Float[np.ndarray, " g"]


def gaussian_grid(r: int, degree: int, radii: int = 160) -> Grid:
    """Gauss-Legendre in the radius, a design in the direction."""
    node, weight = np.polynomial.legendre.leggauss(radii)
    rho = (node + 1) / 2 * (np.sqrt(r) + 9)
    weight = weight * rho ** (r - 1) * np.exp(-(rho**2) / 2)
    directions = design(r, degree)
    points = (rho[:, None, None] * directions).reshape(-1, r)
    return Grid(points, np.repeat(weight / weight.sum(), len(directions)) / len(directions))


def nodes_of(grid: Grid) -> Float[Array, "g r"]:
    """Its points, behind a barrier: the compiler would spend its time on what is constant."""
    return lax.optimization_barrier(jnp.asarray(grid.points))


def signals(
    root: Float[Array, "degrees n"], x: Float[Array, "g r"], directions: Float[np.ndarray, "count r"]
) -> Float[Array, "g features"]:
    """Features with K(x, x') as their product: sigma at each direction, for each of the n independent parts of the link."""
    values = jnp.tensordot(root.T, hermite_values(len(root) - 1, x @ directions.T.astype(x.dtype)), axes=1)
    return jnp.moveaxis(values, 0, -1).reshape(len(x), -1) / np.sqrt(len(directions))


def _degree(link: Link) -> int:
    return len(link.values) - 1 if isinstance(link, Coefficients) else link.highest


def directions_of(link: Link, r: int) -> Float[np.ndarray, "count r"]:
    """Values of beta whose mean gives the prior kernel of the link."""
    return design(r, 2 * _degree(link))


class Attention(NamedTuple):
    """G(x_i, x) = F(x_i)^T inner F(x)/q(x_i), F the `signals` and q = tau^2 + |F|^2, which solves (q/N + (1 - 1/N) K) G = K.

    risk: of G on the grid.
    """

    inner: Float[Array, "features features"]
    risk: Float[Array, ""]


def best_attention(F: Float[Array, "g features"], weights: Float[np.ndarray, " g"], tau: Any, N: Any) -> Attention:
    """The solution on a grid: inner = (I/N + (1 - 1/N) H)^{-1}, H = E[F F^T/q]."""
    q = tau**2 + jnp.sum(F**2, axis=1)
    H, power = (F * (weights / q)[:, None]).T @ F, (F * weights[:, None]).T @ F
    system = jnp.eye(len(H)) / N + (1 - 1 / N) * H
    inner = cho_solve(cho_factor(system), jnp.eye(len(H)))
    return Attention(inner, jnp.trace(power) - jnp.sum((H @ inner) * power))


# --- zonal expansion --------------------------------------------------------------------------------------------------


@setting
class Zonal:
    """He_k(rho u) at `points` equidistant u, for random r in 2 ... 24, k in 1 ... 8 and rho in [0, 12]."""

    points: int = 17


def hermite_on_sphere(key: Key[Array, ""], s: Zonal) -> dict[str, Array]:
    """values: He_k(rho u), shape (points,). norm: E He_k^2/k!. r, k, rho: the sample."""
    keys = random.split(key, 3)
    r, k = random.randint(keys[0], (), 2, 25), random.randint(keys[1], (), 1, 9)
    rho = random.uniform(keys[2], maxval=12.0)
    norms = jnp.array([float(factorial(j)) for j in range(9)])
    z, weights = np.polynomial.hermite_e.hermegauss(9)
    powers = jnp.asarray(weights / weights.sum()) @ hermite_values(8, jnp.asarray(z)).T[:, k] ** 2
    values = norms[k] * hermite_values(8, rho * jnp.linspace(-1, 1, s.points))[k]
    return {"values": values, "norm": norms[k] * powers, "r": r, "k": k, "rho": rho}


ZONAL = Experiment(f"{PAPER}/zonal", hermite_on_sphere)


def _expansion(sign: int, s: Zonal, inputs: Results) -> Float[np.ndarray, "S points"]:
    u = np.linspace(-1, 1, s.points)

    def term(r: int, k: int, rho: float, degree: int) -> Float[np.ndarray, " points"]:
        size = zonal.zonal_eigenvalue(k, degree, r) ** 0.5 * zonal.multiplicity(degree, r)
        radial = sign ** ((k - degree) // 2) * zonal.radial_function(k, degree, r, rho)
        return size * radial * zonal.gegenbauer(degree, r, u)

    samples = zip(*(inputs[name].tolist() for name in ("r", "k", "rho")), strict=True)
    return np.array(
        [factorial(k) ** 0.5 * sum(term(r, k, rho, degree) for degree in range(k, -1, -2)) for r, k, rho in samples]
    )


def _total_power(shift: int, s: Zonal, inputs: Results) -> Float[np.ndarray, " S"]:
    """sum_l n_l lambda_kl, with r + 2l + 2i - 2 + shift in lambda."""

    def share(r: int, k: int, degree: int) -> float:
        factors = lambda c: prod(r + 2 * degree + 2 * i - 2 + c for i in range(1, (k - degree) // 2 + 1))
        return zonal.multiplicity(degree, r) * zonal.zonal_eigenvalue(k, degree, r) * factors(0) / factors(shift)

    samples = zip(inputs["r"].tolist(), inputs["k"].tolist(), strict=True)
    return np.array([sum(share(r, k, degree) for degree in range(k, -1, -2)) for r, k in samples])


ZONAL_EXPANSION = Claim(
    id=f"{PAPER}.zonal-expansion",
    kind="identity",
    statement="He_k(rho u) = sqrt(k!) sum_{l = k, k-2, ..} sqrt(lambda_kl) n_l R_kl(rho) P_l(u), and sum_l n_l lambda_kl = 1.",
    source="derived here",
    assumptions="r >= 2, 1 <= k <= 8, rho >= 0, |u| <= 1",
    checks=(
        Check(
            name="expansion",
            experiment=ZONAL,
            design=every((Zonal(),), quick=300, standard=2000, paper=20_000),
            observable=reading("values"),
            predict=partial(_expansion, 1),
            inputs=("r", "k", "rho"),
            judge=Identity(tolerance=1e-9, scale="sample"),
            control=Control("R_kl without (-1)^j", predict=partial(_expansion, -1)),
        ),
        Check(
            name="power",
            experiment=ZONAL,
            design=every((Zonal(),), quick=300, standard=2000, paper=20_000),
            observable=reading("norm"),
            predict=partial(_total_power, 0),
            inputs=("r", "k"),
            judge=Identity(tolerance=1e-9),
            control=Control("r + 2l + 2i in lambda_kl", predict=partial(_total_power, 2)),
        ),
    ),
)


# --- the floor on a grid ----------------------------------------------------------------------------------------------


@setting
class Floors:
    """The operator equation of the best attention in R^r, at prompt lengths N."""

    link: Link
    r: int
    tau: float
    N: Float[np.ndarray, " K"]

    def validate(self) -> None:
        require(bool((self.N >= 1).all()), f"prompt lengths N must be at least 1, got {self.N.tolist()}")
        directions_of(self.link, self.r)


def floors(key: Key[Array, ""], s: Floors) -> dict[str, Array]:
    """risk: of the solution at each N, shape (K,)."""

    def run(key: Key[Array, ""], s: Floors) -> dict[str, Array]:
        grid = gaussian_grid(s.r, 2 * _degree(s.link))
        F = signals(moment_root(s.link), nodes_of(grid), directions_of(s.link, s.r))
        return {"risk": lax.map(lambda N: best_attention(F, grid.weights, s.tau, N).risk, jnp.asarray(s.N))}

    return one_by_one(run)(key, s)


FLOORS = Experiment(f"{PAPER}/floors", floors)
LENGTHS = 4.0 ** np.arange(7)


def _floor(s: Any, inputs: Results) -> Any:
    return attention_floor.attention_floor(s.N, link_of(s.link), s.r, s.tau)


def _polynomial_floor(s: Any, inputs: Results) -> Float[np.ndarray, "..."]:
    """The optimum over polynomial features of the context."""
    return attention_floor.polynomial_spectrum(link_of(s.link), s.r, s.tau).risk(s.N)


@setting
class Members:
    """One-layer linear attentions on a grid of R^2: m random ReLU neurons with the best Gamma, before and after `steps` of
    normalised gradient descent of its risk in the neurons."""

    link: Coefficients
    tau: float
    m: int = 20
    steps: int = 4
    size: float = 0.1

    def validate(self) -> None:
        require(self.m >= 1, f"width m must be at least 1, got {self.m}")
        require(self.size > 0, f"step size must be positive, got {self.size}")


def members(key: Key[Array, ""], s: Members) -> dict[str, Array]:
    """risk: before every step and after the last, shape (steps + 1,). N: real, log-uniform on [2, 1024]."""

    def run(key: Key[Array, ""], s: Members) -> dict[str, Array]:
        grid = gaussian_grid(2, 11, radii=40)
        weights = jnp.asarray(grid.weights)
        F = signals(moment_root(s.link), nodes_of(grid), directions_of(s.link, 2))
        q, power = s.tau**2 + jnp.sum(F**2, axis=1), weights @ jnp.sum(F**2, axis=1)
        draw, biases, length = random.split(key, 3)
        W = random.normal(draw, (s.m, 2))
        W = 1.5 * W / jnp.linalg.norm(W, axis=1, keepdims=True)
        b = random.uniform(biases, (s.m, 1), minval=-2, maxval=2)
        N = jnp.exp2(random.uniform(length, minval=1.0, maxval=10.0))

        def risk(neurons: Array) -> Array:
            phi = jax.nn.relu(jnp.asarray(grid.points) @ neurons[:, :2].T + neurons[:, 2])
            weighted = phi * weights[:, None]
            A, seen = weighted.T @ phi, weighted.T @ F
            moments = seen @ seen.T
            B = (1 - 1 / N) * moments + (weighted * q[:, None]).T @ phi / N
            # The ridge makes Gamma solvable; the risk is that of whatever Gamma comes out.
            solve = lambda M, x: cho_solve(cho_factor(M + 1e-9 * jnp.trace(M) * jnp.eye(s.m)), x)
            gamma = solve(A, solve(B, moments).T).T
            return power - 2 * jnp.sum(gamma * moments) + jnp.sum((B @ gamma) * (gamma @ A))

        def descend(neurons: Array, _: None) -> tuple[Array, Array]:
            value, slope = jax.value_and_grad(risk)(neurons)
            return neurons - s.size * jnp.sqrt(1.0 * s.m) * slope / jnp.linalg.norm(slope), value

        _, risks = lax.scan(descend, jnp.concatenate([W, b], axis=1), None, length=s.steps + 1)
        return {"risk": risks, "N": N}

    return one_by_one(run)(key, s)


MEMBERS = Experiment(f"{PAPER}/members", members)


def _over_lengths(polynomial: bool, s: Members, inputs: Results) -> Float[np.ndarray, "S 1"]:
    spectrum = attention_floor.polynomial_spectrum if polynomial else attention_floor.floor_spectrum
    return spectrum(link_of(s.link), 2, s.tau).risk(inputs["N"])[:, None]


def _trained_floor(s: Pretraining, inputs: Results) -> Float[np.ndarray, " lengths"]:
    return attention_floor.attention_floor(np.array(s.lengths), link_of(HE2), s.r, s.tau)


@setting
class InSubspace:
    """Stage II on T2 tasks of degree 2 with m neurons in S = R^2, at N2 = N* = N; the test is on as many."""

    tau: float = 0.1
    m: int = 8
    N: int = 8
    T2: int = 20_000
    ridge: float = 1e-5

    def validate(self) -> None:
        require(self.T2 >= 1, f"number of tasks T2 must be at least 1, got {self.T2}")


def in_subspace(key: Key[Array, ""], s: InSubspace) -> dict[str, Array]:
    """risk: E (f_hat - f)^2. W, b: the neurons."""

    def run(s: InSubspace, key: Key[Array, ""]) -> dict[str, Array]:
        keys, law = random.split(key, 3), prompts.PromptLaw(2, 2, HE2.kernel(), s.tau)
        W = linear_attention.rescale(random.normal(keys[0], (s.m, 2)), 1.5)
        b = random.uniform(keys[1], (s.m,), minval=-2, maxval=2)
        seen = linear_attention.features(keys[2], law, W, b, prompts=2 * s.T2, length=s.N)
        Gamma = linear_attention.ridge_primal(jax.tree.map(lambda x: x[: s.T2], seen), s.ridge)
        fresh = jax.tree.map(lambda x: x[s.T2 :], seen)
        return {"risk": linear_attention.risk(fresh, Gamma).squared, "W": W, "b": b}

    return one_by_one(run)(s, key)


IN_SUBSPACE = Experiment(f"{PAPER}/stage-two-in-subspace", in_subspace, operations=lambda s: 2.0 * s.T2 * s.m**4)


def _best_risk(s: InSubspace, inputs: Results) -> Float[np.ndarray, " S"]:
    """With the best Gamma for the same neurons."""
    grid = attention_floor.polar_grid()
    problem = attention_floor.grid_problem(link_of(HE2), s.tau, grid)
    phis = (np.maximum(grid.points @ W.T + b, 0) for W, b in zip(inputs["W"], inputs["b"], strict=True))
    return np.array([problem.best_attention(s.N, phi).risk for phi in phis])


ATTENTION_FLOOR = Claim(
    id=f"{PAPER}.attention-floor",
    kind="bound",
    statement="For every W, b, Gamma and all features of x: E(f_hat - f)^2 >= sum_l n_l tr[L_l - L_l M_l (I/N + (1 - 1/N) L_l"
    " M_l)^{-1} L_l], which depends on r and not on d, on the link through C alone, and on the noise through tau^2.",
    source="derived here",
    assumptions="predictors linear in the labels, with weights that depend on one context point and the query",
    checks=(
        Check(
            name="best and adversarial networks",
            experiment=MEMBERS,
            design=every((Members(HE2_PADDED, 0.1),), quick=860, standard=4000, paper=40_000),
            observable=reading("risk"),
            predict=partial(_over_lengths, False),
            inputs=("N",),
            judge=Bound(mass=1e-2, sense=">=", rounding=1e-7),
            control=Control("best polynomial features of the context", predict=partial(_over_lengths, True)),
            search=Search(draws=True),
        ),
        Check(
            name="trained in two stages",
            experiment=PRETRAINING,
            design=every(models(), **SEEDS),
            observable=lambda s, results: best(results),
            predict=_trained_floor,
            judge=ExpectationBound(sense=">="),
            control=Control(
                "the linear optimum in the subspace, which is not in the class", observable=reading("known")
            ),
        ),
        Check(
            name="stage two in the subspace",
            experiment=IN_SUBSPACE,
            design=every((InSubspace(),), quick=32, standard=100, paper=1000),
            observable=reading("risk"),
            predict=_best_risk,
            inputs=("W", "b"),
            judge=Equivalence(tolerance=0.05, kind="bound"),
            control=Control(
                "the floor, for which the width is unlimited",
                predict=lambda s, inputs: float(attention_floor.attention_floor(s.N, link_of(HE2), 2, s.tau)),
            ),
        ),
    ),
)


# --- attained ---------------------------------------------------------------------------------------------------------


@setting
class Explicit:
    """The best attention in simulated prompts of length N in R^r."""

    link: Link
    r: int
    tau: float
    N: int
    prompts: int = 3000

    def validate(self) -> None:
        require(self.N >= 1, f"prompt length N must be at least 1, got {self.N}")
        directions_of(self.link, self.r)


def explicit(key: Key[Array, ""], s: Explicit) -> dict[str, Array]:
    """risk: mean squared error. x: random points, of which the first r coordinates count, shape (6, 8). G: at their pairs, the
    context first, shape (6, 6)."""

    def run(s: Explicit, key: Key[Array, ""]) -> dict[str, Array]:
        root, directions = moment_root(s.link), directions_of(s.link, s.r)
        grid = gaussian_grid(s.r, 2 * _degree(s.link))
        inner = best_attention(signals(root, nodes_of(grid), directions), grid.weights, s.tau, s.N).inner
        law = prompts.PromptLaw(s.r, s.r, s.link.kernel(), s.tau)
        draw = prompts.sampler(key, law, length=s.N)
        small_root, small_inner = root.astype(SINGLE), inner.astype(SINGLE)

        def chunk(first: Array) -> Array:
            batch = draw(first + lax.iota(jnp.int32, CHUNK))
            F = signals(small_root, batch.X.reshape(-1, s.r), directions).reshape(CHUNK, s.N + 1, -1)
            context, y = F[:, :-1], batch.y[:, :-1] / s.N
            q = s.tau**2 + jnp.sum(context**2, axis=2)
            seen = F[:, -1] @ small_inner.T
            errors = jnp.einsum("tn,tnf,tf->t", y / q, context, seen) - batch.f[:, -1]
            return jnp.mean(errors.astype(jnp.float64) ** 2)

        risk = jnp.mean(lax.map(chunk, CHUNK * jnp.arange(s.prompts // CHUNK)))
        x = random.normal(random.fold_in(key, 1), (6, 8))
        F = signals(root, x[:, : s.r], directions_of(s.link, s.r))
        G = (F @ inner @ F.T) / (s.tau**2 + jnp.sum(F**2, axis=1))[:, None]
        return {"risk": risk, "x": x, "G": G}

    return one_by_one(run)(s, key)


CHUNK = 500
"""Prompts at a time."""


EXPLICIT = Experiment(
    f"{PAPER}/explicit-attention",
    explicit,
    operations=lambda s: 400.0 * s.prompts * s.N * s.r * (2 * _degree(s.link) + 1),
)


def _closed_attention(weighted: bool, s: Explicit, inputs: Results) -> Float[np.ndarray, "S 6 6"]:
    G = attention_floor.AttentionKernel(link_of(s.link), s.r, s.tau, s.N)
    q = lambda x: zonal.label_second_moment(np.linalg.norm(x, axis=1), link_of(s.link), s.r, s.tau)[:, None]
    points = inputs["x"][:, :, : s.r]
    return np.array([G(x, x) if weighted else G(x, x) * q(x) for x in points])


def _explicit_settings(preset: str) -> tuple[Explicit, ...]:
    quick = Explicit(HE2, 2, 0.1, 16), Explicit(HE2, 4, 0.3, 16)
    return quick if preset == "quick" else (*quick, Explicit(HE3, 4, 0.3, 64), Explicit(LIGHT, 2, 0.3, 16, 12_000))


def _floors_settings(preset: str) -> tuple[Floors, ...]:
    quick = tuple(Floors(link, 2, 0.1, LENGTHS) for link in (HE2_PADDED, HE3_PADDED, CORRELATED))
    if preset == "quick":
        return quick
    wide = tuple(Floors(link, r, 0.1, LENGTHS) for r in (4, 8) for link in (HE2, HE3))
    return (*quick, *wide, Floors(MIX, 2, 0.1, LENGTHS))


LIGHT = Coefficients(np.array([0, 0, 1.0, 0, 1.5]))
"""Correlated degrees of which the higher one has a smaller share: squared errors of polynomials have heavy tails, so that its
risk is averaged over four times as many prompts as the others."""

EXPLICIT_SEEDS = {"quick": 128, "standard": 400, "paper": 2000}

FLOOR_ATTAINED = Claim(
    id=f"{PAPER}.floor-attained",
    kind="limit",
    statement="The floor is attained by G(x, x') = sum_l n_l P_l(cos) sum_kk' (A_l)_kk' R_kl(|x|) R_k'l(|x'|)/q(|x|), A_l = (I/N"
    " + (1 - 1/N) L_l M_l)^{-1} L_l, x context and x' query; it solves (q/N + (1 - 1/N) K) G = K.",
    source="derived here",
    assumptions="as for the floor",
    checks=(
        Check(
            name="operator equation",
            experiment=FLOORS,
            design=every(_floors_settings, quick=1, standard=1, paper=1),
            observable=reading("risk"),
            predict=_floor,
            judge=Identity(tolerance=1e-7, at_least=20, kind="limit"),
            control=Control("best polynomial features of the context", predict=_polynomial_floor),
        ),
        Check(
            name="closed form",
            experiment=EXPLICIT,
            design=every(_explicit_settings, **EXPLICIT_SEEDS),
            observable=reading("G"),
            predict=partial(_closed_attention, True),
            inputs=("x",),
            judge=Identity(tolerance=1e-8, scale="sample", kind="limit"),
            control=Control("without 1/q", predict=partial(_closed_attention, False)),
        ),
        Check(
            name="simulated risk",
            experiment=EXPLICIT,
            design=every(_explicit_settings, **EXPLICIT_SEEDS),
            observable=reading("risk"),
            predict=_floor,
            judge=Equivalence(tolerance=0.05, skewed=True, kind="limit"),
            control=Control("best polynomial features of the context", predict=_polynomial_floor),
        ),
    ),
)


# --- prompt length ----------------------------------------------------------------------------------------------------


def _zonal_parts(root: Float[Array, "degrees n"], r: Array) -> tuple[Array, Array, Array]:
    """Over l = 0 ... P: h_l(rho) = E_u[sigma(rho u) P_l(u)], shape (P + 1, n, nodes); n_l; weights of the radii."""
    P = len(root) - 1
    u, angular = sphere_rule(r)
    legendre = [jnp.ones_like(u), u]
    for k in range(1, P):
        previous, now = legendre[-2:]
        legendre.append(((2 * k + r - 2) * u * now - k * previous) / (k + r - 2))
    multiplicity = jnp.stack([_rising(r, k) - (_rising(r, k - 2) if k >= 2 else 0.0) for k in range(P + 1)])
    node, weight = np.polynomial.legendre.leggauss(300)
    low, high = jnp.maximum(0.0, jnp.sqrt(r) - 9), jnp.sqrt(r) + 9
    rho = low + (high - low) * (node + 1) / 2
    log_density = (r - 1) * jnp.log(rho) - rho**2 / 2
    radial = weight * jnp.exp(log_density - jnp.max(log_density))
    values = jnp.tensordot(root.T, hermite_values(P, rho[:, None] * u), axes=1)
    h = jnp.einsum("npu,lu,u->lnp", values, jnp.stack(legendre), angular)
    return h, multiplicity, jnp.asarray(radial / jnp.sum(radial))


def _rising(r: Array, n: int) -> Array:
    """C(r + n - 1, n)."""
    return jnp.prod(r + jnp.arange(float(n))) / factorial(n)


def _radial_floor(root: Array, r: Array, tau: Any) -> Callable[[Array], Array]:
    """The floor as a function of N: an operator equation for each l."""
    h, multiplicity, weights = _zonal_parts(root, r)
    q = tau**2 + jnp.einsum("l,lnp->p", multiplicity, h**2)
    M, power = (jnp.einsum("lnp,lkp,p->lnk", h, h, w) for w in (weights / q, weights))

    def floor(N: Array) -> Array:
        systems = jnp.eye(M.shape[1]) / N + (1 - 1 / N) * M
        rest = lambda one: jnp.trace(one[2]) - jnp.sum(one[1].T * jnp.linalg.solve(one[0], one[2]))
        return multiplicity @ lax.map(rest, (systems, M, power))

    return floor


@setting
class HalfLengths:
    """Where the floor is half of E f^2, in dimensions r."""

    link: Coefficients
    tau: float
    r: Float[np.ndarray, " K"]

    def validate(self) -> None:
        require(bool((self.r >= 2).all()), f"dimensions r must be at least 2, got {self.r.tolist()}")


def half_lengths(key: Key[Array, ""], s: HalfLengths) -> dict[str, Array]:
    """half: N_half, shape (K,). eigenvalues: the share of E f^2 in the harmonics of degree l, over n_l, shape (P + 1, K)."""

    def run(key: Key[Array, ""], s: HalfLengths) -> dict[str, Array]:
        root = moment_root(s.link)

        def one(r: Array) -> tuple[Array, Array]:
            floor = _radial_floor(root, r, s.tau)
            half = jnp.sum(root[:, 0] ** 2 / jnp.array([float(factorial(k)) for k in range(len(root))])) / 2

            def bisect(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
                low, high = ends
                middle = (low + high) / 2
                above = floor(jnp.exp(middle)) > half
                return jnp.where(above, middle, low), jnp.where(above, high, middle)

            low, _ = lax.fori_loop(jnp.int32(0), jnp.int32(60), bisect, (jnp.zeros(()), jnp.full((), 40.0)))
            h, _, weights = _zonal_parts(root, r)
            return jnp.exp(low), jnp.einsum("lnp,p->l", h**2, weights)

        half, eigenvalues = lax.map(one, jnp.asarray(s.r))
        return {"half": half, "eigenvalues": eigenvalues.T}

    return one_by_one(run)(key, s)


@setting
class LongPrompts:
    """The floor in dimension r at lengths N."""

    link: Link
    r: float
    tau: float
    N: Float[np.ndarray, " K"]


def long_prompts(key: Key[Array, ""], s: LongPrompts) -> dict[str, Array]:
    """risk: N times the floor, shape (K,)."""

    def run(key: Key[Array, ""], s: LongPrompts) -> dict[str, Array]:
        N = jnp.asarray(s.N)
        return {"risk": N * lax.map(_radial_floor(moment_root(s.link), jnp.asarray(s.r), s.tau), N)}

    return one_by_one(run)(key, s)


HALF_LENGTHS = Experiment(f"{PAPER}/half-lengths", half_lengths)
LONG_PROMPTS = Experiment(f"{PAPER}/long-prompts", long_prompts)
DIMENSIONS = 2.0 ** np.arange(4, 11)
PURE = tuple(HalfLengths(link, 0.3, DIMENSIONS) for link in (HE2_PADDED, HE3_PADDED, HE4))


def _asymptote(noisy: bool, s: HalfLengths) -> Float[np.ndarray, " K"]:
    tau = s.tau if noisy else 0.0
    return np.array([attention_floor.half_length_asymptote(link_of(s.link), int(r), tau) for r in s.r])


def _large_length(without_prior: bool, s: LongPrompts, inputs: Results) -> float:
    """sum_l n_l tr[M_l^{-1} - L_l]."""
    link = link_of(s.link)
    limit = attention_floor.floor_spectrum(link, int(s.r), s.tau).large_length_limit
    return limit + link.variance if without_prior else limit


PROMPT_LENGTH_RATE = Claim(
    id=f"{PAPER}.prompt-length-rate",
    kind="rate",
    statement="The floor is v/2 at N_half ~ (v + tau^2)/(v lambda_PP) = (1 + tau^2/v) r(r + 2)..(r + 2P - 2)/P! for He_P as r ->"
    " infinity; N floor_N -> sum_l n_l tr[M_l^{-1} - L_l] as N -> infinity.",
    source=SOURCE + "N* = r^{Theta(P)}; constants derived here",
    assumptions="link of one degree for the first, non-singular L_l for the second",
    checks=(
        Check(
            name="exponent of r",
            experiment=HALF_LENGTHS,
            design=exact(PURE),
            observable=reading("half"),
            predict=lambda s, inputs: float(link_of(s.link).degree),
            size=lambda s: s.r,
            group=lambda s: link_of(s.link).degree,
            judge=Rate(correction=(1,), deterministic=True),
            control=Control("r^{P - 1}", predict=lambda s, inputs: link_of(s.link).degree - 1.0),
        ),
        Check(
            name="constant",
            experiment=HALF_LENGTHS,
            design=exact(PURE),
            observable=lambda s, results: results["half"] / _asymptote(True, s),
            predict=lambda s, inputs: 1.0,
            size=lambda s: s.r,
            group=lambda s: link_of(s.link).degree,
            judge=Limit(tolerance=0.01, orders=(1,), deterministic=True),
            control=Control("without tau^2", observable=lambda s, results: results["half"] / _asymptote(False, s)),
        ),
        Check(
            name="long prompts",
            experiment=LONG_PROMPTS,
            design=exact(tuple(LongPrompts(MIX, r, 0.1, 4.0 ** np.arange(5, 10)) for r in (2, 4))),
            observable=reading("risk"),
            predict=partial(_large_length, False),
            size=lambda s: s.N,
            group=lambda s: s.r,
            judge=Limit(tolerance=0.01, orders=(1,), deterministic=True),
            control=Control("sum_l n_l tr M_l^{-1}", predict=partial(_large_length, True)),
        ),
    ),
)


# --- correlational queries --------------------------------------------------------------------------------------------


@setting
class Queries:
    """Random h with E h^2 = 1 of degree at most Q in R^d, and one in each block of degree Q; d = 8 for Q = 2, 4 for Q = 3."""

    Q: int
    d: int

    def validate(self) -> None:
        require(
            (self.Q, self.d) in ((2, 8), (2, 4), (3, 4)),
            f"(Q, d) must be (2, 8), (2, 4) or (3, 4), got {(self.Q, self.d)}",
        )


def queries(key: Key[Array, ""], s: Queries) -> dict[str, Array]:
    """power: E_beta (E_x f_beta h)^2, and with the mean of f_beta over beta taken off, shape (2,); blocks: the first, for h in the
    harmonics of degree Q - 2 and Q, shape (2,)."""

    def run(key: Key[Array, ""], s: Queries) -> dict[str, Array]:
        z, w = np.polynomial.hermite_e.hermegauss(s.Q + 1)
        # Behind a barrier, or the compiler would spend its time on what is constant.
        x = lax.optimization_barrier(jnp.asarray(np.array(list(itertools.product(z, repeat=s.d)))))
        weights = jnp.asarray(np.prod(list(itertools.product(w / w.sum(), repeat=s.d)), axis=1))
        f = hermite_values(s.Q, x @ design(s.d, 2 * s.Q).T)[s.Q] * factorial(s.Q) ** 0.5
        orders = [a for a in itertools.product(range(s.Q + 1), repeat=s.d) if sum(a) <= s.Q]
        one = hermite_values(s.Q, x) * jnp.sqrt(jnp.array([float(factorial(k)) for k in range(s.Q + 1)]))[:, None, None]
        factors = one.transpose(0, 2, 1)[np.array(orders), np.arange(s.d)]
        basis = jnp.prod(factors, axis=1).T
        top = jnp.asarray(np.array([sum(a) == s.Q for a in orders]))

        keys = random.split(key, 3)
        share = jnp.exp(random.uniform(keys[0], maxval=8.0))
        c = random.normal(keys[1], (len(orders),)) * jnp.where(top, share, 1.0)
        frame = jnp.linalg.qr(random.normal(keys[2], (s.d, s.d)))[0]
        along, square = x @ frame, jnp.sum(x**2, axis=1)
        low = square - s.d if s.Q == 2 else (square - s.d - 2) * along[:, 0]
        candidates = jnp.stack([basis @ c, low, jnp.prod(along[:, : s.Q], axis=1)], axis=1)
        h = candidates / jnp.sqrt(weights @ candidates**2)
        overlaps = (f * weights[:, None]).T @ h
        power = jnp.mean(overlaps**2, axis=0)
        return {"power": jnp.stack([power[0], jnp.var(overlaps[:, 0])]), "blocks": power[1:]}

    return one_by_one(run)(key, s)


QUERIES = Experiment(f"{PAPER}/queries", queries)


def _query_settings(preset: str) -> tuple[Queries, ...]:
    return Queries(2, 4 if preset == "quick" else 8), Queries(3, 4)


def _bounds(s: Queries, inputs: Results) -> Float[np.ndarray, "2"]:
    return np.array([prompt_only.correlational_bound(s.Q, s.d, centred=centred) for centred in (False, True)])


def _eigenvalue_exponent(shift: int, s: HalfLengths, inputs: Results) -> float:
    Q = link_of(s.link).degree
    return -float(shift * Q if shift else (Q + 2) // 2)


def _centred_maximum(s: HalfLengths, results: Results) -> Float[np.ndarray, "S K"]:
    """Largest eigenvalue over l > 0."""
    return results["eigenvalues"][:, 1:].max(1)


CSQ = Claim(
    id=f"{PAPER}.csq",
    kind="bound",
    statement="f_beta = He_Q(<beta, x>)/sqrt(Q!), beta uniform on S^{d-1}: E_beta (E_x f_beta h)^2 <= max_l lambda_Ql(d) for E h^2"
    " <= 1, with equality in that block; with the mean over beta taken off lambda_Q1 (Q odd) or lambda_Q2 (Q even), of order"
    " d^{-ceil((Q+1)/2)}; Q!/(d(d + 2)..) in the harmonics of degree Q.",
    source=SOURCE + "lower bound for correlational queries; eigenvalues derived here",
    assumptions="x Gaussian, beta uniform on the sphere of R^d",
    checks=(
        Check(
            name="random queries",
            experiment=QUERIES,
            design=every(_query_settings, quick=430, standard=2000, paper=20_000),
            observable=reading("power"),
            predict=_bounds,
            judge=Bound(mass=1e-2),
            control=Control(
                "lambda_QQ throughout", predict=lambda s, inputs: zonal.zonal_eigenvalue(s.Q, s.Q, s.d) * np.ones(2)
            ),
            search=Search(draws=True),
        ),
        Check(
            name="equality in the blocks",
            experiment=QUERIES,
            design=every(_query_settings, quick=430, standard=2000, paper=20_000),
            observable=reading("blocks"),
            predict=lambda s, inputs: np.array([zonal.zonal_eigenvalue(s.Q, k, s.d) for k in (s.Q - 2, s.Q)]),
            judge=Identity(tolerance=1e-10, kind="bound"),
            control=Control(
                "lambda_QQ throughout", predict=lambda s, inputs: zonal.zonal_eigenvalue(s.Q, s.Q, s.d) * np.ones(2)
            ),
        ),
        Check(
            name="exponent of d",
            experiment=HALF_LENGTHS,
            design=exact(PURE),
            observable=_centred_maximum,
            predict=partial(_eigenvalue_exponent, 0),
            size=lambda s: s.r,
            group=lambda s: link_of(s.link).degree,
            judge=Rate(correction=(1,), deterministic=True),
            control=Control("d^-Q", predict=partial(_eigenvalue_exponent, 1)),
        ),
    ),
)


# --- absolute risk ----------------------------------------------------------------------------------------------------


@setting
class Errors:
    """Errors e of a predictor, normal at a scale between e^-6 tau and e^3 tau, and tau in [.01, 1]."""

    count: int = 16


def absolute_errors(key: Key[Array, ""], s: Errors) -> dict[str, Array]:
    """two_point, gaussian: (E|e - s| - tau)/tau for noise s = +-tau, and for Gaussian noise. e, tau: the sample."""
    keys = random.split(key, 3)
    tau = random.uniform(keys[0], minval=0.01, maxval=1.0)
    e = tau * jnp.exp(random.uniform(keys[1], minval=-6.0, maxval=3.0)) * random.normal(keys[2], (s.count,))
    two_point = jnp.mean(jnp.abs(e[:, None] - tau * jnp.array([1.0, -1.0])))
    scaled = e / tau
    folded = jnp.sqrt(2 / jnp.pi) * jnp.exp(-(scaled**2) / 2) + scaled * erf(scaled / jnp.sqrt(2.0))
    return {"two_point": two_point / tau - 1, "gaussian": jnp.mean(folded) - 1, "e": e, "tau": tau}


ABSOLUTE = Experiment(f"{PAPER}/absolute-errors", absolute_errors)


def _excess_absolute(s: Errors, inputs: Results) -> Float[np.ndarray, " S"]:
    return np.array(
        [prompt_only.excess_absolute_risk(e, tau) / tau for e, tau in zip(inputs["e"], inputs["tau"], strict=True)]
    )


ABS_RISK = Claim(
    id=f"{PAPER}.abs-risk",
    kind="identity",
    statement="E|e - s| - tau = E max(|e| - tau, 0) for noise s = +-tau independent of the error e: the excess absolute risk of a"
    " predictor that is nowhere off by more than tau is 0.",
    source=SOURCE + "absolute loss; derived here",
    assumptions="two-point noise",
    checks=(
        Check(
            name="both signs",
            experiment=ABSOLUTE,
            design=every((Errors(),), quick=500, standard=2000, paper=20_000),
            observable=reading("two_point"),
            predict=_excess_absolute,
            inputs=("e", "tau"),
            judge=Identity(tolerance=1e-12, scale=1.0),
            control=Control("Gaussian noise", observable=reading("gaussian")),
        ),
        Check(
            name="trained in two stages",
            experiment=PRETRAINING,
            design=every(models(), **SEEDS),
            observable=reading("absolute"),
            predict=lambda s, inputs: inputs["clipped"],
            inputs=("clipped",),
            judge=Equivalence(tolerance=0.05),
            control=Control("without the subtraction of tau", observable=lambda s, r: r["absolute"] + s.tau),
        ),
    ),
)

CLAIMS = (ZONAL_EXPANSION, ATTENTION_FLOOR, FLOOR_ATTAINED, PROMPT_LENGTH_RATE, CSQ, ABS_RISK)
