"""The API server itself keeps absurd objects out, with a sentence, and completes good ones."""

import json
import re
import uuid
from collections.abc import Generator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import cast

import pytest
import yaml

from harness.cluster import connect
from harness.errors import CommandError
from harness.kubectl import Kubectl
from knowledgebeast_operator.custom_resource import KnowledgeBeast, Spec

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]

Json = dict[str, object]


@pytest.fixture(scope="module")
def kubectl() -> Generator[Kubectl]:
    cluster = connect()
    try:
        cluster.kubectl.run("apply", "-k", str(ROOT / "crds"))
        names = [f"crd/{kind}.knowledgebeast.io" for kind in ("knowledgebeasts", "incidents", "incidentapprovals")]
        cluster.kubectl.run("wait", "--for=condition=Established", "--timeout=30s", *names)
        yield cluster.kubectl
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Generator[str]:
    """One that no operator serves."""
    name = f"crd-tests-{uuid.uuid4().hex[:8]}"
    kubectl.run("create", "namespace", name)
    yield name
    kubectl.delete("namespace", name)


def knowledge_beast(spec: Mapping[str, object] | None = None, name: str = "demo") -> Json:
    return {
        "apiVersion": "knowledgebeast.io/v1alpha1",
        "kind": "KnowledgeBeast",
        "metadata": {"name": name},
        "spec": dict(spec or {}),
    }


def create(kubectl: Kubectl, namespace: str, body: Mapping[str, object], *, dry: bool = True) -> Json:
    """What the API server makes of the object."""
    how = ["--dry-run=server"] if dry else []
    return json.loads(
        kubectl.run("create", f"--namespace={namespace}", "--output=json", *how, "-f", "-", stdin=json.dumps(body))
    )


def refusal(kubectl: Kubectl, namespace: str, body: Mapping[str, object]) -> str:
    with pytest.raises(CommandError) as refused:
        create(kubectl, namespace, body)
    return str(refused.value)


def runbook(**settings: object) -> Json:
    return {"remediation": {"runbooks": [{"name": "ChromaUnreachable", **settings}]}}


def service(**fields: object) -> Json:
    return {"service": fields}


def variable(name: str) -> Json:
    return service(podTemplate={"env": [{"name": name, "value": "x"}]})


REMOTE: Json = {
    "bucket": "backups",
    "prefix": "search/demo/",
    "endpoint": "http://minio.storage.svc:9000",
    "region": "eu-central-1",
    "credentialsSecretRef": {"name": "s3-keys"},
}


def copies(**changed: object) -> Json:
    """A backup with copies; None leaves a field out."""
    remote = {name: value for name, value in {**REMOTE, **changed}.items() if value is not None}
    return {"database": {"backup": {"remote": remote}}}


DURATION = "must be a duration from 5s to 24h, such as 30s, 10m or 1h30m"

SCHEDULE = "must be five fields as cron has them (minute, hour, day, month, day of the week)"

