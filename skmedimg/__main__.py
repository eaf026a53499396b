"""``python -m skmedimg`` is the command ``skmedimg``."""

import sys

from skmedimg.cli import main

if __name__ == "__main__":
    sys.exit(main())
