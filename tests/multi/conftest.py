"""Several processes over one database and one Valkey."""

from __future__ import annotations

import pytest

from app.db.migrate import upgrade
from tests.support.redis_servers import Valkey

Env = dict[str, str]
ROOMY = "1000000/minute"


@pytest.fixture
def shared_env(postgres_url: str, valkey: Valkey) -> Env:
    """The environment of every process: PostgreSQL, Valkey, limits that nobody meets."""
    upgrade(postgres_url)
    return {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": valkey.url,
        "RATE_LIMIT_READS": ROOMY,
        "RATE_LIMIT_WRITES": ROOMY,
        "RATE_LIMIT_LOGIN": ROOMY,
    }
