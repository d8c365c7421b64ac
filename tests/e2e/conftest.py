"""One cluster and one installation for all scenarios.

`library` is a KnowledgeBeast that scenarios share when they leave it as they found it; `make_library` gives one of its
own to a scenario that ends in a restart by the operator (three in an hour are the limit).

While one is being written: E2E_ATTACH=NAMESPACE runs it there, beside others, under the operator that there is.
"""

import contextlib
import os
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import pytest

from harness.audit import AuditLog, now
from harness.cluster import Cluster, connect
from harness.exclusive import exclusive
from harness.figures import Figures
from harness.images import load_images
from harness.install import OPERATOR_NAMESPACE, Installation, Monitoring
from harness.library import Library, MakeLibrary
from harness.library import library as make
from harness.objects import Namespace

ATTACHED = os.environ.get("E2E_ATTACH", "")
NAMESPACE = ATTACHED or "knowledgebeast-e2e"
FIRST, LAST = ("test_control_run",), ("test_least_privilege",)
MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was measured is shown whether or not anything failed."""
    for line in config.stash[MEASURED]:
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The control run comes before anything was broken; the comparison of rights after everything was used."""

    def place(item: pytest.Item) -> int:
        module = item.path.stem
        return -1 if module in FIRST else 1 if module in LAST else 0

    items.sort(key=place)


@pytest.fixture(scope="session")
def rate() -> float:
    """Searches per second in every scenario (E2E_RATE)."""
    return float(os.environ.get("E2E_RATE", "20"))


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes a line with figures for the end of the run."""
    return request.config.stash[MEASURED].append


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Generator[Cluster]:
    """One run at a time: a second one on this machine waits, unless it is attached."""
    found = connect()
    with contextlib.nullcontext() if ATTACHED else exclusive(found, request.config.get_terminal_writer().line):
        yield found
    found.close()


@pytest.fixture(scope="session")
def audit(cluster: Cluster) -> AuditLog:
    """The API server's audit log; tests that read it are skipped where it is out of reach."""
    file = cluster.capabilities.audit_log
    if file is None:
        pytest.skip("the audit log of this cluster's API server cannot be read from here")
    return AuditLog(file)


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> tuple[Installation, datetime]:
    """Always a new one, so that the audit log of this session has its beginning. It stays for people to look at."""
    made = Installation(cluster, load_images(cluster), [NAMESPACE], Monitoring.of(cluster))
    if not ATTACHED:
        remove_the_last(made)
    began = now()
    made.install()
    return made, began


def remove_the_last(made: Installation) -> None:
    cluster = made.cluster
    if not cluster.is_local and cluster.api.get(Namespace, OPERATOR_NAMESPACE) and not os.environ.get("E2E_REPLACE"):
        pytest.exit(
            f"this cluster has a namespace {OPERATOR_NAMESPACE} already, and these tests remove it: "
            "set E2E_REPLACE=1 if they may",
            returncode=2,
        )
    made.uninstall()


@pytest.fixture(scope="session")
def installation(installed: tuple[Installation, datetime]) -> Installation:
    return installed[0]


@pytest.fixture(scope="session")
def installation_began(installed: tuple[Installation, datetime]) -> datetime:
    """For the audit log: all that this operator ever did comes after it."""
    return installed[1]


@pytest.fixture(scope="session")
def make_library(cluster: Cluster, installation: Installation) -> MakeLibrary:
    """`make_library(name, spec)`: a KnowledgeBeast with documents in it, removed at the end of the block."""

    def factory(name: str, spec: Mapping[str, object] | None = None) -> AbstractContextManager[Library]:
        return make(cluster, name, NAMESPACE, spec)

    return factory


@pytest.fixture(scope="session")
def shared_library(make_library: MakeLibrary) -> Generator[Library]:
    with make_library("library") as made:
        yield made


@pytest.fixture(scope="module")
def library(shared_library: Library) -> Generator[Library]:
    """The shared one, well before and after each module."""
    shared_library.wait_until_well()
    yield shared_library
    shared_library.wait_until_well()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the records of the load."""
    return tmp_path_factory.mktemp("load")
