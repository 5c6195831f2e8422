"""What churn is: a transform, a network, how it learns. Called by the trainer."""

from __future__ import annotations

from typing import Final

import torch

from ciclo import Batch, Data, Fit, Recipe, Spec

EPOCHS: Final = 12
"""Passes over some thousands of rows: a second on one core."""

ROWS_A_STEP: Final = 256
"""Rows in a batch."""


class Cancellation(Recipe):
    """The probability that a subscription is cancelled."""

    seed = 1

    def transform(self, spec: Spec) -> torch.nn.Module:
        """From the declared inputs to numbers; exported together with the network."""
        return spec.tabular(numeric="standardise", missing="median+flag", categorical="embed")

    def build(self, width: int) -> torch.nn.Module:
        """The network; `width` is what the transform gives for a row."""
        return torch.nn.Sequential(
            torch.nn.Linear(width, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)
        )

    def fit(self, net: torch.nn.Module, data: Data, run: Fit) -> None:
        """Trains; a run that was killed goes on after the last epoch that it finished."""
        steps = EPOCHS * -(-data.rows // ROWS_A_STEP)
        optim = torch.optim.AdamW(net.parameters(), weight_decay=0.1)
        pace = torch.optim.lr_scheduler.OneCycleLR(optim, max_lr=1e-2, total_steps=steps)
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
        """What is served: the probability itself."""
        return {"cancels": torch.sigmoid(logit[:, 0])}
