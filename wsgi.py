"""What gunicorn and `flask` load: `gunicorn wsgi:app`, `flask --app wsgi …`."""

from __future__ import annotations

import sys

from app import create_app
from app.errors import ConfigError

# The status with which a gunicorn worker says "do not start me again".
NOT_STARTABLE = 3

try:
    app = create_app()
except ConfigError as error:
    print(f"taskflow: {error}", file=sys.stderr)
    sys.exit(NOT_STARTABLE)
