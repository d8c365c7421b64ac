"""What a cluster, or a killed run of it, may leave on this machine: finding all of it and removing it."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from local_cluster import network, processes, settings, shell
from local_cluster.paths import State
from local_cluster.plan import MOUNT_POINTS

CGROUPS = Path("/sys/fs/cgroup")
LOOP_CTL_REMOVE = 0x4C81  # linux/loop.h
RELEASE_SECONDS = 10.0  # loop devices and cgroups go a moment after the last process that used them


@dataclass(frozen=True)
class Leftovers:
    """Everything found; falsy when the machine is clean."""

    processes: tuple[int, ...] = ()
    mounts: tuple[str, ...] = ()
    loop_devices: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    network_namespace: bool = False
    link: bool = False

    def __bool__(self) -> bool:
        return any(astuple(self))

    def __str__(self) -> str:
        found = [
            f"{len(self.processes)} processes" if self.processes else "",
            f"{len(self.mounts)} mounts" if self.mounts else "",
            f"{len(self.loop_devices)} loop devices" if self.loop_devices else "",
            f"{len(self.cgroups)} cgroups" if self.cgroups else "",
            f"network namespace {settings.NETWORK_NAMESPACE}" if self.network_namespace else "",
            f"link {settings.HOST_LINK}" if self.link else "",
        ]
        return ", ".join(text for text in found if text) or "nothing"


def find(state: State) -> Leftovers:
    return Leftovers(
        processes=tuple(processes.belonging(state)),
        mounts=tuple(mounts_below(Path("/proc/self/mountinfo").read_text(), state.root)),
        loop_devices=tuple(_loop_devices(state.root)),
        cgroups=tuple(str(path) for path in _cgroups()),
        network_namespace=network.namespace_exists(),
        link=network.link_exists(),
    )


def mounts_below(mountinfo: str, folder: Path) -> list[str]:
    """Mount points at or below the folder, innermost first; `mountinfo` as in proc_pid_mountinfo(5)."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return sorted((p for p in points if Path(p).is_relative_to(folder)), key=len, reverse=True)


def _loop_devices(folder: Path) -> Iterable[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it may be released between the two calls
            if Path(backing.read_text().strip().removesuffix(" (deleted)")).is_relative_to(folder):
                yield f"/dev/{backing.parts[3]}"


def _cgroups() -> list[Path]:
    """The cluster's own cgroup in every controller's tree (version 1) or in the one tree (version 2)."""
    return [p for p in (CGROUPS / settings.CGROUP, *CGROUPS.glob(f"*/{settings.CGROUP}")) if p.is_dir()]


def clean(state: State) -> Leftovers:
    """Removes everything that is left; returns what could not be removed."""
    processes.kill_all(state)
    for point in mounts_below(Path("/proc/self/mountinfo").read_text(), state.root):
        shell.run(["umount", "--lazy", point])
    network.delete()
    deadline = time.monotonic() + RELEASE_SECONDS
    while True:
        for root in _cgroups():
            _remove_tree(root)
        if not (rest := find(state)) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    _remove_spare_loop_devices()
    _remove_made_folders(state)
    state.holder.unlink(missing_ok=True)
    return rest


def make_mount_points(state: State) -> None:
    """Makes the folders to mount on, and remembers which were not there before."""
    missing = [point for point in MOUNT_POINTS if not Path(point).is_dir()]
    if missing:
        with state.made_folders.open("a") as stream:
            stream.writelines(f"{point}\n" for point in missing)
    for point in missing:
        Path(point).mkdir(parents=True)


def _remove_made_folders(state: State) -> None:
    if state.made_folders.exists():
        for point in state.made_folders.read_text().split():
            with contextlib.suppress(OSError):  # not empty: something else on this machine uses it by now
                Path(point).rmdir()
        state.made_folders.unlink()


def _remove_tree(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):  # still has a dying process; the caller tries again
            Path(folder).rmdir()


def _remove_spare_loop_devices(kept: int = 8) -> None:
    """The kernel makes a device for each loop mount past the eight from boot; unused ones are taken away again."""
    numbers = [int(path.name.removeprefix("loop")) for path in Path("/sys/block").glob("loop*")]
    for number in (n for n in numbers if n >= kept):
        with contextlib.suppress(OSError), Path("/dev/loop-control").open("rb") as control:  # busy: somebody's own
            fcntl.ioctl(control, LOOP_CTL_REMOVE, number)
