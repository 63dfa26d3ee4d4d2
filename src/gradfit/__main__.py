"""``python -m gradfit`` is ``gradfit``."""

import sys

from gradfit.cli import main

if __name__ == "__main__":
    sys.exit(main())
