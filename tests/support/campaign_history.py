"""What a client knows for certain: an exact record of writes that were acknowledged, refused, or left without answer.

Every document belongs to one client task, which writes to it one request at a time; so its possible states are known
at every moment, and an answer that shows any other state is a violation.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

COMMON_WORD = "campaign"  # in every chunk, so that one query can ask for all documents
WORDS = ("harbour", "lantern", "meadow", "granite", "violin", "orchard", "glacier", "velvet", "ember", "canyon")
SENTENCES = (1, 1, 1, 1, 1, 1, 1, 24)  # one document in eight has several chunks


@dataclass(frozen=True)
class Key:
    """Of a document."""

    project: str
    id: str


@dataclass(frozen=True)
class Version:
    """One content that a document has had; `token` is a word that no other content holds."""

    number: int
    token: str
    text: str


State = Version | None  # None: there is no such document
Write = Mapping[Key, State]


def make_version(key: Key, number: int, source: random.Random) -> Version:
    """New content: its project and its token are named in every sentence, so that every chunk shows whose it is."""
    token = f"{key.project}{key.id}v{number}"
    sentences = (
        f"The {COMMON_WORD} of {key.project} notes {token} beside {' '.join(source.sample(WORDS, 6))}."
        for _ in range(source.choice(SENTENCES))
    )
    return Version(number, token, " ".join(sentences))


class PromiseError(AssertionError):
    """The service broke a promise; the message says which."""


@dataclass
class History:
    """Possible states of every document ever written, and of writes in doubt: all of a request, or nothing of it."""

    possible: dict[Key, frozenset[State]] = field(default_factory=dict[Key, frozenset[State]])
    past_tokens: dict[Key, list[str]] = field(default_factory=dict[Key, list[str]])
    doubts: list[dict[Key, State]] = field(default_factory=list[dict[Key, State]])
    counts: Counter[str] = field(default_factory=Counter[str])

    def states(self, key: Key) -> frozenset[State]:
        return self.possible.get(key, frozenset({None}))

    def certain(self, key: Key) -> State | str:
        """The state, or the word "unknown"."""
        states = self.states(key)
        return next(iter(states)) if len(states) == 1 else "unknown"

    def acknowledged(self, write: Write) -> None:
        self.counts["acknowledged"] += 1
        for key, state in write.items():
            self._settle(key, state)

    def unanswered(self, write: Write) -> None:
        """No answer, or one that says that it may have happened."""
        self.counts["unknown"] += 1
        for key, state in write.items():
            self.possible[key] = self.states(key) | {state}
            self._remember(key, state)
        self.doubts.append(dict(write))

    def refused(self) -> None:
        """Certainly nothing happened."""
        self.counts["refused"] += 1

    def observed(self, states: Mapping[Key, State]) -> None:
        """All documents as they were found while nobody wrote: doubts end here.

        Raises:
            PromiseError: a document in a state that it cannot have, or half of a request.
        """
        for key in self.possible:
            found = states.get(key)
            if found not in self.states(key):
                raise PromiseError(f"{key} is {_show(found)}, possible: {', '.join(map(_show, self.states(key)))}")
        for doubt in self.doubts:
            open_doubt = {key: state for key, state in doubt.items() if len(self.states(key)) == 2}
            happened = {states.get(key) == state for key, state in open_doubt.items()}
            if len(happened) > 1:
                raise PromiseError(f"half of one request was kept: {sorted(key.id for key in open_doubt)}")
        self.doubts.clear()
        for key in list(self.possible):
            self._settle(key, states.get(key))
        unknown = set(states) - set(self.possible)
        if unknown:
            raise PromiseError(f"documents that nobody wrote: {unknown}")

    def living(self, project: str) -> dict[str, Version]:
        """Documents by id, when there is no doubt left."""
        certain = {key.id: self.certain(key) for key in self.possible if key.project == project}
        return {id_: state for id_, state in certain.items() if isinstance(state, Version)}

    def is_possible(self, key: Key, number: int) -> bool:
        """Whether a reader may see this version of the document now."""
        return any(state is not None and state.number == number for state in self.states(key))

    def _settle(self, key: Key, state: State) -> None:
        # A request in doubt tells nothing any more about a document that was written or seen since.
        for doubt in self.doubts:
            doubt.pop(key, None)
        self.possible[key] = frozenset({state})
        self._remember(key, state)

    def _remember(self, key: Key, state: State) -> None:
        tokens = self.past_tokens.setdefault(key, [])
        if state is not None and state.token not in tokens:
            tokens.append(state.token)


def _show(state: State) -> str:
    return "absent" if state is None else f"version {state.number}"


def dead_tokens(history: History, keys: Iterable[Key]) -> dict[Key, list[str]]:
    """Tokens of contents that were replaced or deleted: no answer may show them any more."""
    dead: dict[Key, list[str]] = {}
    for key in keys:
        state = history.certain(key)
        living = state.token if isinstance(state, Version) else None
        dead[key] = [token for token in history.past_tokens.get(key, ()) if token != living]
    return dead
