"""A real S3 server over sockets, which spoils what it is asked to, and what lies in its buckets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from moto.moto_server.werkzeug_app import (  # pyright: ignore[reportMissingTypeStubs]
    DomainDispatcherApplication,
    create_backend_app,
)
from moto.s3 import models
from werkzeug.serving import make_server

_MODELS: Any = models
_MODELS.S3_UPLOAD_PART_MIN_SIZE = 1  # parts of a test are small
CUT = "cut"
_ACCOUNT = "123456789012"  # moto's
KEY_ID, SECRET = "AKIDEXAMPLE", "the-secret-access-key"


@define(eq=False)
class S3Server:
    """A server of S3 within this process.

    Attributes:
        url: where it is.
        spoil: says for each request, by method, path and query, which status to answer instead, or `CUT` to
            close the connection; None to do what is asked.
        requests: those made, alike.
    """

    url: str = ""
    spoil: Callable[[str, str, str], int | str | None] = field(default=lambda *_: None)
    requests: list[tuple[str, str, str]] = field(factory=list[tuple[str, str, str]])
    _server: Any = None

    def start(self) -> None:
        application = DomainDispatcherApplication(create_backend_app)

        def spoiling(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            asked = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
            self.requests.append(asked)
            answer = self.spoil(*asked)
            if answer is not None:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if answer == CUT:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionResetError
            if answer is not None:
                start_response(f"{answer} Spoilt", [("content-type", "application/xml")])
                return [f"<Error><Code>Spoilt</Code><Message>{SECRET}</Message></Error>".encode()]
            answered: Iterable[bytes] = application(environ, start_response)
            return answered

        self._server = make_server("127.0.0.1", 0, spoiling, threaded=True)
        self._server.log_startup = lambda: None
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """Return what tells obstore, as any other client of S3, of this server."""
        return {
            "AWS_ENDPOINT": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def objects(self, bucket: str = "bucket") -> dict[str, bytes]:
        """Return what lies in a bucket, the temporary objects too."""
        return {name: key.value for name, key in self._bucket(bucket).keys.items()}

    def put(self, key: str, data: bytes, bucket: str = "bucket") -> None:
        """Put an object, as somebody else would."""
        models.s3_backends[_ACCOUNT]["aws"].put_object(bucket, key, data)

    def begin_upload(self, key: str, bucket: str = "bucket") -> None:
        """Begin an upload, and leave it at that."""
        backend: Any = models.s3_backends[_ACCOUNT]["aws"]
        backend.create_multipart_upload(bucket, key, {}, "STANDARD", {}, None, "", "")

    def headers(self, key: str, bucket: str = "bucket") -> dict[str, str]:
        """Return what is said of an object."""
        return dict(self._bucket(bucket).keys[key].metadata)

    def uploads(self, bucket: str = "bucket") -> list[str]:
        """Return the keys of uploads that were begun and neither completed nor aborted."""
        return [upload.key_name for upload in self._bucket(bucket).multiparts.values()]

    def empty(self) -> None:
        """Forget everything but one empty bucket, and spoil nothing."""
        backend = models.s3_backends[_ACCOUNT]["aws"]
        backend.reset()
        backend.create_bucket("bucket", "us-east-1")
        self.requests.clear()
        self.spoil = lambda *_: None

    def _bucket(self, name: str) -> Any:
        return models.s3_backends[_ACCOUNT]["aws"].buckets[name]
