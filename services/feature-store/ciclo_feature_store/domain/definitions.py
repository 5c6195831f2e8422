"""What features there are: views, services and their digests, as read from a loop's features.py."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ciclo.errors import Conflict, NotFound
from ciclo.loop import Loop
from ciclo.question import RESERVED_INPUTS, is_column
from ciclo_bundle.digest import canonical_json, sha256

FeatureType = Literal["float32", "string"]
"""What a feature can be. All numbers are float32 from the door on, so that training, serving and
audit see the same 32 bits. A missing one is NaN or the empty text."""


class UnknownFeatureService(NotFound):
    """No feature service of this name is defined."""

    reason = "UNKNOWN_FEATURE_SERVICE"


class UnfitDefinitions(Conflict):
    """features.py and loop.yaml do not fit each other; the message says where."""

    reason = "UNFIT_DEFINITIONS"


@dataclass(frozen=True, slots=True)
class Feature:
    """One field of a view.

    Attributes:
        name: Of the field, and of the model's input.
        datatype: See `FeatureType`.
        meaning: Unit and sense, for people; not part of any digest.
    """

    name: str
    datatype: FeatureType
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A group of features that become known together.

    Attributes:
        name: Also the topic key and the table's name.
        entities: The join keys, in declared order.
        features: In declared order.
        ttl_us: After which age values no longer count, in microseconds; 0: never.
    """

    name: str
    entities: tuple[str, ...]
    features: tuple[Feature, ...]
    ttl_us: int = 0

    @property
    def digest(self) -> str:
        """Digest of everything but the meanings: the view's version."""
        return sha256(
            canonical_json(
                {
                    "name": self.name,
                    "entities": list(self.entities),
                    "features": [[feature.name, feature.datatype] for feature in self.features],
                    "ttl_us": self.ttl_us,
                }
            )
        )


@dataclass(frozen=True, slots=True)
class FeatureService:
    """The features that a model takes.

    Attributes:
        name: As loop.yaml names it.
        views: In declared order, each with only the features that the service takes.
        view_digests: Digest of each whole view, in the same order.
    """

    name: str
    views: tuple[View, ...]
    view_digests: tuple[str, ...]

    @property
    def features(self) -> tuple[Feature, ...]:
        """All features, in the order of the service."""
        return tuple(feature for view in self.views for feature in view.features)

    @property
    def digest(self) -> str:
        """Digest of what is taken and of the views that it is taken from."""
        taken = [view.digest for view in self.views]
        return sha256(canonical_json([self.name, taken, list(self.view_digests)]))


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one features.py declares.

    Attributes:
        views: By name.
        services: By name.
    """

    views: Mapping[str, View]
    services: Mapping[str, FeatureService]


@dataclass(frozen=True, slots=True)
class LoopState:
    """Which loop is in force.

    Attributes:
        model: The model.
        generation: Grows with every statement.
        loop_digest: Digest of the loop's folder; empty before the first.
    """

    model: str
    generation: int
    loop_digest: str


@dataclass(frozen=True, slots=True)
class AppliedLoop:
    """A loop definition with its feature definitions.

    Attributes:
        digest: Of the loop's folder in the blob store.
        loop: loop.yaml.
        definitions: features.py.
        service: The feature service that the loop takes.
    """

    digest: str
    loop: Loop
    definitions: Definitions
    service: FeatureService


def apply_loop(digest: str, loop: Loop, definitions: Definitions) -> AppliedLoop:
    """Returns a loop with the feature service that it names.

    Raises:
        UnknownFeatureService: features.py does not define it.
        UnfitDefinitions: A name occurs twice, is taken or unknown, or an entity has no column.
    """
    service = definitions.services.get(loop.features)
    if service is None:
        raise UnknownFeatureService(
            f"loop.yaml of {loop.model} takes feature service {loop.features!r}, features.py "
            f"defines {', '.join(sorted(definitions.services)) or 'none'}",
            field="features",
        )
    _require_names(loop, service)
    for view in service.views:
        absent = sorted(set(view.entities) - set(loop.entities))
        if absent:
            raise UnfitDefinitions(
                f"view {view.name} is joined by {', '.join(absent)}, which input.entities of "
                f"{loop.model} does not declare",
                field="input.entities",
            )
    _require_known(loop, service)
    return AppliedLoop(digest, loop, definitions, service)


def _require_known(loop: Loop, service: FeatureService) -> None:
    """What loop.yaml says of inputs and views must be said of some that there are."""
    inputs = [*loop.entities, *loop.input.request, *(f.name for f in service.features)]
    for place, named, known in (
        ("input.fallback", loop.input.fallback, [view.name for view in service.views]),
        ("monitor.slices", loop.monitor.slices, inputs),
        ("gates.by", [by for gate in loop.gates if (by := getattr(gate, "by", None))], inputs),
    ):
        if unknown := sorted(set(named) - set(known)):
            raise UnfitDefinitions(
                f"{place} of {loop.model} names {', '.join(unknown)}; there are {', '.join(known)}",
                field=place,
            )


def _require_names(loop: Loop, service: FeatureService) -> None:
    inputs = [*loop.entities, *loop.input.request, *(f.name for f in service.features)]
    twice = sorted(name for name, count in Counter(inputs).items() if count > 1)
    if twice:
        raise UnfitDefinitions(
            f"{', '.join(twice)}: more than one input of {loop.model} has this name; features of a "
            f"service, entities and request fields share one set of names: rename",
            field=twice[0],
        )
    taken = sorted(name for name in inputs if not is_column(name))
    if taken:
        raise UnfitDefinitions(
            f"{', '.join(taken)}: an input is called by an identifier that does not begin with an "
            f"underscore and is none of {', '.join(sorted(RESERVED_INPUTS))}: rename it",
            field=taken[0],
        )
