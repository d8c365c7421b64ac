"""Which parts of the service say that they are down, and which errors the database gave. Pure."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from knowledgebeast_operator.core.facts import Facts, Known

COMPONENTS: Final = "components"
"""Rows by pod and component: 1 while it works."""

DATABASE_TROUBLE: Final = "database_trouble"
"""Rows by pod and kind: errors of SQLite over the window."""

ESSENTIAL: Final = ("chromadb", "embedding_model", "database", "keyword_index")
"""Those that answers depend on."""


def components_down(facts: Facts) -> Mapping[str, tuple[str, ...]]:
    """The pods on which an essential component is down, by component. Empty where nothing is known."""
    rows, pods = facts.rows(COMPONENTS), facts.service_pods
    if not isinstance(rows, Known) or not isinstance(pods, Known):
        return {}
    ready = {pod.name for pod in pods.value if pod.is_ready and not pod.is_terminating}
    down: dict[str, list[str]] = defaultdict(list)
    for row in rows.value:
        component, pod = row.labels.get("component", ""), row.labels.get("pod", "")
        if component in ESSENTIAL and pod in ready and row.value < 1:
            down[component].append(pod)
    return {component: tuple(sorted(down[component])) for component in ESSENTIAL if component in down}


def database_trouble(facts: Facts) -> Mapping[str, float]:
    """Errors of the database in the window, by kind. Empty where nothing is known."""
    rows = facts.rows(DATABASE_TROUBLE)
    found: dict[str, float] = defaultdict(float)
    for row in rows.value if isinstance(rows, Known) else ():
        if row.value > 0:
            found[row.labels.get("kind", "")] += row.value
    return dict(found)
