"""2A and 5C at once: Chroma hangs while old temporary files fill the database's volume. Each has its own cure.

Neither is the cause of the other: it is not Chroma's volume that is full, so 2C has no place here.
"""

import contextlib
from collections.abc import Generator

from harness.faults.volume import SOON, Heap, Volume
from harness.library import Library
from harness.scenario import End, Scenario


@contextlib.contextmanager
def both(library: Library) -> Generator[None]:
    with Volume(library).filled(Heap("temp", "upload-{}.part", days_old=3)), library.chroma.hung():
        yield


SCENARIO = Scenario(
    title="Chroma hangs while the disk fills",
    fault=both,
    end=End.RESOLVED,
    runbook="ChromaUnreachable",
    also=("DiskSpaceCritical",),
    right=(("RestartChroma", "Successful"), ("CleanTemporaryFiles", "Successful")),
    spec={"remediation": SOON},
)
