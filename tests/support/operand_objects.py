"""Shared by tests that look into Kubernetes objects: a parsed object, its operands, and a way to a field."""

from collections.abc import Mapping, Sequence
from typing import cast

from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.operands import Manifest, build, effective

DEFAULT_IMAGE = "localhost/knowledgebeast-service:dev"

REMOTE: Mapping[str, object] = {
    "bucket": "backups",
    "prefix": "search/demo/",
    "endpoint": "https://minio.example:9000",
    "credentialsSecretRef": {"name": "s3-keys"},
}
"""Object storage, as a spec names it."""


def knowledge_beast(spec: Mapping[str, object] | None = None, *, name: str = "demo") -> KnowledgeBeast:
    """An object in the namespace `search`."""
    metadata = {"name": name, "namespace": "search", "uid": "11111111-2222-3333-4444-555555555555"}
    return KnowledgeBeast.parse({"metadata": metadata, "spec": spec or {}})


def operands(
    spec: Mapping[str, object] | None = None,
    *,
    name: str = "demo",
    live_claim_sizes: Mapping[str, str] | None = None,
) -> dict[tuple[str, str], Manifest]:
    """Everything built for such an object, by kind and name."""
    kb = knowledge_beast(spec, name=name)
    built = build(kb, effective(kb, default_image=DEFAULT_IMAGE, live_claim_sizes=live_claim_sizes))
    return {(str(manifest["kind"]), str(at(manifest, "metadata", "name"))): manifest for manifest in built}


def at(manifest: object, *path: str | int) -> object:
    """The field at `path`: keys of objects, indexes of lists.

    Raises:
        KeyError, IndexError: there is no such field.
    """
    for step in path:
        if isinstance(step, int):
            manifest = cast("Sequence[object]", manifest)[step]
        else:
            manifest = cast("Mapping[str, object]", manifest)[step]
    return manifest


def pod_specs(manifests: Mapping[tuple[str, str], Manifest]) -> dict[str, Mapping[str, object]]:
    """The pod specs in workloads, by the name of the workload."""
    paths: dict[str, tuple[str, ...]] = {
        **dict.fromkeys(("Deployment", "StatefulSet", "Job"), ("spec", "template", "spec")),
        "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    }
    return {
        name: cast("Mapping[str, object]", at(manifest, *paths[kind]))
        for (kind, name), manifest in manifests.items()
        if kind in paths
    }


def selects(selector: object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches, by the rules of the API (metav1.LabelSelector)."""
    written = cast("Mapping[str, object]", selector)
    expressions = cast("Sequence[Mapping[str, object]]", written.get("matchExpressions", ()))
    exact = cast("Mapping[str, str]", written.get("matchLabels", {}))
    return exact.items() <= labels.items() and all(_holds(expression, labels) for expression in expressions)


def _holds(expression: Mapping[str, object], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(expression["key"])), cast("Sequence[str]", expression["values"])
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case operator:
            raise ValueError(f"{operator} is not known here")
