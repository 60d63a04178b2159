"""Planted mistakes, audit records, looks at a growing budget, and family-wise control."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats

from theorysim.cli import main
from theorysim.errors import InputError
from theorysim.report import audit as report
from theorysim.sweep import Experiment, setting
from theorysim.verify import (
    ALPHA,
    PMF,
    Bound,
    Case,
    Check,
    CheckVerdict,
    Claim,
    Control,
    Design,
    Discrete,
    Equivalence,
    ExpectationBound,
    Identity,
    Judgement,
    Law,
    Limit,
    Ordering,
    ProbabilityBound,
    Rate,
    Session,
    Threshold,
    Verdict,
)
from theorysim.verify.audit import Count, audit, pooled, sources, tallies
from theorysim.verify.family import holm_statuses
from theorysim.verify.intervals import look_sizes
from theorysim.verify.plants import plants, read_pilot
from theorysim.verify.primitive import mean_test

TOY = str(Path(__file__).parent.parent / "cli" / "toy_claims.py")


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def values(seed: int) -> list[Case]:
    return [Case("s", 3 + 0.1 * normal(seed, 64, 2), 3.0)]


def sizes(seed: int, exponent: float) -> list[Case]:
    grid = np.array([64.0, 128, 256, 512, 1024])
    means = 2 * grid**exponent
    return [
        Case(f"n={n:g}", m * (1 + 0.02 * normal(seed + k, 64)), -0.5, n)
        for k, (n, m) in enumerate(zip(grid, means, strict=True))
    ]


def limits(seed: int) -> list[Case]:
    return [Case(f"n={n}", 2 + 3 / n + 0.02 * normal(seed + n, 64), 2.0, float(n)) for n in (50, 100, 200, 400)]


def steps(seed: int) -> list[Case]:
    return [Case(f"n={n}", 0.7 + 0.005 * normal(seed + n, 200), 0.7, float(n)) for n in (100, 400)]


def ratios(seed: int) -> list[Case]:
    return [Case("s", 0.5 * np.random.default_rng(seed).uniform(size=(9000, 1)), 1.0)]


# (judge, evidence of a seed, plants expected to be refuted and whether a plant of 3 % may pass)
TWINS = [
    (Equivalence(tolerance=0.05), values),
    (Equivalence(tolerance=0.1, absolute=True), values),
    (Identity(at_least=1), lambda seed: [Case("s", 3 + np.zeros((5, 2)), 3.0)]),
    (Limit(orders=(1.0,)), limits),
    (Rate(), lambda seed: sizes(seed, -0.5)),
    (Rate(side="upper"), lambda seed: sizes(seed, -0.5)),
    (Rate(side="lower"), lambda seed: sizes(seed, -0.5)),
    (Threshold(tolerance=0.05), steps),
    (Threshold(tolerance=0.03, absolute=True), steps),
    (Bound(), ratios),
    (Bound(sense=">="), lambda seed: [Case("s", 1 + c.observed, 1.0) for c in ratios(seed)]),
    (Bound(), lambda seed: [Case("s", -ratios(seed)[0].observed, 0.0)]),
    # equality: only a violation beyond rounding can show
    (Bound(), lambda seed: [Case("s", (a := np.random.default_rng(seed).uniform(1, 2, (9000, 1))), a)]),
    (Bound(exhaustive=True), lambda seed: [Case("s", np.array([[0.5, 0.9]]), 1.0)]),
    (ExpectationBound(), lambda seed: [Case("s", 0.8 + 0.1 * normal(seed, 64), 1.0)]),
    (ExpectationBound(sense=">=", tolerance=0.01, absolute=True), lambda seed: [Case("s", 0.8 + 0.01 * normal(seed, 64), 0.7)]),
    (ProbabilityBound(), lambda seed: [Case("s", normal(seed, 6000, 2), 1.9)]),
    (ProbabilityBound(sense=">="), lambda seed: [Case("s", normal(seed, 6000), -1.9)]),
    (Ordering(), lambda seed: [Case("s", normal(seed, 64) + 1, normal(seed + 1, 64))]),
    (Ordering(functional="win"), lambda seed: [Case("s", normal(seed, 64) + 2, 0.0)]),
    (Law(tolerance=0.06), lambda seed: [Case("s", 2 + 3 * normal(seed, 20_000), stats.norm(2, 3))]),
    (PMF(), lambda seed: [Case("s", np.random.default_rng(seed).binomial(6, 0.4, 20_000).astype(float), _binomial())]),
    (PMF(), lambda seed: [Case("s", np.random.default_rng(seed).multinomial(40, (p := _binomial().probabilities), 500), p)]),
]  # fmt: skip


def _binomial() -> Discrete:
    return Discrete(np.arange(7.0), stats.binom(6, 0.4).pmf(np.arange(7)))


@pytest.mark.parametrize(("judge", "evidence"), TWINS, ids=lambda part: type(part).__name__)
def test_plants_are_refuted_and_the_undistorted_twin_is_verified(judge, evidence) -> None:
    pilot = json.loads(json.dumps(read_pilot(judge, evidence(7))))
    cases = evidence(8)
    assert judge(cases).status == "verified"
    planted = plants(judge, pilot)
    assert any(plant.size == "stated" for plant in planted)
    for plant in planted:
        status = judge(plant.distort(cases)).status
        assert status == "refuted" if plant.wrong else status != "error", plant.name


def test_a_plant_reaches_what_is_recomputed_in_higher_precision() -> None:
    sides = np.array([0.5, 0.9])
    case = Case("s", sides[None], 1.0, replay=lambda index: (sides.astype(np.longdouble), np.ones(2, np.longdouble)))
    judge = Bound(exhaustive=True)
    (plant,) = plants(judge, read_pilot(judge, [case]))
    assert judge(plant.distort([case])).status == "refuted"


def test_plants_that_need_a_pilot_are_left_out_without() -> None:
    assert [plants(judge, None) for judge in (Bound(), ExpectationBound(), ProbabilityBound())] == [[], [], []]


@setting
class Gaussian:
    mu: float = 1.0


def draw(key, setting):
    return {"y": setting.mu + jax.random.normal(key)}


DRAW = Experiment("toy/draw", draw)


def claim(predicted: float, seeds: int = 2048, tolerance: float = 0.2) -> Claim:
    check = Check(
        "mean",
        DRAW,
        {"quick": Design((Gaussian(), Gaussian(mu=2.0)), seeds)},
        observable=lambda _, results: results["y"],
        predict=lambda setting, _: predicted * setting.mu,
        judge=Equivalence(tolerance=tolerance),
        control=Control("twice the mean", predict=lambda setting, _: 2 * setting.mu),
    )
    return Claim("toy.mean", "identity", "E y = mu", "folklore", "none", (check,))


def test_looks_stop_early_and_continue_the_same_data(tmp_path: Path) -> None:
    session = Session(adaptive=True, store=tmp_path)
    verdict = session.verify(claim(1.0))
    (check,) = verdict.checks
    assert verdict.status == "verified" and check.budget is not None and check.control_budget is not None
    assert check.control_budget.seeds == 256 and check.control_budget.look == 1  # a gross mistake shows at once
    assert check.budget.looks == 9 and 256 <= check.budget.seeds <= 4096
    design = claim(1.0).checks[0].design["quick"]
    whole = Session().measure(DRAW, dataclasses.replace(design, seeds=check.budget.seeds))
    for grown, at_once in zip(session.measure(DRAW, design, check.budget.seeds), whole, strict=True):
        np.testing.assert_array_equal(grown["y"], at_once["y"])
    # what the store holds is the same again
    assert Session(adaptive=True, store=tmp_path).verify(claim(1.0)).checks[0].judgement == check.judgement


def test_an_undecided_claim_goes_on_to_twice_its_design() -> None:
    (check,) = Session(adaptive=True).verify(claim(1.0, seeds=64, tolerance=0.01)).checks
    assert check.judgement.status == "inconclusive"
    assert check.budget is not None and (check.budget.seeds, check.budget.look) == (128, check.budget.looks)


def test_designs_of_few_seeds_are_not_looked_at() -> None:
    assert Session(adaptive=True).looks(Design((Gaussian(),), 15)) == (15,)


def test_mean_cost_of_looks() -> None:
    """sigma/tau = 5: .78 of the fixed design when true, .56 when off by 2 tau, 1/8 when off by 5 tau."""
    planned, runs = 936, 400
    sizes = look_sizes(planned)
    for off, cost, status in ((0.0, 0.78, "verified"), (2.0, 0.56, "refuted"), (5.0, 0.125, "refuted")):
        data = off + 5 * normal(3, runs, sizes[-1])
        used = np.full(runs, sizes[-1])
        decided = np.zeros(runs, bool)
        for seeds in sizes:
            test = mean_test(data[:, :seeds], -1.0, 1.0, ALPHA / len(sizes))
            p = test.p.verified if status == "verified" else test.p.refuted
            now = ~decided & (p <= ALPHA / len(sizes))
            used[now], decided[now] = seeds, True
        assert decided.mean() > 0.99
        assert used.mean() / planned == pytest.approx(cost, abs=0.03)


def test_an_audit_counts_and_finds_a_false_claim() -> None:
    records, pilots = [], {}
    for predicted in (1.0, 1.5):
        for seed in range(3):
            records.append(audit(Session(seed=seed), claim(predicted), pilots))
            pilots = {check["name"]: check["pilot"] for check in records[-1]["checks"]}
    true, false = pooled(records[:3]), pooled(records[3:])
    assert (true.verified.hits, true.controls.hits, true.wrong.hits) == (3, 3, 0)
    assert true.caught["gross"].hits == 3 and true.caught["small"].hits == 0
    assert true.wrong.trials == 3 * 3  # claim, control and x 2; x 1.1 lies within this wide tolerance
    assert false.refuted.hits == 3 and false.wrong.hits == 3
    assert any("wrong verdicts" in line for line in false.misses(standard=False))
    assert any("not refuted" in line for line in true.misses(standard=True))
    assert list(tallies(records)) == ["toy.mean"]
    assert "toy.mean" in "\n".join(report.lines(records)) and "all of kind identity" in report.markdown(
        records, "h", []
    )


def test_a_check_without_admissible_data_is_counted_for_nothing() -> None:
    known = claim(0.0)
    (check,) = known.checks
    nothing = dataclasses.replace(check, admissible=lambda setting, results: np.zeros(len(results["y"]), bool))
    session = Session()
    tally = tallies([audit(session, dataclasses.replace(known, checks=(nothing,)), {})])[known.id]
    assert (tally.inconclusive.hits, tally.controls.trials, tally.wrong.trials) == (1, 0, 1)
    assert sum(count.trials for count in tally.caught.values()) == 0


def test_limits_of_counts() -> None:
    assert Count(299, 299).limits[0] == pytest.approx(0.025 ** (1 / 299))
    assert Count().limits == (0.0, 1.0)


def test_the_command_resumes_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    records, table, whole = tmp_path / "r.jsonl", tmp_path / "t.md", tmp_path / "a.json"
    options = [TOY, "--records", str(records), "--json", str(whole), "--markdown", str(table)]
    assert main(["audit", *options, "--reseeds", "1"]) == 1  # one toy claim is false
    once = records.read_bytes()
    # a kill in the middle of a line
    records.write_bytes(once + b'{"claim": "toy.tr')
    assert main(["audit", *options, "--reseeds", "2"]) == 1
    twice = records.read_bytes()
    assert twice.startswith(once) and twice.count(b"\n") == 2 * once.count(b"\n")
    monkeypatch.setattr(Session, "verify", lambda *_: pytest.fail("nothing is left to compute"))
    assert main(["audit", *options, "--reseeds", "2"]) == 1
    out = capsys.readouterr().out
    assert "target missed: toy.false" in out and "toy.true" in table.read_text()
    told = json.loads(whole.read_text())
    assert len(told["records"]) == 10 and told["claims"]["toy.true"]["verified"]["hits"] == 2 and "jax" in told
    assert told["all"]["wrong verdicts"]["hits"] >= 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--reseeds", "0"], "--reseeds must be at least 1, got 0"),
        (["--reseeds", "x"], "--reseeds must be an integer, got 'x'"),
        (["--records", "{tmp}/none/r.jsonl"], "--records must be a file that can be written"),
        (["--records", "{tmp}/bad.jsonl"], "line 1 is none"),
    ],
)
def test_bad_input_of_the_audit(arguments, complaint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n")
    assert main(["audit", TOY, *(word.format(tmp=tmp_path) for word in arguments)]) == 2
    err = capsys.readouterr().err
    assert complaint in err and err.count("\n") == 1


def test_records_follow_the_sources(tmp_path: Path) -> None:
    from theorysim.cli.targets import claims_of_file

    text = Path(TOY).read_text()
    digests = []
    for name, changed in (("a", text), ("b", text.replace("1.5", "1.6"))):
        file = tmp_path / f"{name}.py"
        file.write_text(changed)
        digests.append(sources(claims_of_file(str(file))[0]))
    assert digests[0] != digests[1]


def test_a_record_is_of_the_right_form(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"claim": "a"}\n')
    with pytest.raises(InputError, match="line 1 is none"):
        report.read(tmp_path / "bad.jsonl")
    assert report.read(tmp_path / "none.jsonl") == []


def judged(p_verified: float | None, p_refuted: float | None, status="inconclusive") -> Verdict:
    judgement = Judgement(status, "limit", p_verified=p_verified, p_refuted=p_refuted, certified=p_verified is None)
    check = CheckVerdict("c", judgement, Judgement("refuted", "limit"), "something")
    return Verdict("a.b", "a", "limit", "quick", 0, (check,))


def test_holm_decides_what_the_fixed_level_leaves_open() -> None:
    report_of = [
        judged(1e-9, 1.0),
        judged(1e-3, 1.0),
        judged(1.0, 1e-3),
        judged(0.5, 0.5),
        judged(None, None, "verified"),
    ]
    assert holm_statuses(report_of) == ["verified", "verified", "refuted", "inconclusive", None]
    # among many open claims the same p-value decides nothing
    assert holm_statuses([judged(1e-3, 1.0), *[judged(0.5, 0.5)] * 100])[0] == "inconclusive"
    assert holm_statuses([]) == []
