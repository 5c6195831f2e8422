"""The page is whole in itself, readable, and the same each time."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tests.unit.drift.backtest.worlds import labelled, reference, table, timed

from ciclo_drift.backtest import Backtest, backtest
from ciclo_drift.backtest.page import html_page


def drifted() -> Backtest:
    now = timed(table(3_000, 1, shift_at=2_000))
    now["fuel"] = now["fuel"].astype(object)
    now["fuel"][1_000:] = np.where(np.arange(2_000) % 2, "<script>&", "coal")
    before = timed(reference())
    for side in (before, now):
        side["<i>load"] = side.pop("load")
    return backtest(before, now, budget="1 per 20000 rows", time="time", season="hour")


@pytest.fixture(scope="module")
def found() -> Backtest:
    return drifted()


@pytest.fixture(scope="module")
def page(found: Backtest) -> str:
    return html_page(found, "python -m ciclo_drift backtest --reference a --stream b")


def test_the_page_names_streams_changes_budget_and_command(found: Backtest, page: str):
    text = re.sub(r"<[^>]+>", " ", page)

    assert "&lt;i&gt;load" in text
    for name in (
        "speed",
        "fuel",
        "1 per 20000 rows",
        "python -m ciclo_drift backtest",
        "certified",
    ):
        assert name in text
    for alarm in found.alarms[:1]:
        assert f"{alarm.row:,}" in text


def test_the_page_needs_nothing_from_elsewhere(page: str):
    assert "http" not in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="[^#"]', page)
    assert "url(" not in page.replace("url(#", "")


def test_names_cannot_break_the_page(page: str):
    assert "&lt;script&gt;&amp;" in page
    assert "<i>" not in page


def test_every_plot_is_sound_and_takes_its_colours_from_the_page(found: Backtest, page: str):
    plots = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)

    assert len(plots) == 1 + len(found.pictures)
    for plot in plots:
        ET.fromstring(plot.replace("<svg", '<svg xmlns:xlink="x"', 1))
        assert "var(--" in plot


def test_equal_tables_give_equal_bytes(page: str):
    again = html_page(drifted(), "python -m ciclo_drift backtest --reference a --stream b")

    def timeless(text: str) -> str:
        return re.sub(r"Took [\d.]+ s", "", text)

    assert timeless(again) == timeless(page)


def test_pictures_show_shares_of_all_rows(found: Backtest):
    assert {picture.stream for picture in found.pictures} >= {"<i>load", "fuel"}
    for picture in found.pictures:
        assert picture.before.sum() == pytest.approx(1.0)
        assert picture.now.sum() == pytest.approx(1.0)


def test_a_picture_compares_rows_with_the_same_hours_of_the_reference():
    def tide(rows: int, seed: int) -> dict:
        columns = timed(table(rows, seed), minutes=60)
        return columns | {"load": columns["load"] + 8.0 * (np.arange(rows) % 24 >= 12)}

    live = tide(2_400, 2)
    live["load"][1_200:] += 2.0
    kept = np.flatnonzero(np.arange(2_400) % 24 < 12)
    nights = {name: column[kept] for name, column in live.items()}

    told = backtest(tide(4_800, 1), nights, budget="1 per 20000 rows", time="time", season="hour")

    picture = told.pictures[0]
    centres = (picture.places[1:] + picture.places[:-1]) / 2.0
    assert centres @ picture.before[:-1] == pytest.approx(0.0, abs=0.2)
    assert centres @ picture.now[:-1] == pytest.approx(2.0, abs=0.2)


def test_a_stream_without_alarms_has_a_page():
    quiet = backtest(reference(), table(500, 3), budget="1 per 100000 rows")

    page = html_page(quiet)

    assert quiet.alarms == ()
    assert "No change in 500 rows" in page


def test_a_reference_that_promises_nothing_is_marked():
    one = labelled(1_000, 1)
    page = html_page(backtest(one, labelled(500, 2), block="day", report_only=True))

    assert '<p class="warn">reference: NOT CERTIFIED' in page


def test_losses_are_told(found: Backtest):
    told = dataclasses.replace(found, loss="log loss", loss_rises=())

    assert "log loss: no rise of the mean was found" in html_page(told)


def test_a_loss_that_was_not_tested_is_not_told_to_be_steady(found: Backtest):
    page = html_page(dataclasses.replace(found, loss="log loss", loss_rises=None))

    assert "no rise" not in page
    assert "log loss: whether its mean rose was not tested" in page
