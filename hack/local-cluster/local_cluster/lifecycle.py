"""up, down, reset: from whatever there is on this machine to the wanted state."""

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local_cluster import (
    build,
    gobuild,
    host,
    leftovers,
    loading,
    locks,
    network,
    pki,
    processes,
    readiness,
    render,
    settings,
    shell,
    supervisor,
    sysctls,
)
from local_cluster import plan as planning
from local_cluster.api import ApiServer
from local_cluster.artifacts import content_key
from local_cluster.build import Built
from local_cluster.console import Console
from local_cluster.errors import ClusterError
from local_cluster.paths import Cache, State

STOP_SECONDS = 15.0  # the supervisor's own limits add up to 10
START_SECONDS = 60.0
PATIENCE_SECONDS = 15.0  # with a running cluster on a busy machine, before it is taken for broken
POD_SECONDS = 120.0


@dataclass(frozen=True)
class Wanted:
    """What the running cluster is compared with: `layout` for kept state, `plan` for the daemons and their files."""

    layout: str
    plan: str


def up(console: Console, cache: Cache, state: State) -> None:
    """Leaves a cluster that answers, whatever there was before: nothing, a stopped one, a half-dead one, this one."""
    host.ensure(console, state)
    built = build.build_all(console, cache)
    with locks.exclusive(console, state.lock, "starting the cluster"):
        files = render.render_folder("config", render.values(state, built.references()))
        wanted = _wanted(state, built, files)
        if _is_running_as(console, state, wanted):
            console.say("the cluster is already running")
            _complete(console, state, built, started_at=0.0)
            return
        _stop(console, state)
        try:
            _prepare(console, state, built, files, wanted)
            started_at = time.time()
            _start(console, state)
            _complete(console, state, built, started_at)
        except KeyboardInterrupt:
            console.say("interrupted: stopping what was started")
            _stop(console, state)
            raise


def down(console: Console, state: State) -> None:
    """Stops everything and removes every trace outside of the state folder; the data stay for the next `up`."""
    with locks.exclusive(console, state.lock, "stopping the cluster"):
        _stop(console, state)


def reset(console: Console, state: State) -> None:
    """`down`, and the data go too."""
    with locks.exclusive(console, state.lock, "removing the cluster"):
        _stop(console, state)
        _wipe(state)


def _wanted(state: State, built: Built, files: dict[str, str]) -> Wanted:
    parts = {f"config {name}": content.encode() for name, content in files.items()}
    parts["plan"] = json.dumps(planning.plan(state)).encode()
    parts["supervisor"] = Path(supervisor.__file__).read_bytes()
    # The programs that run as pods are not part of it: their images change with the manifests, without a restart.
    parts["programs"] = json.dumps([str(built.programs[module.name]) for module in gobuild.DAEMON_MODULES]).encode()
    return Wanted(settings.layout_hash(), content_key(parts))


