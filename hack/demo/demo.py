"""From nothing to a healed incident, on screen: `make demo`.

A cluster (KUBECONFIG's, or a local one), both images, one KnowledgeBeast with documents, clients that search all the
time; then Chroma breaks, and the operator heals it. Nothing is a mock, and what did not happen is an error.
"""

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "local-cluster"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from story import Story

from harness.cluster import ROOT, Cluster, connect
from harness.corpus import load_corpus
from harness.errors import HarnessError
from harness.exclusive import exclusive
from harness.faults.chroma import Chroma
from harness.images import load_images
from harness.install import PROFILE, Installation, Monitoring
from harness.kubectl import program
from harness.library import READY_SECONDS, Library, applied
from harness.objects import Pod
from harness.screen import Mark, Screen
from harness.wait import wait_for

NAMESPACE = "search"
NAME = "demo"
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Fault:
    """What is broken, in a word for the command line and a sentence for the screen."""

    sentence: str
    inject: Callable[[Chroma], AbstractContextManager[Pod]]


FAULTS = {
    "chroma-hung": Fault(
        "SIGSTOP to Chroma: its port accepts connections and nothing answers (the kubelet would wait 3 minutes)",
        Chroma.hung,
    ),
    "chroma-errors": Fault(
        "Chroma's database is exchanged under the running server: every search is an error, the heartbeat stays 200",
        Chroma.file_replaced,
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0 when every step happened, 1 when one did not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="From nothing to a healed incident, on screen.",
        epilog="The cluster of KUBECONFIG is used where it names one; otherwise a local one (Linux, root). "
        "Everything stays up at the end; the last lines say how to look at it and how to remove it.",
    )
    parser.add_argument("--incident", choices=list(FAULTS), default="chroma-hung", help="what breaks (chroma-hung)")
    parser.add_argument("--rate", type=float, default=20.0, help="searches per second (20)")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)  # so that faults are undone and the load ends, as after Ctrl-C
    screen = Screen()
    try:
        demo(screen, FAULTS[given.incident], given.rate)
    except HarnessError as error:
        screen.line(Mark.BROKEN, "failed", str(error))
        return 1
    except KeyboardInterrupt:
        screen.line(Mark.NOTICE, "interrupted", "the fault is undone and the load has ended; `make demo` starts again")
        return EXIT_INTERRUPTED
    return 0


def demo(screen: Screen, fault: Fault, rate: float) -> None:
    """The whole line, from the cluster to the closed incident."""
    screen.title("KnowledgeBeast: a search service that is healed while people search")
    with screen.step("cluster", "looking for one, or starting it (the first time builds it: minutes)") as step:
        cluster = connect()
        step.result = f"{_version(cluster)}; {cluster.capabilities}"
    with exclusive(cluster, lambda text: screen.line(Mark.NOTICE, "waiting", text)):
        _install(screen, cluster)
        with _filled(screen, cluster) as made, tempfile.TemporaryDirectory(prefix="knowledgebeast-demo-") as folder:
            _search(screen, made)
            story = Story(screen, made, Path(folder), rate)
            story.tell(fault.sentence, fault.inject)
            screen.title(f"kubectl describe kbi {story.incident_name} -n {NAMESPACE}")
            screen.block(cluster.kubectl.run("describe", "kbi", story.incident_name, f"--namespace={NAMESPACE}"))
            story.conclude()
            _next_steps(screen, cluster, made)


def _install(screen: Screen, cluster: Cluster) -> None:
    with screen.step("images", "building what is not cached, and loading it into the cluster") as step:
        images = load_images(cluster)
        step.result = f"{images.operator}, {images.service}"
    with screen.step("operator", "kubectl apply -k manifests/operator") as step:
        installation = Installation(cluster, images, [NAMESPACE], Monitoring.of(cluster))
        installation.install()
        leader, pods = installation.leader(), installation.pods()
        step.result = f"{len(pods)} pods; {leader.name if leader else 'nobody'} leads, the other stands by"


@contextlib.contextmanager
def _filled(screen: Screen, cluster: Cluster) -> Generator[Library]:
    """A KnowledgeBeast with documents in it, which stays.

    It is a new object each time, because three restarts in an hour are the limit of one; its claims stay from the last
    time and are adopted by name.
    """
    cluster.kubectl.delete("knowledgebeast", NAME, NAMESPACE)
    labels = f"knowledgebeast.io/name={NAME}"
    wait_for("the pods of the last time to go", lambda: not cluster.api.list(Pod, NAMESPACE, labels=labels), timeout=60,
             explain=lambda: cluster.explain(NAMESPACE))  # fmt: skip
    with contextlib.ExitStack() as stack:
        with screen.step("KnowledgeBeast", f"kubectl apply -n {NAMESPACE} -f {PROFILE.relative_to(ROOT)}") as step:
            made = stack.enter_context(applied(cluster, NAME, NAMESPACE))
            made.wait_for_condition("Ready", "True", timeout=READY_SECONDS)
            step.result = f"{NAME} is ready with {len(made.service_pods())} service pods"
        with screen.step("documents", f"ingesting {len(load_corpus().documents)}") as step:
            made.client.ingest(load_corpus().documents)
            made.wait_until_well()
            step.result = "durable, embedded, and searchable by keyword and by vector"
        yield made


def _search(screen: Screen, made: Library) -> None:
    question = load_corpus().questions[21]
    answer = made.client.search(question.text)
    best = answer.results[0]
    screen.line(Mark.DONE, "search", f"“{question.text}” → {best.title} ({answer.took_ms:.0f} ms, hybrid)")
    if best.document_id != question.document:
        raise HarnessError(f"expected the document {question.document!r} first, found {answer.documents}")


def _next_steps(screen: Screen, cluster: Cluster, made: Library) -> None:
    screen.title("What to type next")
    lines = [
        f"export KUBECONFIG={cluster.kubectl.kubeconfig}",
        "" if shutil.which("kubectl") else f"alias kubectl={program()}",
        f"kubectl get kb,kbi -n {NAMESPACE}",
        f"kubectl describe kb {NAME} -n {NAMESPACE}            # conditions, and a summary in four lines",
        f"kubectl get events -n {NAMESPACE} --field-selector involvedObject.name={NAME}",
        f"curl '{made.url}/api/v1/query/library?q=Who+walked+on+the+Moon'" if cluster.is_local else "",
        "make demo INCIDENT=chroma-errors       # errors with a heartbeat of 200: no probe can see that",
        f"kubectl delete kb {NAME} -n {NAMESPACE}              # claims stay, and are adopted by the next of that name",
        "make cluster-down                      # leaves nothing running" if cluster.is_local else "",
    ]
    screen.block("\n".join(line for line in lines if line))


def _version(cluster: Cluster) -> str:
    where = "local cluster" if cluster.is_local else f"context {cluster.context}"
    server = next(line for line in cluster.kubectl.run("version").splitlines() if line.startswith("Server Version"))
    return f"{where}, Kubernetes {server.partition(':')[2].strip()}"


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
