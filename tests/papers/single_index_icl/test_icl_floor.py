"""Claims on the attention floor at the quick preset, and their measurements against reference values."""

import re

import jax
import numpy as np
import pytest
from reduced_designs import Reduction, assert_told_apart

from theorysim.errors import InputError
from theorysim.papers.single_index_icl import floor
from theorysim.papers.single_index_icl.floor import (
    Floors,
    HalfLengths,
    Members,
    Queries,
    design,
    gaussian_grid,
    signals,
)
from theorysim.papers.single_index_icl.pretraining import CORRELATED, HE2_PADDED, HE3_PADDED, moment_root
from theorysim.papers.single_index_icl.setting import HE2, HE4
from theorysim.papers.single_index_icl.theory import zonal
from theorysim.papers.single_index_icl.theory.links import HE2 as HE2_LINK
from theorysim.verify import Design, Session

CHECKS = [(claim, check) for claim in floor.CLAIMS for check in claim.checks]
SESSION = Session(preset="quick")


@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=[f"{c.id}: {k.name}" for c, k in CHECKS])
def test_every_check_has_presets_and_a_control(claim, check):
    assert set(check.design) == {"quick", "standard", "paper"}
    changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
    assert check.control.breaks and sum(change is not None for change in changed) == 1


CHEAP = (floor.ZONAL, floor.FLOORS, floor.HALF_LENGTHS, floor.ABSOLUTE)
EXACT = [(c, k) for c, k in CHECKS if k.experiment in CHEAP]


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), EXACT, ids=[f"{c.id}: {k.name}" for c, k in EXACT])
def test_quick_verifies_and_the_control_is_refuted(claim, check):
    judgement, control = SESSION.judge(check), SESSION.judge(check.broken())
    assert judgement.status == "verified", judgement
    assert control.status == "refuted", control


REDUCED = Reduction(seeds=16, settings=1)
# Means of squared errors need more prompts than a test has.
DRAWN = [
    (c, k)
    for c, k in CHECKS
    if k.experiment in (floor.MEMBERS, floor.QUERIES, floor.EXPLICIT) and k.name != "simulated risk"
]


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), DRAWN, ids=[f"{c.id}: {k.name}" for c, k in DRAWN])
def test_random_instances_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, REDUCED(check))


def measured(experiment, setting):
    """Results of one sample, by the programs of the claims."""
    return {name: values[0] for name, values in SESSION.measure(experiment, Design((setting,)))[0].items()}


@pytest.mark.parametrize(("r", "degree", "count"), [(2, 4, 5), (4, 5, 24), (4, 7, 48), (8, 7, 240)])
def test_designs_have_the_moments_of_the_sphere(r, degree, count):
    """In a direction that is none of theirs; the mean of every polynomial follows from all powers of all directions."""
    points = design(r, degree)
    assert points.shape == (count, r)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-14)
    directions = np.random.default_rng(0).standard_normal((20, r))
    projections = points @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    for power in range(degree + 1):
        np.testing.assert_allclose((projections**power).mean(0), zonal.sphere_moment(power, r), atol=1e-14)


def test_signals_make_the_prior_kernel():
    x = np.random.default_rng(1).standard_normal((7, 2))
    with jax.enable_x64(True):
        F = np.asarray(signals(moment_root(HE2), jax.numpy.asarray(x), design(2, 4)))
    np.testing.assert_allclose(F @ F.T, zonal.prior_kernel(x, x, HE2_LINK), atol=1e-13)


def test_grid_has_the_moments_of_the_gaussian():
    for r in (2, 4, 8):
        grid = gaussian_grid(r, 4)
        moments = [grid.weights.sum(), grid.weights @ grid.points[:, 0] ** 2, grid.weights @ grid.points[:, 0] ** 4]
        np.testing.assert_allclose(moments, [1, 1, 3], rtol=1e-10)


@pytest.mark.parametrize(
    ("link", "reference"),
    [
        (HE2_PADDED, [0.631386, 0.324473, 0.114339, 0.032051, 0.008268, 0.002084, 0.000522]),
        (HE3_PADDED, [0.689839, None, 0.160642, 0.050100, 0.013436, 0.003423, 0.000860]),
    ],
)
def test_operator_equation_at_reference_values(link, reference):
    """At N = 1, 4, 16, ..., 4096."""
    found = measured(floor.FLOORS, Floors(link, 2, 0.1, floor.LENGTHS))["risk"]
    known = np.array(reference, float)
    np.testing.assert_allclose(found[~np.isnan(known)], known[~np.isnan(known)], atol=6e-7)


def test_half_lengths_and_eigenvalues_at_reference_values():
    r = 2.0 ** np.arange(1, 8)
    second, fourth = (measured(floor.HALF_LENGTHS, HalfLengths(link, 0.1, r)) for link in (HE2_PADDED, HE4))
    np.testing.assert_allclose(second["half"][:6], [1.799, 8.406, 33.849, 132.516, 522.288, 2075.83], rtol=3e-4)
    np.testing.assert_allclose(fourth["half"][:6], [2.859, 22.758, 231.976, 3143.53, 46903.2, 724037], rtol=3e-4)
    at_2_and_8 = fourth["eigenvalues"][:, [0, 2]]
    np.testing.assert_allclose(
        at_2_and_8[[0, 2, 4]], [[0.375, 0.0375], [0.25, 0.0125], [0.0625, 0.00178571]], atol=5e-9
    )
    np.testing.assert_allclose(at_2_and_8[[1, 3]], 0, atol=1e-20)


def test_attention_is_at_its_floor_and_random_networks_are_above_it():
    """Of the random instances above, at N = 16: risk .1143 to a few per cent; descent lowers that of the networks."""
    explicit = SESSION.measure(floor.EXPLICIT, REDUCED.design(floor.FLOOR_ATTAINED.checks[1].design)["quick"])[0]
    assert explicit["risk"].mean() == pytest.approx(0.1143, rel=0.06)
    random = SESSION.measure(floor.MEMBERS, REDUCED.design(floor.ATTENTION_FLOOR.checks[0].design)["quick"])[0]
    assert (random["risk"][:, -1] < random["risk"][:, 0]).mean() > 0.9


def test_traceless_queries_at_the_reference_value():
    """lambda_22(4) = 1/12, and the trace part lambda_20(4) = 1/4, for all rotations."""
    found = SESSION.measure(floor.QUERIES, REDUCED.design(floor.CSQ.checks[0].design)["quick"])[0]["blocks"]
    np.testing.assert_allclose(found, [[0.25, 1 / 12]] * 16, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Floors(HE2, 3, 0.1, np.ones(1)), "dimension r must be 2, or 4 or 8 with degree at most 7, got r = 3"),
        (lambda: Floors(CORRELATED, 4, 0.1, np.ones(1)), "got r = 4, degree = 8"),
        (lambda: Floors(HE2, 2, 0.1, np.zeros(1)), "prompt lengths N must be at least 1, got [0.0]"),
        (lambda: floor.Explicit(HE2, 2, 0.1, 0), "prompt length N must be at least 1, got 0"),
        (lambda: Members(HE2, 0.1, m=0), "width m must be at least 1, got 0"),
        (lambda: HalfLengths(HE2, 0.1, np.ones(1)), "dimensions r must be at least 2, got [1.0]"),
        (lambda: Queries(2, 6), "(Q, d) must be (2, 8), (2, 4) or (3, 4), got (2, 6)"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()
