"""QAOA state vectors: theorysim beside QOKit, qulacs, Qiskit Aer, PennyLane Lightning and NumPy, in one run.

    python benchmarks/qaoa.py --qokit path/of/qokit/environment/bin/python

One dense instance, C(z) = sum_{i<j} J_ij z_i z_j with J = (W + W^T)/sqrt(n) + 2/sqrt(n), W standard normal from `default_rng(0)`;
three layers e^{-i beta B} e^{-i gamma C}; all 2^n probabilities. A run leads from the couplings J, or from a bound circuit, to the
probabilities in memory. Circuits (Aer, Lightning) are built and transpiled beforehand, theorysim is compiled beforehand: that time
is the column "prepared", and the first call is not counted. Every contestant is a process of its own with the same cores and number
of threads; the runs take turns, so that other load on the machine is shared by all. Not evenly: long runs and those whose threads
wait for each other lose most, so quote ratios from an idle machine; the load is printed. There is no ratio where the probabilities
or E R^2 = sum_z p(z) (sum_j z_j / n)^2 differ from those of a NumPy loop.

Settings: each simulator's fastest of those tried.
  theorysim     half space, since C(z) = C(-z); the full space, as the others have it; and half without the C compiler that
                compiles its layers on first use
  NumPy         cost vector and one qubit at a time; the same with five qubits a matrix product
  QOKit         cost vector handed over from NumPy (its own precomputation takes several times as long as the rest); C and Python
  qulacs        `DiagonalMatrix` of the phases and RX gates (faster here than RZZ gates, merged or not)
  Aer           RZZ and RX gates, statevector method, default fusion (up to five qubits)
  Lightning     `lightning.qubit`, IsingZZ and RX gates, the tape built and preprocessed beforehand

QOKit pins its dependencies and so needs an environment of its own. Its C simulator has to be compiled, since the wheel lacks it
and the source distribution lacks its headers: in a checkout of the release's tag,
`make -C qokit/fur/c/csim/src CFLAGS="-O3 -march=native -fopenmp -fPIC"`, then copy `qokit/fur/c/csim/libcsim.so` to the same place
in the installed package.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Literal

import numpy as np

# Workers run this file in environments that may have neither theorysim nor its dependencies: those are imported where used.

Precision = Literal["double", "single"]
Run = Callable[[], np.ndarray]

GAMMAS = np.array([0.24, 0.35, 0.29])
BETAS = np.array([0.785, 0.6, 0.7])
SECOND_MOMENT = {18: 0.24576086, 20: 0.22299066}
"""E R^2 of the instance from independent simulators."""

DEVIATION = {"double": (1e-11, 1e-10), "single": (1e-4, 3e-6)}
"""Largest deviation granted: of a probability, relative to the largest one; of E R^2."""

PAUSE = 0.1
"""Seconds before each timed run: idle threads of the process before spin for some milliseconds."""


@dataclass(frozen=True)
class Options:
    sizes: tuple[int, ...] = (18, 20, 22)
    """Numbers of spins n."""
    precisions: tuple[Precision, ...] = ("double", "single")
    """Of the amplitudes: complex128, complex64."""
    threads: int = len(os.sched_getaffinity(0))
    """Of every contestant, on as many cores; by default all cores of the process."""
    repeats: int = 7
    """Timed runs of each contestant."""
    limit: float = 60.0
    """Seconds. Who needs longer for the first run is left out at this size and the following ones of the precision; who has used up
    as many in timed runs is not repeated further."""
    only: str = ""
    """Contestants whose name contains this."""
    qokit: str = sys.executable
    """Python interpreter of the environment that has QOKit."""
    json: Path | None = None
    """File for all figures."""


# --- the instance -----------------------------------------------------------------------------------------------------


def couplings(n: int) -> np.ndarray:
    """J_ij for i < j, zero elsewhere; shape (n, n)."""
    W = np.random.default_rng(0).normal(size=(n, n))
    return np.triu((W + W.T) / math.sqrt(n) + 2 / math.sqrt(n), 1)


def pairs(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def cost_vector(J: np.ndarray) -> np.ndarray:
    """z^T J z for all strings, by one matrix product over a split of the spins."""
    n, low = len(J), len(J) // 2

    def spins(count: int) -> np.ndarray:
        return 1 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)

    z1, z2 = spins(low), spins(n - low)
    inner1 = ((z1 @ J[:low, :low]) * z1).sum(1)
    inner2 = ((z2 @ J[low:, low:]) * z2).sum(1)
    return ((z2 @ J[:low, low:].T) @ z1.T + inner1 + inner2[:, None]).ravel()


def phases(gamma: float, costs: np.ndarray) -> np.ndarray:
    """e^{-i gamma C}, by the vectorised sine and cosine, which NumPy's complex exponential is not."""
    angles = costs.dtype.type(-gamma) * costs
    values: Any = np.empty(costs.shape, np.result_type(costs.dtype, np.complex64))
    np.cos(angles, out=values.real)
    np.sin(angles, out=values.imag)
    return values


