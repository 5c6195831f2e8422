"""Sizes of the streams' state, shared by both engines; COARSE, STEP_ROWS, RECENT: powers of two."""

CEILING = 1e280
"""Where evidence stops growing: past any threshold, and a row short of overflow."""

TINY = 1e-300
"""Keeps 0 / 0 from cells that no pool holds."""

COARSE = 16
"""Cells of a sketch that share one partial sum."""

GROUPS = 16
"""Partial sums of a numeric sketch: room for 256 cells."""

STEP_ROWS = 64
"""Rows after which the start of a change is looked at anew: what is said of a change that began
before the kept rows is a multiple of it."""

RECENT = 512
"""Rows whose cells are kept, for the change point and for what a stream looks like now."""

POOL_ROWS = 2**31
"""Rows after which a pool stops growing: by then it is as good as the truth, and counts fit into
32 bits, which halves a stream's memory."""

EDGES = 511
"""Room for the edges of a numeric sketch."""

LARGEST = 1.7976931348623157e308
"""Largest number; infinity lies in its cell."""

GUESSES = 2_048
"""Equal parts of [0, 1) for which the first bin is known beforehand."""
