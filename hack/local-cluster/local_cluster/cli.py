"""The command line of the local cluster."""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from local_cluster import (
    base_image,
    build,
    gobuild,
    host,
    lifecycle,
    loading,
    namespaces,
    paths,
    plan,
    shell,
    status,
)
from local_cluster.buildah import Buildah
from local_cluster.console import Console
from local_cluster.errors import ClusterError

EXIT_ERROR, EXIT_DOWN, EXIT_INTERRUPTED = 1, 3, 130

EXAMPLES = """\
examples:
  cluster.py up                          start it, or make sure that it runs
  export KUBECONFIG=$(cluster.py kubeconfig)
  cluster.py load-image build/app.tar    an archive made by `docker save` or `buildah push`
  cluster.py load-image localhost/app:1  an image in the project's own buildah storage
  cluster.py buildah -- build -t localhost/app:1 .
  cluster.py exec -- iptables -I FORWARD -p tcp --dport 8000 -j DROP
  cluster.py signal kubelet SIGSTOP      pause a daemon; SIGCONT lets it go on
  cluster.py logs kube-apiserver -n 50
  cluster.py down                        stop it, leave nothing running; the data stay
  cluster.py reset                       down, and the data go too
"""


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 1 failed, 3 `status` of a cluster that is down, 130 interrupted; of `exec` and `buildah`
    that of the command.
    """
    options = _parser().parse_args(arguments)
    console = Console()
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    command: Callable[[Console, argparse.Namespace], int] = options.command
    try:
        return command(console, options)
    except ClusterError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.next_step:
            print(f"       {error.next_step}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted; what was built so far is kept, and `up` goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `cluster.py logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(_number: int, _frame: object) -> None:
    shell.interrupt_all()
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cluster.py", description="A real single-node Kubernetes on this machine (Linux, root).",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Console, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        return command

    add("up", _up, "start the cluster, or make sure that it runs and answers")
    add("down", _down, "stop it and leave nothing running or mounted; the data stay")
    add("reset", _reset, "stop it and remove its data")
    add("status", _status, "daemons, addresses, files").add_argument("--json", action="store_true")
    add("kubeconfig", _kubeconfig, "print the path of the kubeconfig file")
    add("audit-log", _audit_log, "print the path of the API server's audit log (JSON lines)")
    add("build", _build, "build everything that `up` needs and print a table of times")
    add("base-image", _base_image, "make the Python base image and print its reference")
    add("load-image", _load_image, "bring images into the cluster").add_argument("image", nargs="+")
    add("promtool", _promtool, "run promtool (no cluster needed)").add_argument("arguments", nargs=argparse.REMAINDER)
    run_inside = add("exec", _exec, "run a command inside the cluster's namespaces")
    run_inside.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- CMD")
    own_buildah = add("buildah", _buildah, "run buildah on the project's own image storage")
    own_buildah.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- ARGS")
    logs = add("logs", _logs, "print a daemon's log")
    logs.add_argument("component", choices=(*plan.DAEMONS, "supervisor"))
    logs.add_argument("-n", "--lines", type=int, default=200)
    logs.add_argument("-f", "--follow", action="store_true")
    send = add("signal", _signal, "send a daemon a signal")
    send.add_argument("component", choices=plan.DAEMONS)
    send.add_argument("signal", choices=("SIGSTOP", "SIGCONT", "SIGTERM", "SIGKILL"))
    return parser


def _up(console: Console, _options: argparse.Namespace) -> int:
    state = paths.state()
    lifecycle.up(console, paths.cache(), state)
    console.say("the cluster is up")
    print(f"export KUBECONFIG={state.kubeconfig}")
    return 0


def _down(console: Console, _options: argparse.Namespace) -> int:
    lifecycle.down(console, paths.state())
    console.say("the cluster is down; its data stay for the next `up`")
    return 0


def _reset(console: Console, _options: argparse.Namespace) -> int:
    lifecycle.reset(console, paths.state())
    console.say("the cluster and its data are gone")
    return 0


def _status(_console: Console, options: argparse.Namespace) -> int:
    state = paths.state()
    up = status.is_up(state)
    print(json.dumps(status.facts(state)) if options.json else status.text(state))
    return 0 if up else EXIT_DOWN


def _kubeconfig(_console: Console, _options: argparse.Namespace) -> int:
    print(paths.state().kubeconfig)
    return 0


def _audit_log(_console: Console, _options: argparse.Namespace) -> int:
    print(paths.state().audit_log)
    return 0


def _build(console: Console, _options: argparse.Namespace) -> int:
    host.ensure(console, paths.state())
    build.build_all(console, paths.cache())
    print(build.report(console))
    return 0


def _base_image(console: Console, _options: argparse.Namespace) -> int:
    host.ensure(console, paths.state())
    print(base_image.ensure(console, paths.cache()))
    return 0


def _load_image(console: Console, options: argparse.Namespace) -> int:
    state, names = paths.state(), [str(name) for name in options.image]
    for name in names:
        if Path(name).is_file():
            loading.load_archive(console, state, Path(name))
        else:
            loading.load_from_storage(console, state, Buildah(paths.cache().buildah_root), name)
    return 0


def _promtool(console: Console, options: argparse.Namespace) -> int:
    host.ensure(console, paths.state())
    folder = build.build_program(console, paths.cache(), gobuild.PROMETHEUS)
    return subprocess.run([folder / "promtool", *_words(options)], check=False).returncode


def _exec(_console: Console, options: argparse.Namespace) -> int:
    words = _words(options)
    if not words:
        raise ClusterError("no command to run", "For example: cluster.py exec -- ip route")
    return subprocess.run(namespaces.argv(paths.state(), words), check=False).returncode


def _buildah(_console: Console, options: argparse.Namespace) -> int:
    buildah = Buildah(paths.cache().buildah_root)
    buildah.root.mkdir(parents=True, exist_ok=True)
    return subprocess.run(buildah.argv(_words(options)), env=buildah.environment(), check=False).returncode


def _words(options: argparse.Namespace) -> list[str]:
    words = [str(word) for word in options.arguments]
    return words[1:] if words[:1] == ["--"] else words


def _logs(_console: Console, options: argparse.Namespace) -> int:
    log = paths.state().logs / f"{options.component}.log"
    if not log.exists():
        raise ClusterError(f"{options.component} has no log yet", "Start the cluster: cluster.py up")
    follow = ["--follow"] if options.follow else []
    return subprocess.run(["tail", f"--lines={options.lines}", *follow, log], check=False).returncode


def _signal(_console: Console, options: argparse.Namespace) -> int:
    os.kill(status.pid_of(paths.state(), options.component), signal.Signals[options.signal])
    return 0
