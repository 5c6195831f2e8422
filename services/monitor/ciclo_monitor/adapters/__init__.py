"""How the monitor gets what it needs: Faust, the registry's states, blobs, its database."""
