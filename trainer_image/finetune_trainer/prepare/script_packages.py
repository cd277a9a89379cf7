"""The Python packages that a script requires beyond those of the image: installed on the claim once, by pip.

What the image has stays as it is, and is not installed again: pip resolves the lines against it, with its versions as
constraints. Lines that don't go together with it are the user's to mend, with the resolver's own words.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import Env
from finetune_trainer.contract.text import printable
from finetune_trainer.prepare import s3, shared_folder, store
from finetune_trainer.prepare.fingerprint import sha256
from finetune_trainer.prepare.notes import Notes, say
from finetune_trainer.prepare.remote import tell_of_pause
from finetune_trainer.shared.addresses import shown
from finetune_trainer.shared.connections import refusal, require_usable
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.retry import Backoff, until_done
from finetune_trainer.shared.volume import Layout

FIELD = "spec.script.requirements"
CONTENT = "folder of packages"
FORMAT = 1
"""The version of the folder: raised with every change of this code that installs others from the same lines."""
BACKOFF = Backoff(first_seconds=2.0, most_seconds=15.0, tries=3)
"""The pauses before tries; pip makes each request several times by itself."""
LAST_LINES = 8
LINE_CHARACTERS = 300
INDEXES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
CHOICES = ("PIP_NO_INDEX", "PIP_PRE", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_PREFER_BINARY", "PIP_CONSTRAINT")
"""Variables of pip that decide what is found for a line, beside the addresses."""
OTHER_PLACE = frozenset(
    f"PIP_{name}"
    for name in (
        *("TARGET", "PREFIX", "ROOT", "USER", "REQUIREMENT", "DRY_RUN", "LOG", "QUIET", "NO_DEPS", "UPGRADE"),
        *("FORCE_REINSTALL", "IGNORE_INSTALLED", "REQUIRE_VIRTUALENV", "NO_COLOR"),
    )
)
"""Variables of pip that would let it install elsewhere, something else, or what the image has once more."""
SECRETS = (s3.KEY, s3.SECRET, s3.SESSION)
"""What the job reads its data with: a package that is built from source runs code of its own, and is not given it."""
VERSION = re.compile(r"[0-9][0-9A-Za-z.!+_-]*")
NOT_FETCHED = re.compile(r"Could not fetch URL (?P<address>\S+): (?P<why>.*) - skipping")
"""A line of pip's log: it goes on without the page, and says in the end that there is no such package."""
STATUS = re.compile(
    r"\b(?P<status>[45][0-9]{2}) (Client|Server) Error|HTTP error (?P<other>[45][0-9]{2}) while getting"
)
BROKEN = re.compile(
    r"connection error:|too many [0-9]+ error responses|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|"
    r"NameResolutionError|ProtocolError|IncompleteRead|Connection(ResetError| aborted| broken| reset)|Read timed out",
)
"""The words for a connection that was not made, or was cut."""
NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded|\[Errno (28|122)\]")
SIGNED_IN = re.compile(r"(?<=://)[^/\s@]+@")
QUERY = re.compile(r"(?P<address>\w+://[^\s?'\"]+)\?[^\s'\"]*")
ADVICE = re.compile(
    r"ERROR: ResolutionImpossible|To fix this you could|^[12]\. (loosen|remove)|^\[notice\]|This could take a while"
)
"""Lines of pip that tell a person at a terminal what to do, or to wait."""
CONFLICT = "conflicting dependencies"
NETWORK = "Is the index the right one (PIP_INDEX_URL in spec.env), and may pods reach it (network policy, proxy, DNS)?"


def installed(lines: Sequence[str], layout: Layout, notes: Notes) -> Path | None:
    """Install packages, or find them installed; returns the folder that Python imports them from.

    None where the image is not this one, so that nobody can know what it lacks. Raises ExpectedError.
    """
    elsewhere = os.environ.get(Env.OTHER_IMAGE)
    if elsewhere:
        notes.say(
            f"Whether {FIELD} can be installed beside what the image {elsewhere} has shows once the job is prepared."
        )
        return None
    if importlib.util.find_spec("pip") is None:
        raise ExpectedError(
            Reason.NOT_IN_IMAGE,
            f"In the training image there is no pip, which {FIELD} needs. Name an image that has it in spec.image, or one that "
            "has the packages themselves.",
        )
    image = _of_image()
    folder = _folder(lines, image, layout)

    def make(partial_folder: Path, _: object) -> None:
        with store.building(partial_folder):
            until_done(partial(_install, lines, image, partial_folder), BACKOFF, _seconds_to_wait, tell=tell_of_pause)
            store.seal(partial_folder, folder, {})

    shared_folder.made(folder, layout, notes, make, CONTENT)
    packages = _site_packages(folder)["purelib"]
    names = sorted(f"{package.name} {package.version}" for package in metadata.distributions(path=[str(packages)]))
    notes.messages.append(f"Packages of the script: {', '.join(names) or 'the image has all of them'}.")
    return packages


def are_there(packages: Path, lines: Sequence[str], layout: Layout, notes: Notes) -> bool:
    """Tell whether the packages that an earlier try has installed are what this image needs, every byte as it was installed."""
    folder = _folder(lines, _of_image(), layout)
    return packages == _site_packages(folder)["purelib"] and shared_folder.is_sound(folder, notes, CONTENT)


def _of_image() -> dict[str, str]:
    """Return the packages of the image by name, as Python finds them."""
    versions: dict[str, str] = {}
    for package in metadata.distributions():
        name, version = package.metadata["Name"], package.metadata["Version"]
        if name and version and VERSION.fullmatch(version):
            versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return versions


