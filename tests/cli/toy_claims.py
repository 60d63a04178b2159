"""Small claims with known verdicts, as a user's file would define them."""

import jax

from theorysim.sweep import Experiment, setting
from theorysim.verify.claim import Check, Claim, Control, Design
from theorysim.verify.judges.equivalence import Equivalence


@setting
class Gaussian:
    """n normal variables of mean mu."""

    n: int = 10
    mu: float = 1.0


def mean(key, setting):
    return {"mean": setting.mu + jax.random.normal(key, (setting.n,)).mean()}


SAMPLE_MEAN = Experiment("toy/sample-mean", mean, operations=lambda setting: 10.0 * setting.n)
DESIGN = {
    "quick": Design((Gaussian(n=10), Gaussian(n=20)), seeds=400),
    "standard": Design((Gaussian(n=100),), seeds=1000),
    "paper": Design((Gaussian(n=1000),), seeds=10**5),
}


def claim(
    name, predict=lambda setting, _: setting.mu, broken=lambda setting, _: 1.5 * setting.mu, tolerance=0.1, **fields
):
    check = Check(
        name="mean",
        experiment=SAMPLE_MEAN,
        design=DESIGN,
        observable=lambda _, results: results["mean"],
        predict=predict,
        judge=Equivalence(tolerance=tolerance, kind="limit"),
        control=Control("mean times 1.5", predict=broken),
        size=lambda setting: setting.n,
    )
    return Claim(
        f"toy.{name}", "limit", "The mean of n normal variables is mu.", "folklore", "none", (check,), **fields
    )


CLAIMS = (
    claim("true"),
    claim("false", predict=lambda setting, _: 2 * setting.mu),
    claim("announced", predict=lambda setting, _: 2 * setting.mu, note="The factor is 1, not 2.", announced=True),
    claim("toothless", broken=lambda setting, _: setting.mu),
    claim("undecided", tolerance=1e-3),
)
