"""Runs the detector over a recorded stream and tells what it would have said."""

from __future__ import annotations

from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ciclo_drift.alarms import Kind
from ciclo_drift.backtest.outcome import JUDGED_ROWS, outcome_of
from ciclo_drift.backtest.pictures import pictures_of
from ciclo_drift.backtest.report import counted
from ciclo_drift.backtest.result import Backtest, Episode, FoundAlarm
from ciclo_drift.backtest.rises import loss_test
from ciclo_drift.backtest.roles import Roles, give_roles
from ciclo_drift.backtest.scan import moved, scan
from ciclo_drift.backtest.tables import as_columns
from ciclo_drift.budget import Budget, Spending
from ciclo_drift.errors import DriftInputError
from ciclo_drift.seasons import Season, best_season
from ciclo_drift.stream_set import StreamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ciclo_drift.backtest.outcome import Outcome
    from ciclo_drift.backtest.rises import LossScan
    from ciclo_drift.backtest.roles import Side, Tables
    from ciclo_drift.backtest.scan import Scan
    from ciclo_drift.calibration import Certificate

STILL_WEIGHT = 0.01
"""Weight of a stream with one value in the reference, beside 1 for the others."""

CULPRITS = 5
"""Streams that an alarm names."""


def backtest(
    reference: object,
    stream: object,
    *,
    budget: str | float | Budget = "1 per 100000 rows",
    time: str | None = None,
    season: str | None = None,
    label: str | None = None,
    score: str | None = None,
    prediction: str | None = None,
    categorical: str | Sequence[str] = (),
    block: str | None = None,
    seed: int = 0,
    report_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Backtest:
    """Tells what watching `stream` against `reference` would have said, and what it cost.

    Watches all columns but time, label and block: text and booleans as categories, all else as
    numbers. Rows are fed in their order; after an alarm the detector starts anew from the
    reference, and alarms that go on in the same way make one change (`scan`). With a label and
    a score or prediction, alarms say what they cost and of what kind they are; with blocks or
    days of them, a rise of the mean loss is looked for too: it and the streams then have half of
    the budget each.

    Args:
        reference: Rows that were normal, in time order: a dict of arrays, a pandas DataFrame or a
            pyarrow Table. At least 100.
        stream: Rows to look at, in their order.
        budget: False alarms in all: `1 per 100000 rows`, `2 per year`; a number: rows between.
        time: Column of times: datetime, epoch seconds or ISO text.
        season: `hour,weekday` and the like (`Season`), compared in the clock of `time`; `auto`:
            found out from the reference.
        label: Column of what came true; missing = not yet known.
        score: Column of probabilities of the label 1.
        prediction: Column of values or classes that were foretold.
        categorical: Columns of numbers that are categories, or the one that is.
        block: Column of time blocks (a day, a batch) whose rows depend on each other; the rows of
            one lie together.
        seed: Seed of resampling and of ties. >= 0.
        report_only: Run even if the reference cannot promise the budget; alarms are then
            marked as not certified.
        progress: Called now and then with rows done and all rows.

    Raises:
        DriftInputError: Something about an argument or a table, or a reference too short for the
            budget.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> reference = {"load": rng.normal(size=5_000), "fuel": rng.choice(["a", "b"], 5_000)}
        >>> stream = {"load": rng.normal(size=3_000), "fuel": rng.choice(["a", "b"], 3_000)}
        >>> stream["load"][2_000:] += 0.8
        >>> found = backtest(reference, stream, budget="1 per 10000 rows")
        >>> first = found.alarms[0]
        >>> first.stream, first.change, first.since_low <= 2_000 <= first.since_high
        ('load', 'up', True)
        >>> len(found.episodes), found.spending.allowed < 0.3
        (1, True)
    """
    began = perf_counter()
    if seed < 0:
        raise DriftInputError("seed", str(seed), "a whole number, 0 or more")
    codes = (categorical,) if isinstance(categorical, str) else tuple(categorical)
    roles = Roles(time, label, score, prediction, block, codes)
    tables = give_roles(as_columns(reference, "reference"), as_columns(stream, "stream"), roles)
    notes = list(tables.notes)
    chosen = _season(season, tables.reference)
    phases = _phases(chosen, tables, notes)
    budget_rows = Budget.of(budget).rows(_row_rate(tables.reference))
    outcome = outcome_of(tables, roles, notes)
    losses = loss_test(tables, outcome, budget_rows * 2.0, notes)
    share = 1.0 if losses is None else 0.5
    streams = _detector(tables.reference, phases[0], outcome, budget_rows / share, seed)
    certificate = streams.certificate
    if not (certificate.certified or report_only):
        raise _refusal(certificate, budget_rows, tables.reference.rows)
    scanned = scan(streams, tables.stream.streams, phases[1], budget_rows, progress)
    spans = _spans(scanned, tables.stream.rows)
    alarms = _alarms(scanned, spans, tables.stream, outcome, certified=certificate.certified)
    settings: dict[str, str | float | None] = asdict(roles)
    settings |= {"categorical": ",".join(codes) or None, "season": str(chosen)}
    stated = budget if isinstance(budget, str) else str(Budget.of(budget))
    settings |= {"budget": stated, "budget_rows": budget_rows}
    settings |= {"seed": seed, "report_only": report_only}
    risen = losses.scan(tables.stream, outcome) if losses and outcome else None
    return Backtest(
        settings=settings,
        streams=streams.names,
        alarms=alarms,
        episodes=_episodes(alarms),
        spending=_spending(scanned, risen, outcome, budget_rows),
        loss=outcome.loss if outcome else None,
        loss_rises=risen.rises if risen else None,
        certificate=certificate,
        notes=tuple(notes),
        reference_rows=tables.reference.rows,
        rows=tables.stream.rows,
        threshold=streams.threshold,
        trace=np.array(scanned.trace),
        pictures=pictures_of(tables, phases, alarms, spans),
        seconds=perf_counter() - began,
    )


def _season(text: str | None, reference: Side) -> Season:
    """The season that is asked for, or found out."""
    if text is None or text == "none":
        return Season()
    if reference.times is None:
        raise DriftInputError("season", f"{text!r} and no times", "the column of times in `time`")
    return best_season(reference.times, reference.streams) if text == "auto" else Season.parse(text)


def _phases(
    season: Season, tables: Tables, notes: list[str]
) -> tuple[NDArray[np.int16] | None, NDArray[np.int16] | None]:
    """Phases of both tables, numbered among those that the reference has seen."""
    before, now = tables.reference.times, tables.stream.times
    if not season.parts or before is None or now is None:
        return None, None
    then, later = season.phases(before), season.phases(now)
    seen = np.unique(then)
    # One that was never seen is compared with the one before it; the first with the last.
    places = (np.searchsorted(seen, later, side="right") - 1) % len(seen)
    strange = int((seen[places] != later).sum())
    if strange:
        notes.append(
            f"{counted(strange, 'row')} of a phase of '{season}' that the reference never saw: "
            "compared with the one before it"
        )
    return np.searchsorted(seen, then).astype(np.int16), places.astype(np.int16)


def _row_rate(side: Side) -> float | None:
    """Rows a second, as far as times tell."""
    if side.times is None:
        return None
    span = float((side.times.max() - side.times.min()) / np.timedelta64(1, "s"))
    return side.rows / span if span > 0.0 else None


def _detector(
    reference: Side,
    phases: NDArray[np.int16] | None,
    outcome: Outcome | None,
    budget_rows: float,
    seed: int,
) -> StreamSet:
    # A value never seen before shows within rows, whatever the weight; nothing else can happen.
    weights = {name: STILL_WEIGHT if _is_still(c) else 1.0 for name, c in reference.streams.items()}
    return StreamSet.fit(
        reference.streams,
        weights=weights,
        blocks=reference.blocks,
        phases=phases,
        losses=outcome.before if outcome else None,
        budget_rows=budget_rows,
        seed=seed,
    )


def _is_still(column: NDArray[np.generic]) -> bool:
    """Whether a column holds one value only."""
    return column.dtype == object and len(set(column.tolist())) == 1


def _refusal(certificate: Certificate, budget_rows: float, rows: int) -> DriftInputError:
    """Says what would do: more rows, another budget, or to look without a promise."""
    ways = f"at least {certificate.rows_needed} rows"
    if "budget beyond reference" in certificate.reason:
        reach = int(budget_rows * rows / certificate.rows_needed)
        ways += f", a budget of 1 per {reach} rows"
    found = f"{rows} rows, {certificate.reason}"
    return DriftInputError("reference", found, f"{ways}, or `report_only` for alarms as they come")


def _spans(scanned: Scan, rows: int) -> list[slice]:
    """Rows that tell of each change: since it began, until the next one, `JUDGED_ROWS` at most."""
    firsts = scanned.firsts
    ends = [alarm.since_row for alarm in firsts[1:]] + [rows]
    return [
        slice(alarm.since_row, max(min(alarm.since_row + JUDGED_ROWS, end), alarm.row + 1))
        for alarm, end in zip(firsts, ends, strict=False)
    ]


def _alarms(
    scanned: Scan, spans: list[slice], stream: Side, outcome: Outcome | None, *, certified: bool
) -> tuple[FoundAlarm, ...]:
    kinds: list[Kind | None] = [Kind.COVARIATE for _ in spans]
    if outcome is not None and outcome.table is not None:
        kinds = [outcome.kind(span) for span in spans]
    for alarm, episode in zip(scanned.alarms, scanned.episode_of, strict=True):
        # Three rows may raise an alarm and be too few to see that the input is broken.
        if alarm.kind is Kind.BROKEN_INPUT:
            kinds[episode] = Kind.BROKEN_INPUT
    found = []
    for alarm, episode in zip(scanned.alarms, scanned.episode_of, strict=True):
        first = alarm.culprits[0]
        found.append(
            FoundAlarm(
                row=alarm.row,
                time=stream.time_of(alarm.row),
                since_row=first.since_row,
                since_low=first.since_low,
                since_high=first.since_high,
                since_time=stream.time_of(first.since_row),
                stream=first.stream,
                change=first.change,
                size=first.size,
                category=first.category,
                before=first.before,
                now=first.now,
                effect=first.effect,
                fault=first.fault,
                kind=kinds[episode],
                certified=certified,
                episode=episode,
                culprits=moved(alarm)[:CULPRITS],
            )
        )
    return tuple(found)


def _episodes(alarms: tuple[FoundAlarm, ...]) -> tuple[Episode, ...]:
    groups: dict[int, list[FoundAlarm]] = {}
    for alarm in alarms:
        groups.setdefault(alarm.episode, []).append(alarm)
    return tuple(
        Episode(
            since_row=group[0].since_row,
            first_row=group[0].row,
            last_row=group[-1].row,
            alarms=len(group),
            streams=tuple(dict.fromkeys(alarm.stream for alarm in group)),
            kind=group[0].kind,
            fault=next((alarm.fault for alarm in group if alarm.fault), None),
        )
        for group in groups.values()
    )


def _spending(
    scanned: Scan, risen: LossScan | None, outcome: Outcome | None, budget_rows: float
) -> Spending:
    """Changes and rises, each once, and what led them; a row that one of two watches is half."""
    by_stream: dict[str, float] = {}
    for alarm in scanned.firsts:
        for culprit in alarm.culprits:
            by_stream[culprit.stream] = by_stream.get(culprit.stream, 0.0) + culprit.share
    alarms, watched = len(scanned.firsts), scanned.watched
    if risen is not None and outcome is not None:
        by_stream[outcome.loss] = by_stream.get(outcome.loss, 0.0) + len(risen.rises)
        alarms, watched = alarms + len(risen.rises), (watched + risen.watched) / 2.0
    return Spending(budget_rows, round(watched), alarms, by_stream)
