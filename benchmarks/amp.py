"""Bayes AMP for a linear model: theorysim beside vampyre, tree-AMP and NumPy loops, in one run; and matrix-free at p = 10^5.

    python benchmarks/amp.py --peers path/of/peer/environment/bin/python
    python benchmarks/amp.py --matrix-free

y = X beta + noise with n = 2000, p = 4000, noise N(0, .01), beta from .9 delta_0 + .1 N(0, 1); 30 iterations of sixteen instances.
Two cases. `shared`: sixteen responses to one X, so that each half of an iteration is one product with sixteen columns. `separate`:
sixteen pairs of X and response, where each product is a pass through another matrix. Entries of X are N(0, 1/p), scaled to
||X||_F^2 = n exactly: then GAMP with scalar variances, which vampyre has, is this algorithm to rounding.

A run leads from X and y in memory to the estimates in memory. Compilation, singular value decompositions and objects of the
packages are prepared beforehand: column "prepared", measured once; the first call is not counted. "From X" is both together: what
the first result for a new X takes. Every contestant is a process of its own with the same cores and number of threads; the runs
take turns. Quote ratios from an idle machine; the load is printed. "Deviation" is the largest difference from a NumPy loop in
double precision, relative to the largest estimate, for those that run AMP; for VAMP and expectation propagation, which take other
steps to nearly the same point, it is the mean square difference over the mean square error. There is no ratio where that is not
small. "Within 1 %" is the number of iterations after which the mean square error is within 1 % of the loop's after 30, and their
time.

Settings: each package's fastest of those tried; both have double precision only.
  theorysim        `amp.run` on `Dense`; designs one after another (`lax.map`) and side by side (`vmap`)
  NumPy            products and denoiser in C order, estimates as rows or as columns
  vampyre, GAMP    `Gamp` on a p x 16 variable, no damping, no cost; an SVD to get ||X||_F from
  vampyre, VAMP    `Vamp` on a p x 16 variable, no cost; an SVD, then two products with V a step
  tree-AMP         `ExpectationPropagation` with precomputed SVD, no damping, no stopping rule; a step takes two products with each
                   of U and V, one with X, two with the singular values as a dense matrix, and a deep copy of them all. A p x 16
                   variable has one variance for all columns; the other setting is one response, counted for sixteen
The packages run one of the separate designs, counted for sixteen.

Their environment: Python 3.8, numpy 1.23, networkx 1.11, scipy, pandas, matplotlib, daft, scikit-learn, pywavelets, and on the path
checkouts of GAMPTeam/vampyre and sphinxteam/tramp; packages of these names on the index are others.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

# Workers run this file in environments that may have neither theorysim nor a Python beyond 3.8.

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[[int], np.ndarray]
    """From the number of steps to the estimates, shape (instances, p)."""

Precision = Literal["double", "single"]
Case = Literal["shared", "separate"]

N, P, INSTANCES, STEPS = 2000, 4000, 16, 30
RHO, NOISE = 0.1, 0.01
"""Weight of the slab N(0, 1), and sigma^2."""

DEVIATION = {"double": 1e-10, "single": 1e-3}
"""Largest deviation granted to AMP."""

DISTANCE = 0.05
"""Largest mean square difference over mean square error granted to other algorithms."""

PAUSE = 0.05
"""Seconds before each timed run: idle threads of the process before spin for some milliseconds."""


@dataclass(frozen=True)
class Options:
    cases: tuple[Case, ...] = ("shared", "separate")
    precisions: tuple[Precision, ...] = ("double", "single")
    threads: int = len(os.sched_getaffinity(0))
    """Of every contestant, on as many cores; by default all cores of the process."""
    repeats: int = 7
    """Timed runs of each contestant."""
    limit: float = 30.0
    """Seconds of timed runs after which a contestant is not repeated further."""
    only: str = ""
    """Contestants whose name contains this."""
    peers: str = sys.executable
    """Python interpreter of the environment that has vampyre and tree-AMP."""
    matrix_free: bool = False
    """Instead: designs that are never in memory, n = 50 000 and p = 100 000."""


# --- instances --------------------------------------------------------------------------------------------------------


def design(index: int) -> np.ndarray:
    """X, shape (n, p), with ||X||_F^2 = n."""
    X = np.random.default_rng(index).standard_normal((N, P))
    X *= math.sqrt(N) / np.linalg.norm(X)
    return X


def signals() -> np.ndarray:
    """beta of all instances, shape (16, p)."""
    rng = np.random.default_rng(1000)
    return rng.standard_normal((INSTANCES, P)) * (rng.random((INSTANCES, P)) < RHO)


def noises() -> np.ndarray:
    return math.sqrt(NOISE) * np.random.default_rng(2000).standard_normal((INSTANCES, N))


def data(case: Case, instances: int, precision: Precision) -> tuple[list[np.ndarray], np.ndarray]:
    """The designs, one of them for all or one each, and responses of shape (instances, n)."""
    dtype = np.float64 if precision == "double" else np.float32
    beta, noise, Xs, ys = signals()[:instances], noises(), [], []
    for k in range(1 if case == "shared" else instances):
        X = design(k)
        ys.append(beta @ X.T + noise[:instances] if case == "shared" else (X @ beta[k] + noise[k])[None])
        Xs.append(X.astype(dtype))
    return Xs, np.concatenate(ys).astype(dtype)


def mean_square(values: np.ndarray) -> float:
    return float(np.mean(values.astype(float) ** 2))


# --- contestants: from case, instances and precision to a run ---------------------------------------------------------


def with_theorysim(case: Case, instances: int, precision: Precision, *, mapped: bool = True) -> Run:
    import jax
    import jax.numpy as jnp
    from jax import lax

    from theorysim.kernels import amp, designs, priors

    prior = priors.bernoulli_gaussian(RHO)

    def simulate(X, y, steps):
        X = designs.Dense(X)
        return amp.run(amp.init(X, y, 0.0, RHO), X, y, prior.moments, NOISE, steps=steps)[0].mean

    def all_designs(X, y, steps):
        if case == "shared":
            return simulate(X, y, steps)
        if mapped:
            return lax.map(lambda pair: simulate(pair[0], pair[1], steps), (X, y))
        return jax.vmap(lambda X, y: simulate(X, y, steps))(X, y)

    with jax.enable_x64(precision == "double"):
        Xs, ys = data(case, instances, precision)
        X, y = jnp.asarray(Xs[0] if case == "shared" else np.stack(Xs)), jnp.asarray(ys)
        programs = {STEPS: jax.jit(all_designs, static_argnums=2).lower(X, y, STEPS).compile()}

        def run(steps: int) -> np.ndarray:
            if steps not in programs:
                with jax.enable_x64(precision == "double"):
                    programs[steps] = jax.jit(all_designs, static_argnums=2).lower(X, y, steps).compile()
            return np.asarray(programs[steps](X, y))

        return run


def denoise(lam: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance."""
    variance = 1 / (1 + gamma)
    mean = variance * lam
    spike = 1 / (1 + (RHO / (1 - RHO)) * np.sqrt(variance) * np.exp(mean * lam / 2))
    slab = 1 - spike
    return slab * mean, slab * (variance + spike * mean**2)


