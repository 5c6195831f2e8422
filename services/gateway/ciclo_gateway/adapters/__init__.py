"""How the gateway gets it done: files, SQLite, Kafka, Triton, Envoy, blobs."""
