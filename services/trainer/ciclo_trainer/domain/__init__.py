"""Why a run is started, and what a run is: pure, synchronous, no clock, no I/O."""
