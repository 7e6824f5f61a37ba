"""TaskFlow: task management that answers alike from one process and from fifty."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask_openapi import OpenAPI

    from app.config import Settings

__version__ = "0.1.0"


def create_app(settings: Settings | None = None) -> OpenAPI:
    """Build the web application, its parts and its commands.

    Imports happen inside, so that `python -m app.scheduler` never loads Flask.

    Raises:
        ConfigError: for the first environment variable that is wrong or missing.
    """
    from app import api, bootstrap, cli
    from app.config import Settings

    container = bootstrap.build(settings or Settings.from_env())
    app = api.new_app()
    api.install(app, container)
    cli.register(app)
    return app
