"""The bytes of a file, wherever they lie and however they are packed: opened again and again, read in a stream."""

from __future__ import annotations

import io
import lzma
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.shared.failures import ExpectedError

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
"""How a packed file's name ends -> what packed it."""
BUFFER_BYTES = 1 << 20
HEAD_BYTES = 4096
WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body|\?xml|!--)", re.IGNORECASE)
"""How pages begin, and what a storage says in XML in place of a file."""


@dataclass(frozen=True)
class Content:
    """A file of rows."""

    name: str
    """The name in messages: the pods' path, or the address without what is secret in it."""
    open_stored: Callable[[], BinaryIO]
    """The function that opens its bytes as they are stored; each call begins anew."""
    path: Path | None = None
    """The path of a file of this machine; None for one that is not."""
    far: bool = False
    """Whether it is read over the network, so that what would read all of it beforehand is left out."""

    @property
    def kind(self) -> str:
        """How the name of the unpacked file ends: `.csv`."""
        return kind_of(self.name)

    @property
    def compression(self) -> str | None:
        return COMPRESSIONS.get(PurePosixPath(self.name).suffix.lower())

    def open(self) -> BinaryIO:
        """Open the unpacked bytes. Damaged ones raise ExpectedError while they are read."""
        stored = self.open_stored()
        return io.BufferedReader(_Unpacked(self, stored), BUFFER_BYTES) if self.compression else stored

    def web_page(self, head: bytes | None = None) -> str | None:
        """Say that a page was saved in place of the data; `head`: how the file begins, where that is known."""
        if head is None:
            with self.open_stored() as file:
                head = file.read(HEAD_BYTES)
        if not WEB_PAGE.match(head):
            return None
        return (
            f"{self.name} is a web page: what a server shows to who is not signed in, or may not read the file. Look at it, and "
            "fetch the file itself, by the link behind `download` or `raw`"
        )

    def for_arrow(self) -> Any:
        """Return what pyarrow reads the unpacked bytes from: by itself where it can."""
        return str(self.path) if self.path is not None and not self.compression else self.open()


def local(path: Path, name: str) -> Content:
    """Return a file of this machine."""
    return Content(name, lambda: path.open("rb"), path)


def kind_of(name: str) -> str:
    """Return how a file's name ends but for what packed it: `.csv` of `train.csv.gz`."""
    pure = PurePosixPath(name)
    return (PurePosixPath(pure.stem) if pure.suffix.lower() in COMPRESSIONS else pure).suffix.lower()


class _Unpacked(io.RawIOBase):
    def __init__(self, content: Content, stored: BinaryIO) -> None:
        self._content, self._stored = content, stored
        how = str(content.compression)
        self._stream: Any = (
            lzma.LZMAFile(stored) if how == "xz" else pa.CompressedInputStream(stored, how)  # noqa: SIM115
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowInvalid) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, or the network's
                raise
            if page := self._content.web_page():
                raise ExpectedError(Reason.DATA_INVALID, f"{page}.") from error
            message = " ".join(str(error).split()).rstrip(".")
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{self._content.name} cannot be unpacked as {self._content.compression}: {message}. "
                "Was it copied as a whole?",
            ) from error
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._stored.close()
        super().close()
