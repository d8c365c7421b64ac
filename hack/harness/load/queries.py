"""The texts of the load: what people ask, some of it again and again, most of it new."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.corpus import Corpus

REPEATED_SHARE = 0.25  # of requests that ask one of the known questions literally, so that caches see hits


@dataclass(frozen=True)
class Queries:
    """A reproducible sequence of query texts; with `distinct`, of so many different ones, each as likely as others."""

    questions: Sequence[str]
    seed: int = 1
    distinct: int | None = None

    @classmethod
    def of(cls, corpus: Corpus, seed: int = 1, distinct: int | None = None) -> "Queries":
        return cls(tuple(item.text for item in corpus.questions), seed, distinct)

    def text(self, number: int) -> str:
        """The text of the request with that number; the same for the same seed.

        New texts join words of two questions: they cannot come from a cache, and still have matching documents.
        """
        dice = random.Random(f"{self.seed}/{number}")
        if self.distinct is not None:
            dice = random.Random(f"{self.seed}/one of few/{dice.randrange(self.distinct)}")
        elif dice.random() < REPEATED_SHARE:
            return dice.choice(self.questions)
        one, other = dice.sample(range(len(self.questions)), 2)
        words = [*self.questions[one].rstrip("?").split(), *self.questions[other].rstrip("?").split()]
        dice.shuffle(words)
        return " ".join(words)