def squared(psi: Any) -> np.ndarray:
    """|psi|^2 without the square root of `abs`."""
    return psi.real**2 + psi.imag**2


def second_moment(probabilities: np.ndarray) -> float:
    """E R^2."""
    n = probabilities.size.bit_length() - 1
    overlap = 1 - 2 * np.bitwise_count(np.arange(probabilities.size, dtype=np.uint32)) / n
    return float(np.dot(probabilities.astype(float), overlap**2))


# --- contestants: from size, precision and threads to a run ---------------------------------------------------------------


def with_theorysim(n: int, precision: Precision, threads: int, *, half: bool) -> Run:
    import jax

    program, arguments = theorysim_program(n, precision, layers=len(GAMMAS), half=half)
    return lambda: np.asarray(jax.block_until_ready(program(*arguments)))


def theorysim_program(n: int, precision: Precision, *, layers: int, half: bool) -> tuple[Any, tuple[Any, ...]]:
    """The compiled program, J and angles to probabilities, and its arguments; the angles are repeated up to this depth."""
    import jax
    import jax.numpy as jnp

    from theorysim.kernels import qaoa

    def simulate(J, gammas, betas):
        p = qaoa.probabilities(qaoa.quadratic_costs(J, half=half), gammas, betas, half=half)
        return jnp.concatenate([p / 2, p[::-1] / 2]) if half else p

    with jax.enable_x64(precision == "double"):
        dtype = np.float64 if precision == "double" else np.float32
        values = (couplings(n), np.resize(GAMMAS, layers), np.resize(BETAS, layers))
        arguments = tuple(jnp.asarray(value, dtype) for value in values)
        return jax.jit(simulate).lower(*arguments).compile(), arguments


def with_numpy(n: int, precision: Precision, threads: int, *, group: int) -> Run:
    J, dtype = couplings(n), np.complex128 if precision == "double" else np.complex64

    def one_by_one(psi: np.ndarray, beta: float) -> np.ndarray:
        cosine, sine = dtype(math.cos(beta)), dtype(-1j * math.sin(beta))
        for j in range(n):
            plus, minus = np.moveaxis(psi.reshape(-1, 2, 2**j), 1, 0)
            plus[:], minus[:] = cosine * plus + sine * minus, sine * plus + cosine * minus
        return psi

    def grouped(psi: np.ndarray, beta: float) -> np.ndarray:
        rotation = np.array([[math.cos(beta), -1j * math.sin(beta)], [-1j * math.sin(beta), math.cos(beta)]])
        for start in range(0, n, group):
            matrix = np.eye(1)
            for _ in range(min(group, n - start)):
                matrix = np.kron(matrix, rotation)
            # each product moves its bits to the front: after the last one all are back at their places
            psi = (matrix.astype(dtype) @ psi.reshape(-1, len(matrix)).T).ravel()
        return psi

    def run() -> np.ndarray:
        costs = cost_vector(J).astype(dtype(0).real.dtype)
        psi = np.full(2**n, 2 ** (-n / 2), dtype)
        for gamma, beta in zip(GAMMAS, BETAS, strict=True):
            psi *= phases(gamma, costs)
            psi = one_by_one(psi, beta) if group == 1 else grouped(psi, beta)
        return squared(psi)

    return run


