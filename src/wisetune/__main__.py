"""``python -m wisetune``."""

import sys

from wisetune.cli import main

sys.exit(main())
