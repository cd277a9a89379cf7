"""The table of the Hub's addresses, with the function that answers each."""

from __future__ import annotations

from tests.support.stub_hub import reading, writing
from tests.support.stub_hub.access import account_of, check_gate, readable, visible, whoami, writable
from tests.support.stub_hub.messages import Answer, Refused, Request, answer
from tests.support.stub_hub.state import Account, StubHub

KINDS = ("models", "datasets")


def respond(hub: StubHub, request: Request) -> Answer:
    """Return the answer to a request."""
    try:
        parts = list(request.parts)
        if parts[0] == "lfs":
            return _lfs_object(hub, parts[1:], request)
        account = account_of(hub, request)
        if parts[0] != "api":
            return _content(hub, parts, request, account)
        match parts[1:]:
            case ["whoami-v2"]:
                return answer(whoami(account))
            case ["repos", "create"]:
                return writing.create(hub, request, account)
            case ["validate-yaml"]:
                return writing.validate_yaml(request)
            case [("models" | "datasets") as kind]:
                return reading.listing(visible(hub, kind, account), request)
            case [("models" | "datasets") as kind, *rest]:
                return _repository(hub, kind, *_named(hub, kind, rest), request, account)
            case _:
                raise Refused(404, f"Cannot {request.method} {request.path}")
    except Refused as refused:
        return refused.answer


def _named(hub: StubHub, kind: str, parts: list[str]) -> tuple[str, list[str]]:
    """Return the repository's name, with an owner or without, and the parts after it."""
    owned = 1 if parts[0] in hub.repositories(kind) else 2
    return "/".join(parts[:owned]), parts[owned:]


def _repository(
    hub: StubHub, kind: str, name: str, rest: list[str], request: Request, account: Account | None
) -> Answer:
    match request.method, rest:
        case "POST", ["preupload", revision]:
            return writing.preupload(writable(hub, kind, name, account), revision, request)
        case "POST", ["commit", revision]:
            return writing.commit(writable(hub, kind, name, account), name, kind, revision, request)
        case "POST", ["branch", branch]:
            return writing.create_branch(writable(hub, kind, name, account), branch, request)
        case "POST", ["paths-info", revision]:
            return reading.paths_info(readable(hub, kind, name, account), revision, request)
    repository = readable(hub, kind, name, account)
    match request.method, rest:
        case "GET", []:
            return reading.information(repository, name, "main")
        case "GET", ["revision", revision]:
            return reading.information(repository, name, revision)
        case "GET", ["refs"]:
            return reading.references(repository)
        case "GET", ["commits", revision]:
            return reading.history(repository, revision)
        case "GET", ["tree", revision, *below]:
            return reading.tree(repository, revision, "/".join(below), request.query)
        case "GET", ["auth-check"]:
            check_gate(repository, name, account)
            return answer({})
        case _:
            raise Refused(404, f"Cannot {request.method} {request.path}")


def _content(hub: StubHub, parts: list[str], request: Request, account: Account | None) -> Answer:
    """Answer at addresses outside the API: files, and the entrance to LFS."""
    kind = "datasets" if parts[0] == "datasets" else "models"
    parts = parts[1:] if kind == "datasets" else parts
    if parts[-4:] == ["info", "lfs", "objects", "batch"] or parts[-3:] == ["lfs", "objects", "batch"]:
        name = "/".join(parts[:2]).removesuffix(".git")
        return writing.lfs_batch(writable(hub, kind, name, account), f"{kind}/{name}", request)
    name, rest = _named(hub, kind, parts)
    repository = readable(hub, kind, name, account)
    check_gate(repository, name, account)
    match rest:
        case ["resolve", revision, *path] if request.method in ("HEAD", "GET"):
            return reading.file(repository, revision, "/".join(path), request)
        case _:
            raise Refused(404, f"Cannot {request.method} {request.path}")


def _lfs_object(hub: StubHub, parts: list[str], request: Request) -> Answer:
    kind, name, oid = parts[0], "/".join(parts[1:3]), parts[3]
    repository = hub.repositories(kind)[name]
    if request.method == "PUT":
        return writing.lfs_put(repository, oid, request)
    account = account_of(hub, request)
    return writing.lfs_verify(writable(hub, kind, name, account), oid, request)
