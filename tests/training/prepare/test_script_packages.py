"""Packages that a script requires: installed once beside those of the image, and what keeps them from it in pip's own words."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.contract.run_config import Env
from finetune_trainer.prepare import script_packages
from finetune_trainer.prepare.notes import Notes
from finetune_trainer.prepare.prepare_command import attempt
from finetune_trainer.shared.volume import Layout
from tests.support.script_jobs import index_of, script_config, wheel
from tests.support.stub_web import stub_web


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages: `sparkle` needs `glitter` and, as the image, pydantic; `grump` needs a pydantic of long ago."""
    folder = tmp_path / "index"
    wheel(folder, "sparkle", "2.0", ("glitter>=1", "pydantic"))
    wheel(folder, "sparkle", "1.0", ("glitter>=1", "pydantic"))
    wheel(folder, "glitter", "1.5")
    wheel(folder, "grump", "1.0", ("pydantic<2",))
    for name, value in index_of(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(script_packages, "BACKOFF", replace(script_packages.BACKOFF, first_seconds=0.01, tries=2))
    return folder


def prepared(claim: Path, *lines: str, uid: str = "one") -> Prepared:
    outcome = attempt(script_config(claim, uid=uid, script={"requirements": lines}))
    assert isinstance(outcome, Prepared), outcome
    return outcome


def failure(claim: Path, *lines: str) -> Failure:
    outcome = attempt(script_config(claim, script={"requirements": lines}))
    assert isinstance(outcome, Failure), outcome
    return outcome


def folder_of(outcome: Prepared) -> Path:
    assert outcome.packages is not None
    return Path(outcome.packages)


def no_pip(*_: object, **__: object) -> tuple[int, list[str]]:
    raise AssertionError("pip was run again")


def test_packages_are_installed_once_beside_those_of_the_image(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = tmp_path / "claim"
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    first = prepared(claim, "sparkle<2")
    folder = folder_of(first)
    assert folder.is_relative_to(claim / ".finetune/packages")
    assert {path.name for path in folder.iterdir()} == {
        *("sparkle", "sparkle-1.0.dist-info", "glitter", "glitter-1.5.dist-info")
    }, "pydantic is in the image"
    assert "Packages of the script: glitter 1.5, sparkle 1.0." in first.messages
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); import sparkle, pydantic; print(sparkle.VERSION)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0"]
    assert sorted(path.name for path in (claim / ".finetune/packages").iterdir()) == [
        folder.relative_to(claim).parts[2]
    ]
    monkeypatch.setattr(script_packages, "_run_pip", no_pip)
    assert prepared(claim, "sparkle<2").packages == first.packages
    assert prepared(claim, "sparkle<2", uid="another job").packages == first.packages
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://elsewhere.example.com/simple")
    with pytest.raises(AssertionError, match="again"):
        script_packages.installed(("sparkle<2",), Layout(claim, "job", "uid"), Notes())


def test_a_package_of_the_image_is_not_installed_again(index: Path, tmp_path: Path) -> None:
    outcome = prepared(tmp_path / "claim", "pydantic>=2")
    assert list(folder_of(outcome).iterdir()) == []
    assert "Packages of the script: the image has all of them." in outcome.messages


def test_packages_that_were_damaged_are_installed_again(index: Path, tmp_path: Path) -> None:
    folder = folder_of(prepared(tmp_path / "claim", "glitter"))
    (folder / "glitter/__pycache__/__init__.cpython-311.pyc").write_bytes(b"compiled by another release of Python")
    assert not any("damaged" in message for message in prepared(tmp_path / "claim", "glitter").messages)
    (folder / "glitter/__init__.py").write_text("VERSION = 'evil'\n")
    again = prepared(tmp_path / "claim", "glitter")
    assert folder_of(again) == folder
    assert (folder / "glitter/__init__.py").read_text() == "VERSION = '1.5'\n"
    assert any("glitter/__init__.py has 17 bytes, 16 were written" in message for message in again.messages)


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (
            ("grump",),
            ("beside the packages of the training image", "grump 1.0 depends on pydantic<2", "(constraint) pydantic=="),
        ),
        (("pydantic<2",), ("beside the packages of the training image", "The user requested pydantic<2")),
        (("glitter==9",), ("No matching distribution found for glitter==9",)),
        (("nowhere-to-be-found",), ("No matching distribution found for nowhere-to-be-found",)),
        (("glitter @@ 1",), ("Invalid requirement: 'glitter @@ 1'",)),
        ((f"sparkle==2.0 --hash=sha256:{'0' * 64}",), ("hash",)),
    ],
)
def test_lines_that_cannot_be_installed_are_the_users(
    lines: tuple[str, ...], parts: tuple[str, ...], index: Path, tmp_path: Path
) -> None:
    refusal = failure(tmp_path / "claim", *lines)
    assert (refusal.reason, refusal.cause) == (Reason.REQUIREMENTS_INVALID, Cause.USER)
    for part in ("spec.script.requirements", *parts):
        assert part in refusal.message
    assert "To fix this you could" not in refusal.message
    assert len(refusal.message.splitlines()) <= script_packages.LAST_LINES + 1
    assert not list((tmp_path / "claim/.finetune/packages").iterdir()), "nothing half done is left"


