"""supervisord.conf, as supervisord itself reads it."""

import configparser
import shlex
from pathlib import Path

from ciclo_local.programs import catalogue
from ciclo_local.settings import Settings
from ciclo_local.supervisor import render, socket_path


def parsed(settings: Settings) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(render(settings, catalogue(settings).values()))
    return parser


def test_every_program_is_launched_by_name_and_left_to_us_to_start() -> None:
    settings = Settings(Path("/state"))

    conf = parsed(settings)

    for name in catalogue(settings):
        section = conf[f"program:{name}"]
        command = shlex.split(section["command"])
        assert command[1:] == ["-m", "ciclo_local.launch", "/state", name]
        assert section["autostart"] == "false"
        assert section["autorestart"] == "true"
        assert section["stdout_logfile"] == f"/state/log/{name}.log"


def test_spaces_and_percent_signs_in_the_folder_survive() -> None:
    conf = parsed(Settings(Path("/a b/100%")))

    command = conf["program:kafka"]["command"] % {}  # supervisord expands %(name)s in values
    assert shlex.split(command)[3] == "/a b/100%"
    assert conf["supervisord"]["logfile"] % {} == "/a b/100%/log/supervisord.log"


def test_the_socket_lies_in_the_state_folder_while_its_path_is_short_enough() -> None:
    short, long = Settings(Path("/state")), Settings(Path("/" + "d" * 90))

    assert socket_path(short) == Path("/state/run/supervisor.sock")
    assert not socket_path(long).is_relative_to(long.state)
    for settings in (short, long):
        # supervisord first binds a name with its pid at the end; the kernel allows 107 bytes
        assert len(f"{socket_path(settings)}.4194304") <= 107


def test_two_deep_folders_have_two_sockets() -> None:
    one, other = Settings(Path("/" + "d" * 90)), Settings(Path("/" + "e" * 90))

    assert socket_path(one) != socket_path(other)
