"""A `kubectl` that answers from a folder: `answers.json` maps its arguments to what it prints, `calls.jsonl` has them.

An answer is a list of texts for as many calls, the last one again and again; one that begins with `!` is an error.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = (
    f"#!{sys.executable}\n"
    + """
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
arguments = [word for word in sys.argv[1:] if not word.startswith(("--namespace=", "--context=", "--kubeconfig="))]
stdin = "" if sys.stdin.isatty() else sys.stdin.read()
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"argv": sys.argv[1:], "stdin": stdin}) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
line = " ".join(arguments)
for pattern, texts in answers.items():
    if line.startswith(pattern):
        text = texts.pop(0) if len(texts) > 1 else texts[0]
        (folder / "answers.json").write_text(json.dumps(answers))
        if text.startswith("!"):
            sys.exit(text[1:])
        print(text, end="")
        sys.exit(0)
sys.exit(f"no answer for {line}")
"""
)


@dataclass(frozen=True)
class ScriptedKubectl:
    """In a folder that comes first on the PATH."""

    folder: Path

    @classmethod
    def install(cls, folder: Path, answers: Mapping[str, Sequence[str]]) -> "ScriptedKubectl":
        """Writes the program and its answers."""
        (folder / "answers.json").write_text(json.dumps(answers))
        program = folder / "kubectl"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        return cls(folder)

    @property
    def path(self) -> str:
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def calls(self, beginning: str = "") -> list[tuple[list[str], str]]:
        """Arguments and input of the calls so far."""
        lines = (self.folder / "calls.jsonl").read_text().splitlines() if self.folder.exists() else []
        found = [(call["argv"], call["stdin"]) for call in map(json.loads, lines)]
        return [call for call in found if beginning in " ".join(call[0])]
