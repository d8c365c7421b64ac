"""2A and 6A at once: Chroma hangs while the model's files are lost and a pod restarts. Each is cured by its own option.

Neither is the cause of the other: a restart of Chroma brings no files, and files bring no Chroma.
"""

import contextlib
from collections.abc import Generator

from harness.faults.model import QUICK, Model
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def both(library: Library) -> Generator[None]:
    with library.chroma.hung(), Model(library).lost():
        yield


SCENARIO = Scenario(
    title="Chroma hangs and the model is lost",
    fault=both,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    also=("EmbeddingModelFailure",),
    right=(("RestartChroma", "Successful"), ("RestoreModel", "Successful")),
    spec={"service": {"replicas": 2}, "remediation": {"runbooks": [QUICK]}},
    is_quick=True,
)