ABSURD: dict[str, tuple[Json, str]] = {
    "negative replicas": (service(replicas=-1), "greater than or equal to 1"),
    "no replicas": (service(replicas=0), "greater than or equal to 1"),
    "a thousand replicas": (service(replicas=1000, maxReplicas=1000), "less than or equal to 20"),
    "more replicas than the maximum": (service(replicas=8), "replicas must not be above maxReplicas"),
    "replicas as text": (service(replicas="many"), 'must be of type integer: "string"'),
    "an image with a space": (service(image="a b"), "image must be an image reference"),
    "an image that is a command": (service(image="x;reboot"), "image must be an image reference"),
    "more requested than allowed": (
        service(resources={"requests": {"memory": "4Gi"}}),
        "requests.memory must not be above limits.memory",
    ),
    "more cores requested than allowed": (
        service(resources={"requests": {"cpu": 3}}),
        "requests.cpu must not be above limits.cpu",
    ),
    "no cpu at all": (service(resources={"requests": {"cpu": 0}}), "cpu must be whole cores such as 2"),
    "memory without a unit": (
        service(resources={"limits": {"memory": "4096"}}),
        "memory must be a whole number of Mi or Gi",
    ),
    "a label of the operator's": (
        service(podTemplate={"labels": {"knowledgebeast.io/name": "x"}}),
        "belong to the operator",
    ),
    "an annotation that hides metrics": (
        service(podTemplate={"annotations": {"prometheus.io/port": "1"}}),
        "belong to the operator",
    ),
    "a variable of the operator's": (variable("DATA_DIR"), "the operator sets this variable itself"),
    "a variable with a bad name": (variable("1 X"), "a variable's name must start with a letter"),
    "an unknown effect of a taint": (
        service(podTemplate={"tolerations": [{"effect": "Never"}]}),
        'supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
    ),
    "a document of 5 GB": (service(config={"maxDocumentSizeMB": 5000}), "less than or equal to 1024"),
    "a negative rate limit": (service(config={"rateLimitPerMinute": -5}), "greater than or equal to 0"),
    "an unknown log level": (service(config={"logLevel": "LOUD"}), 'supported values: "debug", "info"'),
    "a negative cache": ({"cache": {"queryEntries": -1}}, "greater than or equal to 0"),
    "a size without a unit": ({"database": {"storage": {"size": "10"}}}, "must be a whole number of Mi, Gi or Ti"),
    "a size of zero": ({"chroma": {"storage": {"size": "0Gi"}}}, "must be a whole number of Mi, Gi or Ti"),
    "a schedule of four fields": ({"database": {"backup": {"schedule": "* * * *  "}}}, SCHEDULE),
    "a schedule at minute 60": ({"database": {"integrityCheckSchedule": "60 * * * *"}}, SCHEDULE),
    "a schedule by a nickname": ({"database": {"restoreDrillSchedule": "@weekly  "}}, SCHEDULE),
    "daily backups that go before the others": (
        {"database": {"backup": {"keepDays": 40}}},
        "keepDailyDays (default 30) must not be below keepDays; raise it too",
    ),
    "backups that are kept for no day": ({"database": {"backup": {"keepDays": 0}}}, "greater than or equal to 1"),
    "a backup volume without a unit": (
        {"database": {"backup": {"storage": {"size": "10"}}}},
        "must be a whole number of Mi, Gi or Ti",
    ),
    "a restore from nowhere": ({"bootstrap": {"restoreFrom": {}}}, "restoreFrom needs either claimName"),
    "a restore from two places": (
        {"bootstrap": {"restoreFrom": {"claimName": "demo-backups", "remote": REMOTE}}},
        "restoreFrom needs either claimName",
    ),
    "copies without a folder of their own": (copies(prefix=None), "remote.prefix: Required value"),
    "copies into a folder above": (copies(prefix="../other/"), "prefix must be a folder that ends in a slash"),
    "copies into a file": (copies(prefix="search/demo"), "prefix must be a folder that ends in a slash"),
    "copies into a bucket that is none": (copies(bucket="My_Backups"), "bucket must be the name of a bucket"),
    "copies to an address without a scheme": (copies(endpoint="minio:9000"), "endpoint must be an address such as"),
    "copies to an address with a password": (
        copies(endpoint="https://me:secret@minio.example"),
        "endpoint must be an address such as",
    ),
    "copies to a port that is none": (
        copies(endpoint="https://minio.example:70000"),
        "endpoint must be an address such as",
    ),
    "copies without keys": (copies(credentialsSecretRef=None), "remote.credentialsSecretRef: Required value"),
    "a restore from a path": (
        {"bootstrap": {"restoreFrom": {"claimName": "../etc"}}},
        "claimName must be the name of a PersistentVolumeClaim",
    ),
    "a restore of a backup that is none": (
        {"bootstrap": {"restoreFrom": {"claimName": "demo-backups", "backup": "yesterday"}}},
        "backup must be the id of a backup",
    ),
    "an unknown deletion policy": ({"deletionPolicy": "Shred"}, 'supported values: "Retain", "Delete"'),
    "an address for a target": (
        {"prometheus": {"target": "http://169.254.169.254/"}},
        "target is the name of a Prometheus in the operator's configuration",
    ),
    "an unknown mode": ({"remediation": {"mode": "Maybe"}}, 'supported values: "Enforce", "DryRun", "Disabled"'),
    "an unknown mode of a runbook": (runbook(mode="Yes"), 'supported values: "Enforce", "DryRun", "Disabled"'),
    "a duration in words": (runbook(cooldown="ten minutes"), DURATION),
    "a duration without a unit": (runbook(cooldown="600"), DURATION),
    "a negative duration": (runbook(window="-5m"), DURATION),
    "a duration of a second": (runbook(**{"for": "1s"}), DURATION),
    "a duration of two days": (runbook(healthyPeriod="48h"), DURATION),
    "too many attempts": (runbook(maxAttempts=100), "less than or equal to 20"),
    "one runbook twice": (
        {"remediation": {"runbooks": [{"name": "ChromaUnreachable"}, {"name": "ChromaUnreachable"}]}},
        "Duplicate value",
    ),
    "a runbook that is no name": (
        {"remediation": {"runbooks": [{"name": "chroma unreachable"}]}},
        "a runbook is named like its alert",
    ),
    "a pause until some day": (
        {"remediation": {"pauses": [{"reason": "x", "until": "next week"}]}},
        "must be of type date-time",
    ),
    "a pause without a reason": (
        {"remediation": {"pauses": [{"until": "2026-12-01T00:00:00Z"}]}},
        "reason: Required value",
    ),
    "a window at 25 o'clock": (
        {"remediation": {"maintenanceWindows": [{"days": ["Sat"], "start": "25:00", "duration": "4h"}]}},
        "start must be a time of day such as 02:00",
    ),
    "a window on no day": (
        {"remediation": {"maintenanceWindows": [{"days": [], "start": "02:00", "duration": "4h"}]}},
        "should have at least 1 items",
    ),
    "a window on a day that is none": (
        {"remediation": {"maintenanceWindows": [{"days": ["Someday"], "start": "02:00", "duration": "4h"}]}},
        'supported values: "Mon", "Tue"',
    ),
    "a time zone that is a path": (
        {
            "remediation": {
                "maintenanceWindows": [
                    {"days": ["Sat"], "start": "02:00", "duration": "4h", "timezone": "../../etc/passwd"}
                ]
            }
        },
        "timezone must be the name of an IANA time zone",
    ),
    "no budget": ({"remediation": {"budget": {"maxActions": 0}}}, "greater than or equal to 1"),
    "a field that does not exist": ({"replica": 2}, 'unknown field "spec.replica"'),
}


