"""The constant factor that QAOA gains over tensor power iteration for weak signals."""

import sys

from theorysim.cli.script import main

QUESTION = "For which p and q does QAOA need a weaker signal than power iteration, and by which factor?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=["qaoa-spiked-tensor.enhancement"], figures=["qaoa-spiked-tensor.figure-6"]))
