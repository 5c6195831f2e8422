"""The training core: snapshot and recipe in, bundle out; runs in a process of its own.

The trainer writes a `Request` and starts `python -m ciclo_trainer.training`. Importing this
package imports no torch; `ciclo_trainer.training.run.train` is the same run in this process.
"""

from ciclo_trainer.training.errors import (
    BadRequest,
    DatasetUnfit,
    NotFinite,
    ParityFailed,
    RecipeFailed,
    TrainingFailed,
)
from ciclo_trainer.training.request import Output, Request, Result, encode_request, read_request

__all__ = [
    "BadRequest",
    "DatasetUnfit",
    "NotFinite",
    "Output",
    "ParityFailed",
    "RecipeFailed",
    "Request",
    "Result",
    "TrainingFailed",
    "encode_request",
    "read_request",
]
