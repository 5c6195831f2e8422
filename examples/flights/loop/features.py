"""The features of flight-delay, as ordinary Feast objects. Read by the feature store."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float32

origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING)
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)


def _view(name: str, entity: Entity, meanings: dict[str, str]) -> FeatureView:
    """Returns a view whose rows arrive by the hour; older than a day they say nothing."""
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(days=1),
        schema=[Field(name=n, dtype=Float32, description=m) for n, m in meanings.items()],
        source=FileSource(name=name, path=f"{name}.parquet", timestamp_field="event_time"),
    )


def _delays(of: str) -> dict[str, str]:
    return {
        f"{of}_delay_1h": "mean arrival delay of flights that landed in the last hour, minutes",
        f"{of}_delay_3h": "the same over three hours, minutes",
        f"{of}_delay_6h": "the same over six hours, minutes",
        f"{of}_late_share_3h": "share of these flights that were more than 15 minutes late",
        f"{of}_landed_3h": "number of these flights",
    }


weather = _view(
    "weather",
    origin,
    {
        "humid": "relative humidity, %",
        "wind_speed": "mph",
        "precip": "inches in the hour",
        "pressure": "sea level pressure, mbar",
        "visib": "visibility, miles",
    },
)
airport_delays = _view("airport_delays", origin, _delays("airport"))
carrier_delays = _view("carrier_delays", carrier, _delays("carrier"))

flight_delay = FeatureService(
    name="flight_delay", features=[weather, airport_delays, carrier_delays]
)
