"""The PromQL of this operator, one query per signal for all objects at once.

A range vector as an instant query gives every sample with the time of its scrape, and the history in the same call.
Names come from the service's table (`telemetry/metrics.py`); a contract test compares them. Nothing of an object goes
into a query, so there is nothing to inject.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

HISTORIES: Final = tuple(timedelta(minutes=minutes) for minutes in (2, 5, 10, 30, 60))
"""The ranges that are asked for: few, so that objects with similar windows share their queries."""

NOT_TRAFFIC: Final = "/livez|/readyz|/health|/metrics"
"""What the cluster asks by itself; it would make an idle service look busy and an error ratio small."""


@dataclass(frozen=True, slots=True)
class Query:
    """A signal and how to ask for it; `{range}` is filled in with one of HISTORIES."""

    signal: str
    template: str

    def promql(self, history: timedelta) -> str:
        """The query for samples of at least that last period."""
        fitting = next((known for known in HISTORIES if known >= history), history)
        return self.template.format(range=f"{int(fitting.total_seconds())}s")


BREAKER_STATE: Final = Query("kb_chroma_breaker_state", "kb_chroma_breaker_state[{range}]")
CANARY_SUCCESS_RATIO: Final = Query("kb_canary_success_ratio", "kb_canary_success_ratio[{range}]")
CANARY_TIMESTAMP: Final = Query("kb_canary_timestamp_seconds", "kb_canary_timestamp_seconds[{range}]")
DEGRADED_MODE: Final = Query("kb_degraded_mode", "kb_degraded_mode[{range}]")
REQUESTS: Final = Query(
    "http_requests_total",
    f'sum by (namespace, pod, status) (increase(http_requests_total{{{{path!~"{NOT_TRAFFIC}"}}}}[{{range}}]))',
)