def _folder(lines: Sequence[str], image: Mapping[str, str], layout: Layout) -> Path:
    """Return the folder by what is installed there: lines, Python, machine, what the image has, and which index is asked for what."""
    indexes = {name: sorted(map(shown, os.environ[name].split())) for name in INDEXES if name in os.environ}
    choices = {name: os.environ[name] for name in CHOICES if name in os.environ}
    python = [platform.python_version(), sysconfig.get_platform(), *platform.libc_ver()]
    return layout.packages(sha256([FORMAT, list(lines), python, sorted(image.items()), indexes, choices]))


def _site_packages(folder: Path) -> dict[str, Path]:
    """Return where pip puts packages below a folder: those of Python alone, and those with compiled code."""
    scheme = sysconfig.get_preferred_scheme("prefix")
    names = sysconfig.get_paths(scheme, {"base": str(folder), "platbase": str(folder)})
    return {name: Path(names[name]) for name in ("purelib", "platlib")}


def _install(lines: Sequence[str], image: Mapping[str, str], folder: Path) -> None:
    """Let pip install into an empty folder. Raises ExpectedError, and OSError where the volume is full."""
    require_usable()
    scratch = folder / "tmp"
    for leftover in folder.iterdir():
        shutil.rmtree(leftover)
    scratch.mkdir()
    requirements, constraints, log = scratch / "requirements.txt", scratch / "constraints.txt", scratch / "log"
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in image.items()), encoding="utf-8")
    code, output = _run_pip(
        "install",
        *("--disable-pip-version-check", "--no-input", "--no-cache-dir", "--progress-bar=off", "--no-color"),
        *("--no-warn-script-location", f"--prefix={folder}", f"--log={log}"),
        *(["--require-hashes"] if any("--hash" in line for line in lines) else []),
        *(f"--constraint={constraints.name}", f"--requirement={requirements.name}"),
        scratch=scratch,
    )
    if code != 0:
        _fail(code, output, log.read_text(encoding="utf-8", errors="replace") if log.exists() else "", folder)
    shutil.rmtree(scratch)
    pure, compiled = _site_packages(folder).values()
    pure.mkdir(parents=True, exist_ok=True)
    if compiled != pure and compiled.is_dir():  # lib and lib64: a script gets one folder
        shutil.copytree(compiled, pure, dirs_exist_ok=True)
        shutil.rmtree(compiled)


def _run_pip(*arguments: str, scratch: Path) -> tuple[int, list[str]]:
    """Run pip, its lines in the log of the pod; returns its exit code, and the last lines."""
    kept: deque[str] = deque(maxlen=100)
    variables = {name: value for name, value in os.environ.items() if name not in (*OTHER_PLACE, *SECRETS)}
    process = subprocess.Popen(
        [sys.executable, "-m", "pip", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=scratch,
        env={**variables, "TMPDIR": str(scratch)},  # a wheel may be larger than what a pod may write to its own disk
    )
    with process:
        try:
            for line in process.stdout or ():
                text = _without_secrets(line.rstrip())
                if text:
                    kept.append(text)
                    say(text)
        except BaseException:
            process.kill()
            raise
    return process.returncode, list(kept)


def _fail(code: int, output: Sequence[str], log: str, folder: Path) -> NoReturn:
    """Raise what a run of pip that has failed means to the user."""
    if code == -signal.SIGKILL:
        raise MemoryError("pip was killed")
    text = "\n".join(output)
    if NO_ROOM.search(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    problem = _of_network(text, log)
    if problem is not None:
        raise problem
    last = "\n".join(line for line in output if not ADVICE.search(line.strip()))
    last = "\n".join(last.strip().splitlines()[-LAST_LINES:])
    why = " beside the packages of the training image" if CONFLICT in text else ""
    raise ExpectedError(Reason.REQUIREMENTS_INVALID, f"{FIELD} can't be installed{why}:\n{last}")


def _of_network(text: str, log: str) -> ExpectedError | None:
    """Say that an index could not be asked; None where it was, and the lines are to blame."""
    pages = [(match["address"], match["why"]) for match in NOT_FETCHED.finditer(log)]
    answers = [
        *pages,
        *(("the index", line) for line in text.splitlines() if STATUS.search(line) or BROKEN.search(line)),
    ]
    for address, why in answers:
        place, reason = shown(address), printable(_without_secrets(why), LINE_CHARACTERS)
        if (hopeless := refusal(why, place)) is not None:
            return ExpectedError(*hopeless)
        status = _status(why)
        if status in ("401", "403", "407"):
            return ExpectedError(
                Reason.ACCESS_DENIED,
                f"{FIELD} can't be installed: {place} refuses access ({reason}). If it wants a name and a password, put its "
                "address with them, https://NAME:PASSWORD@HOST/simple, into a Secret, and name that in spec.env: {name: "
                "PIP_INDEX_URL, valueFrom: {secretKeyRef: ...}}.",
            )
        if status.startswith("5") or status in ("408", "425", "429") or BROKEN.search(why):
            return ExpectedError(
                Reason.HUB_UNAVAILABLE,
                f"{FIELD} can't be installed now: {place} can't be reached ({reason}). {NETWORK}",
                cause=Cause.ERROR,
            )
    return None


def _status(why: str) -> str:
    match = STATUS.search(why)
    return "" if match is None else match["status"] or match["other"]


def _seconds_to_wait(error: Exception) -> float | None:
    return 0.0 if isinstance(error, ExpectedError) and error.cause is Cause.ERROR else None


def _without_secrets(text: str) -> str:
    """Take out of a line who signs in, and what an address was signed with."""
    return QUERY.sub(r"\g<address>", SIGNED_IN.sub("", text))
