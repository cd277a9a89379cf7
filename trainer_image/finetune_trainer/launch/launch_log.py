"""The log of `launch` on standard output, one line an event: for people on a terminal, JSON elsewhere."""

from __future__ import annotations

import sys

import structlog

from finetune_trainer.contract.text import harmless_event


def configure(node: int, attempt: int) -> None:
    """Set up structlog for this process; every line names node and attempt."""
    people = sys.stdout.isatty()
    plain = structlog.dev.plain_traceback
    for_people = [harmless_event, structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
            structlog.processors.format_exc_info,
            *(for_people if people else [structlog.processors.JSONRenderer()]),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
    )
    structlog.contextvars.bind_contextvars(node=node, attempt=attempt)
