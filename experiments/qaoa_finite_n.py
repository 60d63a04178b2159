"""One step of QAOA at finite n: the exact average over the noise against state vectors, and its approach to the limit."""

import sys

from theorysim.cli.script import main

QUESTION = "Do the closed forms for one step hold at every n, and how does the second moment approach its limit?"

if __name__ == "__main__":
    sys.exit(
        main(QUESTION, claims=["qaoa-spiked-tensor.finite-n-second-moment"], figures=["qaoa-spiked-tensor.figure-3"])
    )
