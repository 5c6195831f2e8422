"""One run from snapshot to bundle: the order of the steps, and nothing of how each is done."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save

from ciclo_bundle import Manifest, folder_digest, write_bundle
from ciclo_bundle.digest import canonical_json, file_digest, sha256
from ciclo_bundle.runtime import GraphScorer
from ciclo_bundle.signature import encode_signature
from ciclo_trainer.training import evidence
from ciclo_trainer.training.errors import BadRequest, DatasetUnfit
from ciclo_trainer.training.export import export_graph
from ciclo_trainer.training.fit import FitRun, TrainingData, require_finite, seed_everything
from ciclo_trainer.training.judgement import judge
from ciclo_trainer.training.parity import check_parity, craft_columns, encode_vector
from ciclo_trainer.training.recipes import (
    build_network,
    load_recipe,
    recipe_file,
    recipe_step,
    rehearse,
)
from ciclo_trainer.training.references import sketch_streams
from ciclo_trainer.training.request import Result
from ciclo_trainer.training.snapshot import read_rows, split_rows
from ciclo_trainer.training.spec import FittedSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ciclo.recipe import Recipe
    from ciclo_bundle import Bundle
    from ciclo_trainer.training.fit import Report
    from ciclo_trainer.training.judgement import Judged
    from ciclo_trainer.training.request import Request
    from ciclo_trainer.training.snapshot import Rows, Split
    from ciclo_trainer.training.tabular import Columns, Network

SAMPLE_ROWS: Final = 8
"""Rows with which a recipe is tried and a graph is traced."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a recipe made of the training part."""

    recipe: Recipe
    net: Network
    spec: FittedSpec
    seed: int
    sample: Columns


def train(request: Request, report: Report) -> Result:
    """Run a request in this process, which it configures: one torch, one run at a time.

    Called again with the same request after a kill, it goes on from the last epoch and makes the
    same weights to the last bit.

    Args:
        request: What is asked.
        report: Is told of each epoch and each step's end.

    Raises:
        TrainingFailed: And its kinds; nothing is left at `out/bundle`.
        BundleCorrupt: The champion is.
    """
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(request.threads)
    draft, bundle = _empty_draft(request.out), request.out / "bundle"
    steps = Steps(report)
    with steps.timed("read"):
        dataset_digest = _check_dataset(request)
        rows = read_rows(request.dataset, request.inputs, request.slices, request.block_us)
        split = split_rows(rows, request.holdout_days)
    with steps.timed("fit"):
        trained = _fit(request, split, dataset_digest, report)
    with steps.timed("export"):
        scorer = _export(request, trained, split, draft)
    with steps.timed("judge"):
        judged = judge(request, scorer, split.holdout)
        metrics = _write_evidence(request, judged, split, draft)
    with steps.timed("reference"):
        _write_references(request, judged, rows, split.holdout, trained.seed, draft)
    with steps.timed("seal"):
        manifest = _manifest(request, trained.seed, dataset_digest, rows, split, judged)
        sealed = write_bundle(draft, bundle, manifest)
    return _result(sealed, len(split.train), metrics, steps.seconds)


class Steps:
    """Times the steps of a run.

    Attributes:
        seconds: Wall time by step.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Time a step, and report it if it ends well."""
        start = perf_counter()
        yield
        self.seconds[step] = round(perf_counter() - start, 3)
        self._report({"event": "step", "step": step, "seconds": self.seconds[step]})


def _empty_draft(out: Path) -> Path:
    """Return the folder in which the bundle is made; what an earlier try left is removed."""
    draft = out / "bundle.partial"
    for folder in (draft, out / "bundle"):
        shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def _result(
    bundle: Bundle, rows: int, metrics: dict[str, Any], seconds: dict[str, float]
) -> Result:
    digests = {file.path: file.sha256 for file in bundle.manifest.files}
    return Result(
        bundle.path,
        bundle.digest,
        bundle.signature.digest,
        digests["weights.safetensors"],
        rows,
        metrics,
        seconds,
    )


def _check_dataset(request: Request) -> str:
    try:
        found = folder_digest(request.dataset)
    except NotADirectoryError as cause:
        raise BadRequest("dataset", f"{request.dataset} is not a folder") from cause
    if request.dataset_digest not in ("", found):
        raise DatasetUnfit("rows.parquet", f"digest {found}, expected {request.dataset_digest}")
    return found


