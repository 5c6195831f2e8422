"""TrainingService: decode, call, encode."""

from typing import Any

from ciclo.training.v1 import training_service_pb2 as pb
from ciclo.training.v1.training_service_pb2_grpc import TrainingServiceServicer
from ciclo_trainer import wire
from ciclo_trainer.handlers import Trainer

PAGE_SIZE = 20
"""Runs that are listed where the caller does not say."""


class TrainingApi(TrainingServiceServicer):
    """Answers `ciclo.training.v1.TrainingService`."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    async def StartTraining(
        self, request: pb.StartTrainingRequest, context: Any
    ) -> pb.StartTrainingResponse:
        """Starts a run by hand."""
        run = await self._trainer.start_by_hand(
            request.model,
            request.request_id,
            request.requested_by,
            as_of=wire.to_time(request.as_of_time) if request.HasField("as_of_time") else None,
            recipe=request.recipe,
            seed=request.seed if request.HasField("seed") else None,
        )
        return pb.StartTrainingResponse(run_id=run.run_id)

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        """Returns one run."""
        return pb.GetRunResponse(run=wire.from_run(*await self._trainer.get(request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        """Returns a model's runs, newest first."""
        runs = await self._trainer.list(request.model, request.page_size or PAGE_SIZE)
        return pb.ListRunsResponse(
            runs=[wire.from_run(run, self._trainer.progress(run)) for run in runs]
        )
