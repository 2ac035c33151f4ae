"""`puna` with ranks that wait for each other a short time only, as a process of its own."""

import sys

from puna.cli.main import main
from puna.parallel.links import Links

SILENCE_S = 8.0  # a busy machine may keep a rank waiting for seconds

if __name__ == "__main__":
    Links.__init__.__kwdefaults__["silence_s"] = SILENCE_S
    sys.exit(main(sys.argv[1:]))
