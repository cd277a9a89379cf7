"""The operator's log: a message of others is a part of one line, in both forms, and steers no terminal."""

from __future__ import annotations

import json
import subprocess
import sys

NASTY = "\x1b[2J\x1b]0;pwned\x07a\nforged line\x9b31m"
PROGRAM = """
import logging, sys, structlog
from finetune_operator.logs import configure
configure("info", sys.argv[1])
nasty = sys.argv[2]
structlog.get_logger().info("said " + nasty, message=nasty, many=[nasty], kind=type(nasty, (), {}))
logging.getLogger("library").warning("heard %s", nasty)
try:
    raise ValueError(nasty)
except ValueError:
    structlog.get_logger().exception("fell")
    logging.getLogger("library").exception("fell too")
"""


def log(form: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, form, NASTY]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr.rstrip("\n").split("\n")


def test_text_has_nothing_in_it_that_steers_a_terminal() -> None:
    lines = log("text")
    assert [line for line in lines if not line.isprintable()] == []
    assert "forged line" in lines[0], "on the line of the message"
    assert "heard" in lines[1]
    tracebacks = [line for line in lines if line.startswith("Traceback")]
    assert len(tracebacks) == 2


def test_json_is_a_document_a_line() -> None:
    lines = log("json")
    assert [line for line in lines if not line.isprintable()] == []
    structured, heard, *fallen = (json.loads(line) for line in lines)
    assert (structured["message"], structured["many"]) == (NASTY, [NASTY])
    assert heard["event"] == f"heard {NASTY}"
    assert all("ValueError" in entry["exception"] for entry in fallen)
