"""``python -m e2fashion`` is ``e2fashion``."""

import sys

from e2fashion.cli import main

sys.exit(main())
