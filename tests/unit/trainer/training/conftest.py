"""A small dataset with all that hurts: missing numbers, rare categories, days that differ."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ciclo_bundle import Field
from ciclo_trainer.training import Output, Request, Result
from ciclo_trainer.training.request import DAY_US
from ciclo_trainer.training.run import train

FIRST_DAY_US = 15_706 * DAY_US
INPUTS = (
    Field("flight", "string", "id"),
    Field("origin", "string", "entity"),
    Field("dest", "string", "request"),
    Field("departure", "timestamp", "request"),
    Field("seats", "int64", "request"),
    Field("temp", "float32", "feature", "°C", "weather", "sha256:1"),
    Field("wind", "float32", "feature", "m/s", "weather", "sha256:1"),
)

RECIPE = """
import os
import time

import torch
from ciclo import Recipe


class Late(Recipe):
    seed = 7

    def transform(self, spec):
        return spec.tabular(timestamp=["hour", "weekday"])

    def build(self, width):
        return torch.nn.Sequential(
            torch.nn.Linear(width, 16),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(16, 1),
        )

    def fit(self, net, data, run):
        optim = torch.optim.AdamW(net.parameters(), lr=3e-3)
        rate = torch.optim.lr_scheduler.ExponentialLR(optim, 0.9)
        for epoch in run.epochs(4, checkpoint=(net, optim, rate)):
            if os.environ.get("STALL_IN_EPOCH") == str(epoch):
                time.sleep(120)
            for batch in data.batches(128, shuffle=epoch):
                loss = self.loss(net(batch.x), batch)
                optim.zero_grad()
                loss.backward()
                optim.step()
            rate.step()
            run.log(train=loss, valid=run.evaluate(net))

    def loss(self, logit, batch):
        return torch.nn.functional.binary_cross_entropy_with_logits(logit[:, 0], batch.label)

    def output(self, logit):
        return {"late": torch.sigmoid(logit[:, 0])}
"""


def make_table(rows: int = 2400, days: int = 24, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    event_time_us = FIRST_DAY_US + np.sort(random.integers(0, days * DAY_US, rows))
    origin = random.choice(["EWR", "JFK", "LGA", ""], rows, p=[0.4, 0.3, 0.29, 0.01])
    temp = random.normal(10, 8, rows).astype(np.float32)
    wind = random.normal(5, 2, rows).astype(np.float32)
    by_day = random.normal(0, 0.4, days)[(event_time_us - FIRST_DAY_US) // DAY_US]
    logit = (temp - 10) / 5 + (origin == "JFK") * 1.5 - 1 + by_day
    temp[random.random(rows) < 0.1] = np.nan
    dest = np.array([f"D{i}" for i in random.integers(0, 12, rows)], dtype=object)
    dest[:3] = "RARE"
    return pa.table(
        {
            "flight": [f"UA{i}" for i in range(rows)],
            "origin": pa.array([text or None for text in origin]),
            "dest": pa.array(dest, pa.string()),
            "departure": pa.array(event_time_us + DAY_US // 24, pa.timestamp("us", tz="UTC")),
            "seats": pa.array(random.integers(50, 300, rows), pa.int64()),
            "temp": pa.array(temp),
            "wind": pa.array([None if i % 50 == 0 else float(v) for i, v in enumerate(wind)]),
            "label": random.random(rows) < 1 / (1 + np.exp(-logit)),
            "event_time_us": event_time_us,
            "_version": ["1"] * rows,
        }
    )


def write_snapshot(folder: Path, table: pa.Table) -> Path:
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "rows.parquet")
    return folder


@pytest.fixture(scope="session")
def request_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Request]:
    """Make requests of folders of their own: request_of(recipe=source, table=…, **changes)."""
    snapshot = write_snapshot(tmp_path_factory.mktemp("dataset") / "snapshot", make_table())

    def make(
        source: str = RECIPE, name: str = "Late", table: pa.Table | None = None, **changes: object
    ) -> Request:
        place = tmp_path_factory.mktemp("run")
        (place / "recipe.py").write_text(source)
        dataset = snapshot if table is None else write_snapshot(place / "snapshot", table)
        request = Request(
            model="flight-delay",
            dataset=dataset,
            recipe=f"{place / 'recipe.py'}:{name}",
            out=place / "out",
            inputs=INPUTS,
            output=Output("late"),
            holdout_days=6,
            slices=("origin", "_version"),
        )
        return replace(request, **changes)

    return make


def ignore(_event: object) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="session")
def trained(request_of: Callable[..., Request]) -> Result:
    """The plain run, done once."""
    return train(request_of(), ignore)
