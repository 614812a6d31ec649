"""What you get back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given

from tests.cases import for_each
from tests.sansio.strategies import tickets
from venice_async import ConsentRequest, Ticket, UsageError, Video

URL = "https://a.example/cat.png"
TICKET = Ticket(model="m", queue_id="q1")


@given(tickets)
def test_a_ticket_equals_itself_after_json(ticket: Ticket) -> None:
    text = ticket.to_json()
    assert ticket == Ticket.from_json(text)
    assert ticket == Ticket.from_json(text.encode())
    assert hash(ticket) == hash(Ticket.from_json(text))


def test_a_ticket_is_json_with_its_link_and_without_what_is_absent() -> None:
    assert {"model": "m", "queue_id": "q1"} == json.loads(TICKET.to_json())
    private = Ticket(model="m", queue_id="q1", download_url=URL)
    assert {"model": "m", "queue_id": "q1", "download_url": URL} == json.loads(private.to_json())


def test_a_ticket_does_not_show_its_link() -> None:
    assert "Ticket(model='m', queue_id='q1')" == repr(Ticket(model="m", queue_id="q1", download_url=URL))


def test_a_ticket_of_a_later_version_can_be_read() -> None:
    assert TICKET == Ticket.from_json('{"model": "m", "queue_id": "q1", "download_url": null, "new": 1}')


@for_each(
    "text",
    [
        "",
        "q1",
        "[]",
        "7",
        "{}",
        '{"model": "m"}',
        '{"model": "m", "queue_id": 7}',
        '{"model": "m", "queue_id": "q1", "download_url": 7}',
        b"\xff",
        "[" * 100_000,
    ],
)
def test_what_is_no_ticket_is_told_without_showing_it(text: str | bytes) -> None:
    with pytest.raises(UsageError, match="not a ticket") as caught:
        Ticket.from_json(text)
    assert caught.value.__cause__ is None


def test_a_clip_stands_where_a_path_is_wanted() -> None:
    assert "clip.mp4" == os.fspath(Video(path=Path("clip.mp4"), size=1, sha256="00", ticket=TICKET))
    with pytest.raises(UsageError, match="has no path"):
        os.fspath(Video(path=None, size=1, sha256="00", ticket=TICKET))


def test_a_policy_is_told_by_its_flow_and_version() -> None:
    assert "f/v" == ConsentRequest(flow="f", policy_text="t", consent_version="v").policy