def _fit(request: Request, split: Split, dataset_digest: str, report: Report) -> Trained:
    recipe = load_recipe(request.recipe)
    seed = recipe.seed if request.seed is None else request.seed
    spec = FittedSpec(request.inputs, split.train.columns)
    train, validation = (spec.encode(part.columns) for part in (split.train, split.validation))
    labels = (torch.from_numpy(part.label) for part in (split.train, split.validation))
    data, valid = (
        TrainingData(columns, label, seed)
        for columns, label in zip((train, validation), labels, strict=True)
    )
    sample = next(data.batches(SAMPLE_ROWS))
    seed_everything(seed, -1)
    net = build_network(recipe, spec, sample)
    rehearse(recipe, net, sample, request.output.name)
    run = FitRun(
        recipe,
        net,
        valid,
        seed=seed,
        key=_checkpoint_key(request, seed, dataset_digest),
        path=request.out / "checkpoint.safetensors",
        report=report,
    )
    with recipe_step("fit"):
        recipe.fit(net, data, run)
    require_finite(net, "at the end of fit")
    return Trained(recipe, net.eval(), spec, seed, sample.x)


def _checkpoint_key(request: Request, seed: int, dataset_digest: str) -> str:
    """Return a digest of all that the weights depend on."""
    return sha256(
        canonical_json(
            [
                dataset_digest,
                request.recipe,
                file_digest(recipe_file(request.recipe)),
                request.code_digest,
                request.signature.digest,
                request.holdout_days,
                seed,
                request.threads,
                torch.__version__,
            ]
        )
    )


def _export(request: Request, trained: Trained, split: Split, draft: Path) -> GraphScorer:
    """Write model, weights, vocabulary, signature and parity vector."""
    recipe, net, spec = trained.recipe, trained.net, trained.spec
    signature = request.signature
    graph = export_graph(recipe, net, spec, signature, trained.sample)
    (draft / "evidence").mkdir()
    (draft / "model.onnx").write_bytes(graph)
    (draft / "weights.safetensors").write_bytes(save(net.state_dict()))
    (draft / "vocabulary.json").write_bytes(canonical_json(spec.vocabularies))
    (draft / "signature.json").write_bytes(encode_signature(signature))
    scorer = GraphScorer(draft / "model.onnx", signature)
    columns = craft_columns(spec, signature, split.train, trained.seed)
    answers = check_parity(recipe, net, spec, scorer, columns)
    (draft / "evidence" / "parity.npz").write_bytes(encode_vector(columns, answers))
    return scorer


def _write_evidence(request: Request, judged: Judged, split: Split, draft: Path) -> dict[str, Any]:
    holdout, champion = split.holdout, judged.champion
    metrics = judged.metrics(holdout)
    latency = evidence.latency_document(
        holdout.columns, judged.scorer, champion.scorer if champion else None
    )
    calibration = evidence.calibration_document(holdout, judged.score)
    card = evidence.card_text(request, split, metrics)
    (draft / "evidence" / "metrics.json").write_bytes(canonical_json(metrics))
    (draft / "evidence" / "latency.json").write_bytes(canonical_json(latency))
    (draft / "evidence" / "card.md").write_text(card, encoding="utf-8")
    (draft / "calibration.json").write_bytes(canonical_json(calibration))
    if request.policy is not None:
        shutil.copyfile(request.policy, draft / "policy.yaml")
    return metrics


def _write_references(
    request: Request, judged: Judged, rows: Rows, holdout: Rows, seed: int, draft: Path
) -> None:
    name = request.output.name
    streams = sketch_streams(
        rows,
        request.inputs,
        judged.scorer.score(rows.columns)[name],
        budget_blocks=request.budget_blocks,
        seed=seed,
    )
    folder = draft / "reference"
    folder.mkdir()
    (folder / "streams.bin").write_bytes(streams)
    blocks = evidence.blocks_document(name, holdout, judged.score)
    (folder / "blocks.json").write_bytes(canonical_json(blocks))


def _manifest(
    request: Request, seed: int, dataset_digest: str, rows: Rows, split: Split, judged: Judged
) -> Manifest:
    champion = () if judged.champion is None else (judged.champion.bundle.digest,)
    return Manifest(
        model=request.model,
        seed=seed,
        created_event_time_us=int(rows.event_time_us[-1]),
        newest_event_time_us=int(split.train.event_time_us[-1]),
        dataset_digest=dataset_digest,
        signature_digest=request.signature.digest,
        code_digest=request.code_digest or file_digest(recipe_file(request.recipe)),
        lock_digest=request.lock_digest,
        parents=tuple(dict.fromkeys((*request.parents, *champion))),
    )
