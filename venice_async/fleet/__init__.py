"""Many machines: submit jobs anywhere, deliver clips anywhere, lose any machine.

It needs the extra `fleet`, and a Postgres that holds journal, orders and tasks. See `Fleet` and `Worker`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ..errors import UsageError

if TYPE_CHECKING:
    from .fleet import Fleet, FleetJob
    from .orders import FleetWorker, Submitted, WaitingConsent
    from .worker import RESTART, Worker

__all__ = ["RESTART", "Fleet", "FleetJob", "FleetWorker", "Submitted", "WaitingConsent", "Worker"]

_MODULE_OF: Final = {
    "Fleet": "fleet",
    "FleetJob": "fleet",
    "FleetWorker": "orders",
    "RESTART": "worker",
    "Submitted": "orders",
    "WaitingConsent": "orders",
    "Worker": "worker",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    problem: UsageError
    try:
        value: object = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    except ModuleNotFoundError as error:
        msg = f"A fleet needs {error.name}, which is not installed"
        problem = UsageError(msg, hint="Install it: pip install 'venice-async[fleet]'")
    else:
        globals()[name] = value
        return value
    raise problem
