"""Message passing where the answers were known before: sparse recovery, the LASSO, Z2 synchronisation.

Settings, measurements and claims. Sparse regression is stated for A of shape (n, N) with N(0, 1/n) entries, y = A x0 + N(0, s^2),
delta = n/N, as in the literature; designs X = sqrt(delta) A have entries of variance 1/N.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Key

from theorysim.errors import require
from theorysim.kernels import lasso, z2
from theorysim.kernels.designs import Dense, gaussian, sample
from theorysim.kernels.eigenvalues import operator_norm
from theorysim.papers.tap_amp import theory
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.verify import Check, Claim, Control, Design, Equivalence, ExpectationBound, Ordering, Threshold
from theorysim.verify.claim import Results

PAPER = "tap-amp"


# --- settings ---------------------------------------------------------------------------------------------------------


@setting
class Recovery:
    """Signals of k entries +-1 (or +1) at each of several k, from one A: the supports and signs of a seed are nested.

    alpha, steps, damping: of message passing.
    """

    N: int
    n: int
    sparsities: tuple[int, ...]
    alpha: float
    steps: int
    damping: float = 0.2
    signed: bool = True

    def validate(self) -> None:
        _check_sizes(self.N, self.n)
        require(len(self.sparsities) > 0, "sparsities must not be empty, got ()")
        for k in self.sparsities:
            _check_sparsity(k, self.N)
        _check_positive("threshold alpha", self.alpha)
        _check_count("steps", self.steps)
        require(0 <= self.damping < 1, f"damping must lie in [0, 1), got {self.damping}")


@setting
class SparseRegression:
    """`instances` signals of k entries +-1 in noise of standard deviation s, which share A.

    alpha, steps: of message passing. penalty: of the LASSO |y - A x|^2/2 + penalty |x|_1.
    """

    N: int
    n: int
    k: int
    s: float
    alpha: float
    penalty: float
    instances: int = 32
    steps: int = 40

    def validate(self) -> None:
        _check_sizes(self.N, self.n)
        _check_sparsity(self.k, self.N)
        _check_positive("noise s", self.s)
        _check_positive("threshold alpha", self.alpha)
        _check_positive("penalty", self.penalty)
        _check_count("instances", self.instances)
        _check_count("steps", self.steps)


@setting
class Synchronisation:
    """Z2 synchronisation at signal-to-noise ratio l = `snr`.

    Message passing starts at the principal eigenvector where l > 1, at random fields elsewhere.
    reaction: factor of Onsager's term; 0 leaves it out (for controls).
    """

    n: int
    snr: float
    steps: int = 60
    reaction: float = 1.0

    def validate(self) -> None:
        require(self.n >= 2, f"n must be at least 2, got {self.n}")
        _check_positive("signal-to-noise ratio l", self.snr)
        _check_count("steps", self.steps)


def _check_sizes(N: int, n: int) -> None:
    require(N >= 2, f"N must be at least 2, got {N}")
    require(1 <= n < N, f"n must lie between 1 and N - 1 = {N - 1}, got {n}")


def _check_sparsity(k: int, N: int) -> None:
    require(1 <= k <= N, f"sparsity k must lie between 1 and N = {N}, got {k}")


def _check_positive(name: str, value: float) -> None:
    require(0 < value < np.inf, f"{name} must be positive and finite, got {value}")


def _check_count(name: str, value: int) -> None:
    require(value >= 1, f"{name} must be at least 1, got {value}")


# --- measurements -----------------------------------------------------------------------------------------------------

NEGLIGIBLE = 1e-5
"""Noise that stands for none: squared errors of 1e-10 and below decide nothing, and residuals stay normal numbers."""


def recovery(key: Key[Array, ""], setting: Recovery) -> dict[str, Array]:
    """error: |x - x0|^2/|x0|^2 after the last step, by sparsity, shape (sparsities,)."""
    of_design, of_signs, of_noise = random.split(key, 3)
    X = sample(of_design, gaussian, setting.n, setting.N)
    # Columns are exchangeable: the first k will do for a support.
    support = jnp.arange(setting.N) < jnp.asarray(setting.sparsities)[:, None]
    x0 = jnp.where(support, random.rademacher(of_signs, (setting.N,), X.dtype) if setting.signed else 1.0, 0.0)
    w = NEGLIGIBLE * gaussian(of_noise, (setting.n,), X.dtype)

    def error(X: Array, x0: Array, w: Array, alpha: Array, damping: Array) -> Array:
        design = Dense(X)
        y = design.forward(x0) + w
        state = lasso.init(design, y)
        state, _ = lasso.run(
            state,
            design,
            y,
            alpha,
            steps=setting.steps,
            nonnegative=not setting.signed,
            damping=damping,
            observe=lambda before, after: None,
        )
        return jnp.sum((state.estimate - x0) ** 2, axis=-1) / jnp.sum(x0**2, axis=-1)

    parameters = (jnp.asarray(value, X.dtype) for value in (setting.alpha, setting.damping))
    return {"error": one_by_one(error)(X, x0, w, *parameters)}


def sparse_regression(key: Key[Array, ""], setting: SparseRegression) -> dict[str, Array]:
    """Means over the instances of one A.

    amp, lasso: |x - x0|^2/N and the fraction of non-zero estimates, shape (2,); NaN where the LASSO has not converged.
    difference: |x_amp - x_lasso|^2/N.
    """
    n, N, instances = setting.n, setting.N, setting.instances
    of_design, of_signs, of_noise, of_norm = random.split(key, 4)
    X = sample(of_design, gaussian, n, N)
    # Columns are exchangeable: windows will do for supports, spread so that the instances share few columns.
    shift = (jnp.arange(instances) * N // instances)[:, None]
    x0 = jnp.where((jnp.arange(N) - shift) % N < setting.k, random.rademacher(of_signs, (instances, N), X.dtype), 0)
    w = gaussian(of_noise, (instances, n), X.dtype)
    start = gaussian(of_norm, (N,), X.dtype)

    def solve(X: Array, x0: Array, w: Array, start: Array, s: Array, alpha: Array, penalty: Array) -> dict[str, Array]:
        design = Dense(X)
        y = design.forward(x0) + (n / N) ** 0.5 * s * w
        state, _ = lasso.run(lasso.init(design, y), design, y, alpha, steps=setting.steps)
        smoothness = 1.01 * operator_norm(design, start, tolerance=1e-2) ** 2
        fista = lambda y: lasso.fista(design, y, n / N * penalty, smoothness=smoothness, tolerance=1e-3)
        solution = jax.vmap(fista)(y)
        minimiser = jnp.where(solution.converged[:, None], solution.estimate, jnp.nan)

        def summary(x: Array) -> Array:
            return jnp.stack([jnp.mean((x - x0) ** 2), jnp.mean(x != 0, dtype=x.dtype)])

        return {
            "amp": summary(state.estimate),
            "lasso": summary(minimiser),
            "difference": jnp.mean((state.estimate - minimiser) ** 2),
        }

    parameters = (jnp.asarray(value, X.dtype) for value in (setting.s, setting.alpha, setting.penalty))
    return one_by_one(solve)(X, x0, w, start, *parameters)


def synchronisation(key: Key[Array, ""], setting: Synchronisation) -> dict[str, Array]:
    """One instance; the sign of the principal eigenvector is the one that agrees with x.

    eigenvalue: the largest of Y. component: (v.x)^2/n of its eigenvector. square, overlap: Q_t and m_t.x/n, t < steps.
    change: |m_t - m_{t-1}|/sqrt(n) in the last step. At the last m: information, naive_information: n^-1 I(x; Y) estimated by
    the TAP and the naive mean-field free energy, F + (l/2n) x.Yx + log 2; curvature, naive_curvature: the smallest eigenvalue of
    their n d^2F/dm^2.
    """
    of_instance, of_start = random.split(key)
    Y, x = z2.instance(of_instance, setting.n, setting.snr)
    start = gaussian(of_start, (setting.n,), Y.dtype)

    def measure(Y: Array, x: Array, start: Array, snr: Array, reaction: Array) -> dict[str, Array]:
        pair = z2.principal(Y, start, tolerance=1e-4)
        v = pair.vector * jnp.sign(pair.vector @ x)
        spectral, uninformed = z2.spectral_start(v, snr), z2.State(start, jnp.zeros_like(start))
        first = jax.tree.map(lambda a, b: jnp.where(snr > 1, a, b), spectral, uninformed)

        def observe(before: z2.State, after: z2.State) -> tuple[Array, ...]:
            return jnp.mean(before.mean**2), jnp.mean(before.mean * x), z2.summary(before, after).change

        last, (square, overlap, change) = z2.run(first, Y, snr, steps=setting.steps, reaction=reaction, observe=observe)
        gain = snr * (x @ (Y @ x)) / (2 * x.size) + jnp.log(2.0)

        def landscape(reaction: Array) -> tuple[Array, Array]:
            bottom = z2.smallest_eigenvalue(last.field, Y, snr, start, reaction=reaction, tolerance=1e-4)
            return z2.energy(last.field, Y, snr, reaction=reaction) + gain, bottom.value

        information, curvature = lax.map(landscape, jnp.asarray([1.0, 0.0], Y.dtype))
        return {
            "eigenvalue": pair.value,
            "component": (v @ x) ** 2 / x.size,
            "square": square,
            "overlap": overlap,
            "change": change[-1],
            "information": information[0],
            "naive_information": information[1],
            "curvature": curvature[0],
            "naive_curvature": curvature[1],
        }

    parameters = (jnp.asarray(value, Y.dtype) for value in (setting.snr, setting.reaction))
    return one_by_one(measure)(Y, x, start, *parameters)


RECOVERY = Experiment(
    f"{PAPER}/recovery",
    recovery,
    x64=False,
    operations=lambda s: 50.0 * s.n * s.N + 4.0 * s.n * s.N * len(s.sparsities) * s.steps,
)
SPARSE_REGRESSION = Experiment(
    f"{PAPER}/sparse-regression",
    sparse_regression,
    x64=False,
    operations=lambda s: 50.0 * s.n * s.N + 4.0 * s.n * s.N * s.instances * (s.steps + 100),
)
SYNCHRONISATION = Experiment(
    f"{PAPER}/synchronisation", synchronisation, x64=False, operations=lambda s: 2.0 * s.n**2 * (s.steps + 150)
)


# --- sparse recovery --------------------------------------------------------------------------------------------------

RECOVERED = 1e-2
"""Relative squared error below which a signal counts as recovered."""


def _recovery(N: int, steps: int, width: float, delta: float = 0.5, *, signed: bool = True) -> Recovery:
    """Nine sparsities within `width` of the transition on either side, in k/n."""
    curve, n = theory.donoho_tanner(delta, signed=signed), round(delta * N)
    k = np.unique(np.rint(n * (curve.rho + width * np.linspace(-1, 1, 9))).astype(int))
    return Recovery(N, n, tuple(map(int, k)), curve.alpha, steps, signed=signed)


def _transition(*, swapped: bool = False) -> Callable[[Recovery, Results], float]:
    return lambda s, inputs: theory.donoho_tanner(s.n / s.N, signed=s.signed != swapped).rho


DONOHO_TANNER = Claim(
    id=f"{PAPER}.donoho-tanner",
    kind="threshold",
    statement="Without noise, message passing at its minimax threshold recovers k-sparse signals iff k/n <"
    " rho(delta), the Donoho-Tanner curve of l1 minimisation: rho = 1 - a Phi(-a)/phi(a) at delta = 2 phi/(a + 2"
    " (phi - a Phi(-a))), with 1 in place of both 2 where signals are not negative.",
    source="Donoho, Maleki, Montanari 2009; Donoho, Tanner 2005",
    assumptions="A of independent N(0, 1/n) entries; n, N, k -> infinity at fixed ratios, then steps -> infinity",
    checks=(
        Check(
            name="transition",
            experiment=RECOVERY,
            design={
                "quick": Design((_recovery(200, 500, 0.12),), 320),
                "standard": Design((_recovery(400, 1000, 0.09), _recovery(400, 1000, 0.09, signed=False)), 300),
                "paper": Design(
                    tuple(_recovery(4000, 2000, 0.03, d, signed=b) for d in (0.25, 0.5) for b in (True, False)), 100
                ),
            },
            observable=lambda s, results: results["error"] < RECOVERED,
            predict=_transition(),
            judge=Threshold(tolerance=0.05, levels=lambda s: np.array(s.sparsities) / s.n),
            control=Control(
                "the curve of signals that are not negative, and vice versa", predict=_transition(swapped=True)
            ),
            size=lambda s: s.N,
        ),
    ),
    note="Steps are damped by a fifth: undamped, one run in twenty at N = 200 cycles where l1 minimisation succeeds.",
)


# --- LASSO ------------------------------------------------------------------------------------------------------------

NOISE, PENALTY, SPARSITY = 0.2, 0.3, 0.1
LASSO = theory.lasso(theory.S3(SPARSITY), 0.5, NOISE, PENALTY)
UNCORRECTED = float(LASSO.alpha * np.sqrt(LASSO.tau2))
"""alpha tau, which would be the penalty without the factor 1 - E eta'/delta."""


