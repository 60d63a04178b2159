"""The price of finite N as the temperature falls and the log-Sobolev constant collapses."""

import sys

from theorysim.cli.script import main

QUESTION = "Does the price of finite N rise as the log-Sobolev constant collapses?"
CLAIMS = ("mean-field-langevin.lsi-free",)

if __name__ == "__main__":
    sys.exit(main(QUESTION, claims=CLAIMS, figures=["mean-field-langevin.figure-3"]))
