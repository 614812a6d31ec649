"""One test for a list of cases, which says all that are wrong at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def for_each(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Have a test run for each case, and fail with the list of the cases that fail.

    `names` are arguments of the test, separated by commas; a case is a tuple if there are several. Two
    decorators on a test give all pairs.
    """
    parts = [name.strip() for name in names.split(",")]
    known = [*cases]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        def run(**options: Any) -> None:
            wrong: list[str] = []
            for case in known:
                arguments = dict(zip(parts, case if len(parts) > 1 else (case,), strict=True))
                try:
                    test(**arguments, **options)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it is said which, and why
                    wrong.append(f"{arguments}: {type(error).__name__}: {error}")
            assert not wrong, "\n".join(wrong)

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        signature = inspect.signature(test)
        left = [item for name, item in signature.parameters.items() if name not in parts]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run

    return decorate
