"""Connections to the outside that fail however long one waits: the certificate is not trusted, or the proxy asks for a password.

All clients that fetch or publish read SSL_CERT_FILE and SSL_CERT_DIR. A path that people set for older libraries
(REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE) is copied into these. This module imports none of the clients.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from functools import cache

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.text import printable
from finetune_trainer.shared.failures import ExpectedError

FILE, FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"
OLDER = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that requests, and so older libraries of Hugging Face, read."""
ERROR_CHARACTERS = 200
NOT_TRUSTED = re.compile(
    r"certificate.verify.failed|invalid peer certificate|SSL peer certificate|unknown.?issuer|unable to get local issuer",
    re.IGNORECASE,
)
"""Words of OpenSSL, rustls and curl: of such an error, libraries in between keep the words alone."""
PROXY_REFUSES = re.compile(r"407 Proxy Auth|HTTP code 407 from proxy|response 407", re.IGNORECASE)
"""Words of httpx, curl and Xet."""
PASSES = re.compile(r"has expired|not yet valid|\bExpired\b|NotValidYet", re.IGNORECASE)
"""Words for errors that pass: the owner of the server renews its certificate, or a clock is set right."""


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set before any client is imported: the certificate authorities that are named for older libraries."""
    if variables.get(FILE) or variables.get(FOLDER):
        return {}
    path = next((variables[name] for name in OLDER if variables.get(name)), None)
    if path is None:
        return {}
    return {FOLDER if os.path.isdir(path) else FILE: path}


def require_usable() -> None:
    """Raise ExpectedError where a variable names a path without certificates: no server would be trusted."""
    for name in (FILE, FOLDER):
        if path := os.environ.get(name):
            _require_usable(name, path)


@cache
def _require_usable(name: str, path: str) -> None:
    try:
        if name == FOLDER:
            os.listdir(path)
        else:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        problem = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
        raise ExpectedError(
            Reason.CERTIFICATE_NOT_TRUSTED,
            f"{_named(name, path)} cannot be used: {problem}. Mount the file with your authority's certificate (PEM) there "
            "(spec.volumes), or correct the path in spec.env.",
        ) from error


def refusal(error: BaseException | str, target: str) -> tuple[Reason, str] | None:
    """Tell the user why asking `target` again will not help; None where the error may pass, or is about something else."""
    for text in (error,) if isinstance(error, str) else map(str, _chain(error)):
        message = " ".join(printable(text, ERROR_CHARACTERS).split()).rstrip(". ")
        if NOT_TRUSTED.search(text) and not PASSES.search(text):
            return Reason.CERTIFICATE_NOT_TRUSTED, _not_trusted(target, message)
        if PROXY_REFUSES.search(text):
            return (
                Reason.ACCESS_DENIED,
                f"The proxy lets nobody through to {target} without a name ({message}). Put them into its address, "
                "http://NAME:PASSWORD@HOST:PORT, in a Secret, and name that in spec.env: {name: HTTPS_PROXY, valueFrom: "
                "{secretKeyRef: ...}}.",
            )
    return None


def _not_trusted(target: str, message: str) -> str:
    """Say whose certificate is not trusted, and the two lines that mend it."""
    name = next((name for name in (FILE, FOLDER) if os.environ.get(name)), None)
    trusted = (
        f"{_named(name, os.environ[name])} does not hold the authority that signed it: add its certificate there."
        if name is not None
        else "Where a proxy of your company opens connections, mount its authority's certificate (spec.volumes) and name the "
        f"file in spec.env as {FILE}."
    )
    return f"The certificate of {target} is not trusted ({message}). {trusted}"


def _named(name: str, path: str) -> str:
    """Name the variable that the user set."""
    older = next((other for other in OLDER if os.environ.get(other) == path), None)
    return f"{older or name} ({path})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its causes and its contexts, each once: an error may be among its own causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
