"""The gateway: answers predictions, and lets nothing served go unrecorded."""