@pytest.mark.parametrize("what", ABSURD)
def test_an_absurd_object_is_refused_with_a_sentence(kubectl: Kubectl, namespace: str, what: str) -> None:
    spec, sentence = ABSURD[what]
    assert sentence in refusal(kubectl, namespace, knowledge_beast(spec))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("k" * 41, "the name may have at most 40 characters"),
        ("1st", "the name must start with a letter"),
        ("a.b", "the name must start with a letter"),
    ],
)
def test_a_name_that_children_cannot_carry_is_refused(
    kubectl: Kubectl, namespace: str, name: str, sentence: str
) -> None:
    assert sentence in refusal(kubectl, namespace, knowledge_beast(name=name))


def test_an_object_without_a_spec_is_refused(kubectl: Kubectl, namespace: str) -> None:
    body = knowledge_beast()
    del body["spec"]
    assert "spec: Required value" in refusal(kubectl, namespace, body)


GOOD: dict[str, Json] = {
    "an empty spec": {},
    "a beginning from object storage": {
        "bootstrap": {"restoreFrom": {"remote": {**REMOTE, "endpoint": "https://[fd00::1]:9000/s3"}}}
    },
    "much of everything": {
        "service": {
            "image": "registry.example:5000/team/knowledgebeast-service@sha256:" + "a" * 64,
            "replicas": 3,
            "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 4, "memory": "8Gi"}},
            "podTemplate": {
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
                "imagePullSecrets": [{"name": "registry"}],
                "labels": {"team": "search"},
                "annotations": {"note": "x"},
                "env": [{"name": "LOG_QUERIES", "value": "true"}],
            },
            "config": {"chromaTimeoutSeconds": 0.5, "logLevel": "debug"},
        },
        "cache": {"queryEntries": 0},
        "chroma": {"storage": {"size": "1Ti", "maxSize": "2Ti", "storageClassName": "fast"}},
        "database": {
            "storage": {"size": "500Mi"},
            "backup": {
                "schedule": "5/15 0-5,22-23 1-31/2 1,7 MON-FRI",
                "keepDays": 2,
                "storage": {"size": "2Gi"},
                "remote": REMOTE,
            },
            "integrityCheckSchedule": "59 23 31 12 6",
            "restoreDrillSchedule": "*/5 * * * *",
            "cleanSchedule": "0 2 * * *",
        },
        "bootstrap": {"restoreFrom": {"claimName": "other-backups", "backup": "20260107T120000Z-4711"}},
        "deletionPolicy": "Delete",
        "prometheus": {"target": "team-a"},
        "remediation": {
            "mode": "DryRun",
            "pauses": [{"reason": "migration", "until": "2026-12-01T00:00:00Z"}, {"reason": "until removed"}],
            "maintenanceWindows": [
                {"days": ["Sat", "Sun"], "start": "02:00", "duration": "4h", "timezone": "Europe/Berlin"}
            ],
            "budget": {"maxActions": 3, "per": "30m"},
            "runbooks": [{"name": "ChromaUnreachable", "mode": "Enforce", "for": "8s"}, {"name": "NotYetWritten"}],
        },
    },
}