def numpy_amp(X: np.ndarray, y: np.ndarray, steps: int, *, columns: bool = False) -> np.ndarray:
    """y of shape (n,) or (instances, n); `columns`: estimates are columns of C-ordered matrices while iterating."""
    if columns:
        y = np.ascontiguousarray(y.T)
    over = 0 if columns else -1
    dtype = X.dtype.type
    m = np.zeros((P, *y.shape[1:]) if columns else (*y.shape[:-1], P), dtype)
    V, z = np.full_like(y.sum(over, keepdims=True), RHO), y
    for _ in range(steps):
        tau = dtype(NOISE) + V
        gamma = dtype(N / P) / tau
        m, variances = denoise(gamma * m + (X.T @ z if columns else z @ X) / tau, gamma)
        V = variances.mean(over, keepdims=True)
        z = y - (X @ m if columns or m.ndim == 1 else m @ X.T) + (V / tau) * z
    return m.T if columns else m


def with_numpy(case: Case, instances: int, precision: Precision, *, columns: bool = False) -> Run:
    Xs, y = data(case, instances, precision)
    if case == "shared":
        return lambda steps: numpy_amp(Xs[0], y, steps, columns=columns)
    return lambda steps: np.stack([numpy_amp(Xs[k], y[k], steps) for k in range(instances)])


