"""Named moments at which a test may kill the feature store."""

from enum import StrEnum, unique


@unique
class FeatureStoreCrash(StrEnum):
    """The moments around a commit; see `ciclo_runtime.crash`."""

    FLUSH_BEFORE_APPEND = "feature_store.flush_before_append"
    FLUSH_AFTER_APPEND = "feature_store.flush_after_append"
    FLUSH_AFTER_STATE = "feature_store.flush_after_state"
