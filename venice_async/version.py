"""The version of the package, which every request names in its `user-agent`."""

from typing import Final

__version__: Final = "0.1.0"
