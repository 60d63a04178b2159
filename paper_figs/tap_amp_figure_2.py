"""Figure 2 of mean-field variational inference with the TAP free energy: phase diagram."""

import sys

from theorysim.cli.script import main

QUESTION = "At which delta and sigma is inference easy, hard and impossible?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-2"]))
