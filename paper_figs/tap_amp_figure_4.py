"""Figure 4 of mean-field variational inference with the TAP free energy: calibration."""

import sys

from theorysim.cli.script import main

QUESTION = "Are the marginals of TAP calibrated where naive mean field's are over-confident, in the hard phase too?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["tap-amp.figure-4"]))
