"""What a model owner writes: a transform, a network, how it learns.

The trainer calls `transform`, `build`, `fit` and `output`, in this order. Torch is imported by the
recipe's own file, never by this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

Numeric = Literal["standardise", "as-is"]
"""What happens to numbers: less the training part's mean and over its deviation; or nothing."""

Missing = Literal["median+flag", "median"]
"""What stands for a missing number: the training part's median, with or without a flag."""

Categorical = Literal["embed", "ignore"]
"""What happens to strings: a learned vector for each known category, or left out."""

TimestampPart = Literal["hour", "weekday"]
"""What is read from a timestamp (UTC): time of day as harmonics, day of the week as seven flags."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the training part.

    Attributes:
        x: What `net` takes: a column [n] for each input, by name. Numbers are float32 (NaN is
            missing), timestamps int64 microseconds since the epoch in UTC, strings the int64 code
            of their category (see `Spec.vocabulary`).
        label: float32 [n].
    """

    x: dict[str, Tensor]
    label: Tensor


class Data(Protocol):
    """The training part of a dataset; held-out rows are not in it."""

    @property
    def rows(self) -> int:
        """Number of rows, > 0."""
        ...

    def batches(self, size: int, shuffle: int | None = None) -> Iterator[Batch]:
        """Yield every row once, `size` at a time; the last batch may be smaller.

        Args:
            size: Rows in a batch, > 0.
            shuffle: The epoch. The order is a function of the run's seed and of this number, so
                that a resumed run sees the same order. None keeps the order of time.
        """
        ...


class Checkpointed(Protocol):
    """What a checkpoint can hold: modules, optimisers, learning-rate schedules."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors, numbers, strings, None, and lists and mappings of these."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take a state back."""
        ...


class Fit(Protocol):
    """The run in which a recipe learns."""

    @property
    def seed(self) -> int:
        """Seed of the run, for generators of the recipe's own."""
        ...

    def epochs(self, count: int, checkpoint: Sequence[Checkpointed]) -> Iterator[int]:
        """Yield 0 … count - 1, saving `checkpoint` after each.

        A run that was killed starts here again after the last epoch that it finished, with
        `checkpoint` restored; the weights come out equal to the last bit as long as everything
        that changes from epoch to epoch is in `checkpoint`. Torch, NumPy and Python are seeded
        from the seed and the epoch at the start of each. May be called once in a `fit`.
        """
        ...

    def log(self, **values: float | Tensor) -> None:
        """Report numbers of the current epoch. Not finite is an error: the run stops."""
        ...

    def evaluate(self, net: nn.Module) -> float:
        """Return the mean `Recipe.loss` of `net` on the validation days.

        Those are one day in twenty of the training part, not trained on, and not the held-out days
        on which the model is judged: a recipe may stop early by this number.
        """
        ...


class Field(Protocol):
    """One input of the model, as its owner declared it."""

    @property
    def name(self) -> str:
        """Name of the column."""
        ...

    @property
    def datatype(self) -> str:
        """`string`, `float32`, `int64` or `timestamp`."""
        ...

    @property
    def role(self) -> str:
        """`entity`, `request` or `feature`."""
        ...


class Spec(Protocol):
    """What is known of the inputs when the transform is made, from the training part alone."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The inputs in their declared order, the business key left out."""
        ...

    def vocabulary(self, name: str) -> tuple[str, ...]:
        """Return the known categories of a string input.

        The code of a category is its index + 1; 0 stands for missing, unseen and rare ones.
        """
        ...

    def tabular(
        self,
        *,
        numeric: Numeric = "standardise",
        missing: Missing = "median+flag",
        categorical: Categorical = "embed",
        timestamp: Sequence[TimestampPart] = (),
    ) -> nn.Module:
        """Return the usual transform of a table: `Batch.x` in, float32 [n, width] out.

        Finite for every input: what is missing is replaced, what is extreme is clipped.
        """
        ...


class Recipe(ABC):
    """A model as its owner describes it. Subclass it, name `file.py:Class` in `loop.yaml`.

    The five methods must not touch files, network or clock: the same seed and rows give the same
    weights. `transform`, the network and `output` must be exportable to ONNX.
    """

    seed: ClassVar[int] = 0
    """Seed of a run that was not given one."""

    @abstractmethod
    def transform(self, spec: Spec) -> nn.Module:
        """Return the module from `Batch.x` to [n, width]; it is exported with the network."""

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Return the network that takes what `transform` gives."""

    @abstractmethod
    def fit(self, net: nn.Module, data: Data, run: Fit) -> None:
        """Train `net`, which is the transform followed by the network, in place."""

    @abstractmethod
    def loss(self, logit: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of what `net` gave for `batch`, a scalar."""

    @abstractmethod
    def output(self, logit: Tensor) -> Mapping[str, Tensor]:
        """Return what is served, by name, each [n] or [n, 1]; a binary output lies in [0, 1]."""
