"""A small library of facts with questions and the document that answers each."""

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    text: str


class Question(BaseModel):
    """A question in other words than the document's, and the document that answers it."""

    model_config = ConfigDict(frozen=True)

    text: str
    document: str


class Corpus(BaseModel):
    model_config = ConfigDict(frozen=True)

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


@lru_cache(maxsize=1)
def load_corpus() -> Corpus:
    """The documents and questions of `corpus.json` beside this module."""
    return Corpus.model_validate_json(Path(__file__).with_name("corpus.json").read_bytes())
