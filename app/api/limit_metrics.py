"""What becomes of requests at the rate limits, by endpoint and policy."""

from __future__ import annotations

from app.api.rate_memo import Memo
from app.coordination.rates import DecidedBy, Standing
from app.metrics import Metrics

_NEAR = 0.1  # of a limit left, or less
_HERE = frozenset({DecidedBy.MEMO, DecidedBy.PROCESS})


def count_decisions(metrics: Metrics, endpoint: str, memo: Memo) -> None:
    """Count each limit of a request once it has been answered."""
    for policy, standing in memo.counted():
        metrics.limits.labels(endpoint, policy, _outcome(standing)).inc()
    for by in _HERE.intersection(decision.by for decision in memo.decisions):
        metrics.limits_here.labels(endpoint, by.value).inc()


def _outcome(standing: Standing | None) -> str:
    if standing is None:
        return "uncounted"
    if standing.exceeded:
        return "shadow_denied" if standing.limit.shadow else "denied"
    return "near" if standing.remaining <= standing.limit.amount * _NEAR else "allowed"
