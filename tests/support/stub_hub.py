"""A Hub that speaks the real HTTP protocol for downloads: models and datasets from folders, tokens, gates, bad days."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_token_of_the_test"
COMMITS = {"main": "a" * 40, "v1": "b" * 40}
"""Branch or tag -> commit, the same for all repositories."""


@dataclass
class Repository:
    folder: Path
    gated: bool = False
    private: bool = False


@dataclass
class StubHub:
    """What is on the Hub, and what was asked of it."""

    models: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    failing: int = 0
    """Requests to answer with 503 before it works again."""
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of each request."""
    tokens: set[str] = field(default_factory=set)
    """Tokens that were sent."""
    endpoint: str = ""

    def find(self, kind: str, name: str) -> Repository | None:
        return (self.datasets if kind == "datasets" else self.models).get(name)


@contextmanager
def stub_hub() -> Iterator[StubHub]:
    """A Hub on loopback, until the block ends."""
    hub = StubHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _files(repository: Repository) -> list[Path]:
    return sorted(path for path in repository.folder.rglob("*") if path.is_file())


def _handler(hub: StubHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._serve()

        def _serve(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            hub.tokens.add(token)
            if hub.failing > 0:
                hub.failing -= 1
                self._answer(503, {"error": "over capacity"})
                return
            if token and token != TOKEN:
                self._refuse(401, "", "Invalid credentials in Authorization header")
                return
            parts = path.strip("/").split("/")
            if parts[0] == "api":
                self._api(parts[1:], bool(token))
            else:
                kind = "datasets" if parts[0] == "datasets" else "models"
                self._file(kind, parts[1:] if kind == "datasets" else parts, bool(token))

        def _repository(self, kind: str, name: str, known: bool) -> Repository | None:
            found = hub.find(kind, name)
            if found is None or (found.private and not known):
                self._refuse(404 if known else 401, "RepoNotFound", "Repository not found")
                return None
            return found

        def _api(self, parts: list[str], known: bool) -> None:
            kind, name, rest = parts[0], "/".join(parts[1:3]), parts[3:]
            repository = self._repository(kind, name, known)
            if repository is None:
                return
            commit = self._commit(rest[1] if len(rest) > 1 else "main")
            if commit is None:
                return
            if rest and rest[0] in ("tree", "paths-info"):
                self._listing(repository, rest)
                return
            siblings = [{"rfilename": str(path.relative_to(repository.folder))} for path in _files(repository)]
            self._answer(
                200,
                {
                    "_id": "1",
                    "id": name,
                    "modelId": name,
                    "sha": commit,
                    "private": repository.private,
                    "gated": "manual" if repository.gated else False,
                    "disabled": False,
                    "tags": [],
                    "siblings": siblings,
                },
            )

        def _listing(self, repository: Repository, rest: list[str]) -> None:
            files = {str(path.relative_to(repository.folder)): path for path in _files(repository)}
            folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
            below = "/".join(rest[2:])
            if rest[0] == "paths-info":
                wanted = json.loads(self._body)["paths"]
                names = [name for name in (*folders, *files) if name in wanted]
            else:
                names = [name for name in (*folders, *files) if str(Path(name).parent) in (below or ".", below)]
                if "recursive=true" in self.path.lower():
                    names = [name for name in (*folders, *files) if name.startswith(below)]
            self._answer(200, [self._entry(name, files.get(name)) for name in sorted(names)])

        def _entry(self, name: str, path: Path | None) -> dict[str, Any]:
            if path is None:
                return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}
            return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}

        def _file(self, kind: str, parts: list[str], known: bool) -> None:
            name, rest = "/".join(parts[:2]), parts[2:]
            repository = self._repository(kind, name, known)
            if repository is None:
                return
            if repository.gated:
                self._refuse(403 if known else 401, "GatedRepo", "Access to this repository is restricted")
                return
            commit = self._commit(rest[1])
            if commit is None:
                return
            path = repository.folder / "/".join(rest[2:])
            if not path.is_file():
                self._refuse(404, "EntryNotFound", "Entry not found")
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{_etag(path)}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def _commit(self, revision: str) -> str | None:
            commit = revision if revision in COMMITS.values() else COMMITS.get(revision)
            if commit is None:
                self._refuse(404, "RevisionNotFound", "Revision not found")
            return commit

        def _refuse(self, status: int, code: str, message: str) -> None:
            self._answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})

        def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