def with_qokit(n: int, precision: Precision, threads: int, *, backend: Literal["c", "python"]) -> Run:
    from qokit.fur import choose_simulator, get_available_simulator_names

    if backend not in get_available_simulator_names():
        raise ImportError(f"QOKit's back end {backend} is not compiled")
    simulator, J = choose_simulator(backend), couplings(n)

    def run() -> np.ndarray:
        simulation = simulator(n, costs=cost_vector(J))
        # its phase is e^{-i gamma C/2}
        return simulation.get_probabilities(simulation.simulate_qaoa(2 * GAMMAS, BETAS))

    return run


def with_qulacs(n: int, precision: Precision, threads: int) -> Run:
    from qulacs import QuantumState
    from qulacs.gate import RX, DiagonalMatrix

    J, qubits = couplings(n), list(range(n))

    def run() -> np.ndarray:
        costs, state = cost_vector(J), QuantumState(n)
        state.load(np.full(2**n, 2 ** (-n / 2), complex))  # pyright: ignore[reportArgumentType, reportCallIssue]
        for gamma, beta in zip(GAMMAS, BETAS, strict=True):
            DiagonalMatrix(qubits, phases(gamma, costs)).update_quantum_state(state)
            for qubit in qubits:
                RX(qubit, -2 * beta).update_quantum_state(state)
        psi = state.get_vector()
        return squared(psi)

    return run


def with_aer(n: int, precision: Precision, threads: int) -> Run:
    from qiskit import QuantumCircuit, transpile
    from qiskit_aer import AerSimulator

    J, circuit = couplings(n), QuantumCircuit(n)
    circuit.h(range(n))
    for gamma, beta in zip(GAMMAS, BETAS, strict=True):
        for i, j in pairs(n):
            circuit.rzz(2 * gamma * J[i, j], i, j)
        circuit.rx(2 * beta, range(n))
    circuit.save_probabilities()  # pyright: ignore[reportAttributeAccessIssue]
    simulator = AerSimulator(method="statevector", precision=precision, max_parallel_threads=threads)
    circuit = transpile(circuit, simulator)
    return lambda: np.asarray(simulator.run(circuit, shots=1).result().data()["probabilities"])


def with_lightning(n: int, precision: Precision, threads: int) -> Run:
    import pennylane as qml
    from pennylane.devices import ExecutionConfig
    from pennylane.tape import QuantumScript

    J, wires = couplings(n), list(range(n))[::-1]  # its first wire is the most significant bit
    operations: list[Any] = [qml.Hadamard(wire) for wire in wires]
    for gamma, beta in zip(GAMMAS, BETAS, strict=True):
        operations += [qml.IsingZZ(2 * gamma * J[i, j], [wires[i], wires[j]]) for i, j in pairs(n)]
        operations += [qml.RX(2 * beta, wire) for wire in wires]
    tape = QuantumScript(operations, [qml.probs(wires=range(n))])
    device = qml.device("lightning.qubit", wires=n, c_dtype=np.complex128 if precision == "double" else np.complex64)
    setting = device.setup_execution_config(ExecutionConfig(), tape)
    tapes, finish = device.preprocess_transforms(setting)([tape])
    return lambda: np.asarray(finish(device.execute(tapes, setting))[0])


@dataclass(frozen=True)
class Contestant:
    """prepare: from n, precision and threads to a run; packages: whose versions are reported; compiler: theorysim may use it."""

    prepare: Callable[..., Run]
    packages: tuple[str, ...]
    precisions: tuple[Precision, ...] = ("double", "single")
    settings: tuple[tuple[str, Any], ...] = ()
    compiler: bool = True


CONTESTANTS = {
    "theorysim": Contestant(with_theorysim, ("theorysim", "jax"), settings=(("half", True),)),
    "theorysim, full space": Contestant(with_theorysim, ("theorysim", "jax"), settings=(("half", False),)),
    "theorysim, no C compiler": Contestant(
        with_theorysim, ("theorysim", "jax"), settings=(("half", True),), compiler=False
    ),
    "NumPy, five qubits a product": Contestant(with_numpy, ("numpy",), settings=(("group", 5),)),
    "NumPy, one qubit at a time": Contestant(with_numpy, ("numpy",), settings=(("group", 1),)),
    "QOKit, C": Contestant(with_qokit, ("qokit", "numba"), ("double",), (("backend", "c"),)),
    "QOKit, Python": Contestant(with_qokit, ("qokit", "numba"), ("double",), (("backend", "python"),)),
    "qulacs": Contestant(with_qulacs, ("qulacs",), ("double",)),
    "Aer": Contestant(with_aer, ("qiskit-aer", "qiskit")),
    "Lightning": Contestant(with_lightning, ("pennylane-lightning", "pennylane")),
}


