"""`ciclo.Data` and `ciclo.Fit` as a recipe meets them: batches, epochs that resume, checks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from ciclo.recipe import Batch
from ciclo_trainer.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ciclo_trainer.training.errors import NotFinite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from ciclo.recipe import Checkpointed, Recipe
    from ciclo_trainer.training.tabular import Columns

Report: TypeAlias = Callable[[Mapping[str, object]], None]
"""Where progress goes: one mapping an event, its kind under `event`."""

EVALUATION_ROWS: Final = 8192
"""Rows asked at once in an evaluation; bounds memory."""


class TrainingData:
    """`ciclo.Data` over columns in memory.

    Args:
        columns: Encoded inputs [n].
        label: float32 [n].
        seed: Of the run.
    """

    def __init__(self, columns: Columns, label: Tensor, seed: int) -> None:
        self._columns = columns
        self._label = label
        self._seed = seed

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._label)

    def batches(self, size: int, shuffle: int | None = None) -> Iterator[Batch]:
        """Yield every row once; see `ciclo.Data.batches`.

        Raises:
            ValueError: `size` is not positive.
        """
        if size < 1:
            raise ValueError(f"batches({size}): expected at least 1 row in a batch")
        order: Sequence[Tensor] | Sequence[slice]
        if shuffle is None:
            order = [slice(start, start + size) for start in range(0, self.rows, size)]
        else:
            generator = torch.Generator().manual_seed(_derive(self._seed, shuffle, "order"))
            order = torch.split(torch.randperm(self.rows, generator=generator), size)
        for part in order:
            yield Batch({name: c[part] for name, c in self._columns.items()}, self._label[part])


class FitRun:
    """`ciclo.Fit` of one run.

    Args:
        recipe: Whose loss is evaluated.
        net: What is trained; a checkpoint must hold it.
        validation: Rows for `evaluate`.
        seed: Of the run.
        key: See `Checkpoint.key`.
        path: File of the checkpoint.
        report: Where progress goes.
    """

    def __init__(
        self,
        recipe: Recipe,
        net: nn.Module,
        validation: TrainingData,
        *,
        seed: int,
        key: str,
        path: Path,
        report: Report,
    ) -> None:
        self._recipe = recipe
        self._net = net
        self._validation = validation
        self._seed = seed
        self._key = key
        self._path = path
        self._report = report
        self._logged: dict[str, float] = {}
        self._epoch: int | None = None

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self._seed

    def epochs(self, count: int, checkpoint: Sequence[Checkpointed]) -> Iterator[int]:
        """Yield the epochs that are still to do; see `ciclo.Fit.epochs`.

        Raises:
            ValueError: The network is not in `checkpoint`, or this is the second call.
            NotFinite: A weight is not, after an epoch.
        """
        if self._epoch is not None:
            raise ValueError("epochs() was called twice; its checkpoint holds one loop only")
        if not any(item is self._net for item in checkpoint):
            raise ValueError("epochs(checkpoint=…) lacks the network; a resumed run would lose it")
        for epoch in range(self._restore(checkpoint), count):
            seed_everything(self._seed, epoch)
            self._epoch, self._logged = epoch, {}
            yield epoch
            require_finite(self._net, f"after epoch {epoch + 1}")
            states = [item.state_dict() for item in checkpoint]
            save_checkpoint(self._path, Checkpoint(self._key, epoch + 1, states))
            self._report({"event": "epoch", "epoch": epoch + 1, "of": count, **self._logged})

    def log(self, **values: float | Tensor) -> None:
        """Report numbers of the current epoch; see `ciclo.Fit.log`.

        Raises:
            NotFinite: One is not.
        """
        for name, value in values.items():
            number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
            if not math.isfinite(number):
                raise NotFinite(f"{name} in epoch {(self._epoch or 0) + 1}")
            self._logged[name] = number

    def evaluate(self, net: nn.Module) -> float:
        """Return the mean loss on the validation days; see `ciclo.Fit.evaluate`.

        Raises:
            NotFinite: It is not.
        """
        was_training = net.training
        net.eval()
        total = 0.0
        with torch.no_grad():
            for batch in self._validation.batches(EVALUATION_ROWS):
                total += float(self._recipe.loss(net(batch.x), batch)) * len(batch.label)
        net.train(was_training)
        if not math.isfinite(total):
            raise NotFinite(f"validation loss in epoch {(self._epoch or 0) + 1}")
        return total / self._validation.rows

    def _restore(self, checkpoint: Sequence[Checkpointed]) -> int:
        saved = load_checkpoint(self._path, self._key)
        if saved is None:
            return 0
        for item, state in zip(checkpoint, saved.states, strict=True):
            item.load_state_dict(state)
        self._report({"event": "resumed", "epoch": saved.epochs})
        return saved.epochs


def require_finite(net: nn.Module, when: str) -> None:
    """Check every weight.

    Raises:
        NotFinite: With the first that is not.
    """
    for name, weight in net.state_dict().items():
        if not torch.isfinite(weight).all():
            raise NotFinite(f"weight {name} {when}")


def seed_everything(seed: int, epoch: int) -> None:
    """Seed torch, NumPy and Python for an epoch; -1 is for what comes before the first."""
    derived = _derive(seed, epoch, "draws")
    torch.manual_seed(derived)
    np.random.seed(derived % 2**32)
    random.seed(derived)


def _derive(seed: int, epoch: int, purpose: str) -> int:
    """Return a seed < 2**63 for one purpose in one epoch, so that no two share a stream."""
    entropy: list[Any] = [seed, epoch + 1, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