@pytest.mark.parametrize("what", GOOD)
def test_a_good_object_is_taken_and_means_the_same_to_the_operator(kubectl: Kubectl, namespace: str, what: str) -> None:
    live = create(kubectl, namespace, knowledge_beast(GOOD[what]))
    metadata = cast("Json", live["metadata"]) | {"uid": "u"}
    assert KnowledgeBeast.parse({**live, "metadata": metadata}).spec == Spec.model_validate(GOOD[what])


@pytest.mark.parametrize("path", sorted((ROOT / "manifests" / "samples").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sample_is_taken(kubectl: Kubectl, namespace: str, path: Path) -> None:
    assert create(kubectl, namespace, yaml.safe_load(path.read_text()))["kind"] == "KnowledgeBeast"


# Changes


@pytest.fixture(scope="module")
def existing(kubectl: Kubectl, namespace: str) -> str:
    spec = {"database": {"storage": {"size": "2Gi", "storageClassName": "fast"}}}
    create(kubectl, namespace, knowledge_beast(spec, name="existing"), dry=False)
    return "existing"


def change(kubectl: Kubectl, namespace: str, kind: str, name: str, patch: Mapping[str, object]) -> Json:
    where = f"--namespace={namespace}"
    arguments = ("patch", kind, name, where, "--type=merge", "--dry-run=server", "--output=json")
    return json.loads(kubectl.run(*arguments, f"--patch={json.dumps(patch)}"))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        pytest.param(
            {"database": {"storage": {"size": "1Gi"}}},
            "storage never shrinks: size is 2Gi and cannot become 1Gi",
            id="shrinking",
        ),
        pytest.param(
            {"database": {"storage": {"size": "2047Mi"}}}, "storage never shrinks", id="shrinking in another unit"
        ),
        pytest.param({"chroma": {"storage": {"size": "9Gi"}}}, "storage never shrinks", id="shrinking below a default"),
        pytest.param(
            {"database": {"storage": {"storageClassName": "slow"}}},
            "storageClassName cannot be changed",
            id="another class",
        ),
        pytest.param(
            {"database": {"storage": {"storageClassName": None}}}, "storageClassName cannot be changed", id="no class"
        ),
        pytest.param(
            {"chroma": {"storage": {"storageClassName": "fast"}}},
            "storageClassName cannot be changed",
            id="a class where there was none",
        ),
        pytest.param(
            {"database": {"backup": {"storage": {"size": "9Gi"}}}}, "storage never shrinks", id="shrinking backups"
        ),
        pytest.param(
            {"bootstrap": {"restoreFrom": {"claimName": "other-backups"}}},
            "restoreFrom cannot be changed after the object was made",
            id="a restore of an object that exists",
        ),
    ],
)
def test_what_cannot_change_is_refused(
    kubectl: Kubectl, namespace: str, existing: str, spec: Json, sentence: str
) -> None:
    with pytest.raises(CommandError) as refused:
        change(kubectl, namespace, "knowledgebeast", existing, {"spec": spec})
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"database": {"storage": {"size": "3Gi"}}}, id="growing"),
        pytest.param({"database": {"storage": {"size": "2048Mi"}}}, id="the same in another unit"),
        pytest.param({"service": {"replicas": 5}}, id="more replicas"),
        pytest.param({"service": None}, id="back to the defaults"),
    ],
)
def test_other_changes_are_taken(kubectl: Kubectl, namespace: str, existing: str, spec: Json) -> None:
    assert change(kubectl, namespace, "knowledgebeast", existing, {"spec": spec})["kind"] == "KnowledgeBeast"


