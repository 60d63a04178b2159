"""Figure 7 of mean-field variational inference with the TAP free energy: curvature."""

import sys

from theorysim.cli.script import main

QUESTION = "How curved is the TAP free energy at AMP's limit, and how does that end at delta_alg?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-7"]))
