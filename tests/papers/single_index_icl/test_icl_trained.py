"""Claims on pretrained models: what of them is quick, and their measurements against plain NumPy at small sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from theorysim.errors import InputError
from theorysim.kernels import prompts
from theorysim.papers.single_index_icl import trained
from theorysim.papers.single_index_icl.setting import HE2, Tasks
from theorysim.papers.single_index_icl.theory import links, prompt_only
from theorysim.papers.single_index_icl.theory.attention_floor import attention_floor
from theorysim.papers.single_index_icl.trained import Attention, Decoders, Networks, Pretraining
from theorysim.verify import Session
from theorysim.verify.claim import Case

CHECKS = [(claim, check) for claim in trained.CLAIMS for check in claim.checks]
IDS = [f"{claim.id}: {check.name}" for claim, check in CHECKS]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices are small: on a busy machine the threads of the linear algebra would wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_every_check_has_presets_and_a_control(claim, check):
    assert set(check.design) == {"quick", "standard", "paper"}
    changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
    assert check.control.breaks and sum(change is not None for change in changed) == 1


def test_stage_two_claim():
    session, check = Session(preset="quick"), trained.DUAL.checks[0]
    assert session.judge(check).status == "verified"
    assert session.judge(check.broken()).status == "refuted"


# --- judging without training -----------------------------------------------------------------------------------------


def judged(check, results):
    """Judgement of a check on made-up results at the standard setting."""
    setting = check.design["standard"].settings[0]
    admissible = None if check.admissible is None else check.admissible(setting, results)
    return check.judge([Case(setting, check.observable(setting, results), 0.0, admissible=admissible)]).status


def made_up(attention):
    """Results in two dimensions at two lengths, those of the others known, with a relative scatter of 5 % over seeds."""
    noise = 1 + 0.05 * np.random.default_rng(0).normal(size=(32, 2, 2))
    risk = np.array(attention) * noise
    linear, ridge = np.array([0.52, 0.014]) * noise[:, 0], np.array([0.86, 0.19]) * noise[:, 1]
    return {"attention": np.stack([1.5 * risk, risk], -1), "linear": linear, "ridge": ridge}


ATTENTION = [[0.24, 0.10], [0.26, 0.13]]


def test_orderings_read_what_they_say():
    """Reference values pass; each control's do not."""
    same, floor = trained.INDEPENDENCE.checks
    short, long, _ = trained.BEATS.checks
    assert {judged(check, made_up(ATTENTION)) for check in (same, floor, short, long)} == {"verified"}
    unknown = made_up([[0.24, 0.10], [1.07, 0.99]])
    assert {judged(check, unknown) for check in (same, floor, short, long)} == {"refuted"}
    steep = made_up([[0.24, 0.10], [0.15, 0.07]])
    assert judged(same, steep) == "refuted"


def test_floors():
    """At N = 64 and 256 in dimension 8 and 16."""
    found = [attention_floor(np.array([64, 256]), links.HE2, d, 0.1) for d in (8, 16)]
    np.testing.assert_allclose(found, [[0.355141, 0.125395], [0.664244, 0.346520]], atol=6e-7)


def decoders(gap, rank, seeds=8, empty=1.0):
    """Risks of decoders with a relative gap between dimensions and a factor between dimensions of the subspace; two lengths."""
    noise = 1 + 0.01 * np.random.default_rng(1).normal(size=(3, seeds, 3, 2))
    rungs = np.array([1.0, 1 + gap, (1 + gap) * rank])[:, None] * np.array([0.4, 0.2])
    others = np.array([1.0, 1.8, 1.8])[:, None] * np.array([0.8, 0.5])
    own, ridge, network = noise * np.stack([rungs, others, 1.2 * others])[:, None]
    return {
        "decoder": own,
        "outside": own + 1,
        "ridge": ridge,
        "network": network,
        "empty": np.full((seeds, 3), empty),
    }


def test_decoders_would_be_judged():
    """Learned decoders decide all three statements and controls; those that have learned nothing, none."""
    for check in trained.GPT2.checks:
        assert judged(check, decoders(0.1, 1.3)) == "verified"
        assert judged(check.broken(), decoders(0.1, 1.3)) == "refuted"
        assert judged(check, decoders(0.0, 1.3, empty=0.5)) == "inconclusive"
    same, rank, _ = trained.GPT2.checks
    assert judged(same, decoders(0.5, 1.3)) == "refuted"
    assert judged(rank, decoders(0.0, 0.8)) == "refuted"


def test_small_presets_of_the_decoder_admit_nothing():
    """One seed has no standard error, whatever it is; one decoder three times is nothing to compare."""
    for preset in ("quick", "standard"):
        for check in trained.GPT2.checks:
            design = check.design[preset]
            assert design.seeds == 1
            setting, learned = design.settings[0], decoders(0.1, 1.3, seeds=1)
            assert trained._has_learned(setting, learned).all() == (preset == "standard")
            case = Case(setting, check.observable(setting, learned), 0.0)
            assert check.judge([case]).status == "inconclusive"


