"""The process that parses files of strangers: `python -m knowledgebeast_service.ingest.files.child`.

It reads one job a line from stdin and answers with one line each. Input and output are inherited file descriptors, so
that it needs no path of its own. It gives up rights before it touches a byte: memory, CPU time for each file, size of
the output, no further processes. Whatever a parser does, only this process can die of it.
"""

import ctypes
import json
import math
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from knowledgebeast_service.ingest.files.kinds import FileKind
from knowledgebeast_service.ingest.files.parsed import Parsed, ParseError

PR_SET_PDEATHSIG = 1
MIB = 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One file; `source` and `target` are descriptors."""

    kind: str
    source: int
    target: int
    max_pages: int
    max_bytes: int
    cpu_seconds: int


@dataclass(frozen=True)
class Answer:
    """`error` is None when the text is in `target`."""

    title: str = ""
    error: str | None = None


def confine(memory_bytes: int) -> None:
    """Give up what parsing does not need; die with the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # No parser has a reason to start a program or a thread. (Root is not bound by this limit; pods do not run as root.)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def parse(job: Job) -> Parsed:
    """By the parser of its kind, which is loaded only when it is needed: that takes longer than most files."""
    content = Path(f"/dev/fd/{job.source}").read_bytes()
    match FileKind(job.kind):
        case FileKind.PDF:
            from knowledgebeast_service.ingest.files.pdf_text import parse_pdf

            return parse_pdf(content, job.max_pages)
        case FileKind.HTML:
            from knowledgebeast_service.ingest.files.html_text import parse_html

            return parse_html(content)
        case FileKind.MARKDOWN:
            from knowledgebeast_service.ingest.files.markdown_text import parse_markdown

            return parse_markdown(content)
        case FileKind.TEXT:
            raise ParseError("plain text needs no parser")


def work(job: Job) -> Answer:
    """Parse one file into its target."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_end = math.ceil(used.ru_utime + used.ru_stime) + job.cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_end, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    try:
        parsed = parse(job)
        written = 0
        with os.fdopen(job.target, "wb", closefd=False) as target:
            for piece in parsed.pieces:
                encoded = piece.replace("\0", "").encode(errors="replace")
                written += len(encoded)
                if written > job.max_bytes:
                    return Answer(error=f"its text is larger than {job.max_bytes:,} bytes (MAX_DOCUMENT_SIZE_MB)")
                target.write(encoded)
        title = parsed.title.replace("\0", "").encode(errors="replace").decode()
    except ParseError as error:
        return Answer(error=str(error))
    except MemoryError:
        return Answer(error="parsing it takes more memory than PARSE_MEMORY_MB allows")
    except RecursionError:
        return Answer(error="it is nested too deeply")
    return Answer(title)


def main() -> None:
    """Jobs from stdin until it ends; the argument is the memory in MiB."""
    confine(int(sys.argv[1]) * MIB)
    for line in sys.stdin:
        answer = work(Job(**json.loads(line)))
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