def _lasso(penalty: float = PENALTY) -> dict[str, Design]:
    def settings(N: int) -> tuple[SparseRegression, ...]:
        return (SparseRegression(N, N // 2, round(SPARSITY * N), NOISE, LASSO.alpha, penalty),)

    return {
        "quick": Design(settings(250), 64),
        "standard": Design(settings(1000), 64),
        "paper": Design(settings(4000), 64),
    }


def _solution(setting: SparseRegression, inputs: Results) -> Float[np.ndarray, " 2"]:
    return np.array([LASSO.mse, LASSO.nonzero])


def _channel_error(setting: SparseRegression, inputs: Results) -> Float[np.ndarray, " 2"]:
    return np.array([LASSO.mse * setting.N / setting.n, LASSO.nonzero])


LASSO_SE = Claim(
    id=f"{PAPER}.lasso-se",
    kind="limit",
    statement="The LASSO has |x - x0|^2/N -> delta (tau^2 - s^2) and a fraction E eta' of non-zero estimates, tau"
    " the fixed point of state evolution at the alpha of penalty = alpha tau (1 - E eta'/delta), and message passing"
    " at that alpha tends to it.",
    source="Bayati, Montanari 2012; Donoho, Maleki, Montanari 2009",
    assumptions="A of independent N(0, 1/n) entries, alpha > alpha_min; delta = .5, s = .2, penalty = .3, k = N/10 entries +-1",
    checks=(
        Check(
            name="message passing",
            experiment=SPARSE_REGRESSION,
            design=_lasso(),
            observable=lambda s, results: results["amp"],
            predict=_solution,
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control("tau^2 - s^2 without the factor delta", predict=_channel_error),
            size=lambda s: s.N,
        ),
        Check(
            name="proximal gradients",
            experiment=SPARSE_REGRESSION,
            design=_lasso(),
            observable=lambda s, results: results["lasso"],
            predict=_solution,
            judge=Equivalence(tolerance=0.05, kind="limit"),
            control=Control("penalty = alpha tau, without 1 - E eta'/delta", design=_lasso(UNCORRECTED)),
            size=lambda s: s.N,
        ),
        Check(
            name="agreement",
            experiment=SPARSE_REGRESSION,
            design=_lasso(),
            observable=lambda s, results: results["difference"],
            predict=lambda s, inputs: 0.0,
            judge=ExpectationBound(tolerance=1e-3, absolute=True, kind="limit"),
            control=Control("penalty = alpha tau, without 1 - E eta'/delta", design=_lasso(UNCORRECTED)),
            size=lambda s: s.N,
        ),
    ),
    note="The tolerance of the agreement is a fortieth of the error of either. Instances that share A are one unit.",
)


# --- Z2 synchronisation -----------------------------------------------------------------------------------------------

ABOVE, BELOW = (1.5, 2.0), (0.4, 0.6)
"""Signal-to-noise ratios l on either side of 1."""
TIMES = (0, 1, 2, 5, -1)
"""Steps at which message passing is held against state evolution, the last among them."""


def _synchronisation(*snrs: float, reaction: float = 1.0) -> dict[str, Design]:
    def settings(n: int) -> tuple[Synchronisation, ...]:
        return tuple(Synchronisation(n, snr, reaction=reaction) for snr in snrs)

    return {
        "quick": Design(settings(300), 192),
        "standard": Design(settings(1000), 128),
        "paper": Design(settings(4000), 256),
    }


def _reading(name: str) -> Callable[[Synchronisation, Results], np.ndarray]:
    return lambda s, results: results[name]


def _trajectory(s: Synchronisation, results: Results) -> Float[np.ndarray, "S 2 times"]:
    """Q_t and m_t.x/n."""
    return np.stack([results["square"], results["overlap"]], axis=1)[..., TIMES]


def _size(s: Synchronisation) -> int:
    return s.n


Z2_BBP = Claim(
    id=f"{PAPER}.z2-bbp",
    kind="threshold",
    statement="In Z2 synchronisation the top eigenvalue of Y tends to 2 for l <= 1 and l + 1/l above, its"
    " eigenvector's squared overlap with x to max(0, 1 - 1/l^2). Message passing from there follows state evolution"
    " to the Bayes overlap q* > 1 - 1/l^2, q* > 0 iff l > 1; the TAP free energy of its limit gives the mutual"
    " information, and is convex there.",
    source="Baik, Ben Arous, Peche 2005; Deshpande, Abbe, Montanari 2017; Fan, Mei, Montanari 2021",
    assumptions="W of independent N(0, 1/n) entries; l not near 1, where finite n smears the transition",
    checks=(
        Check(
            name="above the transition",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*ABOVE),
            observable=lambda s, results: np.stack([results["eigenvalue"], results["component"]], axis=1),
            predict=lambda s, inputs: np.array([theory.bbp_eigenvalue(s.snr), theory.bbp_overlap(s.snr)]),
            judge=Equivalence(tolerance=0.05, kind="threshold"),
            control=Control(
                "an overlap of 1 - 1/l", predict=lambda s, inputs: np.array([s.snr + 1 / s.snr, 1 - 1 / s.snr])
            ),
            size=_size,
        ),
        Check(
            name="eigenvalue below",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*BELOW),
            observable=_reading("eigenvalue"),
            predict=lambda s, inputs: float(theory.bbp_eigenvalue(s.snr)),
            judge=Equivalence(tolerance=0.05, kind="threshold"),
            control=Control("l + 1/l on either side", predict=lambda s, inputs: s.snr + 1 / s.snr),
            size=_size,
        ),
        Check(
            name="nothing is found below",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*BELOW),
            observable=lambda s, results: np.maximum(results["component"], results["square"][:, -1]),
            predict=lambda s, inputs: 0.0,
            judge=ExpectationBound(tolerance=0.05, absolute=True, kind="threshold"),
            control=Control("above the transition", design=_synchronisation(*ABOVE)),
            size=_size,
        ),
        Check(
            name="state evolution",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*ABOVE),
            observable=_trajectory,
            predict=lambda s, inputs: theory.z2_state_evolution(s.snr, s.steps)[np.array(TIMES)],
            judge=Equivalence(tolerance=0.05, kind="threshold"),
            control=Control("no Onsager term", design=_synchronisation(*ABOVE, reaction=0.0)),
            size=_size,
        ),
        Check(
            name="better than the eigenvector",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*ABOVE),
            observable=lambda s, results: results["overlap"][:, -1],
            predict=lambda s, inputs: inputs["component"],
            inputs=("component",),
            judge=Ordering(kind="threshold"),
            control=Control("below the transition", design=_synchronisation(*BELOW)),
            size=_size,
        ),
        Check(
            name="mutual information",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*ABOVE),
            observable=_reading("information"),
            predict=lambda s, inputs: float(theory.z2_information(s.snr)),
            judge=Equivalence(tolerance=0.05, kind="threshold"),
            control=Control("the naive mean-field free energy", observable=_reading("naive_information")),
            size=_size,
        ),
        Check(
            name="convexity",
            experiment=SYNCHRONISATION,
            design=_synchronisation(*ABOVE),
            observable=_reading("curvature"),
            predict=lambda s, inputs: 0.0,
            admissible=lambda s, results: ~(results["change"] >= 1e-4),  # NaN stays in, to be invalid
            judge=Ordering(kind="threshold"),
            control=Control("the naive mean-field free energy", observable=_reading("naive_curvature")),
            size=_size,
        ),
    ),
    note="Convexity is judged on the runs that have converged.",
)

CLAIMS = (DONOHO_TANNER, LASSO_SE, Z2_BBP)
