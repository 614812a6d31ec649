"""Downloads from a server that spoils most of its answers: the very clip, or an error and no file at all."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.downloads import JOBS, SPOILS, run_block

pytestmark = pytest.mark.anyio

BLOCKS = 12


async def test_three_hundred_spoilt_downloads_leave_no_bad_file_and_no_second_charge() -> None:
    found, spoilt = Counter[str](), Counter[str]()
    chance = random.Random(20)
    for _ in range(BLOCKS):
        await run_block(chance, JOBS, found, spoilt)
    assert {} == {name: count for name, count in found.items() if name.startswith("BAD") and count}
    assert BLOCKS * JOBS == sum(count for name, count in found.items() if not name.startswith("BAD"))
    assert BLOCKS * JOBS * 3 // 4 < found["whole"] < BLOCKS * JOBS
    assert {spoil.__name__ for spoil in SPOILS} == set(spoilt)
