"""Natural gradient descent on the TAP free energy: its linear rate, its largest step, and where message passing cycles."""

import sys

from theorysim.cli.script import main

QUESTION = "At which rate does natural gradient descent converge, and does it where message passing does not?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=["tap-amp.ngd-rate", "tap-amp.amp-vs-ngd"], figures=["tap-amp.figure-6"]))
