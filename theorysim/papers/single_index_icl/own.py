"""A link of one's own: its Hermite coefficients, a Python function, or a random family; and what theory reads off it."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from tyro.conf import arg

from theorysim.errors import InputError, require
from theorysim.papers.single_index_icl.regression import link_of
from theorysim.papers.single_index_icl.setting import HE2, HE3, HE4, Band, Coefficients, Link
from theorysim.papers.single_index_icl.theory.hermite import HIGHEST, hermite_coefficients
from theorysim.papers.single_index_icl.theory.stage_one import visible_exponent

POWER = 1e-9
"""Of a function's power, what a polynomial may lack by rounding."""


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Options that name a link sigma."""

    hermite: Annotated[str | None, arg(metavar="C0,C1,...")] = None
    """Fixed link sigma = sum_k (c_k/k!) He_k, by its Hermite coefficients c_0 = 0, c_1, c_2, ..., as in 0,0,1,0.5."""

    link: Annotated[str | None, arg(metavar="FILE.py:NAME")] = None
    """Fixed link, a Python function sigma(z) of one number with E sigma(z) = 0; a polynomial, or cut off at --degree."""

    degree: Annotated[int | None, arg(metavar="P")] = None
    """Degree P at which the Hermite series of --link is cut off."""

    band: Annotated[str | None, arg(metavar="Q,P")] = None
    """Random links of degrees Q to P: (c_k/sqrt k!) uniform on a sphere, anew in each prompt."""

    def chosen(self, default: Link) -> Link:
        """The link that the options name. Raises InputError unless it is one that theory takes."""
        named = {"--hermite": self.hermite, "--link": self.link, "--band": self.band}
        given = [option for option, text in named.items() if text is not None]
        require(len(given) <= 1, f"of --hermite, --link and --band at most one may be given, got {' and '.join(given)}")
        require(
            self.degree is None or self.link is not None, f"--degree must come with --link, got {self.degree} alone"
        )
        if self.hermite is not None:
            return from_coefficients(_numbers("--hermite", self.hermite, float))
        if self.link is not None:
            return from_function(load_function(self.link), self.degree, self.link)
        if self.band is not None:
            ends = _numbers("--band", self.band, int)
            require(len(ends) == 2, f"--band must be two degrees Q,P, got {self.band!r}")
            require(ends[1] <= HIGHEST, f"degree P of --band must be at most {HIGHEST}, got {ends[1]}")
            return Band(*ends)
        return default


def from_coefficients(values: list[float]) -> Coefficients:
    """The fixed link of c_0, c_1, ..., without zeros at the end.

    Raises InputError unless they are finite, E sigma = c_0 = 0 and one of the others is not zero, up to degree 30.
    """
    bad = [value for value in values if not math.isfinite(value)]
    require(not bad, f"Hermite coefficients must be finite, got {', '.join(map(str, bad))}")
    require(
        any(values[1:]),
        "link must not be constant: theory needs an information exponent Q, the least k >= 1 with c_k != 0",
    )
    require(values[0] == 0, f"E sigma(z) must be 0, theory takes links without a mean: subtract c_0 = {values[0]:.6g}")
    kept = np.trim_zeros(np.asarray(values, float), "b")
    require(len(kept) <= HIGHEST + 1, f"degree P of the link must be at most {HIGHEST}, got {len(kept) - 1}")
    return Coefficients(kept)


def from_function(sigma: Callable[[float], Any], degree: int | None, name: str) -> Coefficients:
    """The Hermite series of any sigma up to the degree P, by default that of a polynomial.

    name: of the function in messages. Raises InputError as `from_coefficients`; where sigma fails or is not a finite real number
    of finite E sigma(z)^2; for P below the information exponent; and, without P, if sigma is no polynomial of degree up to 30.
    """
    allowed = degree is None or 1 <= degree <= HIGHEST
    require(allowed, f"degree P of the link must lie in [1, {HIGHEST}], got {degree}")

    def checked(z: float) -> float:
        try:
            return float(sigma(z))
        except Exception as error:  # a user's function may raise anything
            raise InputError(f"link {name} fails at z = {z:.4g}: {_first_line(error)}") from None

    coefficients, square = hermite_coefficients(checked, HIGHEST)
    power = coefficients**2 / np.array([float(factorial(k)) for k in range(HIGHEST + 1)])
    seen = np.flatnonzero(power[1:]) + 1
    if degree is None:
        missing = 1 - power.sum() / square if square else 0.0
        require(
            missing <= POWER,
            f"link {name} must be a polynomial of degree up to {HIGHEST}: {missing:.2g} of its power is above; give --degree",
        )
    elif len(seen):
        require(
            degree >= seen[0],
            f"degree P must be at least the information exponent Q = {seen[0]} of {name}, got {degree}",
        )
    return from_coefficients(coefficients[: None if degree is None else degree + 1].tolist())


def load_function(place: str) -> Callable[[float], Any]:
    """The function NAME of the Python file in FILE.py:NAME. Raises InputError where there is none, or the file does not import."""
    file, _, name = place.rpartition(":")
    require(file.endswith(".py") and name.isidentifier(), f"--link must read FILE.py:NAME, got {place!r}")
    path = Path(file)
    require(path.is_file(), f"file of --link must exist, got {file!r}")
    spec = importlib.util.spec_from_file_location("theorysim_link", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"file {file!r} of --link does not import: {_first_line(error)}") from None
    function = getattr(module, name, None)
    require(callable(function), f"file {file!r} of --link must define a function {name}(z), got {function!r}")
    return function  # pyright: ignore[reportReturnType]


def describe(link: Link) -> str:
    """The link for a figure's title."""
    for known, degree in ((HE2, 2), (HE3, 3), (HE4, 4)):
        if link == known:
            return rf"$\sigma = {{\rm He}}_{degree}/\sqrt{{{degree}!}}$"
    if isinstance(link, Band):
        return f"random links of degrees {link.lowest} to {link.highest}"
    shown = ", ".join(f"{c:.3g}" for c in link.values[:7]) + (", ..." if len(link.values) > 7 else "")
    return rf"link of $c$ = ({shown})"


def report(link: Link, bias: float | None = None) -> str:
    """What theory reads off a link, in one line; bias: of the neurons in Stage I.

    Raises InputError where neurons of that bias see nothing of the link.
    """
    law = link_of(link)
    Q, P = law.information_exponent, law.degree
    text = f"random c of degrees {Q} to {P}" if isinstance(link, Band) else _listed(link.values)
    line = f"link: {text}; information exponent Q = {Q}, degree P = {P}, E sigma^2 = {law.variance:.6g}"
    if bias is None:
        return line
    return f"{line}; ReLU of bias {bias:g} sees it from degree {visible_exponent(law, bias)} on"


def _listed(values: Float[np.ndarray, " degrees"]) -> str:
    return ", ".join(f"c_{k} = {c:.6g}" for k, c in enumerate(values) if c)


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "integers" if kind is int else "numbers"
        raise InputError(f"{option} must be {what} with commas between them, got {text!r}") from None


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}".rstrip(": ")
