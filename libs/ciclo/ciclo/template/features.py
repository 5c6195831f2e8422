"""The features of churn, as ordinary Feast objects. Read by the feature store."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float32

customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)

activity = FeatureView(
    name="activity",
    entities=[customer],
    ttl=timedelta(days=3),  # older than that they say nothing
    schema=[
        Field(name="visits", dtype=Float32, description="visits in the last seven days"),
        Field(name="minutes", dtype=Float32, description="minutes spent in these days"),
        Field(name="tickets", dtype=Float32, description="open complaints"),
        Field(name="idle_days", dtype=Float32, description="days since the last visit"),
    ],
)

# loop.yaml names this service; a model may take some views of many.
service = FeatureService(name="churn", features=[activity])
