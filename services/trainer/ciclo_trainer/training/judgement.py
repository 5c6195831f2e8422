"""Judges a version on the held-out rows, and beside the champion on days that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ciclo_bundle import InputsUnfit, verify_bundle
from ciclo_bundle.runtime import Scorer
from ciclo_trainer.training.errors import BOUND_OUTPUT, BadRequest, NotFinite
from ciclo_trainer.training.evidence import metrics_document
from ciclo_trainer.training.recipes import recipe_step
from ciclo_trainer.training.request import DAY_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ciclo_bundle import Bundle
    from ciclo_bundle.runtime import GraphScorer
    from ciclo_trainer.training.request import Request
    from ciclo_trainer.training.snapshot import Rows

FEWEST_BLOCKS: Final = 2
"""Blocks that a comparison needs: from a single one no interval can be drawn."""


@dataclass(frozen=True, slots=True)
class Champion:
    """The one to compare with.

    Attributes:
        bundle: What it is.
        scorer: Its graph.
        score: What that gave for the held-out rows [n].
        is_unseen: Which of them lie on days after all that it was trained on [n].
    """

    bundle: Bundle
    scorer: GraphScorer
    score: NDArray[np.float32]
    is_unseen: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judged:
    """What version and champion gave for the held-out rows.

    Attributes:
        scorer: The graph that will serve.
        score: What it gave [n].
        champion: None if there is none.
    """

    scorer: GraphScorer
    score: NDArray[np.float32]
    champion: Champion | None

    def metrics(self, holdout: Rows) -> dict[str, Any]:
        """Return evidence/metrics.json.

        With a champion, all of it is about the held-out rows on days that neither has seen. If
        these are too few, it is about all held-out rows, has no comparison, and says why not.
        """
        if self.champion is None:
            return metrics_document(holdout, self.score, None)
        unseen = self.champion.is_unseen
        blocks = len(np.unique(holdout.block[unseen]))
        if blocks < FEWEST_BLOCKS:
            limitation = _limitation(self.champion, holdout, blocks)
            return metrics_document(holdout, self.score, None, limitation)
        return metrics_document(
            holdout.where(unseen), self.score[unseen], self.champion.score[unseen]
        )


def judge(request: Request, scorer: GraphScorer, holdout: Rows) -> Judged:
    """Score the held-out rows with the graph that will serve, and with the champion's.

    Raises:
        NotFinite: A score of the version is not.
        RecipeFailed: A score is no probability.
        BadRequest: The champion cannot be asked these rows.
        BundleCorrupt: The champion is.
    """
    name = request.output.name
    score = _require_probability(scorer.score(holdout.columns)[name], name)
    if request.champion is None:
        return Judged(scorer, score, None)
    bundle = verify_bundle(request.champion)
    if name not in {field.name for field in bundle.signature.outputs}:
        raise BadRequest("champion", f"has no output {name!r}")
    other = Scorer(request.champion)
    try:
        answers = other.score(holdout.columns)
    except InputsUnfit as cause:
        raise BadRequest("champion", f"{cause.message}; it cannot be asked these rows") from cause
    newest_day = bundle.manifest.newest_event_time_us // DAY_US
    is_unseen = holdout.event_time_us // DAY_US > newest_day
    return Judged(scorer, score, Champion(bundle, other, answers[name], is_unseen))


def _require_probability(score: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if not np.isfinite(score).all():
        raise NotFinite(f"output {name} on the held-out rows", BOUND_OUTPUT)
    with recipe_step("output"):
        if score.min() < 0 or score.max() > 1:
            raise ValueError(f"{name} leaves [0, 1] on the held-out rows")
    return score


def _limitation(champion: Champion, holdout: Rows, blocks: int) -> str:
    trained_to = _day(champion.bundle.manifest.newest_event_time_us)
    return (
        f"no comparison: the champion was trained on days up to {trained_to}, so that of the "
        f"held-out rows up to {_day(int(holdout.event_time_us[-1]))} only {blocks} block(s) are new"
        f" to it, and {FEWEST_BLOCKS} are needed; train again with newer labels"
    )


def _day(event_time_us: int) -> str:
    return str(np.datetime64(event_time_us, "us").astype("datetime64[D]"))