# Incidents

DETECTED: Json = {
    "apiVersion": "knowledgebeast.io/v1alpha1",
    "kind": "Incident",
    "metadata": {"name": "demo-chroma-unreachable-0001"},
    "spec": {
        "knowledgeBeastRef": {"name": "demo", "uid": "u"},
        "runbook": "ChromaUnreachable",
        "severity": "P0",
        "fingerprint": "demo/ChromaUnreachable",
        "number": 1,
        "trigger": "Detected",
    },
}


def incident(**fields: object) -> Json:
    """The detected one with other fields in its spec; None leaves one out."""
    body = deepcopy(DETECTED)
    spec = cast("Json", body["spec"]) | fields
    return {**body, "spec": {name: value for name, value in spec.items() if value is not None}}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"severity": "P9"}, 'supported values: "P0", "P1", "P2", "P3"'),
        ({"trigger": "Guessed"}, 'supported values: "Detected", "Manual"'),
        ({"number": 0}, "greater than or equal to 1"),
        ({"number": None}, "a detected Incident needs severity, fingerprint, number and knowledgeBeastRef.uid"),
        ({"knowledgeBeastRef": {"name": "demo"}}, "a detected Incident needs severity"),
        ({"trigger": "Manual"}, "a person can ask for option 8A (reindex), 8B (restore) or 8E (check)"),
        (
            {"trigger": "Manual", "runbook": "DatabaseCorruption", "option": "8Z"},
            "a person can ask for option 8A (reindex), 8B (restore) or 8E (check)",
        ),
        (
            {"trigger": "Manual", "runbook": "DatabaseCorruption", "option": "8B", "parameters": {"backup": "latest"}},
            "a backup is named like 20260107T120000Z-4711",
        ),
        ({"runbook": "chroma down"}, "a runbook is named like its alert"),
        ({"knowledgeBeastRef": {"name": "demo", "namespace": "other"}}, "unknown field"),
    ],
)
def test_an_absurd_incident_is_refused(kubectl: Kubectl, namespace: str, fields: Json, sentence: str) -> None:
    assert sentence in refusal(kubectl, namespace, incident(**fields))


@pytest.fixture(scope="module")
def opened(kubectl: Kubectl, namespace: str) -> str:
    create(kubectl, namespace, DETECTED, dry=False)
    return "demo-chroma-unreachable-0001"


@pytest.mark.parametrize("spec", [{"severity": "P3"}, {"runbook": "Another"}, {"option": "2A"}, {"number": 2}])
def test_the_spec_of_an_incident_never_changes(kubectl: Kubectl, namespace: str, opened: str, spec: Json) -> None:
    with pytest.raises(CommandError) as refused:
        change(kubectl, namespace, "incident", opened, {"spec": spec})
    assert "the spec of an Incident never changes; create another Incident instead" in str(refused.value)


