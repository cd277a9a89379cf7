"""Answers of the Hub to readers: information, listings, references, files."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs

from tests.support.serving import part_of
from tests.support.stub_hub.blobs import Blob
from tests.support.stub_hub.card import metadata
from tests.support.stub_hub.messages import Answer, Refused, Request, answer
from tests.support.stub_hub.state import Repository


def commit_of(repository: Repository, revision: str) -> str:
    """Return the commit of an existing revision."""
    commit = repository.commit_of(revision)
    if commit is None:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def information(repository: Repository, name: str, revision: str) -> Answer:
    """Answer `GET /api/models/{id}` and `/api/models/{id}/revision/{revision}`."""
    commit = commit_of(repository, revision)
    files = repository.tree(commit)
    card = metadata(files["README.md"].content.decode()) if "README.md" in files else {}
    tags = [*card.get("tags", []), *([f"license:{card['license']}"] if "license" in card else [])]
    body = {
        "_id": "1",
        "id": name,
        "modelId": name,
        "author": name.split("/")[0],
        "sha": commit,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": tags,
        "siblings": [{"rfilename": path} for path in files],
    }
    body |= {"cardData": card} if card else {}
    body |= {"pipeline_tag": card["pipeline_tag"]} if "pipeline_tag" in card else {}
    return answer(body)


def listing(names: list[str], request: Request) -> Answer:
    """Answer `GET /api/models?author=...`."""
    wanted = parse_qs(request.query).get("author", [""])[0]
    listed = [name for name in names if not wanted or name.split("/")[0] == wanted]
    return answer([{"_id": name, "id": name, "modelId": name, "tags": []} for name in listed])


def references(repository: Repository) -> Answer:
    """Answer `GET /api/models/{id}/refs`."""
    return answer(
        {
            "branches": [_reference("heads", *branch) for branch in repository.branches.items()],
            "tags": [_reference("tags", *tag) for tag in repository.tags.items()],
            "converts": [],
            "pullRequests": [],
        }
    )


def _reference(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def history(repository: Repository, revision: str) -> Answer:
    """Answer `GET /api/models/{id}/commits/{revision}`: newest first."""
    by_oid = {commit.oid: commit for commit in repository.commits}
    oid, commits = commit_of(repository, revision), []
    while oid in by_oid:
        commits.append((oid, by_oid[oid].message, by_oid[oid].description))
        oid = by_oid[oid].parent
    commits.append((oid, "initial commit", ""))
    return answer(
        [
            {
                "id": oid,
                "title": title,
                "message": text,
                "date": "2026-01-01T00:00:00.000Z",
                "authors": [{"user": "me"}],
            }
            for oid, title, text in commits
        ]
    )


def tree(repository: Repository, revision: str, below: str, query: str) -> Answer:
    """Answer `GET /api/models/{id}/tree/{revision}/{folder}`."""
    entries = _entries(repository, revision)
    if "recursive=true" in query.lower():
        chosen = [path for path in entries if not below or path.startswith(f"{below}/")]
    else:
        chosen = [path for path in entries if str(PurePosixPath(path).parent) == (below or ".")]
    if below and not chosen:
        raise Refused(404, f"{below} does not exist on {revision}", "EntryNotFound")
    return answer([_entry(path, entries[path]) for path in chosen])


def paths_info(repository: Repository, revision: str, request: Request) -> Answer:
    """Answer `POST /api/models/{id}/paths-info/{revision}`."""
    entries = _entries(repository, revision)
    wanted = request.json()["paths"]
    return answer([_entry(path, entries[path]) for path in entries if path in wanted])


def _entries(repository: Repository, revision: str) -> dict[str, Blob | None]:
    files = repository.tree(commit_of(repository, revision))
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents if str(parent) != "."}
    return dict(sorted({**dict.fromkeys(folders), **files}.items()))


def _entry(path: str, blob: Blob | None) -> dict[str, Any]:
    if blob is None:
        return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
    entry: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.git_oid}
    return entry | ({"lfs": {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}} if blob.lfs else {})


def file(repository: Repository, revision: str, path: str, request: Request) -> Answer:
    """Answer `HEAD` and `GET /{id}/resolve/{revision}/{path}`, a part of it where a range is asked for."""
    commit = commit_of(repository, revision)
    blob = repository.tree(commit).get(path)
    if blob is None:
        raise Refused(404, "Entry not found", "EntryNotFound")
    headers = {
        "X-Repo-Commit": commit,
        "ETag": f'"{blob.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if blob.lfs:
        headers |= {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
    part = part_of(blob.content, request.headers.get("range", ""))
    if part is None:
        return Answer(200, blob.content, headers)
    content, place = part
    if not content:
        raise Refused(416, f"Range not satisfiable: {blob.size} bytes")
    return Answer(206, content, headers | place)
