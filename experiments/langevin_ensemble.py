"""Merged networks: bias, variance, and up to how many of them merging pays."""

import sys

from theorysim.cli.script import main

QUESTION = "Up to how many networks does merging pay, and what is the best width for a budget?"
CLAIMS = ("mean-field-langevin.ensemble-tradeoff",)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=["mean-field-langevin.figure-6"]))
