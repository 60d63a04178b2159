"""The random numbers behind a key, made inputs of a measurement, so that a search can move them one by one.

A measurement is traced to its jaxpr and evaluated again with every uniform and normal number read from a list. What is drawn
inside a loop or a branch, and whole numbers, stay as the key draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.extend.core as core
import numpy as np
from jaxtyping import Array, Key

Measure = Callable[[Key[Array, ""], Any], Mapping[str, Array]]


class Drawn(NamedTuple):
    """Numbers that a measurement draws: standard normal, or uniform on [0, 1)."""

    law: Literal["uniform", "normal"]
    values: Any


def measure_with(
    measure: Measure, key: Key[Array, ""], setting: Any, values: Sequence[Array] | None = None
) -> tuple[Mapping[str, Array], list[Drawn]]:
    """A measurement whose draws are `values`, in the order in which it makes them; those of the key where None.

    Returns the results and the draws. To be called in a trace. With values None the results are those of `measure(key,
    setting)`; with the draws of another key, and no others made in loops, they are those of that key.
    """
    closed, shapes = jax.make_jaxpr(measure, return_shape=True)(key, setting)
    tape = _Tape(values)
    flat = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves((key, setting)), tape)
    return jax.tree.unflatten(jax.tree.structure(shapes), flat), tape.drawn


def pruned(closed: Any) -> Callable[..., list[Any]]:
    """A closed jaxpr as a function, without the equations on which no output depends.

    Of a loop that cannot be differentiated, and whose outcome nobody asked for, nothing is left to fail.
    """
    alive = {v for v in closed.jaxpr.outvars if not isinstance(v, core.Literal)}
    kept = []
    for equation in reversed(closed.jaxpr.eqns):
        if alive.intersection(equation.outvars):
            kept.append(equation)
            alive.update(v for v in equation.invars if not isinstance(v, core.Literal))
    return core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr.replace(eqns=kept[::-1]), closed.consts))


class _Tape:
    def __init__(self, values: Sequence[Array] | None) -> None:
        self._values, self.drawn = values, []

    def next(self, law: Literal["uniform", "normal"], draw: Callable[[], Array]) -> Array:
        value = draw() if self._values is None else self._values[len(self.drawn)]
        self.drawn.append(Drawn(law, value))
        return value


def _evaluate(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], tape: _Tape) -> list[Any]:
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))
    bits: set[Any] = set()  # random bits on their way to a number in [1, 2), from which 1 is then subtracted
    for equation in jaxpr.eqns:
        primitive, parameters = equation.primitive, equation.params
        inputs = [v.val if isinstance(v, core.Literal) else known[v] for v in equation.invars]
        bind = partial(_bind, jaxpr, equation, inputs)
        first = equation.invars[0] if equation.invars else None
        of_bits = first is not None and not isinstance(first, core.Literal) and first in bits
        inner = parameters.get("call" if primitive.name == "custom_vmap_call" else "jaxpr")
        if primitive.name in ("jit", "pjit") and parameters["name"] == "_normal_real":
            outputs = [tape.next("normal", lambda bind=bind: bind()[0])]
        elif primitive.name in ("jit", "pjit", "custom_vmap_call"):
            outputs = _evaluate(inner.jaxpr, inner.consts, inputs, tape)  # pyright: ignore[reportOptionalMemberAccess]
        elif of_bits and primitive.name == "sub" and np.issubdtype(equation.outvars[0].aval.dtype, np.floating):
            outputs = [tape.next("uniform", lambda bind=bind: bind()[0])]
        else:
            outputs = bind()
            if primitive.name == "random_bits" or (of_bits and primitive.name in _TO_FLOAT):
                bits.update(equation.outvars)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [v.val if isinstance(v, core.Literal) else known[v] for v in jaxpr.outvars]


def _bind(jaxpr: Any, equation: Any, inputs: Sequence[Any]) -> list[Any]:
    """Outputs of one equation of a jaxpr."""
    values = {v: x for v, x in zip(equation.invars, inputs, strict=True) if not isinstance(v, core.Literal)}
    unnamed = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    alone = jaxpr.replace(
        constvars=[],
        invars=list(values),
        outvars=list(equation.outvars),
        eqns=[equation],
        effects=equation.effects,
        debug_info=unnamed,
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))(*values.values())


_TO_FLOAT = ("shift_right_logical", "or", "bitcast_convert_type", "convert_element_type")
