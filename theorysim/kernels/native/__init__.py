"""Kernels in C, called from JAX programs on CPUs where this machine has a C compiler.

A source of this folder is compiled on first use, for the processor at hand, against the headers that come with jaxlib; the library
is kept in the cache folder. Every function here has a twin in JAX's own operations, from which callers take derivatives and which
they run everywhere else: on accelerators, and where there is no compiler ($CC, cc, gcc or clang) or no folder to write to.

Calls carry a batching rule, so that `vmap` may map any of their arguments, and work on several threads; what they compute depends
on neither.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from theorysim.cache import cache_folder

SUFFIX = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
"""Of the names of a precision's functions."""

PREFIX = "theorysim"
"""Of the names under which XLA knows the functions."""

CALLS = ("layer", "adjoint", "walsh_hadamard")

COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O2", "-std=gnu11", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared")
PATIENCE = 120
"""Seconds that a compiler may take."""


def supports(length: int, dtype: jnp.dtype | type) -> bool:
    """Whether the functions below take arrays of this length and dtype here. Compiles them if need be."""
    functions = _functions(np.dtype(dtype))
    return functions is not None and length >= 2 ** functions("least_bits")()


def passes(length: int, dtype: jnp.dtype | type, *, half: bool) -> int | None:
    """How often `layer` reads and writes a state of this length; None where it is not supported."""
    functions = _functions(np.dtype(dtype))
    return functions and functions("passes")(length.bit_length() - 1, int(half))


