"""What gunicorn and `flask` load: `gunicorn wsgi:app`, `flask --app wsgi …`."""

from __future__ import annotations

import os
import sys

from app import create_app
from app.cli.attach import attached
from app.config import Settings
from app.errors import ConfigError, ScriptContractError

# The status with which a gunicorn worker says "do not start me again".
NOT_STARTABLE = 3

try:
    app = create_app(Settings.from_env(attached(os.environ)))
except (ConfigError, ScriptContractError) as error:
    print(f"TaskFlow cannot start: {error}", file=sys.stderr)
    sys.exit(NOT_STARTABLE)
