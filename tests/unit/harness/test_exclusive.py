import fcntl
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.cluster import Cluster
from harness.errors import NotMetError
from harness.exclusive import exclusive, lock_file


def cluster(kubeconfig: Path) -> Cluster:
    return cast("Cluster", SimpleNamespace(kubectl=SimpleNamespace(kubeconfig=kubeconfig)))


def test_a_second_run_waits_and_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config"
    said: list[str] = []

    with lock_file(config).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(NotMetError, match="the other run"), exclusive(cluster(config), said.append, timeout=0):
            pytest.fail("two runs at once")
    assert len(said) == 1

    with exclusive(cluster(config), said.append, timeout=0):
        pass
    assert len(said) == 1
    lock_file(config).unlink()


def test_clusters_do_not_wait_for_each_other(tmp_path: Path) -> None:
    assert lock_file(tmp_path / "one") != lock_file(tmp_path / "other")
