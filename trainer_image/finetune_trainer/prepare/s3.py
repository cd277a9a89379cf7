"""Files at `s3://bucket/key`, and patterns of them, through pyarrow's own client.

The credentials come from the environment, which `spec.dataset.credentialsSecretRef` fills; no message shows them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names
from finetune_trainer.prepare.patterns import fitting, fixed_folder, is_pattern
from finetune_trainer.prepare.remote import FAR_BYTES, changed, patiently, unavailable
from finetune_trainer.shared.connections import refusal, require_usable
from finetune_trainer.shared.failures import ExpectedError

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

T = TypeVar("T")
SCHEME = "s3://"
AWS = "https://s3.amazonaws.com"
KEY, SECRET, SESSION = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
OTHER_CREDENTIALS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_PROFILE",
)
"""Variables by which pyarrow finds credentials by itself. Without any of them it would ask a metadata server, which may not exist."""
SECRET_FIELD = "spec.dataset.credentialsSecretRef"
DENIED = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE|INVALID_(CLIENT_)?TOKEN|EXPIRED|(Invalid|Expired)Token|HTTP status 40[03]"
)
CONNECT_SECONDS, REQUEST_SECONDS = 10.0, 60.0


class S3File:
    """An object in a bucket, as it was looked up."""

    def __init__(self, name: str, size: int, version: str | None) -> None:
        self.name = name
        self.size: int | None = size
        self.version = version
        self._length = size
        self._stream: Any = None

    def chunks(self, start: int) -> Iterator[bytes]:
        while start < self._length:
            part = self.read(start, min(FAR_BYTES, self._length - start))
            yield part
            start += len(part)

    def read(self, start: int, length: int) -> bytes:
        if self._stream is None:
            stream = _asked(self.name, lambda: filesystem().open_input_file(self.name.removeprefix(SCHEME)))
            if _version(stream) != self.version:
                raise changed(self.name)
            self._stream = stream
        part = bytes(_asked(self.name, lambda: self._stream.read_at(length, start)))
        if not part:
            raise unavailable(self.name, f"it ended after {start} of {self._length} bytes")
        return part


def find(address: str) -> list[S3File]:
    """Return the object at an address, or all whose keys fit a pattern, by name."""
    matches = patiently(lambda: _fitting(address)) if is_pattern(address) else [address]
    return [patiently(partial(_looked_up, match)) for match in matches]


@cache
def filesystem() -> S3FileSystem:
    """Make the client, for the credentials, the endpoint and the region of the environment."""
    from pyarrow.fs import S3FileSystem

    require_usable()
    variable = os.environ.get
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "request_timeout": REQUEST_SECONDS}
    if variable(KEY) and variable(SECRET):
        options |= {
            "access_key": variable(KEY),
            "secret_key": variable(SECRET),
            "session_token": variable(SESSION) or None,
        }
    elif not any(variable(name) for name in OTHER_CREDENTIALS):
        options["anonymous"] = True
    endpoint = variable("AWS_ENDPOINT_URL_S3") or variable("AWS_ENDPOINT_URL")
    region = variable("AWS_REGION") or variable("AWS_DEFAULT_REGION")
    options["region"] = region or ("us-east-1" if endpoint else None)
    proxy = _proxy(endpoint or AWS)
    return S3FileSystem(endpoint_override=endpoint or None, proxy_options=proxy, **options)


def _proxy(endpoint: str) -> str | None:
    """Return the proxy of the environment (HTTPS_PROXY, NO_PROXY): pyarrow does not look for it."""
    parts = urlsplit(endpoint)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def _looked_up(address: str) -> S3File:
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not bucket or not key:
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"{address} names no file: write s3://bucket/key.")
    try:
        stream = _asked(address, lambda: filesystem().open_input_file(f"{bucket}/{key}"))
    except FileNotFoundError:
        raise ExpectedError(Reason.FILE_NOT_FOUND, _missing(address, bucket, key)) from None
    with stream:
        return S3File(address, int(_asked(address, stream.size)), _version(stream))


def _version(stream: Any) -> str | None:
    metadata = stream.metadata() or {}
    value = metadata.get(b"ETag") or metadata.get("ETag")
    return value.decode() if isinstance(value, bytes) else value


def _fitting(pattern: str) -> list[str]:
    path = pattern.removeprefix(SCHEME)
    folder = fixed_folder(path)
    if not folder:
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"{pattern}: a pattern is for keys; name the bucket.")
    keys = _listed(pattern, folder, recursive="/" in path[len(folder) + 1 :])
    matches = fitting(path, (key for key in keys if not key.endswith("/")))
    if not matches:
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"No file fits {pattern}. {_holds(folder, keys)}")
    return [SCHEME + key for key in matches]


def _listed(name: str, folder: str, *, recursive: bool) -> list[str]:
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(folder, recursive=recursive)
    try:
        entries = _asked(name, lambda: filesystem().get_file_info(selector))
    except FileNotFoundError:
        return []
    return sorted(f"{entry.path}/" if entry.type == FileType.Directory else str(entry.path) for entry in entries)


def _missing(address: str, bucket: str, key: str) -> str:
    folder = "/".join([bucket, *key.split("/")[:-1]])
    try:
        return f"{address} does not exist. {_holds(folder, _listed(address, folder, recursive=False))}"
    except ExpectedError as error:  # who may read an object may not be allowed to list others
        if error.reason is Reason.FILE_NOT_FOUND:
            return str(error)
        return f"{address} does not exist."


def _holds(folder: str, keys: list[str]) -> str:
    return f"{SCHEME}{folder}/ holds {names([key[len(folder) + 1 :] for key in keys]) or 'nothing'}."


def _asked(name: str, request: Callable[[], T]) -> T:
    """Make a request. Raise ExpectedError, in the user's words, where it is refused."""
    try:
        return request()
    except OSError as error:
        if error.errno is not None:
            raise
        message = _without_secrets(" ".join(str(error).split()).removesuffix("."))
    raise _refused(name, message)


def _refused(name: str, message: str) -> ExpectedError:
    if "NO_SUCH_BUCKET" in message:
        bucket = name.removeprefix(SCHEME).partition("/")[0]
        return ExpectedError(Reason.FILE_NOT_FOUND, f"{name}: there is no bucket {bucket!r}.")
    if DENIED.search(message):
        who = (
            f"The credentials of {SECRET_FIELD} may not read it, or are not valid (any more)."
            if os.environ.get(KEY)
            else f"Without credentials it may not be read: name a Secret with {KEY} and {SECRET} in {SECRET_FIELD}."
        )
        return ExpectedError(Reason.ACCESS_DENIED, f"Access to {name} was refused. {who} ({message})")
    if "HTTP status 301" in message or "PermanentRedirect" in message:
        return ExpectedError(
            Reason.FILE_NOT_FOUND, f"{name} is in another region: set AWS_REGION in the Secret of {SECRET_FIELD}."
        )
    hopeless = refusal(message, name)
    return ExpectedError(*hopeless) if hopeless is not None else unavailable(name, message)


def _without_secrets(text: str) -> str:
    for variable in (SECRET, SESSION, KEY):
        value = os.environ.get(variable)
        if value:
            text = text.replace(value, f"<{variable}>")
    return text
