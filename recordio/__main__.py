"""`python -m recordio`: the command line."""

import sys

from recordio.tools.main import main

if __name__ == "__main__":
    sys.exit(main())
