"""Many machines: submit jobs anywhere, deliver clips anywhere, lose any machine.

It needs the extra `fleet`, and a Postgres that holds journal, orders and tasks. See `Fleet` and `Worker`.
"""

from ..errors import UsageError

try:
    from .fleet import Fleet, FleetJob, FleetWorker, Submitted, WaitingConsent
    from .worker import RESTART, Worker
except ModuleNotFoundError as _error:
    _msg = f"A fleet needs {_error.name}, which is not installed"
    raise UsageError(_msg, hint="Install it: pip install 'venice-async[fleet]'") from None

__all__ = ["RESTART", "Fleet", "FleetJob", "FleetWorker", "Submitted", "WaitingConsent", "Worker"]
