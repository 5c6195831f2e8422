"""What a stack may be called and where it may listen."""

from pathlib import Path

import pytest

from ciclo_local.errors import BadSetting
from ciclo_local.settings import Settings


@pytest.mark.parametrize("name", ["", "Prod", "a b", "-x", "x" * 33, "a.b", "ä"])
def test_an_environment_that_cannot_start_a_topic_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match="lower-case letters") as caught:
        Settings(Path("/s"), environment=name)

    assert caught.value.field == "environment"


@pytest.mark.parametrize("port", [-1, 80, 1023, 65497, 70000])
def test_a_base_port_whose_block_does_not_fit_is_refused(port: int) -> None:
    with pytest.raises(BadSetting, match="1024 to 65496"):
        Settings(Path("/s"), base_port=port)


def test_two_folders_have_two_digests() -> None:
    assert Settings(Path("/a")).digest != Settings(Path("/b")).digest
