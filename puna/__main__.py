"""`python -m puna`: the command line, for an environment whose `puna` is not on the path."""

import sys

from puna.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
