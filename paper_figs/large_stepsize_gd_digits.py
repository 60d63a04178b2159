"""Large-stepsize gradient descent on handwritten digits."""

import sys

from theorysim.cli.script import main

QUESTION = "Handwritten digits 3 and 8: risk at several stepsizes, with thresholds, switching times and bounds."

if __name__ == "__main__":
    sys.exit(main(QUESTION, figures=["large-stepsize-gd.digits"]))
