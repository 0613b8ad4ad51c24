"""`python -m kws_imagebind` is `kws-imagebind`."""

import sys

from kws_imagebind.cli import main

if __name__ == "__main__":
    sys.exit(main())