# --- bandwidth --------------------------------------------------------------------------------------------------------


def layer_bytes(n: int, precision: Precision, *, half: bool) -> int:
    """Bytes that a layer of theorysim moves: each pass reads and writes the state, one reads the costs too. In C the phases are
    part of a pass over the qubits; otherwise they are a pass of their own."""
    from theorysim.kernels import native, qaoa

    length, itemsize = 2 ** (n - half), 8 if precision == "double" else 4
    in_c = native.passes(length, np.float64 if precision == "double" else np.float32, half=half)
    return (1 + 4 * (in_c or 1 + qaoa.mixing_passes(length))) * length * itemsize


def layer_seconds(n: int, precision: Precision, *, half: bool, repeats: int) -> float:
    """Time of one layer: a tenth of the difference between 13 layers and 3, of the least times of both."""
    import jax

    programs = [theorysim_program(n, precision, layers=layers, half=half) for layers in (3, 13)]
    least = [math.inf, math.inf]
    for _ in range(repeats + 1):
        for i, (program, arguments) in enumerate(programs):
            least[i] = min(least[i], seconds(lambda p=program, a=arguments: jax.block_until_ready(p(*a))))
    return (least[1] - least[0]) / 10


def energy_seconds(n: int, precision: Precision, *, batch: int, repeats: int) -> tuple[float, float]:
    """Time of the energies of so many instances on n spins, three layers, half space, and of their gradients in the angles too."""
    import jax
    import jax.numpy as jnp

    from theorysim.kernels import qaoa

    with jax.enable_x64(precision == "double"):
        dtype = np.float64 if precision == "double" else np.float32
        costs = jnp.asarray(np.random.default_rng(0).normal(size=(batch, 2 ** (n - 1))), dtype)
        angles = jnp.asarray([GAMMAS, BETAS], dtype)

        def energy(angles, costs):
            return qaoa.probabilities(costs, *angles, half=True) @ costs

        least = []
        for function in (energy, jax.value_and_grad(energy)):
            program = jax.jit(jax.vmap(function, in_axes=(None, 0))).lower(angles, costs).compile()
            run = lambda p=program: jax.block_until_ready(p(angles, costs))
            least.append(min(seconds(run) for _ in range(repeats + 1)))
    return least[0], least[1]


