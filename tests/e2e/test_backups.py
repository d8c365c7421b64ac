"""Backups run by the clock and are shown; a person's own come by `kubectl knowledgebeast`; a drill restores one."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import cast

import pytest

from harness.cluster import Cluster
from harness.figures import Figures
from harness.kubectl import program
from harness.library import Library, MakeLibrary, applied
from harness.wait import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = "guarded"
COPY = "copied"
QUESTION = "light"
EVERY_MINUTE = "* * * * *"
CLOCK_SECONDS = 150  # up to a minute until it is due, and the time of a cold start
TASK_SECONDS = 120

Json = Mapping[str, object]


@pytest.fixture(scope="module")
def guarded(make_library: MakeLibrary) -> Generator[Library]:
    """Backed up every minute; checks and drills only by hand."""
    with make_library(NAME, {"database": {"backup": {"schedule": EVERY_MINUTE}}}) as made:
        yield made


@pytest.fixture(scope="module")
def backed_up(guarded: Library) -> Library:
    """With a first backup, which nobody has asked for."""
    guarded.wait_for_condition("BackupFresh", "True", timeout=CLOCK_SECONDS)
    return guarded


def backups(library: Library) -> Json:
    """`status.backups`."""
    arguments = ("get", "knowledgebeast", library.name, f"--namespace={library.namespace}", "--output=json")
    return cast("Json", json.loads(library.cluster.kubectl.run(*arguments))["status"]["backups"])


def by_hand(library: Library, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`kubectl knowledgebeast …` as a person types it: kubectl finds the plugin on the PATH."""
    folders = [str(Path(sys.executable).parent), str(Path(program()).parent), os.environ["PATH"]]
    environment = {**library.cluster.kubectl.environment(), "PATH": os.pathsep.join(folders)}
    return subprocess.run(
        [program(), "knowledgebeast", *arguments, f"--namespace={library.namespace}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TASK_SECONDS,
        check=False,
    )


def measured(done: subprocess.CompletedProcess[str]) -> Json:
    """What the task measured; it went well."""
    assert done.returncode == 0, done.stderr
    return cast("Json", json.loads(done.stdout)["measured"])


def test_a_backup_made_by_the_clock_is_in_the_status(backed_up: Library) -> None:
    verified = cast("Json", backups(backed_up)["lastVerified"])

    assert re.fullmatch(r"\d{8}T\d{6}Z-\d+", str(verified["id"]))
    assert cast("int", verified["seq"]) > 0
    assert cast("int", verified["bytes"]) > 0


def test_its_age_is_a_column(backed_up: Library) -> None:
    shown = backed_up.cluster.kubectl.run("get", "kb", backed_up.name, f"--namespace={backed_up.namespace}")
    heading, row = shown.splitlines()
    begin = heading.index("BACKUP AGE")

    assert re.match(r"\d+(s|m\d*s?)\s", row[begin:] + " "), shown


def test_a_backup_by_hand_is_the_newest_one_at_once(backed_up: Library) -> None:
    made = measured(by_hand(backed_up, "backup", NAME))
    listed = by_hand(backed_up, "backups", NAME)

    assert str(made["backup_id"]) in listed.stdout, listed.stderr


def test_a_check_by_hand_finds_nothing(backed_up: Library) -> None:
    found = measured(by_hand(backed_up, "check", NAME))

    assert (found["damage"], found["problems"]) == ("none", [])
    seen = wait_for("the check in the status", lambda: backups(backed_up).get("lastCheck"), timeout=30)
    assert cast("Json", seen)["damage"] == "none"


def test_a_drill_by_hand_restores_a_backup_and_is_remembered(backed_up: Library, figures: Figures) -> None:
    restored = measured(by_hand(backed_up, "drill", NAME))
    backed_up.wait_for_condition("RestoreTested", "True", timeout=30)
    last = cast("Json", backups(backed_up)["lastDrill"])

    assert last["backupId"] == restored["backup_id"]
    assert last["documents"] == restored["documents"] != 0
    figures(f"restore drill: {restored['documents']} documents in {restored['seconds']} s")


def test_a_new_object_begins_with_the_backups_of_another(
    backed_up: Library, cluster: Cluster, figures: Figures
) -> None:
    """Its Job reads the claim while the other object goes on using it."""
    found = backed_up.client.search(QUESTION).documents
    spec = {
        "deletionPolicy": "Delete",
        "service": {"replicas": 1},
        "bootstrap": {"restoreFrom": {"claimName": f"{NAME}-backups"}},
    }
    begun = time.monotonic()
    try:
        with applied(cluster, COPY, backed_up.namespace, spec) as copy:
            copy.wait_for_condition("Ready", "True", timeout=TASK_SECONDS)
            copy.wait_until_well()
            figures(f"a new object from another one's backups: well after {time.monotonic() - begun:.0f} s")
            again = copy.client.search(QUESTION)
    finally:
        cluster.kubectl.delete("knowledgebeast", COPY, backed_up.namespace)

    assert found
    assert again.documents == found
    assert not again.degraded_mode


def test_an_object_that_does_not_exist_is_an_error_in_a_sentence(backed_up: Library) -> None:
    done = by_hand(backed_up, "drill", "nobody")

    assert done.returncode == 1
    assert 'knowledgebeasts.knowledgebeast.io "nobody" not found' in done.stderr
