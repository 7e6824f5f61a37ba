"""`flask openapi FILE`: the document as clients know it, to be committed with a release."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click
import orjson
from flask import Response, current_app
from flask.cli import with_appcontext


@click.command("openapi", help="Write the OpenAPI document to FILE.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@with_appcontext
def openapi(file: Path) -> None:
    """Neither Redis nor the database is asked."""
    answer = cast(Response, current_app.view_functions["docs.openapi"]())
    document = orjson.loads(answer.get_data())
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    file.write_bytes(orjson.dumps(document, option=options))
