"""The names of clips: patterns such as `clips/{key}-{model}-{n:03}.mp4`, and URLs of objects in a store.

Of the values, such as a key, a prompt or an id, only letters and digits are kept, with `-` between them: so
neither a table nor the server can choose another folder. Two jobs never share a name: a pattern yields one
name after another, and the first that is free is taken.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from hashlib import sha256
from string import Formatter
from typing import Final

from attrs import evolve, field, frozen

from ..errors import UsageError
from ..requests import VideoRequest
from .converter import request_fields

_OF_REQUEST: Final = ("prompt", "seed", "duration", "resolution", "aspect_ratio")
FIELDS: Final = ("key", "model", "id", "n", "date", *_OF_REQUEST)
"""What a pattern may hold in braces, besides `tag.NAME`."""

_BATCH_KEY: Final = re.compile(r"[0-9a-f]{16}/(.*)#([0-9]+)", re.DOTALL)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LATE: Final = frozenset({"id", "n"})  # known once the job is queued, or once a name is free
_LONGEST: Final = 60  # bytes of one value: seven of them fit into a name
_LONGEST_NAME: Final = 200  # bytes of a name, to which a part file adds some
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"\.[A-Za-z0-9]{1,5}\Z")

SCHEMES: Final = ("s3", "s3a", "gs", "az", "memory", "file")
_WITHOUT_BUCKET: Final = ("memory", "file")

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)  # one letter is a drive of Windows
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,99}", re.ASCII)
_MOST: Final = 1024 - 120  # bytes of a key, of which a temporary name beside it needs some
_EXAMPLE: Final = "It looks like s3://bucket/clips/a.mp4"


def is_pattern(text: str) -> bool:
    """Tell whether a destination has fields in braces."""
    return "{" in text or "}" in text


def slug(text: str, longest: int = _LONGEST) -> str:
    """Return what of a text a file name can hold: letters and digits, with `-` between them."""
    whole = "-".join(re.findall(r"[^\W_]+(?:\.[^\W_]+)*", unicodedata.normalize("NFC", text)))
    short = _cut(whole, longest)
    if "-" in short and whole[len(short) : len(short) + 1] not in {"", "-"}:
        short = short.rpartition("-")[0]  # no half word
    return short.rstrip("-.")


@frozen(kw_only=True)
class Naming:
    """How the file of one job is called within its folder.

    Attributes:
        pattern: the file's name, with fields in braces.
        values: what the fields stand for, as far as it is known before the job is queued.
    """

    pattern: str
    values: Mapping[str, str] = field(factory=dict[str, str])

    def names(self, job_id: str, suffix: str = ".mp4") -> Iterator[str]:
        """Yield the names that the file of job `job_id` may have, the best first; they never end.

        They end with `suffix`, unless the pattern names another than that of a clip.
        """
        short = slug(job_id)
        if _UUID.fullmatch(job_id):
            short = job_id[:8]  # which tell the usual ids apart
        elif not short or short != job_id:
            short = f"{_cut(short, 20)}-{sha256(job_id.encode(errors='replace')).hexdigest()[:16]}"
        values = {**self.values, "id": short}
        counted = any(name == "n" for name, _ in _fields(self.pattern))
        number = 0
        while True:
            number += 1
            name = filled(self.pattern, {**values, "n": str(number)})
            stem, dot, kind = name.rpartition(".")
            if dot and kind.lower() in {"mp4", "mov"}:
                ending = suffix
            elif _SUFFIX.search(self.pattern):
                ending = f".{kind}"
            else:
                stem, ending = name, suffix  # a dot in a value, as in "take 1.5", begins no suffix
            stem = stem or values["id"] or "clip"
            tail = "" if counted or number == 1 else f"-{number}"
            yield f"{_cut(stem, _LONGEST_NAME - len(tail))}{tail}{ending}"

    @property
    def names_the_job(self) -> bool:
        """Whether the name holds the job's id, so that no other job has it."""
        return any(name == "id" for name, _ in _fields(self.pattern))


def known_values(
    request: VideoRequest | None, *, model: str, key: str | None, tags: Mapping[str, str], date: str
) -> dict[str, str]:
    """Return what the fields of a pattern stand for, without those that the job does not have."""
    asked = {} if request is None else request_fields(request)
    found: dict[str, object] = {name: asked.get(name) for name in _OF_REQUEST}
    found |= {"key": key, "model": model, "date": date}
    found |= {f"tag.{name}": value for name, value in tags.items()}
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int)}


def in_folder(values: Mapping[str, str]) -> Naming:
    """Return how a clip in a folder is called by default: by its prompt, else by its model."""
    return Naming(pattern="{prompt}-{id}" if "prompt" in values else "{model}-{id}", values=values)


def split_key(key: str) -> tuple[str, int]:
    """Return the caller's part of a job's key, and its number among those of a batch that are alike.

    A batch adds its folder to a key. It makes one where the caller gave none: then that part is empty.
    """
    found = _BATCH_KEY.fullmatch(key)
    return (key, 1) if found is None else ("" if _DIGEST.fullmatch(found[1]) else found[1], int(found[2]))


def own_key(key: str | None) -> str | None:
    """Return the caller's part of a job's key, with its number in a batch from the second on."""
    name, number = split_key(key or "")
    return f"{name}-{number}" if name and number > 1 else name or None


