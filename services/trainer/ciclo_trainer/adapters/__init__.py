"""How the trainer gets what it needs: its database, the feature store, blobs, a process."""