# --- measurements -----------------------------------------------------------------------------------------------------

TINY = Pretraining((5,), np.array([300.0]), N1=16, m=5, T2=40, N2=16, lengths=(2, 4), tests=3, queries=2)


@pytest.mark.slow
def test_pretraining():
    """Shares of the results against NumPy, from the same features and prompts; Stage I is what aligns the neurons."""
    with jax.enable_x64(True):
        key = jax.random.key(0)
        found = jax.device_get(jax.jit(lambda k: trained.pretraining(k, TINY))(key))
        assert found["attention"].shape == (1, 2, 4) and found["linear"].shape == (2,)
        own, tests = jax.random.split(jax.random.fold_in(key, 5))
        pretrain = jax.jit(lambda k, T1: trained.pretrain(k, TINY, 5, T1))
        W, b, Gamma, alignment = jax.device_get(pretrain(own, 300.0))
        keys = jax.random.split(key, 20)
        aligned, free = (np.mean([pretrain(k, T1)[3] for k in keys]) for T1 in (300.0, 0.0))
        assert aligned > 0.6 and free == pytest.approx(0.4, abs=0.12)
        law = Tasks(5, 2, HE2, 0.1).law()
        batch = jax.device_get(prompts.sample(tests, law, jnp.arange(3), length=5, dtype=jnp.float64))
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1.5, rtol=1e-6)
    assert np.abs(b).max() <= 2 and found["alignment"][0] == pytest.approx(alignment)
    phi = lambda x: np.maximum(x @ W.T + b, 0)
    rbf = lambda A, B: np.exp(-((A[:, None] - B) ** 2).sum(2) / 10)
    for k, N in enumerate(TINY.lengths):
        errors = {name: [] for name in ("attention", "linear", "known", "ridge")}
        absolute = []
        for X, y, f in zip(batch.X, batch.y, batch.f, strict=True):
            context, labels, queries, target = X[:N], y[:N], X[4:], f[4:]
            errors["attention"].append(phi(queries) @ Gamma @ (labels @ phi(context) / N) - target)
            absolute.append(np.abs(errors["attention"][-1][2] + target - y[4:]) - 0.1)
            for name, r in (("linear", 5), ("known", 2)):
                weights = prompt_only.linear_optimum(context[:, :r], queries[:, :r], links.HE2, 0.1).weights
                errors[name].append(labels @ weights - target)
            alpha = np.linalg.solve(rbf(context, context) + 0.01 * np.eye(N), labels)
            errors["ridge"].append(rbf(queries, context) @ alpha - target)
        square = lambda name, axis=None: np.mean(np.square(errors[name]), axis=axis)  # noqa: B023
        np.testing.assert_allclose(found["attention"][0, k], square("attention", (0, 2)), rtol=1e-9)
        for name in ("linear", "known", "ridge"):
            assert found[name][k] == pytest.approx(square(name), rel=1e-9)
        assert found["absolute"][0, k] == pytest.approx(np.mean(absolute), abs=1e-9)
        clipped = np.maximum(np.abs(np.array(errors["attention"])[:, 2]) - 0.1, 0)
        assert found["clipped"][0, k] == pytest.approx(clipped.mean(), abs=1e-9)


def test_networks():
    """A known subspace makes the task easy; kernel regression is the same, whatever the network sees."""
    known, unknown = np.array([2.0, 2.0] + 6 * [0.0]), np.ones(8)
    with jax.enable_x64(True):
        measure = jax.jit(trained.networks)
        of = lambda scales: jax.device_get(
            measure(jax.random.key(2), Networks(Tasks(8, 2, HE2, 0.1), 64, scales, 800, 64, 128))
        )
        known, unknown = of(known), of(unknown)
    assert known["ridge"] == unknown["ridge"]
    assert known["network"] < 0.5 * unknown["network"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(0, 2), "number of prompts T must be at least 1, got 0"),
        (lambda: Pretraining((), np.ones(0)), r"dimensions must not be empty, got \(\)"),
        (
            lambda: Pretraining((8,), np.array([-1.0])),
            r"numbers of tasks T1 must be at least 0, one a dimension, got \[-1",
        ),
        (lambda: Pretraining((8, 9), np.ones(1)), r"numbers of tasks T1 must be at least 0, one a dimension, got \[1"),
        (lambda: Pretraining((1,), np.ones(1)), r"subspace must lie in \[1, d = 1\], got 2"),
        (lambda: Pretraining((8,), np.ones(1), lengths=(0,)), r"lengths must be at least 1, got \(0,\)"),
        (lambda: Networks(Tasks(4, 2, HE2, 0.1), 0, np.ones(4)), "n must be at least 1, got 0"),
        (lambda: Networks(Tasks(4, 2, HE2, 0.1), 9, np.ones(2)), "scales must be d = 4 in number, got 2"),
        (
            lambda: Decoders(((4, 3),), (2,), 4),
            "d must be at least 2 r = 6, so that there are directions outside, got 4",
        ),
        (lambda: Decoders(((4, 2),), (4,), 4), r"lengths must lie in \[1, examples - 1 = 3\], got \(4,\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
