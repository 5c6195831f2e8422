"""A loop, a dataset and recipes that go wrong in every way; all small."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY_US = 86_400_000_000
FIRST_DAY_US = 15_706 * DAY_US
ROWS, DAYS = 800, 16

LOOP_YAML = """\
schema: ciclo.loop/v1
model: churn
owner: growth
recipe: recipe.py:Plain
features: churn
input: {{entities: [customer], request: {{plan: string, price: float32}}}}
output: {{name: leaves}}
label: {{name: left, expected_within: 12h, never_after: 3d}}
quality: {{correlated_within: 1d}}
monitor: {{false_alarms: {{per: 365d}}, degraded_if: {{log_loss: {{above_reference_by: 0.03}}}}}}
retrain: {{data: {{last: 16d, holdout: 4d}}, limits: {{time: {time}, memory: {memory}}}}}
rollout:
  shadow: {{at_most: 9d}}
  canary: {{weights: [0.1], each: 1d, exposure_at_most: 1500}}
  bake: {{for: 2d}}
"""

RECIPE_PY = '''\
"""Recipes: a plain one, and what may go wrong with it before an epoch or after the last."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import torch

from ciclo import Recipe

MARKS = Path(os.environ["RECIPE_MARKS"])
MIB = 2**20


def stall():
    threading.Event().wait()


class Plain(Recipe):
    seed = 7

    def transform(self, spec):
        return spec.tabular()

    def build(self, width):
        return torch.nn.Linear(width, 1)

    def fit(self, net, data, run):
        optim = torch.optim.SGD(net.parameters(), lr=0.1)
        for epoch in run.epochs(3, checkpoint=(net, optim)):
            self.before(epoch)
            for batch in data.batches(128, shuffle=epoch):
                optim.zero_grad()
                self.loss(net(batch.x), batch).backward()
                optim.step()
        self.after(net)

    def before(self, epoch):
        pass

    def after(self, net):
        pass

    def loss(self, logit, batch):
        return torch.nn.functional.binary_cross_entropy_with_logits(logit[:, 0], batch.label)

    def output(self, logit):
        return {"leaves": torch.sigmoid(logit[:, 0])}


class Raises(Plain):
    def before(self, epoch):
        raise LookupError("no plan is called gold")


class NanWeights(Plain):
    def after(self, net):
        net.body.bias.data.fill_(float("nan"))


class NanOutputs(Plain):
    factor = 1.0

    def after(self, net):
        self.factor = float("nan")

    def output(self, logit):
        return {"leaves": torch.sigmoid(logit[:, 0]) * self.factor}


class Chatty(Plain):
    """Prints 10 MiB an epoch in every way there is, lines without end and false JSON too."""

    def before(self, epoch):
        print("not json\\n" * 100, '{"event": "epoch", "epoch": "x"}', "[]", sep="\\n")
        for _ in range(4):
            print("x" * MIB)
        sys.stderr.write("y\\n" * MIB)
        os.write(1, b"z" * 2 * MIB)
        subprocess.run(["head", "-c", str(2 * MIB), "/dev/zero"], check=True)


class Endless(Chatty):
    """Stalls in its second epoch, and has started a process that does, too."""

    def before(self, epoch):
        super().before(epoch)
        if epoch == 1:
            started = subprocess.Popen(["sleep", "600"])
            (MARKS / "started").write_text(str(started.pid))
            stall()


class Hungry(Plain):
    """Holds at most 4 GiB, should nobody stop it."""

    def before(self, epoch):
        self.hoard = [bytearray(b"x" * 32 * MIB) for _ in range(128)]
        stall()


class StallsOnce(Plain):
    """Waits in its second epoch to be killed."""

    def before(self, epoch):
        mark = MARKS / "stalled"
        if epoch == 1 and not mark.exists():
            mark.write_text(str(os.getpid()))
            stall()
'''


def write_loop(folder: Path, *, time: str = "5m", memory: str = "2GiB") -> Path:
    folder.mkdir(parents=True)
    (folder / "loop.yaml").write_text(LOOP_YAML.format(time=time, memory=memory))
    (folder / "recipe.py").write_text(RECIPE_PY)
    return folder


def write_dataset(folder: Path, *, use_vanishes: bool = False) -> Path:
    """Writes a snapshot; if asked, its newest tenth lacks the feature `use`."""
    random = np.random.default_rng(0)
    use = random.normal(0, 1, ROWS).astype(np.float32)
    label = random.random(ROWS) < 1 / (1 + np.exp(-use))
    if use_vanishes:
        use[-ROWS // 10 :] = np.nan
    columns = {
        "customer": [f"c{n % 50}" for n in range(ROWS)],
        "plan": random.choice(["basic", "plus"], ROWS),
        "price": random.normal(10, 2, ROWS).astype(np.float32),
        "use": use,
        "label": label,
        "event_time_us": FIRST_DAY_US + np.arange(ROWS) * (DAYS * DAY_US // ROWS),
    }
    roles = {"customer": "entity", "plan": "request", "price": "request", "use": "feature"}
    kinds = {"price": "float32", "use": "float32"}
    inputs = [
        {"name": name, "datatype": kinds.get(name, "string"), "role": role}
        for name, role in roles.items()
    ]
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    (folder / "schema.json").write_text(json.dumps({"inputs": inputs}))
    return folder
