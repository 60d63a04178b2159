"""Figure 5 of mean-field variational inference with the TAP free energy: exact posterior."""

import sys

from theorysim.cli.script import main

QUESTION = "How close are the marginal means of TAP and of naive mean field to those of the exact posterior?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-5"]))
