"""A link between two machines that can go silent: a TCP proxy on loopback."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Link:
    """A forwarder of connections to a port of this machine. While silent it swallows all bytes and breaks no connection, as a cut cable."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._silent = False
        self._open: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            connection.close()

    def cut(self) -> None:
        """Cut the link: from now on nothing arrives, on old connections or new ones."""
        self._silent = True

    def mend(self) -> None:
        """Mend the link for new connections; bytes that were sent meanwhile are lost."""
        self._silent = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(near)
            if self._silent:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except ConnectionRefusedError:  # not there yet
                near.close()
                continue
            self._open.append(far)
            dead = threading.Event()  # a connection that was silent once stays silent
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, sink, dead), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._silent:
                    dead.set()
                if not dead.is_set():
                    sink.sendall(data)
            if not dead.is_set():
                sink.shutdown(socket.SHUT_WR)
