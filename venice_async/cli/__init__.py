"""The command line, `venice-async`: generate, quote, models, batch, jobs, resume, sandbox and more.

It needs the extra `cli` (cyclopts and rich): `pip install 'venice-async[cli]'`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_NEEDED = frozenset({"cyclopts", "rich"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `arguments` are those of the process by default.

    Nothing is raised for what went wrong: it is said on stderr, and the exit code tells it apart.
    """
    try:
        from .app import run  # noqa: PLC0415 - what it needs is in an extra
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.stderr.write("venice-async: the command line needs an extra: pip install 'venice-async[cli]'\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return 130
    return run(sys.argv[1:] if arguments is None else list(arguments))