def stream(size: int, repeats: int) -> float:
    """Bytes a second of b <- b + s c in place, for two arrays of this many bytes: three transfers of one array."""
    import jax
    import jax.numpy as jnp

    passes = max(1, 2**28 // size)  # in one program, or small arrays would measure the dispatch
    triad = jax.jit(lambda b, c: jax.lax.fori_loop(0, passes, lambda _, b: b + 0.5 * c, b), donate_argnums=0)
    b, c = jnp.ones(size // 4, jnp.float32), jnp.ones(size // 4, jnp.float32)
    least = math.inf
    for _ in range(repeats + 1):
        start = time.perf_counter()
        b = jax.block_until_ready(triad(b, c))
        least = min(least, time.perf_counter() - start)
    return 3 * size * passes / least


# --- workers ----------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class Worker:
    """A process that prepares and runs one contestant, on request."""

    def __init__(self, python: str, threads: int, *, blas: bool, compiler: bool = True):
        counts = {"OMP": threads, "NUMBA": threads, "QULACS": threads}
        # elsewhere BLAS serves a small product, after which its threads would spin where OpenMP wants to run
        counts |= dict.fromkeys(("OPENBLAS", "MKL"), threads if blas else 1)
        environment = os.environ | {f"{library}_NUM_THREADS": str(count) for library, count in counts.items()}
        environment |= {} if compiler else {"CC": "/no/compiler"}
        self.connection, theirs = Pipe()
        with theirs:
            command = [python, "-W", "ignore", __file__, "--worker", str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)

    def ask(self, function: str, *arguments: Any, limit: float | None = None, **keywords: Any) -> Any:
        """The answer of a function of `Tasks`. Raises TimeoutError after `limit` seconds, and what the function raised."""
        self.connection.send((function, arguments, keywords))
        if not self.connection.poll(limit):
            raise TimeoutError(f"more than {limit:g} s")
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

    def versions(self, packages: tuple[str, ...]) -> dict[str, str]:
        return {package: importlib.metadata.version(package) for package in packages}

    def prepare(self, name: str, n: int, precision: Precision, threads: int) -> float:
        """Seconds of compilation, or of building and transpiling a circuit."""
        contestant = CONTESTANTS[name]

        def prepare() -> None:
            self.run = contestant.prepare(n, precision, threads, **dict(contestant.settings))

        importing = seconds(prepare)  # imports count once only
        return min(importing, seconds(prepare))

    def probabilities(self) -> np.ndarray:
        return self.run()

    def timed(self) -> float:
        return seconds(self.run)

    layer_seconds = staticmethod(layer_seconds)
    layer_bytes = staticmethod(layer_bytes)
    energy_seconds = staticmethod(energy_seconds)
    stream = staticmethod(stream)


def serve(connection: Connection) -> None:
    """Answer requests until the other side is closed."""
    tasks = Tasks()
    with contextlib.suppress(EOFError):
        while True:
            function, arguments, keywords = connection.recv()
            try:
                answer = getattr(tasks, function)(*arguments, **keywords)
            except ImportError as error:
                answer = ImportError(str(error))
            connection.send(answer)


# --- the comparison ---------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """Figures of one contestant at one size and precision; `note` where it did not run or does not agree."""

    n: int
    precision: Precision
    name: str
    prepared: float = math.nan
    times: tuple[float, ...] = ()
    deviation: float = math.nan
    second_moment: float = math.nan
    note: str = ""


def compare(n: int, precision: Precision, workers: dict[str, Worker], options: Options) -> list[Row]:
    """Each contestant prepared, checked, then timed in turn."""
    expected = with_numpy(n, "double", options.threads, group=1)()
    moment = second_moment(expected)
    assert n not in SECOND_MOMENT or abs(moment - SECOND_MOMENT[n]) < 1e-8, f"the instance differs: E R^2 = {moment}"
    rows = []
    for name in list(workers):
        row = Row(n, precision, name)
        rows.append(row)
        try:
            row.prepared = workers[name].ask("prepare", name, n, precision, options.threads)
            found = workers[name].ask("probabilities", limit=options.limit).astype(float)
        except (ImportError, TimeoutError) as error:
            row.note = str(error)
            workers.pop(name).end()
            continue
        row.deviation = float(np.abs(found - expected).max() / expected.max())
        row.second_moment = second_moment(found)
        granted = DEVIATION[precision]
        if not (row.deviation < granted[0] and abs(row.second_moment - moment) < granted[1]):
            row.note = "does not agree"
    for _ in range(options.repeats):
        for row in rows:
            if row.name in workers and sum(row.times) < options.limit:
                time.sleep(PAUSE)
                row.times += (workers[row.name].ask("timed"),)
    return rows


def report(rows: list[Row]) -> Iterator[str]:
    """A table, with ratios to theorysim where both agree with the reference."""
    head = (
        f"{'prepared s':>10s} {'min ms':>10s} {'ratio':>7s} {'median ms':>10s} {'ratio':>7s} runs  max|dp|/max p  E R^2"
    )
    yield f"  {'':30s} {head}"
    ours = next((row for row in rows if row.name == "theorysim" and not row.note), None)
    for row in rows:
        if not row.times:
            yield f"  {row.name:30s} {row.note}"
            continue
        columns = ""
        for statistic in (min, statistics.median):
            ratio = f"{statistic(row.times) / statistic(ours.times):7.2f}" if ours and not row.note else f"{'':7s}"
            columns += f" {1e3 * statistic(row.times):10.2f} {ratio}"
        yield (
            f"  {row.name:30s} {row.prepared:10.3f}{columns} {len(row.times):4d}  {row.deviation:13.1e}"
            f"  {row.second_moment:.8f} {row.note}"
        )


def bandwidth(n: int, precision: Precision, worker: Worker, options: Options) -> dict[str, Any]:
    """Bytes a second of a layer, beside the machine's at the size of its state and far beyond the caches."""
    state = 2 ** (n - 1) * (16 if precision == "double" else 8)
    taken = worker.ask("layer_seconds", n, precision, half=True, repeats=options.repeats)
    return {
        "n": n,
        "precision": precision,
        "layer_seconds": taken,
        "layer": worker.ask("layer_bytes", n, precision, half=True) / taken,
        "stream_at_state": worker.ask("stream", state, options.repeats),
        "stream": worker.ask("stream", 2**28, options.repeats),
    }


def start(options: Options, precision: Precision) -> dict[str, Worker]:
    """A worker for each contestant that has this precision."""
    return {
        name: Worker(
            options.qokit if "qokit" in contestant.packages else sys.executable,
            options.threads,
            blas="numpy" in contestant.packages,
            compiler=contestant.compiler,
        )
        for name, contestant in CONTESTANTS.items()
        if options.only in name and precision in contestant.precisions
    }


def main(options: Options) -> None:
    from theorysim.errors import require

    cores = sorted(os.sched_getaffinity(0))
    require(1 <= options.threads <= len(cores), f"threads must be between 1 and {len(cores)}, got {options.threads}")
    require(min(options.sizes, default=2) >= 2, f"sizes must be at least 2, got {options.sizes}")
    os.sched_setaffinity(
        0, cores[: options.threads]
    )  # inherited by the workers; JAX takes its number of threads from it
    print(f"{platform.machine()}, {options.threads} of {os.cpu_count()} cores; Python {platform.python_version()}")
    versions: dict[str, str] = {}
    rows: list[Row] = []
    bandwidths: list[dict[str, Any]] = []
    energies: list[dict[str, Any]] = []
    for precision in options.precisions:
        workers = start(options, precision)
        for name, worker in workers.items():
            with contextlib.suppress(ImportError):
                versions |= worker.ask("versions", CONTESTANTS[name].packages)
        for n in options.sizes:
            print(f"\nn = {n}, {precision} precision, load {os.getloadavg()[0]:.1f}")
            new = compare(n, precision, workers, options)
            rows += new
            print("\n".join(report(new)))
            if "theorysim" in workers:
                rates = bandwidth(n, precision, workers["theorysim"], options)
                bandwidths.append(rates)
                print(
                    f"  a layer of theorysim: {1e3 * rates['layer_seconds']:.2f} ms, {rates['layer'] / 1e9:.1f} GB/s of its"
                    f" passes; stream {rates['stream_at_state'] / 1e9:.1f} GB/s at the size of its state,"
                    f" {rates['stream'] / 1e9:.1f} GB/s at 256 MiB, of which it has {rates['layer'] / rates['stream']:.2f}"
                )
        for name in ("theorysim", "theorysim, no C compiler"):
            for n, batch in ((12, 256), (20, 1)):
                if name not in workers:
                    continue
                value, gradient = workers[name].ask(
                    "energy_seconds", n, precision, batch=batch, repeats=options.repeats
                )
                energies.append(
                    {"name": name, "n": n, "precision": precision, "batch": batch, "value": value, "gradient": gradient}
                )
                print(
                    f"  {name:30s} energy of {batch} instances with n = {n}: {1e3 * value:.2f} ms, with its gradient in the"
                    f" angles {1e3 * gradient:.2f} ms"
                )
        for worker in workers.values():
            worker.end()
    print("\n" + ", ".join(f"{package} {version}" for package, version in versions.items()))
    if options.json:
        figures = {
            "versions": versions,
            "threads": options.threads,
            "rows": [vars(row) for row in rows],
            "bandwidth": bandwidths,
            "energies": energies,
        }
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve(Connection(int(sys.argv[2])))
    else:
        import tyro

        main(tyro.cli(Options, description=__doc__))
