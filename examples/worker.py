"""A worker for a chat bot: messages become clips, replies show progress, and SIGTERM drains it.

echo "A gondola at dawn" | python examples/worker.py MODEL clips tickets.jsonl

The chat is stdin and stdout, one message a line; replace it by your bot's library. On SIGTERM the worker
queues nothing more, waits a moment for paid jobs, and writes the tickets of the rest to a file. The next
worker resumes them. (A journal would also survive `kill -9`.)
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from pathlib import Path

from venice_async import (
    Downloading,
    Failed,
    Saved,
    State,
    Stopped,
    Succeeded,
    Ticket,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
    Waiting,
)

CONCURRENCY = 20  # messages at the same time
GRACE = 2.0  # seconds that paid jobs get on SIGTERM


class Chat:
    """A stand-in for a bot's library."""

    def __init__(self) -> None:
        """Create the queue of messages."""
        self.messages: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        self._said: dict[str, str] = {}

    async def listen(self) -> None:
        """Put messages into the queue until the chat ends. A full queue slows the chat down."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        async for line in reader:
            if message := line.decode(errors="replace").strip():
                await self.messages.put(message)
        await self.messages.join()

    def edit(self, reply: str, text: str) -> None:
        """Change a reply if its text is new, because chats limit edits."""
        if self._said.get(reply) != text:
            self._said[reply] = text
            print(f"{reply}: {text}", flush=True)


def describe(state: State) -> str:
    """Return the state of a job in words for a person."""
    match state:
        case Waiting(progress=progress):
            return "generating" if progress is None else f"generating, {progress:.0%}"
        case Downloading() | Saved():
            return "downloading"
        case Succeeded(video=video):
            return f"done, {video.path}"
        case Failed(error=error):
            return f"sorry, {error}"
        case Stopped():
            return "interrupted, to be resumed"
        case _:
            return "queueing"


async def follow(job: VideoJob, chat: Chat, reply: str) -> None:
    """Update a reply until its job has ended."""
    async for state in job.updates():
        chat.edit(reply, describe(state))


async def answer(chat: Chat, venice: VeniceClient, model: str, folder: str) -> None:
    """Turn messages into clips, one after the other. Several of these tasks run at the same time."""
    while True:
        prompt = await chat.messages.get()
        try:
            request = VideoRequest(model=model, prompt=prompt, duration="5s", aspect_ratio="16:9")
            await follow(venice.generate(request, to=folder, max_usd=2.00), chat, prompt)
        except VeniceError as error:  # a prompt that is too long, or the worker is stopping
            chat.edit(prompt, f"sorry, {error}")
        finally:
            chat.messages.task_done()


def read_tickets(path: Path) -> list[Ticket]:
    """Return the tickets that the last worker wrote."""
    return [Ticket.from_json(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_tickets(path: Path, tickets: list[Ticket]) -> None:
    """Write tickets for the next worker. Only the owner may read the file: tickets contain private links."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{ticket.to_json()}\n" for ticket in tickets)


async def main(model: str, folder: str, left: str) -> None:
    """Work until the chat ends or SIGTERM arrives."""
    chat, stop = Chat(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with VeniceClient() as venice, asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(chat, venice, model, folder)) for _ in range(CONCURRENCY)]
        for ticket in read_tickets(Path(left)):
            group.create_task(follow(venice.resume(ticket, to=folder), chat, ticket.queue_id))
        listening, stopped = group.create_task(chat.listen()), group.create_task(stop.wait())
        await asyncio.wait({listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        write_tickets(Path(left), await venice.drain(GRACE if stop.is_set() else math.inf))
        for task in (*tasks, listening, stopped):
            task.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    Path(sys.argv[2]).mkdir(mode=0o700, exist_ok=True)
    asyncio.run(main(*sys.argv[1:]))
