"""The bytes of a file, wherever they lie and however they are compressed: opened again and again, read in a stream."""

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
"""Ending of a compressed file's name -> the compression."""
BUFFER_BYTES = 1 << 20
HEAD_BYTES = 4096
WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head|body|\?xml|!--)", re.IGNORECASE)
"""The beginning of a web page, or of the XML that a storage answers in place of a file."""


@dataclass(frozen=True)
class Content:
    """A file of rows."""

    name: str
    """The name in messages: the pods' path, or the address without what is secret in it."""
    open_stored: Callable[[], BinaryIO]
    """The function that opens the bytes as they are stored; each call begins at the first one."""
    path: Path | None = None
    """The path of a file of this machine; None for one that is not."""
    far: bool = False
    """Whether the file is read over the network, so that checks that read all of it beforehand are left out."""

    @property
    def kind(self) -> str:
        """The ending of the file's name, without that of a compression: `.csv`."""
        return kind_of(self.name)

    @property
    def compression(self) -> str | None:
        return COMPRESSIONS.get(PurePosixPath(self.name).suffix.lower())

    def open(self) -> BinaryIO:
        """Open the decompressed bytes. Reading damaged ones raises ExpectedError."""
        stored = self.open_stored()
        return io.BufferedReader(_Unpacked(self, stored), BUFFER_BYTES) if self.compression else stored

    def web_page(self, head: bytes | None = None) -> str | None:
        """Say that the file is a web page, saved in place of the data; None where it is none. `head`: its first bytes, if known."""
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
        """Return what pyarrow reads: the path of a local file that is not compressed, else the opened file."""
        return str(self.path) if self.path is not None and not self.compression else self.open()


def local(path: Path, name: str) -> Content:
    """Return the content of a file of this machine."""
    return Content(name, lambda: path.open("rb"), path)


def kind_of(name: str) -> str:
    """Return the ending of a file's name, without that of a compression: `.csv` of `train.csv.gz`."""
    pure = PurePosixPath(name)
    return (PurePosixPath(pure.stem) if pure.suffix.lower() in COMPRESSIONS else pure).suffix.lower()


class _Unpacked(io.RawIOBase):
    def __init__(self, content: Content, stored: BinaryIO) -> None:
        self._content, self._stored = content, stored
        compression = str(content.compression)
        self._stream: Any = (
            lzma.LZMAFile(stored) if compression == "xz" else pa.CompressedInputStream(stored, compression)  # noqa: SIM115
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, lzma.LZMAError, pa.ArrowInvalid) as error:
            if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, or of the network
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
