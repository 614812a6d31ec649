"""A worker behind a chat: messages become clips, replies show progress, SIGTERM hands over to the next one.

echo "A gondola at dawn" | python examples/worker.py MODEL clips tickets.jsonl

The chat is stdin and stdout, a message a line: put your bot's library in its place. On SIGTERM the worker
queues nothing more, gives paid jobs a moment, and leaves the tickets of the rest in a file of its owner's.
The next worker begins with them. (A journal would survive `kill -9`, too.)
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

AT_ONCE = 20  # messages under way
GRACE = 2.0  # seconds for paid jobs on SIGTERM


class Chat:
    """Stands for a bot's library."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.messages: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        self._said: dict[str, str] = {}

    async def listen(self) -> None:
        """Put messages into the queue until the chat ends; a full queue holds the chat back."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        async for line in reader:
            if message := line.decode(errors="replace").strip():
                await self.messages.put(message)
        await self.messages.join()

    def edit(self, reply: str, text: str) -> None:
        """Change a reply if there is something new to say: chats ration edits."""
        if self._said.get(reply) != text:
            self._said[reply] = text
            print(f"{reply}: {text}", flush=True)


def words(state: State) -> str:
    """Say where a job stands, to a person."""
    match state:
        case Waiting(progress=progress):
            return "at work" if progress is None else f"at work, {progress:.0%}"
        case Downloading() | Saved():
            return "almost there"
        case Succeeded(video=video):
            return f"done, {video.path}"
        case Failed(error=error):
            return f"sorry, {error}"
        case Stopped():
            return "back in a moment"
        case _:
            return "in line"


async def follow(job: VideoJob, chat: Chat, reply: str) -> None:
    """Keep a reply up to date until its job has ended."""
    async for state in job.updates():
        chat.edit(reply, words(state))


async def answer(chat: Chat, venice: VeniceClient, model: str, folder: str) -> None:
    """Turn one message after the other into a clip; several of these work side by side."""
    while True:
        prompt = await chat.messages.get()
        try:
            request = VideoRequest(model=model, prompt=prompt, duration="5s")
            await follow(venice.generate(request, to=folder, max_usd=2.00), chat, prompt)
        except VeniceError as error:  # a prompt that is too long, or the worker is stopping
            chat.edit(prompt, f"sorry, {error}")
        finally:
            chat.messages.task_done()


def taken(path: Path) -> list[Ticket]:
    """Return the tickets that the last worker left."""
    return [Ticket.from_json(line) for line in path.read_text().splitlines()] if path.exists() else []


def hand_over(path: Path, tickets: list[Ticket]) -> None:
    """Leave tickets to the next worker; they may hold private links, which are as good as passwords."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{ticket.to_json()}\n" for ticket in tickets)


async def main(model: str, folder: str, left: str) -> None:
    """Work until the chat ends or SIGTERM comes."""
    chat, stop = Chat(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with VeniceClient() as venice, asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer(chat, venice, model, folder)) for _ in range(AT_ONCE)]
        for ticket in taken(Path(left)):
            group.create_task(follow(venice.resume(ticket, to=folder), chat, ticket.queue_id))
        listening, stopped = group.create_task(chat.listen()), group.create_task(stop.wait())
        await asyncio.wait({listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        hand_over(Path(left), await venice.drain(GRACE if stop.is_set() else math.inf))
        for task in (*tasks, listening, stopped):
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
