"""Envoy's files: what is rendered, and what a restart does to published routes."""

import json
import re
from typing import Any

import pytest
import yaml

from ciclo_local.envoy import SOURCES, filter_context, render, renew

VALUES = {
    "CONFIG": "/config",
    "LUA": "/config/route-0.lua",
    "SPOOL": "/spool/serve-0.log",
    "HOST": "127.0.0.1",
    "PORT": "1",
    "ADMIN_PORT": "2",
    "TRITON_PORT": "3",
    "GATEWAY_PORT": "4",
}
TEMPLATE = render("rds.yaml", VALUES)


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_file_renders_to_yaml_without_a_placeholder(path: Any) -> None:
    text = render(path.name, VALUES)

    assert not re.search(r"@[A-Z_]+@", text)
    assert yaml.safe_load(text)


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="CONFIG"):
        render("bootstrap.yaml", {"HOST": "h", "ADMIN_PORT": "1"})


def test_every_listener_is_on_the_loopback_interface() -> None:
    admin = yaml.safe_load(render("bootstrap.yaml", VALUES))["admin"]
    listeners = yaml.safe_load(render("lds.yaml", VALUES))["resources"]

    addresses = [part["address"]["socket_address"]["address"] for part in (admin, *listeners)]
    assert addresses == ["127.0.0.1", "127.0.0.1"]


def log_line() -> str:
    http = yaml.safe_load(render("lds.yaml", VALUES))["resources"][0]["filter_chains"][0]
    log = http["filters"][0]["typed_config"]["access_log"][0]["typed_config"]
    line: str = log["log_format"]["text_format_source"]["inline_string"]
    return line


def test_a_record_has_eighteen_columns_and_ends_with_a_dot() -> None:
    columns = log_line().removesuffix("\n").split(" ")

    assert len(columns) == 18
    assert (columns[0], columns[-1]) == ("1", ".")


def test_the_columns_are_those_of_the_readme() -> None:
    readme = (SOURCES / "README.md").read_text()
    documented = re.findall(r"^\| (\d+) \|.*`(\S+)` \|$", readme, re.MULTILINE)

    assert [operator for _, operator in documented] == log_line().split()
    assert [int(number) for number, _ in documented] == list(range(1, 19))


def test_the_first_start_serves_the_template_which_routes_no_model() -> None:
    assert renew(TEMPLATE, None) == TEMPLATE
    assert filter_context(yaml.safe_load(TEMPLATE))["models"] == {}


def published(**changes: Any) -> str:
    document = yaml.safe_load(TEMPLATE)
    filter_context(document).update(generation="g7", models={"m": {"versions": []}})
    document["version_info"] = "g7"
    document.update(changes)
    return json.dumps(document)


def test_a_restart_leaves_published_routes_untouched() -> None:
    assert renew(TEMPLATE, published()) == published()


def test_a_newer_template_keeps_the_published_table() -> None:
    newer = TEMPLATE.replace("timeout: 30s", "timeout: 31s")

    renewed = yaml.safe_load(renew(newer, published()))

    assert renewed["version_info"] == "g7"
    assert filter_context(renewed)["generation"] == "g7"
    assert filter_context(renewed)["models"] == {"m": {"versions": []}}
    routes = renewed["resources"][0]["virtual_hosts"][0]["routes"]
    assert routes[0]["route"]["timeout"] == "31s"


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", published(resources=[])])
def test_damaged_routes_are_replaced_by_the_template(damaged: str) -> None:
    assert renew(TEMPLATE, damaged) == TEMPLATE


def routes_to(path: str) -> str | None:
    """The name of the route that a path takes."""
    for route in yaml.safe_load(TEMPLATE)["resources"][0]["virtual_hosts"][0]["routes"]:
        match = route["match"]
        if (
            match.get("path") == path
            or ("prefix" in match and path.startswith(match["prefix"]))
            or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path))
        ):
            name: str = route["name"]
            return name
    return None


def test_only_inference_health_and_metadata_pass() -> None:
    from tritonclient.grpc import service_pb2

    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    passing = {
        method.name
        for method in service.methods
        if routes_to(f"/{service.full_name}/{method.name}") != "nothing-else"
    }

    assert passing == {
        *("ModelInfer", "ServerLive", "ServerReady", "ModelReady"),
        *("ServerMetadata", "ModelMetadata", "ModelConfig"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "/inference.GRPCInferenceService/ServerLiveX",
        "/inferenceXGRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ModelReady/../RepositoryModelLoad",
        "/ciclo.serving.v1.PredictionServiceX/Predict",
        "/",
    ],
)
def test_a_path_that_resembles_an_allowed_one_does_not_pass(path: str) -> None:
    assert routes_to(path) == "nothing-else"
