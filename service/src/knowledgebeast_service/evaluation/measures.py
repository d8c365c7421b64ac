"""nDCG@10, average precision and recall@100 by ir-measures, which hands the work to trec_eval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from knowledgebeast_service.errors import KnowledgeBeastError

Ranking = Mapping[str, Sequence[str]]  # document ids by query id, best first
Judgments = Mapping[str, Mapping[str, int]]

FIRST_PAGE = 10
DEPTH = 100


class MeasuresMissingError(KnowledgeBeastError):
    """The extra `eval` is not installed."""


@dataclass(frozen=True)
class Quality:
    """Means over all judged queries, 0 to 1; a query without an answer counts as 0."""

    ndcg_at_10: float
    average_precision: float
    recall_at_100: float


def require_measures() -> None:
    """Fail before the work rather than after it.

    Raises:
        MeasuresMissingError: ir-measures cannot be imported.
    """
    try:
        import ir_measures  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MeasuresMissingError(
            f"the measures are not installed ({error}): pip install 'knowledgebeast-service[eval]'"
        ) from error


def quality(judgments: Judgments, first_pages: Ranking, rankings: Ranking) -> Quality:
    """nDCG@10 of the pages that a user gets, average precision and recall of the rankings (DEPTH deep)."""
    return Quality(
        ndcg_at_10=_mean("nDCG@10", judgments, first_pages),
        average_precision=_mean("AP", judgments, rankings),
        recall_at_100=_mean("R@100", judgments, rankings),
    )


def _mean(name: str, judgments: Judgments, rankings: Ranking) -> float:
    import ir_measures

    measure = ir_measures.parse_measure(name)
    # trec_eval sorts by score and breaks ties by id; falling numbers keep the order that was answered.
    run = {query: {document: -float(rank) for rank, document in enumerate(ids)} for query, ids in rankings.items()}
    judged = {query: dict(grades) for query, grades in judgments.items()}
    # Its types name pandas, which is not installed.
    return float(ir_measures.calc_aggregate([measure], judged, run)[measure])  # pyright: ignore[reportUnknownMemberType]
