"""What the gateway's use cases need of the world."""
