"""Versions and routes that change under a client that never stops asking."""

import threading
import time
from collections import Counter

import grpc
import pytest
from tests.integration.local.conftest import (
    MODEL,
    WIDTH,
    Client,
    canary,
    load_versions,
    publish,
    write_version,
)
from tests.support.stack import LocalStack


class Load:
    """A client that never stops asking; whatever fails is kept."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                answer, told, _ = self._client.predict()
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()} {error.details()}")
                continue
            self.versions[told["x-ciclo-version"]] += 1
            if answer != WIDTH + int(told["x-ciclo-version"]):
                self.failures.append(f"{answer} from version {told['x-ciclo-version']}")

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_a_version_comes_and_another_goes_without_a_failed_call(
    running: LocalStack, client: Client
) -> None:
    write_version(running.settings, 3)
    with Load(client) as load:
        load_versions(running.settings, [1, 2, 3])
        third = {"version": "3", "weight": 100, "variant": "champion"}
        publish(running.settings, "third", {MODEL: {"versions": [third]}})
        load_versions(running.settings, [3])  # calls in flight to 1 and 2 are finished first
        load_versions(running.settings, [1, 2, 3])
        publish(running.settings, "canary-50", canary(50))
        load_versions(running.settings, [1, 2])
        time.sleep(0.2)

    assert load.failures == []
    assert set(load.versions) == {"1", "2", "3"}


def test_a_version_that_does_not_load_leaves_the_others_serving(
    running: LocalStack, client: Client
) -> None:
    write_version(running.settings, 4)
    broken = running.settings.triton("serving") / "models" / MODEL / "4" / "model.onnx"
    broken.write_bytes(b"no graph")

    with Load(client) as load:
        with pytest.raises(grpc.RpcError) as caught:
            load_versions(running.settings, [2, 4])
        load_versions(running.settings, [1, 2])

    assert "version 4" in str(caught.value.details())
    assert load.failures == []
    assert set(load.versions) == {"1", "2"}


def test_routes_flip_under_load_without_a_failed_call(running: LocalStack, client: Client) -> None:
    with Load(client) as load:
        for flip in range(30):
            publish(running.settings, f"flip-{flip}", canary(10 + 80 * (flip % 2)))

    assert load.failures == []
