"""The catalogue of programs: order, ports, and what services are told."""

import itertools
from pathlib import Path

import pytest

from ciclo_local.errors import BadSetting, NotInstalled
from ciclo_local.programs import SERVICES, catalogue, select, service_environment
from ciclo_local.settings import Settings

SETTINGS = Settings(Path("/tmp/of ours/state"), environment="trial", base_port=20000)


def test_every_program_comes_after_those_it_depends_on() -> None:
    seen: set[str] = set()
    for program in catalogue(SETTINGS).values():
        assert set(program.depends_on) <= seen
        seen.add(program.name)


def test_no_two_programs_share_a_port() -> None:
    ports = [port for program in catalogue(SETTINGS).values() for port in program.ports]

    assert len(set(ports)) == len(ports) == 20


def test_nothing_named_selects_all_and_names_keep_the_order() -> None:
    assert [p.name for p in select(SETTINGS, [])] == list(catalogue(SETTINGS))
    assert [p.name for p in select(SETTINGS, ["envoy", "kafka"])] == ["kafka", "envoy"]


def test_an_unknown_program_is_refused_with_those_that_exist() -> None:
    with pytest.raises(BadSetting, match=r"called kafca; expected kafka, triton-serving"):
        select(SETTINGS, ["kafca"])


def test_a_service_is_told_all_that_is_documented() -> None:
    told = service_environment(SETTINGS, "feature-store")

    assert told == {
        "CICLO_ENV": "trial",
        "CICLO_STATE_DIR": "/tmp/of ours/state",
        "CICLO_KAFKA_BOOTSTRAP": "127.0.0.1:20002",
        "CICLO_GRPC_PORT": "20010",
        "CICLO_METRICS_PORT": "20011",
        "CICLO_FEATURE_STORE_ADDRESS": "127.0.0.1:20010",
        "CICLO_TRAINER_ADDRESS": "127.0.0.1:20012",
        "CICLO_REGISTRY_ADDRESS": "127.0.0.1:20014",
        "CICLO_GATEWAY_ADDRESS": "127.0.0.1:20016",
        "CICLO_MONITOR_ADDRESS": "127.0.0.1:20018",
        "CICLO_TRITON_SERVING_ADDRESS": "127.0.0.1:20005",
        "CICLO_TRITON_SHADOW_ADDRESS": "127.0.0.1:20008",
        "CICLO_ENVOY_ADDRESS": "127.0.0.1:20000",
        "CICLO_ENVOY_ADMIN": "http://127.0.0.1:20001",
        "CICLO_BLOB_URL": "file:///tmp/of%20ours/state/blobs",
        "CICLO_LOG_LEVEL": "info",
    }


def test_each_service_listens_where_the_others_are_told() -> None:
    programs = catalogue(SETTINGS)
    for asking, asked in itertools.product(SERVICES, SERVICES):
        variable = f"CICLO_{asked.replace('-', '_').upper()}_ADDRESS"
        told = service_environment(SETTINGS, asking)[variable]
        assert told == f"127.0.0.1:{programs[asked].ports[0]}"


def test_a_service_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciclo_local.programs.module", lambda name: f"no_such_{name}")

    with pytest.raises(NotInstalled, match=r"The service trainer .*`make setup`"):
        catalogue(SETTINGS)["trainer"].command()
