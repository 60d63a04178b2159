"""Figure 1 of mean-field variational inference with the TAP free energy: replica-symmetric potential."""

import sys

from theorysim.cli.script import main

QUESTION = "Where are the minima of the replica-symmetric potential in each phase, and which of them does AMP reach?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-1"]))
