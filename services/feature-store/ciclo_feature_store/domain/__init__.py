"""Why the feature store is right: pure, synchronous, without clock or I/O."""
