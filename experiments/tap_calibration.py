"""Calibration of the marginals of TAP and of naive mean field: transforms, reliability and coverage."""

import sys

from theorysim.cli.script import main

QUESTION = "Do the marginals of TAP mean what they say, and by how much are those of naive mean field over-confident?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=["tap-amp.calibration", "tap-amp.mf-underdispersion"], figures=["tap-amp.figure-4"]))
