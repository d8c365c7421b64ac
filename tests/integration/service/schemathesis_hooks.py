"""What a schema cannot say about requests."""
# pyright: basic

from typing import Any

import schemathesis

LARGEST = 2**63 - 1


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A valid `min_seq` that was never given out is waited for and then answered 503, as it has to be."""
    batch = case.body.get("queries") if isinstance(case.body, dict) else None
    for fields in (case.query, case.body, *(batch if isinstance(batch, list) else ())):
        if isinstance(fields, dict) and _is_valid(fields.get("min_seq")):
            fields["min_seq"] = 0


def _is_valid(min_seq: object) -> bool:
    if isinstance(min_seq, str) and min_seq.isascii() and min_seq.isdigit():
        return int(min_seq) <= LARGEST
    return isinstance(min_seq, int) and not isinstance(min_seq, bool) and 0 <= min_seq <= LARGEST
