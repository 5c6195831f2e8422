"""Triton's command line and environment."""

from pathlib import Path

from ciclo_local.settings import Settings
from ciclo_local.triton_server import ROLES, environment, ports

SETTINGS = Settings(Path("/state"))


def test_the_two_servers_share_no_port() -> None:
    taken = [port for role in ROLES for port in ports(SETTINGS, role)]

    assert len(set(taken)) == 6


def test_the_server_sees_its_own_packages_and_not_ours() -> None:
    site = environment(SETTINGS)["PYTHONPATH"]

    assert Path(site).is_relative_to(SETTINGS.stack_home / "triton" / "venv")
