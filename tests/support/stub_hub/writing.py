"""Answers of the Hub to writers: repositories, branches, LFS objects, commits."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from tests.support.stub_hub import card
from tests.support.stub_hub.access import may_write
from tests.support.stub_hub.blobs import Blob, is_lfs
from tests.support.stub_hub.messages import Answer, Refused, Request, answer
from tests.support.stub_hub.reading import commit_of
from tests.support.stub_hub.state import Account, Commit, Repository, StubHub


def create(hub: StubHub, request: Request, account: Account | None) -> Answer:
    """Answer `POST /api/repos/create`."""
    if account is None:
        raise Refused(401, "Invalid username or password.")
    wanted = request.json()
    name = f"{wanted.get('organization') or account.name}/{wanted['name']}"
    kind = f"{wanted.get('type') or 'model'}s"
    if not may_write(account, name):
        raise Refused(
            403, f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{name.split("/")[0]}"'
        )
    url = f"{request.origin}/{'datasets/' if kind == 'datasets' else ''}{name}"
    if name in hub.repositories(kind):
        raise Refused(409, f"You already created this {kind[:-1]} repo", url=url)
    hub.repositories(kind)[name] = Repository(private=wanted.get("visibility") == "private")
    return answer({"url": url, "name": name, "id": name})


def create_branch(repository: Repository, branch: str, request: Request) -> Answer:
    """Answer `POST /api/models/{id}/branch/{branch}`."""
    if branch in repository.branches:
        raise Refused(409, f"Reference already exists: refs/heads/{branch}")
    start = (request.json() if request.body else {}).get("startingPoint") or "main"
    repository.branches[branch] = commit_of(repository, start)
    return answer({"success": True})


def validate_yaml(request: Request) -> Answer:
    """Answer `POST /api/validate-yaml`."""
    errors = [{"message": problem} for problem in card.problems(request.json()["content"])]
    return answer({"errors": errors, "warnings": []}, 400 if errors else 200)


def preupload(repository: Repository, revision: str, request: Request) -> Answer:
    """Answer `POST /api/models/{id}/preupload/{revision}`: how each file is to be sent, and the blob that is at its path."""
    tree = repository.tree(commit_of(repository, revision))
    files: list[dict[str, Any]] = []
    gitignore = tree[".gitignore"].content.decode() if ".gitignore" in tree else ""
    ignored = request.json().get("gitIgnore", gitignore).split()
    for file in request.json()["files"]:
        path, blob = file["path"], tree.get(file["path"])
        mode = "lfs" if is_lfs(path, file["size"]) else "regular"
        known = {"oid": blob.sha256 if mode == "lfs" else blob.git_oid} if blob else {}
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": path in ignored, **known})
    return answer({"files": files, "commitOid": commit_of(repository, revision)})


def lfs_batch(repository: Repository, prefix: str, request: Request) -> Answer:
    """Answer `POST /{id}.git/info/lfs/objects/batch`: where to send the objects that are missing."""
    stored = repository.lfs.keys() | {blob.sha256 for blob in _newest(repository).values() if blob.lfs}
    objects = []
    for wanted in request.json()["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        entry: dict[str, Any] = {"oid": oid, "size": size}
        if oid not in stored:
            href = f"{request.origin}/lfs/{prefix}/{oid}"
            entry["actions"] = {
                "upload": {"href": href, "header": {}},
                "verify": {"href": f"{href}/verify", "header": {}},
            }
        objects.append(entry)
    return answer({"transfer": "basic", "objects": objects})


def lfs_put(repository: Repository, oid: str, request: Request) -> Answer:
    """Answer `PUT` of an LFS object; the address itself is the permission, as with signed ones."""
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise Refused(400, "XAmzContentSHA256Mismatch")
    repository.lfs[oid] = request.body
    return Answer(200, b"", {"ETag": f'"{oid}"'})


def lfs_verify(repository: Repository, oid: str, request: Request) -> Answer:
    """Answer `POST` after an upload."""
    if len(repository.lfs.get(oid, b"")) != request.json()["size"]:
        raise Refused(400, "The object was not uploaded completely")
    return answer({})


def commit(repository: Repository, name: str, kind: str, revision: str, request: Request) -> Answer:
    """Answer `POST /api/models/{id}/commit/{revision}`: lines of JSON, a header and operations."""
    if revision not in repository.branches:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    parent = repository.branches[revision]
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") not in (None, parent):
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    files = {path: blob.content for path, blob in repository.tree(parent).items()}
    for line in lines:
        _apply(line["key"], line["value"], repository, files)
    oid = _oid(parent, header["summary"], files, len(repository.commits))
    repository.commits.append(Commit(oid, header["summary"], files, parent, header.get("description") or ""))
    repository.branches[revision] = oid
    url = f"{request.origin}/{'datasets/' if kind == 'datasets' else ''}{name}/commit/{oid}"
    return answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _apply(operation: str, value: dict[str, Any], repository: Repository, files: dict[str, bytes]) -> None:
    match operation:
        case "header":
            return
        case "file":
            files[value["path"]] = base64.b64decode(value["content"])
        case "lfsFile":
            files[value["path"]] = _lfs_content(repository, value["oid"])
        case "deletedFile":
            if files.pop(value["path"], None) is None:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        case "deletedFolder":
            for path in [path for path in files if path.startswith(value["path"].rstrip("/") + "/")]:
                del files[path]
        case _:
            raise Refused(400, f"Unknown operation {operation}")


def _lfs_content(repository: Repository, oid: str) -> bytes:
    if oid in repository.lfs:
        return repository.lfs[oid]
    for blob in _newest(repository).values():
        if blob.sha256 == oid:
            return blob.content
    raise Refused(400, f"LFS pointer pointed to a file that does not exist: {oid}")


def _newest(repository: Repository) -> dict[str, Blob]:
    return {path: blob for oid in repository.branches.values() for path, blob in repository.tree(oid).items()}


def _oid(parent: str, message: str, files: dict[str, bytes], number: int) -> str:
    digest = hashlib.sha1(f"{parent} {message} {number}".encode(), usedforsecurity=False)
    for path, content in sorted(files.items()):
        digest.update(path.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()
