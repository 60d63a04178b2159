"""p steps of QAOA: the rate at which the overlap approaches its limit law, with and without noise."""

import sys

from theorysim.cli.script import main

QUESTION = "At which rate does the overlap after p steps approach the sine-Gaussian law, and what is it before?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=["qaoa-spiked-tensor.sine-gaussian-p"], figures=["qaoa-spiked-tensor.figure-5"]))
