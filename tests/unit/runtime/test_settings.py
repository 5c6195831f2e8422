from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field

from ciclo_runtime.settings import ServiceSettings, SettingsError, load

COMPLETE = {
    "CICLO_STATE_DIR": "/var/lib/ciclo/trainer",
    "CICLO_GRPC_PORT": "7001",
    "CICLO_METRICS_PORT": "7002",
    "CICLO_BLOB_URL": "file:///var/lib/ciclo/blobs",
}


class TrainerSettings(ServiceSettings):
    budget: int = Field(default=3, ge=1)
    """Runs a day, at most. 1 or more."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in TrainerSettings.model_fields:
        monkeypatch.delenv(f"CICLO_{field.upper()}", raising=False)
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("written", ["90", "PT1M30S"])
def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("CICLO_DRAIN_TIMEOUT", written)

    settings = load(TrainerSettings)

    assert settings.state_dir == Path("/var/lib/ciclo/trainer")
    assert settings.grpc_address == "127.0.0.1:7001"
    assert settings.drain_timeout == timedelta(seconds=90)
    assert settings.budget == 3


def test_all_problems_are_told_at_once_with_variable_value_and_meaning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CICLO_STATE_DIR")
    monkeypatch.setenv("CICLO_GRPC_PORT", "70000")
    monkeypatch.setenv("CICLO_ENV", "Not A Word")
    monkeypatch.setenv("CICLO_BUDGET", "many")

    with pytest.raises(SettingsError) as caught:
        load(TrainerSettings)

    message = caught.value.message
    assert "4 setting(s)" in message
    assert "CICLO_STATE_DIR is not set" in message
    assert "CICLO_GRPC_PORT is '70000'" in message
    assert "CICLO_ENV is 'Not A Word'" in message
    assert "CICLO_BUDGET is 'many'" in message
    assert "Runs a day, at most." in message


def test_every_setting_says_what_it_is() -> None:
    assert [
        name for name, field in ServiceSettings.model_fields.items() if not field.description
    ] == []
