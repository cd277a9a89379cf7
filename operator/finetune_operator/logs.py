"""The operator's log: one JSON document a line, or text. It holds no secrets, because the operator reads none.

Messages of pods and of the API server are logged too: in the text form they can't steer a terminal or begin a line.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from finetune_trainer.contract.text import harmless_event


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Send our own log and that of the libraries to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    rendering: list[structlog.typing.Processor] = [structlog.processors.JSONRenderer()]
    if form == "text":
        lines = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        rendering = [harmless_event, lines]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *rendering,
            ],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level.upper())
    for library in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.root.level))
    # kopf would log each try of each watch while the API server is away or a namespace is forbidden; we log that once
    # ourselves.
    logging.getLogger("kopf._cogs.clients").setLevel(logging.CRITICAL)
