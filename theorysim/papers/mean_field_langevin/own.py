"""A problem of one's own: data from an .npz file, the neuron function h(x, z) from a Python file."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Float

from theorysim.errors import InputError, require
from theorysim.kernels import langevin
from theorysim.kernels.losses import LOSSES
from theorysim.sweep import setting


class Neuron(NamedTuple):
    """h: of a particle x, shape (d,), and an input z, shape (q,). d: dimension of a particle. loss: l(u, y), or its name."""

    h: Callable[..., Any]
    d: int
    loss: Callable[..., Any] | str


@setting
class Own:
    """Data Z, y for the neuron of a file; lam: temperature lambda, lamp: lambda' of the regulariser lamp |x|^2.

    digest: of the file's content, which programs and stored results thereby belong to.
    """

    file: str
    digest: str
    Z: Float[np.ndarray, "n q"]
    y: Float[np.ndarray, " n"]
    lam: float
    lamp: float

    def validate(self) -> None:
        require(0 < self.lam < math.inf, f"temperature lam must be positive and finite, got {self.lam}")
        require(0 < self.lamp < math.inf, f"regularisation lamp must be positive and finite, got {self.lamp}")
        self.kernel()

    @property
    def d(self) -> int:
        """Dimension of a particle."""
        return load_neuron(self.file, self.digest).d

    def kernel(self) -> langevin.Model:
        """The model of the algorithms; its numbers may be traced."""
        neuron = load_neuron(self.file, self.digest)
        Z, y = (jnp.asarray(part, jnp.float32) for part in (self.Z, self.y))
        return langevin.Model.of(neuron.h, neuron.loss, Z, y, lamp=self.lamp, lam=self.lam)


def own_problem(data: Path, neuron: Path, *, lam: float, lamp: float) -> Own:
    """The problem of two files.

    data: .npz with real arrays Z (n, q) and y (n,). neuron: a Python file that defines h(x, z) with JAX, `DIMENSION`, the
    dimension d of x, and, unless the loss is (u - y)^2/2, `loss`: a function l(u, y), convex in u, or "logistic".

    Raises InputError for files that cannot be read, values that are not finite, shapes that do not fit, and a function that is not
    scalar, fails, or is not differentiable and finite at the data for particles of the start.
    """
    Z, y = load_data(data)
    require(neuron.suffix == ".py" and neuron.is_file(), f"--neuron must be a Python file, got {str(neuron)!r}")
    file = str(neuron.resolve())
    problem = Own(file, digest_of(neuron), Z, y, lam, lamp)
    _check_neuron(problem, str(neuron))
    return problem


def digest_of(file: Path) -> str:
    """Of the file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def load_data(path: Path) -> tuple[Float[np.ndarray, "n q"], Float[np.ndarray, " n"]]:
    """Z and y of an .npz file. Raises InputError unless both are there, finite, of real numbers and of one length n >= 1."""
    complaint = f"data must be an .npz file that can be read, got {str(path)!r}"
    require(path.is_file() and zipfile.is_zipfile(path), complaint)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("Z", "y") if name in archive.files}
            found = ", ".join(sorted(archive.files)) or "none"
    except Exception as error:  # a damaged file can make the parser raise anything
        raise InputError(f"{complaint}: {_first_line(error)}") from None
    require(len(arrays) == 2, f"data file {str(path)!r} must hold arrays Z and y, got {found}")
    for name, array in arrays.items():
        real = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
        require(real, f"{name} in {str(path)!r} must be an array of real numbers")
        bad = array.size - np.count_nonzero(np.isfinite(array))
        require(bad == 0, f"{name} in {str(path)!r} must be finite, got {bad} of {array.size} entries NaN or infinite")
    Z, y = arrays["Z"], arrays["y"]
    shaped = Z.ndim == 2 and min(Z.shape) >= 1
    require(shaped, f"Z in {str(path)!r} must have shape (n, q) with n, q >= 1, got {Z.shape}")
    fits = y.shape == Z.shape[:1]
    require(fits, f"y in {str(path)!r} must have shape ({len(Z)},) to match Z {Z.shape}, got {y.shape}")
    return Z.astype(np.float64), y.astype(np.float64)


@lru_cache
def load_neuron(file: str, digest: str) -> Neuron:
    """What a Python file defines. Raises InputError where it has changed, does not import, or lacks h or DIMENSION."""
    path = Path(file)
    require(path.is_file() and digest_of(path) == digest, f"neuron file {path.name!r} must not change during a run")
    spec = importlib.util.spec_from_file_location(f"theorysim_neuron_{digest}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"neuron file {path.name!r} does not import: {_first_line(error)}") from None
    h, d, loss = (getattr(module, name, None) for name in ("h", "DIMENSION", "loss"))
    require(callable(h), f"neuron file {path.name!r} must define a function h(x, z), got {h!r}")
    whole = isinstance(d, int) and not isinstance(d, bool) and d >= 1
    require(whole, f"DIMENSION in {path.name!r} must be an integer of at least 1, the length of x, got {d!r}")
    known = loss is None or callable(loss) or loss in LOSSES
    require(known, f"loss in {path.name!r} must be a function l(u, y) or one of {', '.join(LOSSES)}, got {loss!r}")
    return Neuron(h, d, "squared" if loss is None else loss)  # pyright: ignore[reportArgumentType]


def _check_neuron(problem: Own, name: str) -> None:
    """Raise InputError unless h and the loss are scalar and, with gradients, finite at the data and particles of the start."""
    neuron, q = load_neuron(problem.file, problem.digest), problem.Z.shape[1]
    x, z, u = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((neuron.d,), (q,), ()))
    _require_scalar(neuron.h, (x, z), f"h(x, z) in {name!r} of x {x.shape} and z {z.shape}")
    if callable(neuron.loss):
        _require_scalar(neuron.loss, (u, u), f"loss(u, y) in {name!r} of two scalars")
    model = problem.kernel()
    X = (problem.lam / (2 * problem.lamp)) ** 0.5 * random.normal(random.key(0), (64, neuron.d), jnp.float32)
    h, saved = model.neuron.features(X, model.Z)
    slopes = model.loss.slope(jnp.mean(h, axis=0), model.y)
    for what, values in (
        ("h(x, z)", h),
        ("loss'(u, y)", slopes),
        ("grad h(x, z)", model.neuron.pullback(saved, X, model.Z, slopes)),
    ):
        bad = int(jnp.sum(~jnp.isfinite(values)))
        require(bad == 0, f"{what} in {name!r} must be finite, got {bad} of {values.size} values NaN or infinite")


def _require_scalar(function: Callable[..., Any], arguments: tuple[Any, ...], what: str) -> None:
    try:
        found = jax.eval_shape(function, *arguments)
    except Exception as error:  # a user's function may raise anything
        raise InputError(f"{what} fails: {_first_line(error)}") from None
    known = isinstance(found, jax.ShapeDtypeStruct)
    got = f"{found.dtype} of shape {found.shape}" if known else repr(found)[:60]
    scalar = known and found.shape == () and jnp.issubdtype(found.dtype, jnp.floating)
    require(scalar, f"{what} must be a real scalar, got {got}")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".rstrip(": ")
