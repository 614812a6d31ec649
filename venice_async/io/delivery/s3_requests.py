"""The requests to S3 that obstore has no words for, signed by hand: AWS Signature Version 4.

Obstore moves an object on condition, but drops what is said of it: its digest is known only once all parts
are there, so it is said when they are copied. And what a killed process leaves of an upload, which takes
space and costs money until somebody aborts it, is found with `ListMultipartUploads` alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import anyio
from attrs import field, frozen
from yarl import URL

from ...sansio.http.secrets import Secret

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_BEYOND: Final = (
    *("skip_signature", "request_payer", "server_side_encryption", "sse_kms_key_id"),
    *("sse_bucket_key_enabled", "sse_customer_key_base64"),
)
"""Settings that only obstore can follow."""
_TRIES: Final = 4
_PAUSE: Final = 0.2  # seconds before the second try, twice as long before each further one
_PATIENCE: Final = aiohttp.ClientTimeout(total=60.0)
_MINUTE: Final = timedelta(minutes=1)
_UPLOAD: Final = re.compile(r"<Upload>.*?</Upload>", re.DOTALL)
_TAKEN: Final = (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT)


class RefusedError(Exception):
    """S3 did not do what it was asked to; says the status and the code of the answer, nothing else."""


class AlreadyExistsError(Exception):
    """There is an object of that name."""


@frozen(kw_only=True)
class S3Requests:
    """Sends requests to one bucket.

    Attributes:
        root: the URL of the bucket, with a slash at its end.
        bucket: its name.
        region: where it is.
        key_id: who asks.
        secret: the key that requests are signed with.
        token: goes with temporary credentials.
    """

    root: str
    bucket: str
    region: str
    key_id: str = field(repr=False)
    secret: Secret = field(repr=False)
    token: Secret | None = field(default=None, repr=False)

    @classmethod
    async def of(cls, store: ObjectStore) -> Self | None:
        """Return what speaks for a store of S3; None for another, or one that we cannot speak for.

        The credentials of an instance, a container or a web identity are known to obstore alone, and what is
        set for encryption or payment only it can say.
        """
        from obstore import sign_async  # noqa: PLC0415 - who has a store has it loaded
        from obstore.store import S3Store  # noqa: PLC0415 - see above

        if not isinstance(store, S3Store) or store.credential_provider is not None:
            return None
        told = {str(name): str(value) for name, value in store.config.items()}

        def setting(*names: str) -> str:
            said = (told.get(name) or os.environ.get(f"AWS_{name.upper()}") for name in names)
            return next(filter(None, said), "")

        key_id, secret = setting("access_key_id"), setting("secret_access_key")
        token = setting("session_token", "token")
        if not key_id or not secret or any(map(setting, _BEYOND)):
            return None
        url = (await sign_async(store, "GET", "x", _MINUTE)).partition("?")[0]
        prefix = str(store.prefix or "").strip("/")
        return cls(
            root=url[: -len(quote(f"{prefix}/x" if prefix else "x"))],
            bucket=told["bucket"],
            region=setting("region", "default_region") or "us-east-1",
            key_id=key_id,
            secret=Secret(secret),
            token=Secret(token) if token else None,
        )

    async def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return the key and the id of each upload below `prefix` that is neither completed nor aborted."""
        said = await self._ask("GET", "", {"uploads": "", "prefix": prefix})
        found = [(_tag(item, "Key"), _tag(item, "UploadId")) for item in _UPLOAD.findall(said)]
        return [(key, upload) for key, upload in found if key.startswith(prefix)]

    async def abort(self, key: str, upload: str) -> None:
        """End an upload and remove its parts."""
        await self._ask("DELETE", key, {"uploadId": upload}, fine=(HTTPStatus.NOT_FOUND,))

    async def move(self, source: str, key: str, about: Mapping[str, str], *, overwrite: bool) -> None:
        """Give an object another name, and say `about` it what these headers do.

        Raises:
            AlreadyExistsError: there is one of that name, and it is not to be overwritten.
            RefusedError: S3 refuses; the object has its old name.
        """
        upload = _tag(await self._ask("POST", key, {"uploads": ""}, headers=about), "UploadId")
        try:
            copied = {"x-amz-copy-source": quote(f"/{self.bucket}/{source}")}
            part = {"partNumber": "1", "uploadId": upload}
            tag = _tag(await self._ask("PUT", key, part, headers=copied), "ETag")
            body = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
            await self._ask(
                "POST",
                key,
                {"uploadId": upload},
                headers={} if overwrite else {"if-none-match": "*"},
                body=f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>",
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.abort(key, upload)
            raise
        await self._ask("DELETE", source, {})

    async def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        body: str = "",
        fine: tuple[int, ...] = (),
    ) -> str:
        """Return the body of the answer; what fails for a moment is asked again."""
        trouble = "connect"
        async with aiohttp.ClientSession(timeout=_PATIENCE, trust_env=True) as session:
            for number in range(_TRIES):
                if number:
                    await anyio.sleep(_PAUSE * 2 ** (number - 1))
                now = datetime.now(UTC)
                url, signed = self._signed(now, method, key, query=query, headers=headers or {}, body=body)
                try:
                    async with session.request(method, url, headers=signed, data=body or None) as response:
                        status, said = response.status, await response.text()
                except (aiohttp.ClientError, TimeoutError):
                    continue
                if (status < HTTPStatus.BAD_REQUEST and "<Error>" not in said) or status in fine:
                    return said
                trouble = f"status: {status} <Code>{_tag(said, 'Code')}</Code>"
                if status in _TAKEN or _tag(said, "Code") == "NoSuchUpload":
                    raise AlreadyExistsError(trouble)
                if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    break
        raise RefusedError(trouble)

    def _signed(
        self,
        now: datetime,
        method: str,
        key: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: str,
    ) -> tuple[URL, dict[str, str]]:
        """Return the URL and the headers of a request, signed at that moment."""
        at, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        place = urlsplit(self.root + quote(key))
        asked = urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
        digest = hashlib.sha256(body.encode()).hexdigest()
        known = {**headers, "host": place.netloc, "x-amz-date": at, "x-amz-content-sha256": digest}
        if self.token is not None:
            known["x-amz-security-token"] = self.token.reveal()
        names = ";".join(sorted(known))
        lines = "".join(f"{name}:{known[name]}\n" for name in sorted(known))
        canonical = f"{method}\n{place.path}\n{asked}\n{lines}\n{names}\n{digest}"
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        signing = f"AWS4{self.secret.reveal()}".encode()
        for part in (*scope.split("/"), text):
            signing = hmac.digest(signing, part.encode(), "sha256")
        known["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, SignedHeaders={names},"
            f" Signature={signing.hex()}"
        )
        return URL(f"{place.scheme}://{place.netloc}{place.path}?{asked}", encoded=True), known


def _tag(text: str, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return unescape(found[1]) if found else ""