def vampyre_prior(vampyre: Any, shape: tuple[int, int]) -> Any:
    spike, slab = vampyre.estim.DiscreteEst(0, 1, shape), vampyre.estim.GaussEst(0, 1, shape)
    return vampyre.estim.MixEst([spike, slab], w=np.array([1 - RHO, RHO]))


def with_gamp(case: Case, instances: int, precision: Precision) -> Run:
    import vampyre  # pyright: ignore[reportMissingImports]

    (X,), y = data(case, instances, precision)
    prior = vampyre_prior(vampyre, (P, instances))
    likelihood = vampyre.estim.GaussEst(np.ascontiguousarray(y.T), NOISE, (N, instances), zmean_axes=())
    transform = vampyre.trans.MatrixLT(X, (P, instances))
    transform.get_svd_diag()

    def run(steps: int) -> np.ndarray:
        solver = vampyre.solver.Gamp(prior, likelihood, transform, nit=steps, comp_cost=False, step=1.0)
        solver.solve()
        return solver.z0.T

    return run


def with_vamp(case: Case, instances: int, precision: Precision) -> Run:
    import vampyre  # pyright: ignore[reportMissingImports]

    (X,), y = data(case, instances, precision)
    prior = vampyre_prior(vampyre, (P, instances))
    likelihood = vampyre.estim.LinEst(vampyre.trans.MatrixLT(X, (P, instances)), np.ascontiguousarray(y.T), NOISE)

    def run(steps: int) -> np.ndarray:
        solver = vampyre.solver.Vamp(prior, likelihood, nit=steps, comp_cost=False)
        solver.solve()
        return solver.zhat.T

    return run


def with_tramp(case: Case, instances: int, precision: Precision) -> Run:
    from tramp.algos import ExpectationPropagation  # pyright: ignore[reportMissingImports]
    from tramp.algos.callbacks import PassCallback  # pyright: ignore[reportMissingImports]
    from tramp.channels import LinearChannel  # pyright: ignore[reportMissingImports]
    from tramp.likelihoods import GaussianLikelihood  # pyright: ignore[reportMissingImports]
    from tramp.priors import GaussBernoulliPrior  # pyright: ignore[reportMissingImports]
    from tramp.variables import SISOVariable  # pyright: ignore[reportMissingImports]

    (X,), y = data(case, instances, precision)
    prior = GaussBernoulliPrior(size=P if instances == 1 else (P, instances), rho=RHO)
    likelihood = GaussianLikelihood(y=y[0] if instances == 1 else np.ascontiguousarray(y.T), var=NOISE)
    model = prior @ SISOVariable("x") @ LinearChannel(X) @ SISOVariable("z") @ likelihood
    propagation = ExpectationPropagation(model.to_model())

    def run(steps: int) -> np.ndarray:
        propagation.iterate(max_iter=steps, callback=PassCallback())
        return np.atleast_2d(propagation.get_variable_data("x")["r"].T)

    return run


