import json
import struct
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from local_cluster import base_image, dns, leftovers, loading, network, processes, readiness, settings
from local_cluster.errors import ClusterError
from local_cluster.leftovers import Leftovers

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:30 / /state/kb/data/with\\040space rw - tmpfs tmpfs rw
41 22 7:3 / /state/kb/data/with\\040space/deeper rw - xfs /dev/loop3 rw
42 22 0:31 / /state/kb-other rw - tmpfs tmpfs rw
"""


def test_mounts_are_found_below_the_folder_only_innermost_first() -> None:
    found = leftovers.mounts_below(MOUNTINFO, Path("/state/kb"))
    assert found == ["/state/kb/data/with space/deeper", "/state/kb/data/with space"]


def test_a_clean_machine_has_no_leftovers() -> None:
    assert not Leftovers()
    assert str(Leftovers()) == "nothing"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Leftovers(processes=(4, 5)), "2 processes"),
        (Leftovers(network_namespace=True), f"network namespace {settings.NETWORK_NAMESPACE}"),
        (Leftovers(loop_devices=("/dev/loop3",)), "1 loop devices"),
        (Leftovers(cgroups=("/sys/fs/cgroup/knowledgebeast",), link=True), f"1 cgroups, link {settings.HOST_LINK}"),
    ],
)
def test_anything_left_is_named(found: Leftovers, text: str) -> None:
    assert found
    assert str(found) == text


def test_a_foreign_route_for_the_clusters_ranges_is_in_the_way() -> None:
    routes: list[network.Route] = [
        {"dst": "default", "dev": "eth0"},
        {"dst": settings.SERVICE_RANGE, "dev": "docker0"},
        {"dst": settings.POD_RANGE, "dev": settings.HOST_LINK},
        {"dst": "192.0.2.0/24"},
    ]
    assert network.routes_in_the_way(routes) == [settings.SERVICE_RANGE]


def test_the_start_of_a_process_is_read_behind_an_awkward_name() -> None:
    fields = ["S", *(str(number) for number in range(4, 22)), "777", "23"]
    assert processes.start_ticks(f"12 (a (b) c) {' '.join(fields)}") == 777


def _archive(path: Path, members: dict[str, object]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, value in members.items():
            content = json.dumps(value).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))
    return path


def test_a_docker_archive_names_its_images_and_their_configuration(tmp_path: Path) -> None:
    manifest = [{"Config": "0a1b.json", "RepoTags": ["localhost/app:1", "localhost/app:2"], "Layers": []}]
    archive = _archive(tmp_path / "a.tar", {"manifest.json": manifest})
    assert loading.archive_images(archive) == {"localhost/app:1": "sha256:0a1b", "localhost/app:2": "sha256:0a1b"}


def test_an_oci_archive_names_its_image_and_its_configuration(tmp_path: Path) -> None:
    name = {"org.opencontainers.image.ref.name": "localhost/app:1"}
    members: dict[str, object] = {
        "index.json": {"manifests": [{"digest": "sha256:beef", "annotations": name}]},
        "blobs/sha256/beef": {"config": {"digest": "sha256:cafe"}},
    }
    assert loading.archive_images(_archive(tmp_path / "a.tar", members)) == {"localhost/app:1": "sha256:cafe"}


def test_another_file_is_no_image_archive(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not an archive")
    with pytest.raises(ClusterError, match="no image archive"):
        loading.archive_images(other)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("app", "localhost/app:latest"),
        ("team/app:2", "localhost/team/app:2"),
        ("localhost/app:2", "localhost/app:2"),
        ("registry.example:5000/app", "registry.example:5000/app:latest"),
    ],
)
def test_short_image_names_mean_local_ones(given: str, name: str) -> None:
    assert loading.qualified(given) == name


ONE_LINE = "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main\ndeb http://x.example trixie main\n"
STANZAS = """\
# a comment
Types: deb
URIs: http://other.example/apt
Suites: nodistro

Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
"""


@pytest.mark.parametrize(("name", "text"), [("sources.list", ONE_LINE), ("debian.sources", STANZAS)])
def test_the_mirror_is_the_machines_own(name: str, text: str) -> None:
    assert base_image.mirror({name: text}, "bookworm") == "http://mirror.example/debian"


def test_without_a_mirror_for_the_suite_it_says_what_to_do() -> None:
    with pytest.raises(ClusterError, match="no mirror for Debian bookworm") as caught:
        base_image.mirror({"sources.list": "deb http://x.example trixie main\n"}, "bookworm")
    assert "BASE_IMAGE" in caught.value.next_step


def _dns_answer(identifier: int, code: int, address: bytes) -> bytes:
    query = dns.question("a.example", identifier)
    header = struct.pack("!HHHHHH", identifier, 0x8180 | code, 1, 1 if address else 0, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", dns.TYPE_A, dns.CLASS_IN, 5, 4) + address if address else b""
    return header + query[12:] + record


def test_an_answer_is_read_past_its_question() -> None:
    assert dns.addresses(_dns_answer(7, 0, bytes([10, 96, 0, 1])), 7) == ["10.96.0.1"]


@pytest.mark.parametrize(
    "answer", [_dns_answer(7, 3, b""), _dns_answer(8, 0, bytes(4)), b"short"], ids=["NXDOMAIN", "other", "short"]
)
def test_a_refusal_or_somebody_elses_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"response code|shorter"):
        dns.addresses(answer, 7)


def _targets(**health: str) -> readiness.api.Json:
    return {"data": {"activeTargets": [{"labels": {"job": job}, "health": word} for job, word in health.items()]}}


def test_prometheus_is_ready_with_a_healthy_target_in_each_job() -> None:
    assert readiness.unhealthy_targets(_targets(kubelet="up", cadvisor="up", apiserver="up", pods="up")) == ""


@pytest.mark.parametrize("health", [{"pods": "down"}, {"pods": "unknown"}, {}])
def test_a_job_without_a_healthy_target_is_named(health: dict[str, str]) -> None:
    missing = readiness.unhealthy_targets(_targets(kubelet="up", cadvisor="up", apiserver="up", **health))
    assert "pods" in missing
    assert "kubelet" not in missing
