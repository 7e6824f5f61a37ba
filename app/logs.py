"""Logs: one JSON object a line on standard error, with the instance and the request's id bound."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str, *, instance: str) -> None:
    """Set up the process's logging; the last call holds.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        instance: the process's identity, on every line.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(instance=instance)
