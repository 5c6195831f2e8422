"""A Triton with its model repository: load, settle, unload, ask.

A load names its configuration in the call and not on disk; the files change only once the answers
were right. So a Triton that a version kills starts again with what was good before.
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import grpc
from google.protobuf import json_format, text_format
from tritonclient.grpc import service_pb2_grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.grpc.service_pb2 import (
    RepositoryIndexRequest,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)

from ciclo.errors import Reject, Retry
from ciclo_bundle.triton import Batching, prune_model, write_model
from ciclo_gateway.domain.desired import Placement
from ciclo_gateway.domain.tensors import Tensor
from ciclo_gateway.ports.control import LoadFailed, ServerGone, ServerSlow
from ciclo_gateway.wire import inference
from ciclo_runtime.grpc_errors import from_rpc_error

_ASK_SECONDS: Final = 10.0
_INDEX_SECONDS: Final = 5.0
_MAX_MESSAGE_BYTES: Final = 64 * 2**20
_CONFIG: Final = "config.pbtxt"
_READY: Final = "READY"


class TritonServer:
    """Implements `ports.ModelServer`.

    Args:
        placement: Which of the two.
        address: gRPC, `host:port`.
        folder: Holds `models/`, its repository, and `models.list`, what it starts with.
        max_rows: In one run of a graph.
        load_timeout: After it a load is put off.
    """

    def __init__(
        self,
        placement: Placement,
        address: str,
        folder: Path,
        *,
        max_rows: int,
        load_timeout: timedelta,
    ) -> None:
        self.placement = placement
        self._address = address
        self._repository = folder / "models"
        self._list = folder / "models.list"
        # Beside the repository: a rename must not cross file systems.
        self._staging = folder / "staging"
        self._batching = Batching(max_rows=max_rows)
        self._load_timeout = load_timeout
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        """Makes the folders; connects with the first call."""
        self._repository.mkdir(parents=True, exist_ok=True)
        self._channel = grpc.aio.insecure_channel(
            self._address,
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_reconnect_backoff_ms", 1_000),
            ],
        )

    async def stop(self) -> None:
        """Closes the connection."""
        if self._channel:
            await self._channel.close()

    async def ready(self) -> Mapping[str, frozenset[int]]:
        """Returns which versions of which models can be asked. Raises `ServerGone`."""
        try:
            index = await self._stub().RepositoryIndex(
                RepositoryIndexRequest(), timeout=_INDEX_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise self._gone(error) from error
        found: dict[str, frozenset[int]] = {}
        for model in index.models:
            numbers = found.setdefault(model.name, frozenset())
            if model.state == _READY and model.version.isdecimal():
                found[model.name] = numbers | {int(model.version)}
        return {name: numbers for name, numbers in found.items() if numbers}

    async def load(self, model: str, versions: Mapping[int, Path]) -> None:
        """Makes a model hold these versions and no others; what it held answers meanwhile.

        Raises:
            LoadFailed: Triton says why.
            ServerSlow: It took too long; Triton may end it yet.
            ServerGone: It died meanwhile, or before.
        """
        config = await asyncio.to_thread(self._lay_out, model, versions)
        request = RepositoryModelLoadRequest(model_name=model)
        request.parameters["config"].string_param = config
        try:
            await self._stub().RepositoryModelLoad(
                request, timeout=self._load_timeout.total_seconds()
            )
        except grpc.aio.AioRpcError as error:
            what = f"load of {model} {sorted(versions)}"
            raise (
                self._trouble(error, what)
                or LoadFailed(
                    f"{self.placement} Triton, {what}: {error.code().name} {error.details()}"
                )
            ) from error

    async def settle(self, model: str, versions: Mapping[int, Path]) -> None:
        """Makes the server start with these versions next time, and forgets files of others."""
        await asyncio.to_thread(self._settle, model, versions)

    async def unload(self, model: str) -> None:
        """Takes a model from the server, now and at its next start; its files go with it.

        Raises:
            Retry: It may be held still, so its files are left.
        """
        await asyncio.to_thread(self._write_list, model, is_listed=False)
        try:
            await self._stub().RepositoryModelUnload(
                RepositoryModelUnloadRequest(model_name=model), timeout=_ASK_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            what = f"unload of {model}"
            raise (
                self._trouble(error, what)
                or Retry(f"{self.placement} Triton, {what}: {error.code().name} {error.details()}")
            ) from error
        await asyncio.to_thread(shutil.rmtree, self._repository / model, ignore_errors=True)

    async def infer(
        self, model: str, version: int, tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        """Asks a version. Raises `Reject` for a question that it refuses, `Retry` otherwise."""
        request = inference.infer_request(model, version, tensors)
        try:
            answer = await self._stub().ModelInfer(request, timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL:  # the graph's own error: asking again
                raise Reject(str(error.details()), reason="INTERNAL") from error  # changes nothing
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise self._slow(f"question to {model} {version}") from error
            raise from_rpc_error(error) from error
        return inference.read_response(answer)

    def _lay_out(self, model: str, versions: Mapping[int, Path]) -> str:
        """Puts folders of new versions into the repository; returns the configuration as JSON."""
        folder = write_model(self._staging, model, versions, self._batching)
        target = self._repository / model
        target.mkdir(parents=True, exist_ok=True)
        for number in versions:
            if not (target / str(number)).exists():
                (folder / str(number)).rename(target / str(number))
        text = (folder / _CONFIG).read_text(encoding="utf-8")
        shutil.rmtree(folder)
        return str(json_format.MessageToJson(text_format.Parse(text, ModelConfig())))

    def _settle(self, model: str, versions: Mapping[int, Path]) -> None:
        folder = write_model(self._repository, model, versions, self._batching)
        prune_model(folder, versions)
        self._write_list(model, is_listed=True)

    def _write_list(self, model: str, *, is_listed: bool) -> None:
        names = set(self._list.read_text().split()) if self._list.exists() else set()
        names = names | {model} if is_listed else names - {model}
        draft = self._list.with_suffix(".new")
        draft.write_text("".join(f"{name}\n" for name in sorted(names)))
        draft.rename(self._list)

    def _stub(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        if self._channel is None:
            raise ServerGone(f"the {self.placement} Triton is used before start()")
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def _trouble(self, error: grpc.aio.AioRpcError, what: str) -> Retry | None:
        """Returns what is wrong with the server itself; None if it gave an answer."""
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return self._gone(error)
        return self._slow(what) if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else None

    def _slow(self, what: str) -> ServerSlow:
        return ServerSlow(
            f"the {self.placement} Triton at {self._address} is not done in time: {what}"
        )

    def _gone(self, error: grpc.aio.AioRpcError) -> ServerGone:
        return ServerGone(
            f"the {self.placement} Triton at {self._address} does not answer: {error.details()}"
        )
