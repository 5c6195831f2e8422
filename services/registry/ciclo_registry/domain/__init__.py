"""Why the registry decides as it does: values and pure functions."""
