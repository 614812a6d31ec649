"""One test for a list of cases, which says all that are wrong at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import pytest


def for_each(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have a test, sync or async, run for each case, and fail with the list of the cases that fail.

    `names` are arguments of the test, separated by commas; a case is a tuple if there are several. Two
    decorators on a test give all pairs. Fixtures are the same for all cases.
    """
    parts = [name.strip() for name in names.split(",")]
    known = [dict(zip(parts, case if len(parts) > 1 else (case,), strict=True)) for case in cases]

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        def run(**options: Any) -> None:
            wrong: list[str] = []
            for case in known:
                with _noting(case, wrong):
                    test(**case, **options)
            assert not wrong, "\n".join(wrong)

        async def run_async(**options: Any) -> None:
            wrong: list[str] = []
            for case in known:
                with _noting(case, wrong):
                    await test(**case, **options)
            assert not wrong, "\n".join(wrong)

        found: Any = run_async if inspect.iscoroutinefunction(test) else run
        found.__name__, found.__doc__, found.__module__ = test.__name__, test.__doc__, test.__module__
        found.pytestmark = getattr(test, "pytestmark", [])
        signature = inspect.signature(test)
        left = [item for name, item in signature.parameters.items() if name not in parts]
        found.__signature__ = signature.replace(parameters=left)
        return found  # type: ignore[no-any-return]

    return decorate


@contextmanager
def _noting(case: dict[str, Any], wrong: list[str]) -> Generator[None]:
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - it is said which, and why
        wrong.append(f"{case}: {type(error).__name__}: {error}")
