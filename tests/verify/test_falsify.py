"""The search for counterexamples: least slacks known in closed form, planted violations, rounding, and what may be moved."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from theorysim import papers
from theorysim.errors import InputError
from theorysim.sweep import Experiment, one_by_one, setting
from theorysim.sweep.keys import wrap_keys
from theorysim.verify import Bound, Check, Control, Design, Equivalence, Range, Search, Session
from theorysim.verify.falsify import Falsification, falsify, is_bound
from theorysim.verify.falsify.draws import measure_with


@setting
class Place:
    """Two numbers and a size."""

    x: float = 0.5
    y: float = 0.5
    n: int = 12


def bound(measure, observed: str, predict, search: Search | None, *, draws: int = 10, **fields) -> Check:
    """observed <= predict of a measurement of `Place()`."""
    judge = fields.pop("judge", Bound())
    check = Check(
        name=observed,
        experiment=Experiment(f"toy/{measure.__name__}", measure),
        design={"quick": Design((Place(),), draws)},
        observable=lambda _, results: results[observed],
        predict=predict,
        judge=judge,
        control=Control("half of the bound", predict=lambda s, inputs: predict(s, inputs) / 2),
        search=search,
    )
    return dataclasses.replace(check, **fields)


def search(check: Check, **options) -> Falsification:
    return falsify(check, Session("quick"), **{"restarts": 8, "seconds": 600.0, **options})


# --- draws ------------------------------------------------------------------------------------------------------------


def several(key, s):
    """Draws of many laws, some behind `vmap`, `one_by_one` and in a loop."""
    keys = random.split(key, 3)
    inner = one_by_one(lambda key, x: x * random.exponential(key, (2,)))
    return {
        "uniform": random.uniform(keys[0], (3,), minval=-1.0, maxval=s.x),
        "normal": jax.vmap(lambda k: random.normal(k, (2,)))(keys),
        "inner": inner(keys[1], s.y),
        "coin": random.bernoulli(keys[2], 0.5, (4,)),
        "loop": jax.lax.fori_loop(0, 3, lambda i, total: total + random.normal(random.fold_in(key, i)), 0.0),
    }


@pytest.mark.parametrize("x64", [True, False])
def test_draws_of_a_key_are_inputs_of_a_measurement(x64: bool) -> None:
    with jax.enable_x64(x64):
        one, other = random.key(1), random.key(2)
        values = lambda drawn: [d.values for d in drawn]
        again = jax.jit(lambda key: (lambda r, d: (r, values(d)))(*measure_with(several, key, Place())))
        results, drawn = again(one)
        there, _ = again(other)
        moved = jax.jit(lambda key, given: measure_with(several, key, Place(), given)[0])(other, drawn)
        plain = jax.jit(lambda key: several(key, Place()))(one)
        slope = jax.jit(jax.grad(lambda given: jnp.sum(measure_with(several, one, Place(), given)[0]["inner"])))(drawn)
    for name in results:
        np.testing.assert_array_equal(results[name], plain[name])
        np.testing.assert_array_equal(moved[name], there[name] if name == "loop" else plain[name])
    assert [d.shape for d in drawn] == [(3,), (3, 2), (2,), (4,)]
    # -log(1 - u) y
    np.testing.assert_allclose(slope[2], 0.5 / (1 - np.asarray(drawn[2])), rtol=1e-5)


# --- least slacks known in closed form --------------------------------------------------------------------------------


def bowl(key, s):
    return {"value": (s.x - 1 / 3) ** 2 + 2 * (s.y - 0.7) ** 2 + 0.25}


def sine(key, s):
    return {"value": jnp.sin(s.x) * s.y}


def total(key, s):
    z = random.normal(key, (s.n,))
    return {"total": jnp.abs(jnp.sum(z)), "z": z, "norm": jnp.linalg.norm(z)}


def logistic(key, s):
    """Largest after two steps of x -> 3.2 x (1 - x) at .8; the loop cannot be differentiated backwards."""
    u = random.uniform(key, (2,))
    last, _ = jax.lax.while_loop(lambda c: c[1] < 2, lambda c: (3.2 * c[0] * (1 - c[0]), c[1] + 1), (u[0], 0))
    return {"value": last * u[1]}


def steps(key, s):
    return {"value": jnp.mean(jnp.floor(10 * random.uniform(key, (8,))))}


AT_LEAST = Bound(sense=">=", exhaustive=True)
KNOWN = {
    "fields": (
        bound(
            bowl,
            "value",
            lambda s, _: 0.2,
            Search(ranges={"x": Range(0, 1), "y": Range(0.01, 1, log=True)}),
            judge=AT_LEAST,
        ),
        0.25,
        "gradient",
    ),
    "fields that the bound reads": (
        bound(sine, "value", lambda s, _: 1.1 * s.x * s.y, Search(ranges={"x": Range(0.1, 3), "y": Range(0.5, 1)})),
        1 - np.sin(0.1) / 0.11,
        "gradient",
    ),
    "draws": (
        bound(
            total,
            "total",
            lambda s, inputs: 1.25 * np.sqrt(12) * np.linalg.norm(inputs["z"], axis=1),
            Search(draws=True),
            inputs=("z",),
        ),
        0.2,
        "gradient",
    ),
    "a loop of open length": (bound(logistic, "value", lambda s, _: 1.0, Search(draws=True)), 0.2, "gradient"),
    "no derivative": (
        bound(steps, "value", lambda s, _: 10.0, Search(draws=True)),
        0.1,
        "steps without gradient (the slack does not change with them)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_search_reaches_the_least_slack(name: str) -> None:
    check, least, ascent = KNOWN[name]
    found = search(check)
    assert found.counterexample is None and found.least is not None
    assert least - 1e-9 <= found.least.relative <= least / 0.99
    assert found.ascent == ascent
    # Ten independent draws count; what is found beyond them does not.
    assert found.draws == (0 if check.judge is AT_LEAST else 10)
    assert found.trials > 100


def test_independent_draws_alone_do_not_come_close() -> None:
    found = search(dataclasses.replace(KNOWN["draws"][0], search=None))
    assert found.least is not None and found.least.relative > 0.3
    assert (found.draws, found.trials) == (10, 0)
    assert found.limit == pytest.approx(1 - 2e-4 ** (1 / 10))
    assert "declares no search" in found.ascent


@lru_cache
def claim(paper: str, name: str) -> tuple[Check, ...]:
    return next(one.checks for one in papers.claims(paper) if one.id == f"{paper}.{name}")


def test_search_reaches_equality_in_a_theorem() -> None:
    """eta <= eta_1(gamma) of monotone runs is sharp for every gamma: the least slack is 0, from a few draws on."""
    found = search(claim("large-stepsize-gd", "monotone-lower-bound")[1], trials=20)
    assert found.counterexample is None and found.least is not None
    assert abs(found.least.relative) < 0.01
    assert found.tightening == pytest.approx(1, abs=0.01)


# --- violations -------------------------------------------------------------------------------------------------------

FALSE = bound(
    total,
    "total",
    lambda s, inputs: 0.95 * np.sqrt(12) * inputs["norm"],
    Search(draws=True),
    inputs=("norm",),
)


def test_rare_violation_is_found_simplified_and_reproducible() -> None:
    assert search(dataclasses.replace(FALSE, search=None)).counterexample is None
    found = search(FALSE).counterexample
    assert found is not None and found.draws is not None
    assert found.slack < 0 and found.observed > found.predicted
    # Most draws are round numbers now.
    draws = np.array(found.draws)
    assert np.sum(np.round(draws, 1) == draws) >= 8
    with jax.enable_x64(True):
        key = wrap_keys(np.array(found.key, np.uint32))
        again = jax.jit(lambda z: measure_with(total, key, Place(), [z])[0])(draws)
    assert float(again["total"]) == pytest.approx(found.observed, rel=1e-12)
    assert float(again["total"]) > 0.95 * np.sqrt(12) * float(again["norm"])


def test_violating_fields_are_shrunk_to_simple_numbers() -> None:
    check = bound(
        sine,
        "value",
        lambda s, _: 0.9 * s.y,
        Search(ranges={"x": Range(0.1, 3), "y": Range(0.01, 1, log=True)}),
        judge=Bound(exhaustive=True),
    )
    found = search(check).counterexample
    assert found is not None
    assert found.setting in ("x=2, y=0.5, n=12", "x=1.5, y=0.5, n=12", "x=2, y=1, n=12")


def product(key, s):
    a, b = random.normal(key, (2,), jnp.float32)
    return {"product": a * b, "a": a, "b": b}


def product_again(s, key):
    a, b = np.asarray(random.normal(key, (2,), jnp.float32), np.float64)
    return {"product": np.asarray(a * b), "a": np.asarray(a), "b": np.asarray(b)}


@pytest.mark.parametrize("replay", [None, product_again])
def test_rounding_is_no_counterexample(replay) -> None:
    """A product in float32 lies beyond the exact one by rounding at about half of the inputs."""
    exact = lambda s, inputs: inputs["a"].astype(float) * inputs["b"].astype(float)
    check = bound(
        product,
        "product",
        exact,
        Search(draws=replay is None),
        draws=200,
        inputs=("a", "b"),
        experiment=Experiment("toy/product", product, x64=False),
        judge=Bound(rounding=1e-7),
        replay=replay,
    )
    found = search(check, seconds=3.0)
    assert found.least is not None and found.least.relative < 0
    assert found.counterexample is None


CONTROLS = [
    ("large-stepsize-gd", "monotone-lower-bound"),
    ("qaoa-spiked-tensor", "enhancement"),
]


@pytest.mark.parametrize(("paper", "name"), CONTROLS)
def test_planted_violations_are_found(paper: str, name: str) -> None:
    checks = [check for check in claim(paper, name) if is_bound(check)]
    assert checks
    session = Session("quick")
    for check in checks:
        assert falsify(check.broken(), session, trials=400).counterexample is not None


# --- input ------------------------------------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    check = KNOWN["draws"][0]
    cases = [
        (dataclasses.replace(check, judge=Equivalence()), {}, "judge of check 'total' must be Bound, got Equivalence"),
        (check, {"trials": 0}, "trials must be at least 1, got 0"),
        (check, {"restarts": 1}, "restarts must be at least 2, got 1"),
        (check, {"seconds": 0.0}, "seconds must be positive and finite, got 0.0"),
        (dataclasses.replace(check, search=Search(ranges={"z": Range(0, 1)})), {}, "real field of Place, got 'z'"),
        (dataclasses.replace(check, search=Search(ranges={"n": Range(1, 9)})), {}, "real field of Place, got 'n'"),
        (dataclasses.replace(check, search=Search(choices={"m": (1,)})), {}, "must be those of Place, got 'm'"),
    ]
    for broken, options, message in cases:
        with pytest.raises(InputError, match=message):
            search(broken, **options)
    with pytest.raises(InputError, match="low < high, got 1 to 0"):
        Range(1, 0)
    with pytest.raises(InputError, match="must be positive, got 0"):
        Range(0, 1, log=True)


def test_choices_and_refused_settings() -> None:
    """Sizes are chosen by name; where a setting or the bound itself refuses an input, that input is left out."""

    def predict(s: Place, inputs) -> np.ndarray:
        if np.any(inputs["norm"] < 1):
            raise InputError("norm must be at least 1")
        return np.sqrt(13) * inputs["norm"] + 0.1

    check = bound(total, "total", predict, Search(draws=True, choices={"n": (13, 14)}), inputs=("norm",))
    found = search(check)
    assert found.counterexample is not None and "n=14" in found.counterexample.setting
