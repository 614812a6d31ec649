"""Turns an image into a clip, and asks a person for consent when Venice wants it.

python examples/image_with_consent.py MODEL portrait.png clip.mp4

Nothing is charged before the person has agreed to all three statements.
"""

from __future__ import annotations

import asyncio
import sys

from venice_async import Consent, ConsentDeclinedError, ConsentRequest, Media, VeniceClient, VideoRequest


def ask(question: ConsentRequest) -> Consent | None:
    """Show the policy and ask. A plain function runs in a worker thread, so it may wait for a person."""
    print(question.policy_text)
    print(f"Faces in: {', '.join(question.face_media_roles)}. More: {question.docs_url}")
    statements = (
        "I accept the terms and the privacy policy above",
        "I have the legal right to use this media",
        "I know that the media may be screened",
    )
    answers = [input(f"{statement} [yes/no] ").strip().lower() == "yes" for statement in statements]
    if not all(answers):
        return None
    return Consent(terms_and_privacy=answers[0], legal_right=answers[1], screening=answers[2])


async def main(model: str, image: str, path: str) -> None:
    """Generate a clip from the image."""
    request = VideoRequest(
        model=model, prompt="The person smiles at the camera", duration="5s", image_url=Media(image)
    )
    async with VeniceClient(on_consent=ask) as venice:
        try:
            video = await venice.generate(request, to=path)
        except ConsentDeclinedError as error:
            print(error)
        else:
            print(f"Saved {video.path}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
