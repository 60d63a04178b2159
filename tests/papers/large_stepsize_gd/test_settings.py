"""Bad parameters of every setting are refused in one line that names the parameter and its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.papers.large_stepsize_gd.measurements import Leak, OneStep, TwoPointStep
from theorysim.papers.large_stepsize_gd.setting import (
    Budget,
    Contest,
    FivePoint,
    LinearPredictor,
    ModifiedMargin,
    Network,
    OneSample,
    RandomInstances,
    RandomTwoPoint,
    Samples,
    Training,
    TwoPoint,
    TwoPointConflict,
    Xor,
)

NAN, INF = float("nan"), float("inf")
E1 = np.array([1.0, 0.0])
SETTINGS: dict[type, dict[str, Any]] = {
    TwoPoint: {"gamma": 0.1, "p": 0.9, "q": 0.5},
    TwoPointConflict: {"gamma": 0.1, "p": 0.9, "q": 0.5},
    OneSample: {"norm": 1.0, "dimension": 2},
    Xor: {},
    FivePoint: {"scaled": True},
    Samples: {
        "name": "two points",
        "X": np.array([[0.6, 0.8], [0.6, -0.8]]),
        "y": np.array([1.0, 1.0]),
        "gamma": 0.6,
        "direction": E1,
    },
    ModifiedMargin: {"kappa": 0.1, "beta": 0.1, "lam": 1.0, "sign": 1.0},
    LinearPredictor: {},
    Network: {"activation": "softplus", "plus": 2, "minus": 1, "leak": 0.5},
    Training: {
        "data": TwoPoint(0.1),
        "predictor": LinearPredictor(),
        "eta": 1.0,
        "times": (0, 10),
        "scale": 0.0,
        "margin": ModifiedMargin(),
    },
    RandomInstances: {
        "activation": "gelu",
        "leaks": np.array([0.3, 0.5]),
        "kappas": np.array([0.1, 0.2]),
        "betas": np.array([0.1, 0.2]),
        "lams": np.array([1.0, 1.1]),
        "times": (0, 10),
        "rows": 5,
        "width": 2,
    },
    RandomTwoPoint: {"gamma_bound": 0.1, "eta_bound": 24.0, "times": (0, 10), "p": 0.9, "q": 0.5},
    Leak: {"leak": 0.3},
    TwoPointStep: {"eta": 1e5, "g": 1e-3, "ceiling": 2.0},
}
RANDOM = RandomInstances(**SETTINGS[RandomInstances])
TRAINING = Training(**SETTINGS[Training])
LATER = Training(**(SETTINGS[Training] | {"times": (0, 20)}))
SETTINGS |= {
    OneStep: {"instances": RANDOM, "ceilings": np.array([1.0, 2.0])},
    Budget: {"training": TRAINING, "horizon": 10.0},
    Contest: {"fast": TRAINING, "slow": TRAINING, "horizon": 10.0},
}


def cases(kind: type, field: str, *bad: Any, named: str | None = None) -> list[tuple[type, str, Any, str]]:
    """Each bad value of a field; `named` is the word for it in the message, by default the field."""
    return [(kind, field, value, named or field) for value in bad]


BAD = [
    *cases(TwoPoint, "gamma", 0, 0.0, -0.1, 1.5, NAN, INF, "0.1", True, None),
    *cases(TwoPoint, "gamma", 0.9, 1.0, named="norm of (gamma, p)"),
    *cases(TwoPoint, "p", 0.5, 0.3, 0.0, -1.0, NAN, "0.9"),
    *cases(TwoPoint, "p", 1.0, INF, named="norm of (gamma, p)"),
    *cases(TwoPoint, "q", 0.0, -0.5, 0.9, 1.0, NAN, INF, False),
    *cases(TwoPointConflict, "gamma", 0.0, -0.1, 2.0, NAN, "x"),
    *cases(TwoPointConflict, "p", 0.4),
    *cases(TwoPointConflict, "q", 0.0, 0.9),
    *cases(OneSample, "norm", 0.0, -1.0, 1.1, NAN, INF, "1", True),
    *cases(OneSample, "dimension", 0, -1, 1.5, "2", True, None),
    *cases(FivePoint, "scaled", 1, 0.0, "yes", None),
    *cases(Samples, "name", 3, None),
    *cases(Samples, "X", np.ones(2), np.ones((2, 2, 1)), np.ones((0, 2)), np.ones((2, 0)), [[0.6, 0.8]], "digits.npz"),
    *cases(Samples, "X", np.array([[0.6, NAN], [0.6, -0.8]]), np.array([["a", "b"], ["c", "d"]])),
    *cases(Samples, "X", np.array([[0.6, 0.9], [0.6, -0.8]]), np.array([[INF, 0.0], [0.6, -0.8]])),
    *cases(Samples, "X", np.array([[0.6 + 0.1j, 0.0], [0.6, -0.8]])),
    *cases(Samples, "y", np.ones(3), np.ones((2, 1)), np.array([0.0, 1.0]), np.array([2.0, 1.0]), np.array([NAN, 1.0])),
    *cases(Samples, "y", [1.0, 1.0], 1.0, np.array(["+", "-"])),
    *cases(Samples, "gamma", -0.1, 1.5, NAN, INF, "0.6"),
    *cases(Samples, "gamma", 0.61, 0.9),
    *cases(
        Samples, "direction", np.ones(3) / np.sqrt(3), np.ones((2, 1)), np.array([2.0, 0.0]), np.zeros(2), [1.0, 0.0]
    ),
    *cases(ModifiedMargin, "kappa", -0.1, NAN, INF, "0"),
    *cases(ModifiedMargin, "beta", -0.1, NAN, INF),
    *cases(ModifiedMargin, "lam", 0.0, -1.0, NAN, INF),
    *cases(ModifiedMargin, "sign", 0.0, 2.0, NAN, "-"),
    *cases(Network, "activation", "relu", "", "GELU", 3, None),
    *cases(Network, "plus", 1.5, "2", True, None),
    *cases(Network, "plus", -1, named="positive neurons"),
    *cases(Network, "minus", -3, named="negative neurons"),
    *cases(Network, "minus", 0.0, NAN),
    *cases(Network, "leak", 1.0, 1, -0.1, 1.5, NAN, INF, -INF, "0.5", True),
    *cases(Training, "data", None, np.ones((2, 2)), LinearPredictor()),
    *cases(Training, "predictor", "linear", None, Xor()),
    *cases(Training, "eta", 0, 0.0, -0.1, NAN, INF, -INF, "1", True, None, np.ones(2)),
    *cases(Training, "times", (10, 0), (0, 0), (0, 10, 10), (0, 20, 10), (-1, 10), (-5, -1), named="record times"),
    *cases(Training, "times", (), (10,), (0,), named="record times"),
    *cases(Training, "times", (0, 1.5), (0.0, 10.0), (0, NAN), (0, "10"), (False, True), named="record times"),
    *cases(Training, "times", 10, "0,10", None, np.array([0, 10])),
    *cases(Training, "scale", -1.0, NAN, INF, "1", True),
    *cases(Training, "margin", None, 1.0),
    *cases(RandomInstances, "activation", "tanh", None),
    *cases(
        RandomInstances, "leaks", np.array([0.3, 1.0]), np.array([-0.1, 0.3]), np.array([NAN, 0.3]), np.ones((2, 2)) / 2
    ),
    *cases(RandomInstances, "leaks", np.ones(0), [0.3, 0.5], 0.3, np.array([0.3, 0.5, 0.8])),
    *cases(RandomInstances, "kappas", np.ones(3), np.ones((2, 1)), np.array([NAN, 1.0]), np.array([-1.0, 1.0])),
    *cases(RandomInstances, "betas", np.ones(1), np.array([0.1, -0.1]), np.array([INF, 0.1])),
    *cases(RandomInstances, "lams", np.ones(1), np.array([0.0, 1.0]), np.array([1.0, INF])),
    *cases(RandomInstances, "times", (5, 5), (3,), named="record times"),
    *cases(RandomInstances, "rows", 0, -1, 2.5, "5"),
    *cases(RandomInstances, "width", 0, -2, 1.0, True),
    *cases(RandomTwoPoint, "gamma_bound", 0.0, -0.1, NAN, "0.1", named="gamma"),
    *cases(RandomTwoPoint, "gamma_bound", 0.5, 1.5, INF, named="norm of (gamma, p)"),
    *cases(RandomTwoPoint, "eta_bound", 0.0, -1.0, INF, NAN, named="eta"),
    *cases(RandomTwoPoint, "times", (2, 1), (0, 1.5), named="record times"),
    *cases(RandomTwoPoint, "p", 0.5, 0.1),
    *cases(RandomTwoPoint, "p", 1.0, named="norm of (gamma, p)"),
    *cases(RandomTwoPoint, "q", 0.0, -0.1, 0.9),
    *cases(Leak, "leak", 1.0, -0.1, NAN, INF, "0"),
    *cases(TwoPointStep, "eta", 0.0, -1.0, INF, NAN, True),
    *cases(TwoPointStep, "g", 0.0, 1.0, -0.1, NAN),
    *cases(TwoPointStep, "ceiling", 0.0, -1.0, 1e5, 2e5, INF, NAN),
    *cases(OneStep, "instances", TRAINING, None),
    *cases(OneStep, "ceilings", np.ones(3), np.ones((2, 1)), np.array([0.0, 1.0]), np.array([-1.0, 1.0]), [1.0, 2.0]),
    *cases(OneStep, "ceilings", np.array([INF, 1.0]), np.array([NAN, 1.0])),
    *cases(Budget, "training", RANDOM),
    *cases(Budget, "horizon", 5.0, 0.5, -1.0, NAN, INF, "10"),
    *cases(Contest, "horizon", 11.0, NAN),
    *cases(Contest, "slow", LATER, named="record times"),
    *cases(Contest, "fast", LATER, named="record times"),
    *cases(Contest, "fast", RANDOM),
]


def value_in(message: str, value: Any) -> bool:
    """The message holds the value, or for an array its shape, an entry, or the start of its text."""
    if isinstance(value, np.ndarray):
        texts = [
            str(value.shape),
            str(value.dtype),
            *(f"{entry:.6g}" for entry in value.ravel() if value.dtype.kind == "f"),
            "array(",
        ]
        if value.ndim == 2 and value.dtype.kind == "f":
            texts += [f"{norm:.6g}" for norm in np.linalg.norm(value, axis=1)]
        return any(text in message for text in texts)
    if isinstance(value, float | int) and not isinstance(value, bool):
        return any(text in message for text in (str(value), repr(float(value)), f"{value:.6g}"))
    if isinstance(value, Training) and str(value.times) in message:
        return True
    return (repr(value) if isinstance(value, str | tuple) else str(value))[:20] in message


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_admissible_settings_are_accepted(kind: Callable[..., Any]) -> None:
    kind(**SETTINGS[kind])  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "field", "value", "named"), BAD, ids=[f"{c[0].__name__}.{c[1]}-{i}" for i, c in enumerate(BAD)]
)
def test_bad_parameters_are_refused(kind: Callable[..., Any], field: str, value: Any, named: str) -> None:
    with pytest.raises(InputError) as caught:
        kind(**(SETTINGS[kind] | {field: value}))  # type: ignore[index]
    message = str(caught.value)
    assert "\n" not in message and len(message) < 250
    assert named in message
    assert value_in(message, value) or "norm" in named


def test_a_network_needs_a_neuron() -> None:
    with pytest.raises(InputError, match="width m must be at least 1, got 0"):
        Network("softplus", 0, 0)


def test_bad_names_and_values_are_named_together() -> None:
    with pytest.raises(InputError, match=r"^stepsize eta must be positive and finite, got -0.1$"):
        Training(**(SETTINGS[Training] | {"eta": -0.1}))
    with pytest.raises(InputError, match=r"^Network.activation must be one of 'softplus', .*, got 'relu'$"):
        Network("relu", 1, 1)  # type: ignore[arg-type]


def test_there_are_cases_for_every_parameter() -> None:
    tried = {(kind, field) for kind, field, *_ in BAD}
    assert {(kind, field) for kind, fields in SETTINGS.items() for field in fields} - tried <= set()
