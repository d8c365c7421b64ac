"""What docs/runbook-mapping.md says about a runbook beyond its values, read where it is: in code, rules and tests.

Actions are those that the code of an option can make; alerts are those of the rules file; tests are found by the names
of their files, and scenarios by the codes of the options with which their docstring begins.
"""

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final, get_args

from knowledgebeast_operator.core.actions import Action
from knowledgebeast_operator.core.runbook import Option, Runbook
from knowledgebeast_operator.custom_resource.names import kebab

ROOT: Final = Path(__file__).resolve().parents[3]
RULES: Final = Path("manifests/monitoring/knowledgebeast.rules.yaml")
SCENARIOS: Final = Path("tests/faults")
END_TO_END: Final = Path("tests/e2e")
WITHOUT_FAULT: Final = "no_fault"

ACTIONS: Final = frozenset(kind.__name__ for kind in get_args(get_args(Action)[0]))
PACKAGE: Final = __name__.partition(".")[0]

_ALERT: Final = re.compile(r"^  - alert: (\w+)\n(.*?)(?=^  - |\Z)", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"\b[1-9][A-Z]\b")


class MissingSourceError(LookupError):
    """A runbook lacks a file, an alert or a scenario that the page has to name."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert of the rules file."""

    name: str
    severity: str
    hold: str  # `for`; empty: at once

    def describe(self) -> str:
        """`ChromaUnreachable` (critical, for 30s)."""
        return f"`{self.name}` ({', '.join(filter(None, (self.severity, self.hold and f'for {self.hold}')))})"


def module_name(runbook: Runbook) -> str:
    """`chroma_unreachable` for `ChromaUnreachable`: the file in runbooks/ and, with `test_`, its table test."""
    return kebab(runbook.name).replace("-", "_")


def actions_of(option: Option) -> tuple[str, ...]:
    """Types of the actions that the code of the option makes, itself or in what it calls; none: it only tells."""
    return tuple(sorted(set(_made(option.consider, set()))))


def alerts(root: Path = ROOT) -> tuple[Alert, ...]:
    """All alerts, in the order of the file."""
    text = (root / RULES).read_text(encoding="utf-8")
    return tuple(Alert(name, _field("severity", body), _field("for", body)) for name, body in _ALERT.findall(text))


def table_test(runbook: Runbook, root: Path = ROOT) -> Path:
    """The table test of its decisions.

    Raises:
        MissingSourceError: there is none.
    """
    path = Path("tests/unit/runbooks") / f"test_{module_name(runbook)}.py"
    if not (root / path).is_file():
        raise MissingSourceError(f"{runbook.name} has no {path}")
    return path


def scenarios(loaded: Iterable[Runbook], root: Path = ROOT) -> Mapping[str, tuple[Path, ...]]:
    """Fault scenarios by the code of the option that they are about.

    Raises:
        MissingSourceError: one is about no option, or a runbook has none.
    """
    known = {option.code for runbook in loaded for option in runbook.options}
    found: dict[str, list[Path]] = {code: [] for code in known}
    for file in sorted((root / SCENARIOS).glob("*.py")):
        if file.stem.startswith(WITHOUT_FAULT):
            continue
        head = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        codes = [code for code in _CODE.findall(head) if code in known]
        if not codes:
            raise MissingSourceError(f"{file.relative_to(root)} does not begin with the code of an option, such as 2A")
        for code in codes:
            found[code].append(SCENARIOS / file.name)
    for runbook in loaded:
        if not any(found[option.code] for option in runbook.options):
            raise MissingSourceError(f"no scenario of {SCENARIOS} is about {runbook.name}")
    return {code: tuple(paths) for code, paths in found.items()}


def end_to_end(runbook: Runbook, root: Path = ROOT) -> tuple[Path, ...]:
    """Tests on a cluster that bear its first word, as test_chroma_hung.py does, or name it in their text."""
    word = module_name(runbook).partition("_")[0]
    files = sorted((root / END_TO_END).glob("test_*.py"))
    return tuple(
        END_TO_END / file.name
        for file in files
        if file.stem.startswith(f"test_{word}_") or f'"{runbook.name}"' in file.read_text(encoding="utf-8")
    )


def _field(name: str, body: str) -> str:
    found = re.search(rf"^ +{name}: (\w+)$", body, re.MULTILINE)
    return found.group(1) if found else ""


def _made(function: Callable[..., object], seen: set[FunctionType]) -> Iterator[str]:
    """Names of the actions that are constructed, or handed on to be, in a function and in those that it names."""
    if isinstance(function, functools.partial):
        yield from _made(function.func, seen)
        return
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType) or plain in seen or not plain.__module__.startswith(PACKAGE):
        return
    seen.add(plain)
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    yield from _constructed(tree)
    scope = inspect.getclosurevars(plain)
    for value in (*scope.globals.values(), *scope.nonlocals.values()):
        if isinstance(value, ModuleType):
            for name in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}:
                yield from _made(getattr(value, name, str), seen)
        elif callable(value):
            yield from _made(value, seen)


def _constructed(tree: ast.AST) -> Iterator[str]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or (isinstance(call.func, ast.Name) and call.func.id == "isinstance"):
            continue
        for node in (call.func, *call.args, *(keyword.value for keyword in call.keywords)):
            if isinstance(node, ast.Name) and node.id in ACTIONS:
                yield node.id
