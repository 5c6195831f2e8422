"""Reads features.py, which holds ordinary Feast objects, and sets up Feast with them."""

import importlib.util
import sys
import tempfile
import uuid
import warnings
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from feast import Entity, FeatureService, FeatureStore, FeatureView
from feast import types as feast_types
from feast.repo_config import RepoConfig

from ciclo.errors import Reject
from ciclo_feature_store.domain import definitions as domain
from ciclo_feature_store.domain.tasks import DefineTask, in_us

FEATURES_FILE = "features.py"
"""Name of the file within a loop's folder."""

_NUMBERS = (
    feast_types.Float32,
    feast_types.Float64,
    feast_types.Int32,
    feast_types.Int64,
    feast_types.Bool,
)


class UnfitFeatures(Reject):
    """features.py cannot be used; the message says which object, and why."""

    reason = "UNFIT_FEATURES"


def define(task: DefineTask) -> domain.Definitions:
    """Returns what a features.py declares.

    Raises:
        UnfitFeatures: It does not run, or declares what Ciclo cannot serve.
    """
    objects = _objects(Path(task.loop_folder))
    entities = {entity.name: entity for entity in objects if isinstance(entity, Entity)}
    views = {view.name: _view(view, entities) for view in objects if isinstance(view, FeatureView)}
    services = {
        service.name: _service(service, views)
        for service in objects
        if isinstance(service, FeatureService)
    }
    if not services:
        raise UnfitFeatures(f"{FEATURES_FILE} declares no FeatureService")
    return domain.Definitions(views, services)


@lru_cache(maxsize=8)
def feast_store(loop_folder: str, tables: str) -> FeatureStore:
    """Returns Feast with the objects of a loop, set up to join from Ciclo's tables.

    Args:
        loop_folder: Holds features.py; its content never changes.
        tables: Folder of the Delta tables.
    """
    registry = Path(_home().name) / f"{uuid.uuid4().hex}.db"
    store = FeatureStore(
        config=RepoConfig(
            project="ciclo",
            provider="local",
            registry={"path": str(registry), "cache_ttl_seconds": 0},
            offline_store={
                "type": "ciclo_feature_store.adapters.offline.store.DeltaOfflineStore",
                "tables": tables,
            },
            online_store=None,
            entity_key_serialization_version=3,
        )
    )
    store.apply(_objects(Path(loop_folder)))
    return store


@cache
def _home() -> tempfile.TemporaryDirectory[str]:
    """Where Feast keeps its registries; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="ciclo-feast-")


def _objects(folder: Path) -> list[Any]:
    module = _run(folder / FEATURES_FILE)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, Entity | FeatureView | FeatureService)
    ]
    return list({id(value): value for value in found}.values())


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnfitFeatures(f"{path.name} is missing in the loop's folder", field=path.name)
    spec = importlib.util.spec_from_file_location(f"features_{uuid.uuid4().hex}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UnfitFeatures(f"{path.name} does not run: {error!r}", field=path.name) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _view(view: FeatureView, entities: dict[str, Entity]) -> domain.View:
    if type(view) is not FeatureView:
        raise UnfitFeatures(
            f"{view.name} is a {type(view).__name__}; Ciclo takes FeatureView", field=view.name
        )
    unknown = sorted(set(view.entities) - entities.keys())
    if unknown:
        raise UnfitFeatures(
            f"view {view.name} is joined by {', '.join(unknown)}, which {FEATURES_FILE} does not "
            "declare as an Entity at its top level; every view needs one",
            field=view.name,
        )
    keys = tuple(entities[name].join_key for name in view.entities)
    fields = view.features  # `schema` has no order
    if not fields:
        raise UnfitFeatures(f"view {view.name} has no field in its schema", field=view.name)
    ttl = view.ttl
    return domain.View(
        view.name,
        keys,
        tuple(
            domain.Feature(field.name, _datatype(view, field), field.description)
            for field in fields
        ),
        in_us(ttl) if ttl else 0,
    )


def _datatype(view: FeatureView, field: Any) -> domain.FeatureType:
    if field.dtype in _NUMBERS:
        return "float32"
    if field.dtype == feast_types.String:
        return "string"
    raise UnfitFeatures(
        f"{view.name}.{field.name} is {field.dtype}, expected a number or String; a time has no "
        "missing value, so send how long ago it was",
        field=f"{view.name}.{field.name}",
    )


def _service(service: FeatureService, views: dict[str, domain.View]) -> domain.FeatureService:
    taken = []
    for projection in service.feature_view_projections:
        whole = views.get(projection.name)
        if whole is None:
            raise UnfitFeatures(
                f"feature service {service.name} takes {projection.name}, which {FEATURES_FILE} "
                "does not declare as a FeatureView at its top level",
                field=service.name,
            )
        if projection.name_alias or projection.join_key_map:
            raise UnfitFeatures(
                f"feature service {service.name} renames {projection.name} or its join key; Ciclo "
                "takes views under their own names",
                field=service.name,
            )
        names = {field.name for field in projection.features}
        features = tuple(feature for feature in whole.features if feature.name in names)
        taken.append(domain.View(whole.name, whole.entities, features, whole.ttl_us))
    counts = Counter(feature.name for view in taken for feature in view.features)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise UnfitFeatures(
            f"feature service {service.name} takes {', '.join(twice)} from more than one view; "
            "rename the field in one of them, or take it from one: view[[...]]",
            field=service.name,
        )
    return domain.FeatureService(
        service.name, tuple(taken), tuple(views[view.name].digest for view in taken)
    )
