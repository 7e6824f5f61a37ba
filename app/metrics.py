"""What the service counts, in one place: names, labels and units as Prometheus wants them.

Labels are of bounded sets only: never a key, an account or a raw path. One `Metrics` is built by
`bootstrap` and handed on; nothing registers itself at import.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as exposition
from prometheus_client.multiprocess import MultiProcessCollector

_REDIS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_LOCK_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600)
_RUN_SECONDS = (0.01, 0.1, 1, 10, 60, 300, 600)


class Metrics:
    """Every metric of one process.

    Args:
        multiprocess_folder: where gunicorn's workers share their figures, or None for one process.
    """

    def __init__(self, *, multiprocess_folder: str | None = None) -> None:
        self._multiprocess_folder = multiprocess_folder
        self.registry = CollectorRegistry()
        self._http()
        self._redis()
        self._coordination()
        self._cron()

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"taskflow_{name}", help_, labels, registry=self.registry)

    def _seconds(self, name: str, help_: str) -> Histogram:
        return Histogram(f"taskflow_{name}", help_, buckets=_LOCK_SECONDS, registry=self.registry)

    def _http(self) -> None:
        self.http_requests = self._counter(
            "http_requests_total", "Requests answered.", "method", "route", "status"
        )
        self.http_seconds = Histogram(
            "taskflow_http_request_seconds",
            "Time from the first hook to the answer.",
            ("method", "route"),
            registry=self.registry,
        )
        self.http_in_flight = Gauge(
            "taskflow_http_in_flight",
            "Requests being worked on.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

        self.db_retries = self._counter(
            "db_retries_total", "Units of work begun again after a deadlock or a busy database."
        )

    def _redis(self) -> None:
        self.redis_seconds = Histogram(
            "taskflow_redis_call_seconds",
            "Time of one pipeline, by purpose.",
            ("purpose",),
            buckets=_REDIS_SECONDS,
            registry=self.registry,
        )
        self.redis_failures = self._counter(
            "redis_failures_total", "Calls without a usable answer.", "purpose", "kind"
        )
        self.redis_breaker_open = Gauge(
            "taskflow_redis_breaker_open",
            "1 while the breaker refuses calls, 0.5 while it tries one.",
            ("purpose",),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.redis_scripts_reloaded = self._counter(
            "redis_scripts_reloaded_total", "Scripts a server had forgotten.", "script"
        )

    def _coordination(self) -> None:
        self.locks = self._counter(
            "lock_acquisitions_total", "Tries to lock: acquired, busy, or why not.", "outcome"
        )
        self.lock_wait_seconds = self._seconds("lock_wait_seconds", "From asking to having it.")
        self.lock_hold_seconds = self._seconds("lock_hold_seconds", "From having it to releasing.")
        self.locks_lost = self._counter("lock_lost_total", "Leases lost while they were in use.")
        self.locks_stuck = Gauge(
            "taskflow_lock_stuck",
            "Leases renewed here for more than twice their time.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.locks_unprotected = self._counter(
            "lock_unprotected_total", "Passages without a lock while Redis was away."
        )
        self.limits = self._counter(
            "rate_limit_decisions_total",
            "Requests at a limit: allowed, near, denied, shadow_denied, uncounted.",
            *("endpoint", "policy", "outcome"),
        )
        self.limits_here = self._counter(
            "rate_limit_decided_here_total",
            "Requests decided without Redis: by a denial remembered, or by this process's share.",
            *("endpoint", "by"),
        )
        self._cache()

    def _cache(self) -> None:
        self.cache = self._counter("cache_events_total", "What the cache did.", "event")
        self.cache_pending = Gauge(
            "taskflow_cache_invalidations_pending",
            "Changes in the outbox that Redis had not been told of at the last look.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.cache_checked = Gauge(
            "taskflow_cache_outbox_checked_timestamp_seconds",
            "When the last look at the outbox began that left nothing untold; 0 before the first.",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.cache_l1_bytes = Gauge(
            "taskflow_cache_l1_bytes",
            "What this process holds of the shared cache, keys and all.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def _cron(self) -> None:
        self.cron_runs = self._counter(
            "cron_runs_total", "Attempts ended.", "job", "instance", "outcome"
        )
        self.cron_missed = self._counter("cron_missed_slots_total", "Slots passed over.", "job")
        self.cron_slots_ahead = self._counter(
            "cron_slots_ahead_total",
            "Looks at a job whose newest slot lies in the database's future.",
            "job",
        )
        self.cron_fenced_out = self._counter(
            "cron_fence_rejections_total", "Batches refused under an older fence.", "job"
        )
        self.cron_rows = self._counter("cron_rows_total", "Rows changed by runs.", "job")
        self.cron_seconds = Histogram(
            "taskflow_cron_run_seconds",
            "Time of one run.",
            ("job",),
            buckets=_RUN_SECONDS,
            registry=self.registry,
        )
        self.cron_last_success = Gauge(
            "taskflow_cron_last_success_timestamp_seconds",
            "When a run last succeeded here.",
            ("job",),
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )

    def render(self) -> tuple[bytes, str]:
        """The exposition, of all workers where they share a folder, and its content type."""
        registry = self.registry
        if self._multiprocess_folder:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=self._multiprocess_folder)
        return exposition(registry), CONTENT_TYPE_LATEST
