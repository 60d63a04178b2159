"""Settings: what is traced, what is refused, and texts and keys that no process or platform changes."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import struct
from typing import Literal

import jax
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Float, jaxtyped
from sweep_toys import Walk

from theorysim.errors import InputError
from theorysim.sweep import canonical, describe, sample_key, sample_keys, setting


@setting
class Prior:
    rho: float


@setting
class Model:
    n: int
    snr: float
    prior: Prior
    design: Float[np.ndarray, "n d"] | None = None
    noise: Literal["gauss", "none"] = "gauss"
    times: tuple[int, ...] = (1, 2)


MODEL = Model(3, 2, Prior(0.5), np.arange(6.0).reshape(3, 2))


def test_leaves_are_floats_arrays_and_settings() -> None:
    leaves, tree = jax.tree.flatten(MODEL)
    assert leaves[:2] == [2.0, 0.5] and leaves[2] is MODEL.design and len(leaves) == 3
    assert tree.unflatten(leaves) == MODEL
    assert tree != jax.tree.structure(dataclasses.replace(MODEL, n=4))
    doubled = jax.jit(lambda s: dataclasses.replace(s, snr=2 * s.snr))(MODEL)
    assert float(doubled.snr) == 4.0 and doubled.noise == "gauss"


def test_type_checkers_leave_settings_to_themselves() -> None:
    checked = jaxtyped(typechecker=beartype)(Prior)
    assert jax.jit(lambda rho: checked(rho).rho)(0.5) == 0.5
    with pytest.raises(InputError, match=r"Prior\.rho must be a number"):
        checked("0.5")  # type: ignore[arg-type]


def test_unflattening_checks_nothing_and_construction_does() -> None:
    axes = jax.tree.map(lambda _: 0, MODEL)
    assert axes.snr == 0 and type(axes.snr) is int
    assert type(MODEL.snr) is float
    with pytest.raises(InputError, match=r"eta must be positive, got -0\.1"):
        Walk(3, -0.1)
    assert jax.jit(lambda eta: Walk(3, eta).eta)(-1.0) == -1.0  # inside a trace there is no value to check


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr": "2"}, "Model.snr must be a number .not NaN., got '2'"),
        ({"snr": float("nan")}, "Model.snr must be a number .not NaN., got nan"),
        ({"snr": True}, "Model.snr must be a number .not NaN., got True"),
        ({"n": True}, "Model.n must be of type int, got True"),
        ({"n": 2.5}, "Model.n must be of type int, got 2.5"),
        ({"prior": 0.5}, "Model.prior must be of type Prior, got 0.5"),
        ({"design": [1.0]}, "Model.design must be a numeric NumPy array without NaN or None, got .1.0."),
        ({"design": np.array([[np.nan]])}, "Model.design must be"),
        ({"noise": "salt"}, "Model.noise must be one of 'gauss', 'none', got 'salt'"),
        ({"times": 3}, "Model.times must be of type tuple, got 3"),
    ],
)
def test_wrong_types_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(MODEL, **change)


def test_text_is_exact_and_stable() -> None:
    # Written out in full: a change here changes the random numbers of every experiment.
    digest = hashlib.sha256(struct.pack("<6d", *range(6))).hexdigest()
    design = f"array([3, 2], float64, {digest})"
    text = f"Model(n=3, snr=2.0, prior=Prior(rho=0.5), design={design}, noise='gauss', times=(1, 2, ))"
    assert canonical(MODEL) == text
    big = dataclasses.replace(MODEL, design=MODEL.design.astype(">f8"))  # type: ignore[union-attr]
    assert canonical(big) == text and big == MODEL and hash(big) == hash(MODEL)
    assert canonical(dataclasses.replace(MODEL, snr=np.nextafter(2, 3))) != text
    assert canonical(Walk(3, 1)) == "Walk(n=3, eta=1.0, kind='plain')"
    assert Walk(np.int64(3), np.float64(1)) == Walk(3, 1)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(MODEL)) == MODEL
    assert describe(MODEL) == "n=3, snr=2, prior=(rho=0.5), design=array[3, 2], noise=gauss, times=(1, 2)"
    with pytest.raises(InputError, match="a setting holds numbers"):
        canonical((1, object()))


def test_keys_depend_on_index_alone_not_on_company() -> None:
    together = sample_keys("toys/walk", MODEL, 0, range(50))
    assert together.dtype == np.uint32 and together.shape == (50, 2)
    np.testing.assert_array_equal(sample_keys("toys/walk", MODEL, 0, [41, 7]), together[[41, 7]])
    np.testing.assert_array_equal(jax.random.key_data(sample_key("toys/walk", MODEL, 0, 7)), together[7])
    others = [sample_keys("toys/other", MODEL, 0, range(50)), sample_keys("toys/walk", MODEL, 1, range(50))]
    others.append(sample_keys("toys/walk", dataclasses.replace(MODEL, n=4), 0, range(50)))
    # 200 keys of 64 bits: two agree by chance with probability 1e-15.
    assert len(np.unique(np.concatenate([together, *others]), axis=0)) == 200
    # Written out, so that numbers once published can be drawn again.
    digest = hashlib.sha256(b"""('toys/walk', "Walk(n=3, eta=0.5, kind='plain')", 0)/5""").digest()
    assert sample_keys("toys/walk", Walk(3, 0.5), 0, [5]).tolist() == [list(struct.unpack(">2I", digest[:8]))]
