"""Every service folder has the same shape, so that a newcomer finds a thing at its place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path for path in (ROOT / "services").iterdir() if path.is_dir())


@pytest.fixture(params=SERVICES, ids=lambda path: path.name)
def service(request):
    return request.param


def package(service):
    return service / f"ciclo_{service.name.replace('-', '_')}"


ROOMS = (
    *("__main__", "app", "settings", "handlers", "ports"),
    *("grpc_api", "wire", "metrics", "domain", "adapters"),
)


@pytest.mark.parametrize("name", ROOMS)
def test_a_service_has_its_rooms(service, name):
    room = package(service) / name
    assert room.is_dir() or room.with_suffix(".py").is_file()


@pytest.mark.parametrize("word", ["publishes|out", "metrics", "settings", "rpcs?"])
def test_a_readme_tells_how_to_deal_with_the_service(service, word):
    text = (service / "README.md").read_text()
    assert re.search(rf"\b({word})\b", text, re.IGNORECASE), (
        f"{service.name}/README.md lacks {word}"
    )
    assert len(text.splitlines()) <= 90, "one screen or two, not a book"


def test_only_wire_and_grpc_api_import_generated_messages_of_events(service):
    """The domain and the use cases are free of them."""
    generated = re.compile(
        r"^from ciclo\.(events|features|serving|training|registry|monitoring)\.v1", re.MULTILINE
    )
    for room in ("handlers.py", "domain"):
        for path in [package(service) / room, *(package(service) / room).glob("**/*.py")]:
            if path.is_file():
                assert not generated.search(path.read_text()), path


def test_libraries_and_services_know_nothing_of_the_example():
    for folder in ("libs", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"nycflights|flight.?delay", path.read_text(), re.IGNORECASE), path