def checked_pattern(text: str) -> str:
    """Return a pattern that makes sense.

    Raises:
        UsageError: a brace is open, a field is none, or is not known early enough for the name of a folder.
    """
    folders, _, _ = text.rpartition("/")
    try:
        fields = list(_fields(text))
        late = {name for name, _ in _fields(folders)} & _LATE
    except ValueError:
        msg = f"The pattern {text!r} has a brace that is not closed"
        raise UsageError(msg, hint="Write {{ and }} for braces in a name") from None
    for name, form in fields:
        if name not in FIELDS and not name.startswith("tag."):
            close = get_close_matches(name, FIELDS, 1)
            meant = f" Did you mean {{{close[0]}}}?" if close else ""
            msg = f"A name has no field {{{name}}}.{meant}"
            raise UsageError(msg, hint=f"Fields are {', '.join(FIELDS)} and tag.NAME")
        if not re.fullmatch(r"\d{0,3}", form):
            msg = f"{{{name}:{form}}} makes no sense in a name"
            raise UsageError(
                msg,
                hint="After the colon goes a number: {n:03} has three digits, {prompt:20} at most 20 bytes",
            )
    if late:
        msg = f"{{{min(late)}}} is not known before the job is queued, so no folder can be called by it"
        raise UsageError(msg, hint="Use it in the file's name")
    return text


def with_number(pattern: str, number: int) -> str:
    """Return a pattern in which `{n}` stands for `number`."""
    parts: list[str] = []
    for literal, name, form, _ in Formatter().parse(pattern):
        parts.append(literal.replace("{", "{{").replace("}", "}}"))
        if name is not None:
            spec = f":{form}" if form else ""
            parts.append(format(number, form or "") if name == "n" else f"{{{name}{spec}}}")
    return "".join(parts)


def _fields(pattern: str) -> Iterator[tuple[str, str]]:
    for _, name, form, conversion in Formatter().parse(pattern):
        if name is not None:
            yield f"{name}!{conversion}" if conversion else name, form or ""


def filled(pattern: str, values: Mapping[str, str]) -> str:
    """Return a pattern with its fields filled in; one without a value goes with the separator before it."""
    text = ""
    gap = False
    for literal, name, form, _ in Formatter().parse(pattern):
        text += literal.lstrip("-_ ") if gap and not text else literal
        gap = False
        if name is None:
            continue
        value = values.get(name, "")
        if name == "n":
            text += format(int(value), form or "")
        elif found := slug(value, int(form or _LONGEST)):
            text += found
        else:
            text, gap = text.rstrip("-_ "), True
    return text


def _cut(text: str, longest: int) -> str:
    return text.encode(errors="ignore")[:longest].decode(errors="ignore")


@frozen
class ObjectUrl:
    """A place in an object store.

    Attributes:
        scheme: which kind of store it is.
        bucket: the bucket or container; empty for `memory` and `file`, which have none.
        key: the name of the object as it is, nothing in it escaped; a folder's is empty or ends with a slash.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def is_folder(self) -> bool:
        """Whether objects are to be named within it."""
        return not self.key or self.key.endswith("/")

    @property
    def folder(self) -> str:
        """The part of the key up to its last slash."""
        return self.key[: self.key.rfind("/") + 1]

    def named(self, name: str) -> ObjectUrl:
        """Return the object itself, or the one of that name if this is a folder."""
        return evolve(self, key=self.key + name) if self.is_folder else self

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def is_object_url(text: object) -> bool:
    """Tell whether a destination is a URL and not a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def is_collapsed_url(path: str) -> bool:
    """Tell whether a path was made of a URL, of which it leaves but one of the two slashes."""
    scheme, colon, rest = path.partition(":/")
    return bool(colon) and scheme in SCHEMES and not rest.startswith("/")


def parse_object_url(text: str) -> ObjectUrl:
    """Return the parts of a URL.

    Raises:
        UsageError: it is no place for a clip. The message shows nothing of it that may be a secret.
    """
    found = _URL.fullmatch(text)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", "")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        msg = f"Clips cannot be sent to {scheme}://: the schemes are {known}"
        raise UsageError(msg, hint=_EXAMPLE)
    bucket, _, key = rest.partition("/")
    if "@" in bucket or "?" in rest:
        msg = f"A {scheme}:// URL as a destination has no user, password or query"
        hint = "Credentials come from the environment, or with a store object: store=S3Store(...)"
        raise UsageError(msg, hint=hint)
    if scheme in _WITHOUT_BUCKET:
        if scheme == "memory" and bucket:
            bucket, key = "", rest
        if bucket not in {"", "localhost"}:
            msg = "A file:// URL has three slashes and an absolute path"
            raise UsageError(msg, hint="It looks like file:///srv/clips/a.mp4")
        bucket = ""
    elif not _BUCKET.fullmatch(bucket):
        msg = (
            f"The {scheme}:// URL names no bucket"
            if not bucket
            else f"{bucket!r} is not the name of a bucket"
        )
        raise UsageError(msg, hint=_EXAMPLE)
    check_object_key(key)
    return ObjectUrl(scheme, bucket, key)


def check_object_key(key: str) -> None:
    """Check that an object, or a folder of objects, can have that name.

    Raises:
        UsageError: it cannot.
    """
    parts = key.removesuffix("/").split("/") if key else []
    if any(part in {"", ".", ".."} for part in parts) or not key.isprintable():
        msg = f"{key!r} is not the name of an object: empty parts, '.', '..' and control characters are none"
        raise UsageError(msg, hint=_EXAMPLE)
    if len(key.encode(errors="surrogatepass")) > _MOST:
        msg = f"The name of an object has at most {_MOST} bytes"
        raise UsageError(msg, hint="Choose a shorter one")
