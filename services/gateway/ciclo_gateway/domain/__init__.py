"""Why the gateway is right: what to load, whom to ask, what to record. Pure and synchronous."""
