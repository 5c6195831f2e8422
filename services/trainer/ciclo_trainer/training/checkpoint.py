"""What a run needs to go on after a kill: tensors and plain values in one safetensors file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run was.

    Attributes:
        key: Digest of all that the weights depend on: a checkpoint of another key is of no use.
        epochs: Epochs finished.
        states: `state_dict()` of each thing that is checkpointed, in order.
    """

    key: str
    epochs: int
    states: list[Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at `path`; a kill at any moment leaves the old one or the new one.

    Raises:
        TypeError: A state holds something else than tensors, numbers, strings, None, and lists,
            tuples and mappings of these.
    """
    tensors: dict[str, torch.Tensor] = {}
    states = _pack(checkpoint.states, tensors)
    about = {"key": checkpoint.key, "epochs": checkpoint.epochs, "states": states}
    draft = path.with_suffix(".partial")
    with draft.open("wb") as file:
        file.write(save(tensors, metadata={"checkpoint": json.dumps(about)}))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint of this key; None if there is none, or one of another key.

    A file that cannot be read counts as none: training again is slow, not wrong.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["checkpoint"])
            if about["key"] != key:
                return None
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (FileNotFoundError, SafetensorError):
        return None
    return Checkpoint(key, about["epochs"], _unpack(about["states"], tensors))


def _pack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return `value` as JSON, its tensors moved to `tensors`, containers marked by their kind."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"map": [[_key(k), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"checkpoint: a state holds {type(value).__name__}; expected tensors, numbers, strings,"
        " None, and lists, tuples and mappings of these"
    )


def _key(key: object) -> object:
    if not isinstance(key, (int, str)):
        raise TypeError(f"checkpoint: a mapping has the key {key!r}; expected int or str")
    return key


def _unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
