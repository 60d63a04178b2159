"""Large stepsizes on real data: the bounds that hold for any data, on handwritten digits or a file of one's own."""

import sys

from theorysim.cli.script import main

QUESTION = "Do the bounds for any data hold on real data, and how fast does a large stepsize fit them?"

if __name__ == "__main__":
    sys.exit(main(QUESTION, on_data="large-stepsize-gd"))
