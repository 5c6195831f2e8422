"""Lays bundles out as one Triton model with a version for each: settings, graphs, backend code."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from ciclo_bundle.bundle import read_bundle
from ciclo_bundle.digest import require_safe
from ciclo_bundle.errors import SignatureMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ciclo_bundle.signature import Field, Signature

SERVED: Final = ("model.onnx", "signature.json")
"""The files of a bundle that a version's folder needs."""

TYPES: Final = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}
"""What config.pbtxt calls the datatypes of the Open Inference Protocol."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How Triton gathers requests.

    Attributes:
        max_rows: Rows in one run of the graph, and the most that a request may have. >= 1.
        max_delay_us: How long a request waits for others to share its run. >= 0.
        instances: Processes that run the graph. >= 1.
    """

    max_rows: int = 1024
    max_delay_us: int = 500
    instances: int = 1


def config_text(
    name: str, signature: Signature, versions: Iterable[int], batching: Batching
) -> str:
    """Return config.pbtxt.

    Args:
        name: Name of the Triton model.
        signature: Of all its versions.
        versions: Those to serve, >= 1 each; Triton loads these and no others.
        batching: How Triton gathers requests.

    Raises:
        UnsafePath: The name cannot be a folder's.
    """
    numbers = ", ".join(str(version) for version in sorted(set(versions)))
    return "\n".join(
        [
            f'name: "{require_safe(name)}"',
            'backend: "python"',
            f"max_batch_size: {batching.max_rows}",
            _tensors("input", signature.inputs),
            _tensors("output", signature.outputs),
            f"version_policy {{ specific {{ versions: [{numbers}] }} }}",
            f"instance_group [{{ kind: KIND_CPU count: {batching.instances} }}]",
            f"dynamic_batching {{ max_queue_delay_microseconds: {batching.max_delay_us} }}",
            "",
        ]
    )


def model_text() -> str:
    """Return model.py, the same for every version."""
    return (files("ciclo_bundle") / "templates" / "triton_model.py").read_text(encoding="utf-8")


def write_model(
    repository: Path,
    name: str,
    versions: Mapping[int, Path],
    batching: Batching | None = None,
) -> Path:
    """Lay out a model in a repository and return its folder.

    Folders of versions appear whole, before the configuration that names them; a version that is
    there already is left alone, since a bundle never changes. Versions that are no longer named
    stay on disk (Triton may still be answering from them): `prune_model` removes them.

    Args:
        repository: Triton's model repository.
        name: Name of the Triton model.
        versions: Bundle folders by version number, not empty; verified by the caller.
        batching: How Triton gathers requests; the defaults of `Batching` if None.

    Raises:
        SignatureMismatch: Two bundles differ in signature.
        UnsafePath: The name cannot be a folder's.
        ValueError: No version, or one below 1.
    """
    if not versions or min(versions) < 1:
        raise ValueError(f"versions {sorted(versions)}: expected at least one, each >= 1")
    bundles = {number: read_bundle(path) for number, path in sorted(versions.items())}
    signature = next(iter(bundles.values())).signature
    for bundle in bundles.values():
        if bundle.signature.digest != signature.digest:
            raise SignatureMismatch(signature.digest, bundle.signature.digest)
    folder = repository / require_safe(name)
    folder.mkdir(parents=True, exist_ok=True)
    for number, bundle in bundles.items():
        if not (folder / str(number)).exists():
            _write_version(folder, number, bundle.path)
    config = config_text(name, signature, bundles, batching or Batching())
    draft = folder / f".config.{uuid.uuid4().hex}"
    draft.write_text(config, encoding="utf-8")
    draft.rename(folder / "config.pbtxt")
    return folder


def prune_model(folder: Path, keep: Iterable[int]) -> None:
    """Remove the folders of versions that nobody serves any more.

    Args:
        folder: What `write_model` returned.
        keep: Version numbers to leave.
    """
    kept = {str(number) for number in keep}
    for path in folder.iterdir():
        if path.is_dir() and path.name.isdecimal() and path.name not in kept:
            shutil.rmtree(path)


def _write_version(folder: Path, number: int, bundle: Path) -> None:
    draft = folder / f".{number}.{uuid.uuid4().hex}"
    draft.mkdir()
    for file in SERVED:
        shutil.copyfile(bundle / file, draft / file)
    (draft / "model.py").write_text(model_text(), encoding="utf-8")
    draft.rename(folder / str(number))


def _tensors(side: str, fields: Iterable[Field]) -> str:
    lines = (
        f'  {{ name: "{field.name}" data_type: {TYPES[field.triton]} dims: [1] }}'
        for field in fields
    )
    return f"{side} [\n" + ",\n".join(lines) + "\n]"