def _record(state: State) -> Wanted | None:
    try:
        return Wanted(**json.loads(state.record.read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def _is_running_as(console: Console, state: State, wanted: Wanted) -> bool:
    if processes.process_one(state) is None:
        return False
    if _record(state) != wanted:
        console.say("the running cluster was made by another version of this tool: restarting it")
        return False
    try:
        readiness.wait(console, state, "API server", lambda: readiness.api_server(ApiServer(state)), PATIENCE_SECONDS)
    except ClusterError:
        console.say("the running cluster does not answer: restarting it")
        return False
    return True


def _stop(console: Console, state: State) -> None:
    if other := processes.other_state(state):
        raise ClusterError(
            f"a local cluster with its state in {other} is running on this machine",
            "Stop it with `down`, under the XDG_STATE_HOME or HOME that it was started with.",
        )
    first = processes.process_one(state)
    if first is not None:
        with console.step("stopping the cluster"):
            os.kill(first, signal.SIGTERM)
            processes.wait_gone(first, STOP_SECONDS)
    elif found := leftovers.find(state):
        console.say(f"cleaning up after a run that did not end properly: {found}")
    rest = leftovers.clean(state)
    if rest:
        raise ClusterError(f"could not remove {rest}: {rest!r}", "Look for a process that uses them, and try again.")
    sysctls.restore(state)


def _wipe(state: State) -> None:
    for folder in (state.data, state.pki, state.config, state.manifests, state.run, state.logs, state.bin):
        shutil.rmtree(folder, ignore_errors=False) if folder.exists() else None
    for file in (state.record, state.images, state.kubeconfig):
        file.unlink(missing_ok=True)


def _prepare(console: Console, state: State, built: Built, files: dict[str, str], wanted: Wanted) -> None:
    kept = _record(state)
    if kept is not None and kept.layout != wanted.layout:
        console.say("the kept cluster has another layout (version, addresses): starting from nothing")
        _wipe(state)
    for folder in (state.run, state.logs, *(state.data / name for name in planning.DATA_FOLDERS)):
        folder.mkdir(parents=True, exist_ok=True)
    pki.ensure(state)
    render.write(state.config, files)
    _link_programs(state, built)
    shutil.copy2(supervisor.__file__, state.supervisor)
    state.plan.write_text(json.dumps(planning.plan(state), indent=1))
    state.daemon_status.unlink(missing_ok=True)
    state.record.write_text(json.dumps(vars(wanted)))


def _link_programs(state: State, built: Built) -> None:
    if state.bin.exists():
        shutil.rmtree(state.bin)
    state.bin.mkdir()
    for module in gobuild.DAEMON_MODULES:
        for program in built.programs[module.name].iterdir():
            (state.bin / program.name).symlink_to(program)


def _start(console: Console, state: State) -> None:
    leftovers.make_mount_points(state)
    sysctls.remember(state)
    make_cgroup()
    network.create()
    with (state.logs / "supervisor.log").open("wb") as log:
        holder = subprocess.Popen(
            planning.holder_argv(state), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            start_new_session=True,
        )  # fmt: skip
    processes.record_holder(state, holder.pid)
    if not processes.wait_for_process_one(state, holder.pid):
        log = (state.logs / "supervisor.log").read_text().strip()
        raise ClusterError(
            f"the cluster's namespaces could not be made: {log}",
            "The local cluster needs a machine on which root may make namespaces and mounts.",
        )
    console.say(f"starting the cluster (process {holder.pid})")


def make_cgroup() -> None:
    """The cgroup that all pods live below, in every controller's tree; the kubelet wants it to exist."""
    root = leftovers.CGROUPS
    if (root / "cgroup.controllers").exists():  # version 2: one tree
        controllers = (root / "cgroup.controllers").read_text().split()
        (root / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        trees = [root]
    else:
        trees = [tree for tree in root.iterdir() if (tree / "cgroup.procs").exists() and not tree.is_symlink()]
    for tree in trees:
        (tree / settings.CGROUP).mkdir(exist_ok=True)
    if (cpuset := root / "cpuset" / settings.CGROUP).is_dir():  # version 1: empty, and unusable, until told otherwise
        for name in ("cpuset.cpus", "cpuset.mems"):
            (cpuset / name).write_text((root / "cpuset" / name).read_text())


def _complete(console: Console, state: State, built: Built, started_at: float) -> None:
    """Images, manifests, and waiting until everything answers."""
    state.images.write_text(json.dumps(built.references()))
    server = ApiServer(state)
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        imported = pool.submit(_import_images, console, state, built)
        readiness.wait(console, state, "API server", lambda: readiness.api_server(server), START_SECONDS)
        readiness.wait(console, state, "kubelet", readiness.kubelet, START_SECONDS)
        render.write(state.manifests, render.render_folder("manifests", render.values(state, built.references())))
        # A pod whose image is not there yet is tried again only after ten seconds, so the images come first.
        imported.result()
        _apply(state)
        readiness.wait(console, state, "node", lambda: readiness.node(server, started_at), START_SECONDS)
    finally:
        pool.shutdown(wait=False)  # an interrupted `up` stops the cluster, and with it the import
    for subject, question in (
        ("CoreDNS", lambda: readiness.rolled_out(server, "kube-system", "coredns")),
        ("DNS lookup", readiness.names_resolve),
        ("storage", lambda: readiness.storage(server)),
        ("Prometheus pod", lambda: readiness.rolled_out(server, "monitoring", "prometheus")),
        ("Prometheus targets", readiness.prometheus),
    ):
        readiness.wait(console, state, subject, question, POD_SECONDS)


def _import_images(console: Console, state: State, built: Built) -> None:
    readiness.wait(console, state, "containerd", lambda: loading.containerd_missing(state), START_SECONDS)
    for image in built.images.values():
        if not loading.present(state, image.reference):
            loading.load_archive(console, state, image.archive)


def _apply(state: State) -> None:
    shell.run([state.bin / "kubectl", "--kubeconfig", state.kubeconfig, "apply", "--server-side", "--force-conflicts",
               "--filename", state.manifests])  # fmt: skip