def test_with_hashes_all_are_compared(index: Path, tmp_path: Path) -> None:
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in index.iterdir()}
    sparkle = f"sparkle==2.0 --hash=sha256:{hashes['sparkle-2.0-py3-none-any.whl']}"
    glitter = f"glitter==1.5 --hash=sha256:{hashes['glitter-1.5-py3-none-any.whl']}"
    assert "glitter" in failure(tmp_path / "claim", sparkle).message, "a package without a hash is not taken"
    assert (folder_of(prepared(tmp_path / "claim", sparkle, glitter)) / "sparkle").is_dir()


@pytest.mark.parametrize(
    ("status", "reason", "cause"),
    [(503, Reason.HUB_UNAVAILABLE, Cause.ERROR), (401, Reason.ACCESS_DENIED, Cause.USER)],
)
def test_an_index_that_does_not_answer_shows_no_password(
    status: int,
    reason: Reason,
    cause: Cause,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with stub_web() as web:
        web.statuses["/simple/sparkle/"] = status
        monkeypatch.setenv("PIP_INDEX_URL", web.endpoint.replace("://", "://me:pass-of-the-index@") + "/simple")
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_RETRIES", "0")
        refusal = failure(tmp_path / "claim", "sparkle")
    assert (refusal.reason, refusal.cause) == (reason, cause)
    assert f"{web.endpoint}/simple/sparkle/" in refusal.message
    assert "pass-of-the-index" not in refusal.message + "".join(capfd.readouterr())


def test_an_index_that_comes_back_is_asked_again(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web_page = '<!DOCTYPE html><html><body><a href="/glitter-1.5-py3-none-any.whl">glitter-1.5-py3-none-any.whl</a></body></html>'
    with stub_web() as web:
        web.kind = "text/html"
        web.files = {
            "/simple/glitter/": web_page.encode(),
            "/glitter-1.5-py3-none-any.whl": (index / "glitter-1.5-py3-none-any.whl").read_bytes(),
        }
        web.statuses["/simple/glitter/"] = 429
        monkeypatch.setenv("PIP_INDEX_URL", f"{web.endpoint}/simple")
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setattr(script_packages, "tell_of_pause", lambda *_: web.statuses.clear())
        assert (folder_of(prepared(tmp_path / "claim", "glitter")) / "glitter").is_dir()


def test_a_full_volume_is_named(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(script_packages, "_run_pip", lambda *_, **__: (1, [last]))
    assert failure(tmp_path / "claim", "glitter").reason is Reason.VOLUME_FULL


def test_an_image_without_pip(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refusal = failure(tmp_path / "claim", "glitter")
    assert (refusal.reason, refusal.cause) == (Reason.NOT_IN_IMAGE, Cause.USER)
    assert "no pip" in refusal.message


def test_another_image_is_not_judged_by_this_one(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(Env.OTHER_IMAGE, "us/trainer:1")
    outcome = prepared(tmp_path / "claim", "grump")
    assert outcome.packages is None
    assert any("us/trainer:1" in message for message in outcome.messages)
