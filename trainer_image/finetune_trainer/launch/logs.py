"""One line an event on standard output: for people in a terminal, JSON everywhere else."""

from __future__ import annotations

import sys

import structlog


def configure(node: int, attempt: int) -> None:
    """Set up structlog for this process; every line names node and attempt."""
    people = sys.stdout.isatty()
    renderer = structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
    )
    structlog.contextvars.bind_contextvars(node=node, attempt=attempt)
