"""Settings: frozen dataclasses of parameters that are JAX pytrees, checked on construction, with a stable text form.

Fields annotated as floats, arrays or settings are traced; all others (sizes, names, switches) are static and fix
shapes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, Union, dataclass_transform

import jax
import numpy as np

from theorysim.errors import InputError

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def setting(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass registered as a JAX pytree.

    Fields annotated `float`, an array type or another setting (or a union with one) are its children; every other field
    is static. Construction checks types and converts ints to floats; then, if the class has a method `validate(self)`,
    it is called, provided that every leaf is a number or a NumPy array (inside a trace it is not). Unflattening checks
    nothing. Two settings are equal when their `canonical` texts are.

    Raises `InputError` for a value of the wrong type and for NaN, naming class, field and value.
    """
    assert "__post_init__" not in cls.__dict__, f"{cls.__name__}: checks belong into validate(self), not __post_init__"
    hints = typing.get_type_hints(cls)

    def __post_init__(self: Any) -> None:
        concrete = True
        for field in dataclasses.fields(self):
            value = _checked(f"{cls.__name__}.{field.name}", getattr(self, field.name), _options(hints[field.name]))
            object.__setattr__(self, field.name, value)
            concrete &= not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
        if concrete and hasattr(self, "validate"):
            self.validate()

    def __eq__(self: Any, other: object) -> bool:
        return type(other) is cls and canonical(self) == canonical(other)

    def __hash__(self: Any) -> int:
        return hash(canonical(self))

    for method in (__post_init__, __eq__, __hash__):
        setattr(cls, method.__name__, method)
    made = dataclasses.dataclass(frozen=True, eq=False)(cls)
    # Run-time type checkers would refuse tracers in float fields; __post_init__ checks, and knows of traces.
    made.__init__.__annotations__ = {}
    names = [field.name for field in dataclasses.fields(made)]  # type: ignore[arg-type]
    data = tuple(name for name in names if any(map(_traced, _options(hints[name]))))
    static = tuple(name for name in names if name not in data)

    # Unflattening must not run __init__: JAX fills trees with tracers, axes and placeholders of any type.
    def unflatten(values: tuple[Any, ...], children: Iterable[Any]) -> Any:
        tree = object.__new__(made)
        for name, value in (*zip(static, values, strict=True), *zip(data, children, strict=True)):
            object.__setattr__(tree, name, value)
        return tree

    def flatten(tree: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(tree, name) for name in data), tuple(getattr(tree, name) for name in static)

    def flatten_with_keys(tree: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, values = flatten(tree)
        return tuple((jax.tree_util.GetAttrKey(n), c) for n, c in zip(data, children, strict=True)), values

    jax.tree_util.register_pytree_with_keys(made, flatten_with_keys, unflatten, flatten)
    made.__setting__ = True  # type: ignore[attr-defined]
    return made


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; other types are unions of one."""
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_array(option: Any) -> bool:
    """np.ndarray, jax.Array and jaxtyping's shaped versions of them."""
    array_type = getattr(option, "array_type", option)
    return array_type in (np.ndarray, jax.Array) or typing.get_origin(option) is np.ndarray


def _traced(option: Any) -> bool:
    return option is float or _is_array(option) or getattr(option, "__setting__", False)


def _checked(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    """`value` as one of the types in `options`, or an InputError that names the field."""
    for option in options:
        found = _as(option, value)
        if found is not _NO:
            return found
    allowed = " or ".join(_allowed(option) for option in options)
    raise InputError(f"{name} must be {allowed}, got {_short(value)}")


_NO: Any = object()


def _as(option: Any, value: Any) -> Any:
    """`value` as an instance of the type `option`, `_NO` where it is none."""
    if _traced(option) and isinstance(value, jax.Array):  # traced, or on a device: its value is not looked at
        return value
    if option is float:
        number = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
        if isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool):
            return _NO if math.isnan(number) else float(number)
        return _NO
    if _is_array(option):
        numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        return _NO if not numeric or np.isnan(value).any() else value
    if option is int:
        return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else _NO
    if option is bool:
        return bool(value) if isinstance(value, bool | np.bool_) else _NO
    if typing.get_origin(option) is Literal:
        return value if any(value is a or (type(value) is type(a) and value == a) for a in _args(option)) else _NO
    if option is Any:
        return value
    kind = typing.get_origin(option) or option
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    return value if not isinstance(kind, type) or isinstance(value, kind) else _NO


def _args(option: Any) -> tuple[Any, ...]:
    return typing.get_args(option)


def _allowed(option: Any) -> str:
    if option is float:
        return "a number (not NaN)"
    if _is_array(option):
        return "a numeric NumPy array without NaN"
    if typing.get_origin(option) is Literal:
        return "one of " + ", ".join(map(repr, _args(option)))
    if option is type(None):
        return "None"
    return f"of type {getattr(typing.get_origin(option) or option, '__name__', option)}"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def canonical(value: Any) -> str:
    """Exact text of a setting: `Class(field=value, ...)`, the same in every process and on every platform.

    Floats are given by their shortest round-trip digits, arrays by shape, dtype and SHA-256 of their bytes. Keys of
    samples are derived from it. Raises `InputError` for a type that has no such text.
    """
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, np.bool_ | np.integer):
        return repr(value.item())
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        if array.ndim == 0:
            return canonical(array[()])
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        return f"array({list(array.shape)}, {array.dtype.name}, {hashlib.sha256(little.tobytes()).hexdigest()})"
    if isinstance(value, tuple):
        return "(" + "".join(f"{canonical(item)}, " for item in value) + ")"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f"{field.name}={canonical(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(fields)})"
    raise InputError(f"a setting holds numbers, strings, tuples, arrays and dataclasses, got {_short(value)}")


def describe(value: Any) -> str:
    """Short text of a setting for people, such as "n=100, eta=0.1"; six digits, arrays by shape."""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray | jax.Array):
        return describe(float(value)) if value.ndim == 0 else f"array{list(value.shape)}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        texts = []
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            text = describe(item)
            texts.append(f"{field.name}=({text})" if dataclasses.is_dataclass(item) else f"{field.name}={text}")
        return ", ".join(texts)
    if isinstance(value, tuple):
        return f"({', '.join(map(describe, value))})"
    return str(value)
