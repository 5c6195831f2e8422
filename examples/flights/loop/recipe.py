"""What flight-delay is: a transform, a network, how it learns. Called by the trainer."""

from __future__ import annotations

from typing import Final

import torch

from ciclo import Batch, Data, Fit, Recipe, Spec

EPOCHS: Final = 4
"""Passes over some 90,000 flights: 3 s on one core. More of them fit the season, not flights."""

ROWS_A_STEP: Final = 1024
"""Rows in a batch."""


class FlightDelay(Recipe):
    """The probability that a flight arrives more than 15 minutes late."""

    seed = 7

    def transform(self, spec: Spec) -> torch.nn.Module:
        """Exported with the network; fitted vocabularies go into the bundle."""
        return spec.tabular(
            numeric="standardise",
            missing="median+flag",
            categorical="embed",
            timestamp=["hour", "weekday"],
        )

    def build(self, width: int) -> torch.nn.Module:
        """One hidden layer: a second one gains nothing on a quarter of a year."""
        return torch.nn.Sequential(
            torch.nn.Linear(width, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
        )

    def fit(self, net: torch.nn.Module, data: Data, run: Fit) -> None:
        """Adam with one warm-up and cool-down, so that the last epoch needs no choosing."""
        steps = EPOCHS * -(-data.rows // ROWS_A_STEP)
        optim = torch.optim.AdamW(net.parameters(), weight_decay=0.1)
        pace = torch.optim.lr_scheduler.OneCycleLR(optim, max_lr=3e-3, total_steps=steps)
        for epoch in run.epochs(EPOCHS, checkpoint=(net, optim, pace)):
            for batch in data.batches(ROWS_A_STEP, shuffle=epoch):
                loss = self.loss(net(batch.x), batch)
                optim.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optim.step()
                pace.step()
            run.log(train=loss.item(), valid=run.evaluate(net))

    def loss(self, logit: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean log loss."""
        return torch.nn.functional.binary_cross_entropy_with_logits(logit[:, 0], batch.label)

    def output(self, logit: torch.Tensor) -> dict[str, torch.Tensor]:
        """The probability itself."""
        return {"late": torch.sigmoid(logit[:, 0])}


class FlightDelayAgain(FlightDelay):
    """The same with other dice: a challenger that is as good as the champion, for a control."""

    seed = 8