def layer(
    real: Float[Array, " N"],
    imag: Float[Array, " N"],
    costs: Float[Array, " N"],
    gamma: Float[Array, ""],
    beta: Float[Array, ""],
    *,
    half: bool,
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """`qaoa.layer` on real and imaginary part, in place if nothing else needs them. Where `supports` says so, on CPUs."""
    call = _batched(f"{PREFIX}_layer_{SUFFIX[real.dtype]}", 2, 0, (("half", half),))
    real, imag = call(real, imag, costs, gamma, beta)
    return real, imag


def adjoint(
    real: Float[Array, " N"],
    imag: Float[Array, " N"],
    cotangent_real: Float[Array, " N"],
    cotangent_imag: Float[Array, " N"],
    costs: Float[Array, " N"],
    gamma: Float[Array, ""],
    beta: Float[Array, ""],
    *,
    half: bool,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """From the state after `layer` and its cotangent to those before it (four arrays), and the derivatives in gamma and beta, shape
    (). Where `supports` says so, on CPUs."""
    call = _batched(f"{PREFIX}_adjoint_{SUFFIX[real.dtype]}", 4, 2, (("half", half),))
    real, imag, cotangent_real, cotangent_imag, of_gamma, of_beta = call(
        real, imag, cotangent_real, cotangent_imag, costs, -gamma, -beta
    )
    return real, imag, cotangent_real, cotangent_imag, of_gamma, of_beta


def walsh_hadamard(values: Float[Array, " N"]) -> Float[Array, " N"]:
    """`qaoa.walsh_hadamard`. Where `supports` says so, on CPUs."""
    return _batched(f"{PREFIX}_walsh_hadamard_{SUFFIX[values.dtype]}", 1, 0, ())(values)[0]


@functools.cache
def _batched(
    target: str, overwritten: int, sums: int, attributes: tuple[tuple[str, bool], ...]
) -> Callable[..., tuple[Array, ...]]:
    """The call of a target: its first arguments become its first results, vectors all; the other results are numbers."""

    def run(*arguments: Array) -> tuple[Array, ...]:
        like = arguments[:overwritten] + (arguments[0][..., 0],) * sums
        found = jax.ffi.ffi_call(target, like, input_output_aliases={i: i for i in range(overwritten)})
        return tuple(found(*arguments, **{name: np.int64(value) for name, value in attributes}))

    divided = _batch_divided(run)

    @custom_vmap
    def call(*arguments: Array) -> tuple[Array, ...]:
        return run(*arguments) if arguments[0].ndim == 1 else divided(*arguments)

    @call.def_vmap
    def rule(size: int, batched: Sequence[bool], *arguments: Array):
        # results take the place of the first arguments, which therefore need all dimensions at full size
        sizes = [size if i < overwritten else 1 for i in range(len(arguments))]
        whole = [
            argument if mapped else jnp.broadcast_to(argument, (repeats, *argument.shape))
            for argument, mapped, repeats in zip(arguments, batched, sizes, strict=True)
        ]
        return call(*whole), (True,) * (overwritten + sums)

    return call


def _batch_divided(run: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """`run` on devices that share out its leading dimensions, where a program's arrays are so placed; without this, every device
    would compute the whole."""
    divided = custom_partitioning(run)

    def factors(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]) -> tuple[str, dict[str, Any]]:
        """Which dimensions belong together, in Shardy's notation: b of a batch, n of the vectors; those of length one to none."""
        whole = arguments[0].shape
        rank = len(whole) - 1
        ones = itertools.count()

        def names(shape: Sequence[int]) -> str:
            batch = [f"b{d}" if shape[d] == whole[d] else f"o{next(ones)}" for d in range(rank)]
            return " ".join(batch + ["n"] * (len(shape) - rank))

        rule = ", ".join(names(a.shape) for a in arguments) + " -> " + ", ".join(names(r.shape) for r in results)
        return rule, {"need_replication_factors": ("n",)}

    def partition(mesh: Any, arguments: Sequence[Any], results: Sequence[Any]):
        whole, spec = arguments[0].shape, results[0].sharding.spec
        rank = len(whole) - 1

        def placed(shape: Sequence[int]) -> NamedSharding:
            axes = [spec[d] if shape[d] == whole[d] else None for d in range(rank)]
            return NamedSharding(results[0].sharding.mesh, PartitionSpec(*axes, *[None] * (len(shape) - rank)))

        return (
            results[0].sharding.mesh,
            run,
            tuple(placed(r.shape) for r in results),
            tuple(placed(a.shape) for a in arguments),
        )

    divided.def_partition(partition, sharding_rule=factors)
    return divided


# --- compilation ------------------------------------------------------------------------------------------------------


Functions = Callable[[str], Any]
"""From the stem of its name to a C function."""


_found: dict[np.dtype, Functions | None] = {}
_lock = threading.Lock()


def _functions(dtype: np.dtype) -> Functions | None:
    """The functions of this precision, once XLA knows them; None where they cannot be had."""
    with _lock:  # other threads may trace programs too
        if dtype in SUFFIX and dtype not in _found:
            _found[dtype] = None
            with contextlib.suppress(OSError, RuntimeError, subprocess.SubprocessError):
                _found[dtype] = register(dtype, _for_this_processor(), PREFIX)
        return _found.get(dtype)


def register(dtype: np.dtype, options: tuple[str, ...], prefix: str) -> Functions:
    """Compile the functions of this precision and tell XLA of them, under names that begin with `prefix`.

    options: of the compiler, for the processor. Raises OSError, RuntimeError or SubprocessError where that fails.
    """
    suffix = SUFFIX[dtype]
    library = _library(Path(__file__).with_name("qubits.c"), (*options, *(("-DDOUBLE",) if suffix == "f64" else ())))
    functions = lambda stem: getattr(library, f"theorysim_{stem}_{suffix}")
    for stem in CALLS:
        jax.ffi.register_ffi_target(f"{prefix}_{stem}_{suffix}", jax.ffi.pycapsule(functions(stem)), platform="cpu")
    return functions


def _library(source: Path, options: tuple[str, ...]) -> ctypes.CDLL:
    """The compiled source, from the cache if it is there. Raises OSError, RuntimeError or SubprocessError where there is none."""
    compiler = _compiler()
    headers = Path(jax.ffi.include_dir())
    command = [*OPTIONS, *options, f"-I{headers}"]
    status = compiler.stat()
    parts = [compiler, status.st_size, status.st_mtime_ns, command, _processor(), source.read_bytes()]
    parts += [path.read_bytes() for path in sorted(headers.rglob("c_api.h"))]
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    kept = cache_folder("native") / f"{source.stem}-{digest}.so"
    with contextlib.suppress(OSError):  # not there, or damaged
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        built = Path(folder, kept.name)
        subprocess.run(
            [compiler, *command, source, "-o", built, "-lm"], check=True, capture_output=True, timeout=PATIENCE
        )
        built.replace(kept)  # at once: other processes may be at the same
    return ctypes.CDLL(str(kept))


def _compiler() -> Path:
    """Raises OSError where there is none."""
    names = (os.environ["CC"],) if os.environ.get("CC") else COMPILERS
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise FileNotFoundError(f"no C compiler: {', '.join(names)}")


def _for_this_processor() -> tuple[str, ...]:
    return ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)


def _processor() -> str:
    """What instructions the processor has, since a folder may be shared by different machines."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(
            sorted({line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))})
        )
    return f"{platform.machine()} {platform.processor()}"
