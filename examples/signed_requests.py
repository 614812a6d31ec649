"""Signs each request: for a gateway that asks for it, or for a wallet that pays instead of a key.

python examples/signed_requests.py SIGNING_KEY "A gondola at dawn" clip.mp4

It needs VENICE_API_KEY. To use a sandbox instead, run `venice-async sandbox` and set VENICE_BASE_URL.

A wallet signs in the same way: return {"sign-in-with-x": ...} with a new nonce for each request, and pass
send_key=False to the client, so that no key is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sys
from collections.abc import Callable

from venice_async import VeniceClient, VideoRequest


def signer(key: str) -> Callable[[str, str, bytes], dict[str, str]]:
    """Return what signs a request: its method, path and body, with a nonce that is used once."""

    def sign(method: str, path: str, body: bytes) -> dict[str, str]:
        nonce = secrets.token_hex(16)
        said = b"\n".join([method.encode(), path.encode(), nonce.encode(), hashlib.sha256(body).digest()])
        return {"x-nonce": nonce, "x-signature": hmac.new(key.encode(), said, "sha256").hexdigest()}

    return sign


async def main(key: str, prompt: str, path: str) -> None:
    """Generate a clip with signed requests."""
    async with VeniceClient(on_request=signer(key)) as venice:
        model = await venice.choose(await venice.models(), accepts={"text"}, max_usd=1.00)
        clip = model.shortest()
        request = VideoRequest(
            model=clip.model,
            prompt=prompt,
            duration=clip.duration,
            resolution=clip.resolution,
            aspect_ratio=clip.aspect_ratio,
        )
        video = await venice.generate(request, to=path, max_usd=1.00)
        print(f"{video.path}: {video.size:,} bytes by {model.id}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
