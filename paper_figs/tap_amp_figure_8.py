"""Figure 8 of mean-field variational inference with the TAP free energy: sparse recovery and Z2 synchronisation."""

import sys

from theorysim.cli.script import main

QUESTION = "Does message passing reach what is known of sparse recovery and of Z2 synchronisation?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-8"]))
