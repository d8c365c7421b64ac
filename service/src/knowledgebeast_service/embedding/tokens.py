"""The tokenizer, without the settings that its file carries."""

# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer  # pyright: ignore[reportMissingTypeStubs]


def load_tokenizer(path: Path) -> Tokenizer:
    """Neither pads nor cuts."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class TokenCounter:
    """Counts tokens of texts of any length."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = load_tokenizer(path)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the two that frame the input."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
