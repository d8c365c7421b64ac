"""kubectl as a value: the commands that change things, and those that a user would type."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CommandError
from local_cluster import paths

FIELD_MANAGER = "knowledgebeast-harness"


def program() -> str:
    """The machine's kubectl, else the one that the local cluster was built with."""
    return shutil.which("kubectl") or str(paths.state().bin / "kubectl")


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against one kubeconfig. Every call is bounded in time."""

    kubeconfig: Path

    def argv(self, *arguments: str) -> list[str]:
        return [program(), f"--kubeconfig={self.kubeconfig}", *arguments]

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Its standard output.

        Raises:
            CommandError: it ended with an error or not within `timeout` seconds; the message holds the command and
                what it wrote.
        """
        try:
            done = subprocess.run(
                self.argv(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise CommandError(f"kubectl {' '.join(arguments)}: not done after {timeout:.0f} s") from late
        except FileNotFoundError as missing:
            raise CommandError(
                "kubectl is not installed; install it (version 1.30 or later) and try again"
            ) from missing
        if done.returncode != 0:
            raise CommandError(f"kubectl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def apply(self, manifest: str) -> None:
        """Server-side apply of YAML or JSON text; conflicts with another manager are an error."""
        self.run("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-", stdin=manifest)

    def patch(self, kind: str, name: str, namespace: str, patch: Mapping[str, object]) -> None:
        """JSON merge patch (RFC 7386)."""
        self.run("patch", kind, name, f"--namespace={namespace}", "--type=merge", f"--patch={json.dumps(patch)}")

    def delete(self, kind: str, name: str, namespace: str | None = None, *, timeout: float = 120) -> None:
        """Deletes and waits until it is gone; one that does not exist is fine."""
        where = [] if namespace is None else [f"--namespace={namespace}"]
        self.run(
            "delete", kind, name, *where, "--ignore-not-found", "--wait=true", f"--timeout={timeout:.0f}s",
            timeout=timeout + 10,
        )  # fmt: skip

    def python(self, pod: str, namespace: str, code: str, *arguments: str, container: str | None = None) -> str:
        """Runs Python code in a container; all images of the project have Python and few have a shell's tools."""
        into = [] if container is None else [f"--container={container}"]
        return self.run("exec", pod, f"--namespace={namespace}", *into, "--", "python", "-c", code, *arguments)

    def environment(self) -> dict[str, str]:
        """The environment in which a user's own kubectl talks to the same cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
