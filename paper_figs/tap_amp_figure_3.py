"""Figure 3 of mean-field variational inference with the TAP free energy: state evolution."""

import sys

from theorysim.cli.script import main

QUESTION = (
    "Does state evolution predict error and reported variance of AMP step by step, whatever the law of the entries?"
)

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-3"]))