@dataclass(frozen=True)
class Contestant:
    """prepare: from case, instances and precision to a run; instances: how many it runs, counted for all sixteen.

    exact: it takes the steps of AMP. peer: it needs the other environment.
    """

    prepare: Callable[..., Run]
    instances: int = INSTANCES
    settings: tuple[tuple[str, Any], ...] = ()
    exact: bool = True
    peer: bool = False


CONTESTANTS = {
    "shared": {
        "theorysim": Contestant(with_theorysim),
        "NumPy, rows": Contestant(with_numpy),
        "NumPy, columns": Contestant(with_numpy, settings=(("columns", True),)),
        "vampyre, GAMP": Contestant(with_gamp, peer=True),
        "vampyre, VAMP": Contestant(with_vamp, exact=False, peer=True),
        "tree-AMP, 16 columns": Contestant(with_tramp, exact=False, peer=True),
        "tree-AMP, one at a time": Contestant(with_tramp, 1, exact=False, peer=True),
    },
    "separate": {
        "theorysim": Contestant(with_theorysim),
        "theorysim, vmap": Contestant(with_theorysim, settings=(("mapped", False),)),
        "NumPy": Contestant(with_numpy),
        "vampyre, GAMP": Contestant(with_gamp, 1, peer=True),
        "vampyre, VAMP": Contestant(with_vamp, 1, exact=False, peer=True),
        "tree-AMP": Contestant(with_tramp, 1, exact=False, peer=True),
    },
}


# --- the machine's rates ----------------------------------------------------------------------------------------------


def least(call: Callable[[], object], repeats: int) -> float:
    return min(seconds(call) for _ in range(repeats + 1))


def numpy_rates(precision: Precision, repeats: int) -> dict[str, float]:
    """Seconds of both products of an iteration, with sixteen columns and with one, in the faster of two layouts each; FLOP/s of a
    product of two large matrices."""
    (X,), z = data("shared", INSTANCES, precision)
    m = np.ascontiguousarray(z @ X)
    z_columns, m_columns = np.ascontiguousarray(z.T), np.ascontiguousarray(m.T)
    pair = lambda *calls: min(least(call, repeats) for call in calls)
    return {
        "pair of products": pair(lambda: m @ X.T, lambda: X @ m_columns) + pair(lambda: z @ X, lambda: X.T @ z_columns),
        "pair of vector products": pair(lambda: X @ m[0]) + pair(lambda: z[0] @ X),
        "large product": 2 * N * N * P / least(lambda: X @ X.T[:, ::-1], repeats),
    }


