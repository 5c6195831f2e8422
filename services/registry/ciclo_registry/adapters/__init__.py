"""How the registry gets what it needs: its database and the blob store."""
