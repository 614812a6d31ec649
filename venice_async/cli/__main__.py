"""`python -m venice_async.cli` is `venice-async`, as `python -m venice_async` is."""

from __future__ import annotations

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
