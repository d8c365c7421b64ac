"""A judged collection in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels.tsv (Thakur et al. 2021)."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

QRELS_COLUMNS = 3


class DatasetError(Exception):
    """The folder is not such a collection; the message names file and line."""


class _Entry(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: str = Field(validation_alias="_id")
    title: str = ""
    text: str


@dataclass(frozen=True)
class Document:
    """What is searched."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Dataset:
    """`queries` holds only those with a judgment; `judgments` maps query and document to a grade (0 = not relevant)."""

    name: str
    documents: tuple[Document, ...]
    queries: Mapping[str, str]
    judgments: Mapping[str, Mapping[str, int]]
    fingerprint: str  # of the corpus, so that another corpus of the same name is another project


def read_dataset(folder: Path) -> Dataset:
    """Read the three files.

    Raises:
        DatasetError: one is missing or damaged, or they do not belong together.
    """
    documents = tuple(Document(one.id, one.title, one.text) for one in _entries(folder / "corpus.jsonl"))
    judgments = _judgments(folder / "qrels.tsv")
    queries = {one.id: one.text for one in _entries(folder / "queries.jsonl") if one.id in judgments}
    absent = judgments.keys() - queries.keys()
    if absent:
        raise DatasetError(f"{len(absent)} judged queries are not in queries.jsonl, the first is {min(absent)!r}")
    known = {document.id for document in documents}
    if not any(document in known for judged in judgments.values() for document in judged):
        raise DatasetError("qrels.tsv judges no document of corpus.jsonl: do the files belong together?")
    digest = hashlib.sha256((folder / "corpus.jsonl").read_bytes()).hexdigest()[:8]
    return Dataset(folder.resolve().name, documents, queries, judgments, digest)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}): the folder needs corpus.jsonl, queries.jsonl and qrels.tsv"
        ) from error


def _entries(path: Path) -> Iterator[_Entry]:
    for number, line in _lines(path):
        try:
            yield _Entry.model_validate(orjson.loads(line))
        except (orjson.JSONDecodeError, ValidationError) as error:
            raise DatasetError(f'{path}:{number}: not an object with "_id" and "text": {error}') from error


def _judgments(path: Path) -> dict[str, dict[str, int]]:
    """`query-id  corpus-id  score`, with or without that heading; the older four columns of TREC are taken too."""
    found: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) == QRELS_COLUMNS + 1:
            columns = [columns[0], *columns[2:]]
        if number == 1 and columns[-1].strip().lower() in ("score", "relevance"):
            continue
        try:
            query, document, grade = columns
            found.setdefault(query, {})[document] = int(grade)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: not `query-id TAB corpus-id TAB score`") from error
    if not found:
        raise DatasetError(f"{path} holds no judgment")
    return found