def test_the_columns_tell_the_story(kubectl: Kubectl, namespace: str, opened: str) -> None:
    now = "2026-11-23T06:00:00Z"
    attempt = {"id": f"{opened}-1", "option": "2A", "action": {"type": "RestartPod"}, "outcome": "Successful"}
    active = {"type": "Active", "status": "False", "reason": "Resolved", "message": "-", "lastTransitionTime": now}
    attempts = [{**attempt, "id": "first", "outcome": "Failed"}, attempt]
    status = {"severity": "P0", "attempts": attempts, "attemptCount": 2, "conditions": [active]}
    where = f"--namespace={namespace}"
    patch = json.dumps({"status": status})
    kubectl.run("patch", "incident", opened, where, "--subresource=status", "--type=merge", f"--patch={patch}")
    header, row = kubectl.run("get", "kbi", opened, where).splitlines()
    columns = dict(zip(header.split(), row.split(), strict=False))
    assert columns["OBJECT"] == "demo"
    assert columns["RUNBOOK"] == "ChromaUnreachable"
    assert columns["SEVERITY"] == "P0"
    assert columns["ACTIVE"] == "False"
    assert columns["ATTEMPTS"] == "2"
    assert columns["OUTCOME"] == "Successful"


def test_a_long_record_is_kept_whole(kubectl: Kubectl, namespace: str, opened: str) -> None:
    now = "2026-11-23T06:00:00Z"
    timeline = [{"at": now, "reason": "R", "message": "m" * 1024}] * 50
    where = f"--namespace={namespace}"
    arguments = ("patch", "incident", opened, where, "--subresource=status", "--type=merge", "--output=json")
    written = json.loads(kubectl.run(*arguments, f"--patch={json.dumps({'status': {'timeline': timeline}})}"))
    assert written["status"]["timeline"] == timeline
    with pytest.raises(CommandError, match="must have at most 50 items"):
        kubectl.run(*arguments, f"--patch={json.dumps({'status': {'timeline': [*timeline, timeline[0]]}})}")


# Explanations and installation


def descriptions(kind: str) -> dict[str, list[str]]:
    """The descriptions that `kubectl explain` shows for each object-like field, by its path."""
    crd = yaml.safe_load((ROOT / "crds" / f"{kind}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, list[str]] = {}

    def visit(field: Json, path: str) -> None:
        below = cast("dict[str, Json]", cast("Json", field.get("items", field)).get("properties", {}))
        if below and path.count(".") > 0:
            found[path] = [str(field["description"]), *(str(part["description"]) for part in below.values())]
        for name, part in below.items():
            visit(part, f"{path}.{name}")

    visit({**schema, "properties": {name: schema["properties"][name] for name in ("spec", "status")}}, kind)
    return found


@pytest.mark.parametrize("kind", ["knowledgebeasts", "incidents"])
def test_explain_prints_every_description(kubectl: Kubectl, kind: str) -> None:
    for path, texts in descriptions(kind).items():
        shown = re.sub(r"\s+", " ", kubectl.run("explain", path, "--api-version=knowledgebeast.io/v1alpha1"))
        assert [text for text in texts if re.sub(r"\s+", " ", text) not in shown] == [], path


@pytest.mark.parametrize("folder", ["operator", "managed-namespace"])
def test_the_manifests_are_taken_whole(kubectl: Kubectl, namespace: str, folder: str) -> None:
    # Objects cannot be tried out in a namespace that does not exist, so the operator's namespace is made for real.
    kubectl.run("apply", "-f", str(ROOT / "manifests" / "operator" / "namespace.yaml"))
    where = [] if folder == "operator" else [f"--namespace={namespace}"]
    how = ("--dry-run=server", "--warnings-as-errors")
    assert "(server dry run)" in kubectl.run("apply", *where, "-k", str(ROOT / "manifests" / folder), *how)
