"""The version, which the package and every request name."""

from typing import Final

VERSION: Final = "0.1.0"