def jax_rates(precision: Precision, repeats: int) -> dict[str, float]:
    """The same, and bytes a second of the triad b <- b + s c in place over 256 MiB."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    with jax.enable_x64(precision == "double"):
        (X,), z = data("shared", INSTANCES, precision)
        X, z = jnp.asarray(X), jnp.asarray(z)
        m = z @ X

        def timed(program, *arguments):
            compiled = jax.jit(program).lower(*arguments).compile()
            return least(lambda: jax.block_until_ready(compiled(*arguments)), repeats)

        size = 2**28 // X.dtype.itemsize
        b, c = jnp.ones(size, X.dtype), jnp.ones(size, X.dtype)
        triad = jax.jit(lambda b, c: lax.fori_loop(0, 4, lambda _, b: b + 0.5 * c, b)).lower(b, c).compile()
        return {
            "pair of products": min(timed(lambda X, m: m @ X.T, X, m), timed(lambda X, m: X @ m, X, m.T))
            + min(timed(lambda X, z: z @ X, X, z), timed(lambda X, z: X.T @ z, X, z.T)),
            "pair of vector products": timed(lambda X, m: X @ m, X, m[0]) + timed(lambda X, z: z @ X, X, z[0]),
            "large product": 2 * N * N * P / timed(lambda X, Y: X @ Y, X, X.T),
            "triad": 12 * 2**28 / least(lambda: jax.block_until_ready(triad(b, c)), repeats),
        }


# --- matrix-free ------------------------------------------------------------------------------------------------------


def matrix_free(name: str, instances: int, steps: int) -> dict[str, Any]:
    """Errors of every step, shape (steps, instances), time per iteration and the process's largest resident memory."""
    from functools import partial

    import jax
    import jax.numpy as jnp

    from theorysim.kernels import amp, designs, priors

    n, p = 50_000, 100_000
    keys = jax.random.split(jax.random.key(0), 3)
    X = {
        "marchenko_pastur": lambda: designs.marchenko_pastur(keys[0], n, p),
        "subsampled_orthogonal": lambda: designs.subsampled_orthogonal(keys[0], n, p),
        "regenerated rademacher": lambda: designs.regenerated(keys[0], designs.rademacher, n, p),
        "regenerated gaussian": lambda: designs.regenerated(keys[0], designs.gaussian, n, p),
    }[name]()
    prior = priors.bernoulli_gaussian(RHO)
    zero = jnp.zeros((instances, p))
    beta = priors.sample(keys[1], prior, zero, zero)

    def simulate(X, beta):
        noise = math.sqrt(NOISE) * jax.random.normal(keys[2], (instances, n))
        y = X.forward(beta) + noise
        observe = partial(amp.summary, target=beta)
        start = amp.init(X, y, 0.0, RHO)
        return amp.run(start, X, y, prior.moments, NOISE, steps=steps, observe=observe)[1].mse

    program = jax.jit(simulate).lower(X, beta).compile()
    start = time.perf_counter()
    errors = np.asarray(program(X, beta))
    taken = time.perf_counter() - start
    # the response is half a visit of X, the start another one
    return {
        "errors": errors,
        "seconds": taken / (steps + 1.5),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


MATRIX_FREE = (
    ("marchenko_pastur", 1, 30),
    ("marchenko_pastur", 16, 30),
    ("subsampled_orthogonal", 1, 30),
    ("regenerated rademacher", 1, 8),
    ("regenerated rademacher", 16, 8),
    ("regenerated gaussian", 1, 3),
)
"""Design, instances, steps."""


def report_matrix_free(options: Options) -> None:
    from theorysim.papers.tap_amp import theory

    predicted = theory.state_evolution(theory.BernoulliGaussian(RHO), 0.5, math.sqrt(NOISE), 30).mse
    head = "  of its mean square error: after one step, at the end; state evolution; largest difference"
    print(f"\nn = 50 000, p = 100 000, single precision\n  {'':38s} {'s/iteration':>11s} {'peak GiB':>9s}{head}")
    for name, instances, steps in MATRIX_FREE:
        worker = Worker(sys.executable, options.threads)
        found = worker.ask("matrix_free", name, instances, steps)
        worker.end()
        errors = found["errors"].mean(1)
        apart = np.abs(errors / predicted[:steps] - 1).max()
        print(
            f"  {name + f', {instances} instances, {steps} steps':38s} {found['seconds']:11.3f} {found['memory'] / 2**30:9.2f}"
            f"  {errors[0]:.5f} {errors[-1]:.6f}; {predicted[0]:.5f} {predicted[steps - 1]:.6f}; {apart:.1%};"
            f" load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


# --- workers ----------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Worker:
    """A process that prepares and runs one contestant, on request."""

    def __init__(self, python: str, threads: int):
        environment = {**os.environ, **{f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}}
        self.connection, theirs = Pipe()
        with theirs:
            command = [python, "-W", "ignore", __file__, "--worker", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)

    def ask(self, function: str, *arguments: Any) -> Any:
        """The answer of a function of `Tasks`. Raises what the function raised."""
        self.connection.send((function, arguments))
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Tasks:
    """What a worker is asked for."""

    run: Run

    def prepare(self, case: Case, name: str, precision: Precision) -> float:
        """Seconds of compilation or decomposition, the data and imports not counted."""
        contestant = CONTESTANTS[case][name]
        data_alone = seconds(lambda: data(case, contestant.instances, precision))
        with contextlib.suppress(ImportError):
            import jax.numpy  # noqa: F401

            import theorysim.kernels.amp  # noqa: F401

        def prepare() -> None:
            self.run = contestant.prepare(case, contestant.instances, precision, **dict(contestant.settings))

        return max(0.0, seconds(prepare) - data_alone)

    def estimates(self, steps: int) -> np.ndarray:
        return np.array(self.run(steps))

    def timed(self) -> float:
        return seconds(lambda: self.run(STEPS))

    numpy_rates = staticmethod(numpy_rates)
    jax_rates = staticmethod(jax_rates)
    matrix_free = staticmethod(matrix_free)


def serve(connection: Connection) -> None:
    """Answer requests until the other side is closed."""
    tasks = Tasks()
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = connection.recv()
            try:
                answer = getattr(tasks, function)(*arguments)
            except ImportError as error:
                answer = ImportError(str(error))
            connection.send(answer)


# --- the comparison ---------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """Figures of one contestant; times are for all sixteen instances. `note` where it did not run or does not agree."""

    name: str
    prepared: float = math.nan
    times: tuple[float, ...] = ()
    deviation: float = math.nan
    error: float = math.nan
    steps: int = 0
    note: str = ""


def compare(
    case: Case, precision: Precision, workers: dict[str, Worker], expected: np.ndarray, options: Options
) -> list[Row]:
    """Each contestant prepared, checked against the estimates expected after 30 steps, then timed in turn."""
    beta, rows = signals(), []
    for name in list(workers):
        contestant, row = CONTESTANTS[case][name], Row(name)
        rows.append(row)
        count = contestant.instances
        alone = INSTANCES / count if case == "separate" else 1  # each design is to be prepared
        goal = 1.01 * mean_square(expected[:count] - beta[:count])
        try:
            row.prepared = alone * workers[name].ask("prepare", case, name, precision)
            found = workers[name].ask("estimates", STEPS)
        except ImportError as error:
            row.note = str(error)
            workers.pop(name).end()
            continue
        row.error = mean_square(found - beta[:count])
        difference = found - expected[:count]
        if contestant.exact:
            row.deviation = float(np.abs(difference).max() / np.abs(expected).max())
        else:
            row.deviation = mean_square(difference) / row.error
        if not row.deviation < (DEVIATION[precision] if contestant.exact else DISTANCE):
            row.note = "does not agree"
        enough = lambda steps, n=name, k=count, g=goal: mean_square(workers[n].ask("estimates", steps) - beta[:k]) <= g
        low, high = 0, STEPS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        row.steps = high
    for _ in range(options.repeats):
        for row in rows:
            if row.name in workers and sum(row.times) < options.limit:
                time.sleep(PAUSE)
                scale = INSTANCES / CONTESTANTS[case][row.name].instances
                row.times += (scale * workers[row.name].ask("timed"),)
    return rows


def report(rows: list[Row]) -> Iterator[str]:
    """A table, with ratios to theorysim where both agree with the reference."""
    yield (
        f"  {'':24s} {'prepared s':>10s} {'from X s':>10s} {'ratio':>7s} {'min ms':>10s} {'ratio':>7s} {'median ms':>10s}"
        f" {'ratio':>7s} runs {'ms/iteration':>12s} {'deviation':>10s}  mean sq. error  within 1 % {'ms':>9s} {'ratio':>7s}"
    )
    ours = next((row for row in rows if row.name == "theorysim" and not row.note), None)
    for row in rows:
        if not row.times:
            yield f"  {row.name:24s} {row.note}"
            continue

        def column(taken: Callable[[Row], float], scale: float = 1e3, digits: int = 1, row: Row = row) -> str:
            ratio = f"{taken(row) / taken(ours):7.2f}" if ours and not row.note else f"{'':7s}"
            return f"{scale * taken(row):10.{digits}f} {ratio}"

        from_X = column(lambda row: row.prepared + min(row.times), 1, 2)
        to_accuracy = column(lambda row: min(row.times) * row.steps / STEPS)
        yield (
            f"  {row.name:24s} {row.prepared:10.2f} {from_X} {column(lambda row: min(row.times))}"
            f" {column(lambda row: statistics.median(row.times))} {len(row.times):4d} {1e3 * min(row.times) / STEPS:12.2f}"
            f" {row.deviation:10.1e}  {row.error:14.7f}  {row.steps:10d}{to_accuracy} {row.note}"
        )


def shares(
    case: Case, precision: Precision, ours: float, jax_found: dict[str, float], numpy_found: dict[str, float]
) -> Iterator[str]:
    """Of an iteration of theorysim, in seconds for all instances: rates beside those of the machine."""
    item = 8 if precision == "double" else 4
    if case == "shared":
        rate, peak = 4 * N * P * INSTANCES / ours, max(jax_found["large product"], numpy_found["large product"])
        yield (
            f"  an iteration of theorysim: {rate / 1e9:.0f} GFLOP/s, {rate / peak:.0%} of a product of two large matrices"
            f" ({peak / 1e9:.0f}: XLA {jax_found['large product'] / 1e9:.0f}, NumPy {numpy_found['large product'] / 1e9:.0f})"
        )
        key, scale = "pair of products", 1
    else:
        rate = 2 * N * P * INSTANCES * item / ours
        yield (
            f"  an iteration of theorysim: {rate / 1e9:.1f} GB/s of two passes through X, {rate / jax_found['triad']:.0%} of"
            f" the triad's {jax_found['triad'] / 1e9:.1f}"
        )
        key, scale = "pair of vector products", INSTANCES
    for name, found in (("XLA", jax_found), ("NumPy", numpy_found)):
        yield f"  its two products alone in {name}: {1e3 * scale * found[key]:.2f} ms, {scale * found[key] / ours:.0%} of it"


def main(options: Options) -> None:
    from theorysim.errors import require

    cores = sorted(os.sched_getaffinity(0))
    require(1 <= options.threads <= len(cores), f"threads must be between 1 and {len(cores)}, got {options.threads}")
    # inherited by the workers; JAX takes its number of threads from it
    os.sched_setaffinity(0, cores[: options.threads])
    print(f"{platform.machine()}, {options.threads} of {os.cpu_count()} cores; Python {platform.python_version()}")
    if options.matrix_free:
        report_matrix_free(options)
        return
    for case in options.cases:
        Xs, y = data(case, INSTANCES, "double")
        expected = (
            numpy_amp(Xs[0], y, STEPS)
            if case == "shared"
            else np.stack([numpy_amp(X, row, STEPS) for X, row in zip(Xs, y, strict=True)])
        )
        del Xs
        for precision in options.precisions:
            workers = {
                name: Worker(options.peers if contestant.peer else sys.executable, options.threads)
                for name, contestant in CONTESTANTS[case].items()
                if options.only in name and (precision == "double" or not contestant.peer)
            }
            print(f"\n{case} X, {precision} precision, load {os.getloadavg()[0]:.1f}")
            rows = compare(case, precision, workers, expected, options)
            print("\n".join(report(rows)))
            ours = next((row for row in rows if row.name == "theorysim" and row.times), None)
            if ours:
                worker = Worker(sys.executable, options.threads)
                found = [worker.ask(f"{library}_rates", precision, 3 * options.repeats) for library in ("jax", "numpy")]
                worker.end()
                print("\n".join(shares(case, precision, min(ours.times) / STEPS, *found)), flush=True)
            for worker in workers.values():
                worker.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(Connection(int(sys.argv[2])))
    else:
        import tyro

        main(tyro.cli(Options, description=__doc__))
