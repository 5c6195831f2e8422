"""How the feature store gets at Kafka, Delta tables, blobs, SQLite and Feast."""
