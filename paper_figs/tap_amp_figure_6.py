"""Figure 6 of mean-field variational inference with the TAP free energy: optimisation."""

import sys

from theorysim.cli.script import main

QUESTION = "How fast do AMP and natural gradient descent converge, and what helps where AMP cycles?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-6"]))
