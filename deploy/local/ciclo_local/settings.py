"""Which stack is meant: its folder, name and ports; every module here takes a `Settings`."""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ciclo_local.errors import BadSetting
from ciclo_local.ports import BLOCK, DEFAULT_BASE, Ports

ROOT = Path(__file__).resolve().parents[3]
"""The checkout: the stack is started from one, with what `make setup` installed into it."""

DEPLOY = ROOT / "deploy"
"""Where the configuration of Envoy and Triton lies."""

ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""What may be the first word of a topic."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One local stack.

    Args:
        state: Its folder: logs, data, configuration. Absolute.
        environment: First word of every topic.
        base_port: The first of its block of ports.
        stack_home: Where Kafka's jars and Triton's environment are installed. Absolute.
        log_level: Least severe level that the services write.
    """

    state: Path
    environment: str = "local"
    base_port: int = DEFAULT_BASE
    stack_home: Path = ROOT / "build" / "stack"
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not ENVIRONMENT.fullmatch(self.environment):
            raise BadSetting(
                f"The environment is {self.environment!r}; expected up to 32 lower-case letters,"
                " digits and hyphens (--env, CICLO_ENV).",
                field="environment",
            )
        if not 1024 <= self.base_port <= 65536 - BLOCK:
            raise BadSetting(
                f"The base port is {self.base_port}; expected 1024 to {65536 - BLOCK}"
                " (--base-port, CICLO_BASE_PORT).",
                field="base_port",
            )

    @property
    def ports(self) -> Ports:
        """Where this stack listens."""
        return Ports.from_base(self.base_port)

    @property
    def note(self) -> Path:
        """What `down`, `status` and the next `up` need to know; there once a stack was started."""
        return self.state / "stack.json"

    @property
    def run(self) -> Path:
        """Pids and the supervisor's socket; gone when the stack is down."""
        return self.state / "run"

    @property
    def log(self) -> Path:
        """One log file a program."""
        return self.state / "log"

    @property
    def spool(self) -> Path:
        """What Envoy captured, one file for each of its starts."""
        return self.state / "spool"

    @property
    def blobs(self) -> Path:
        """Bundles, loop definitions, snapshots."""
        return self.state / "blobs"

    @property
    def homes(self) -> dict[str, str]:
        """Variables that keep in the state folder what libraries leave in a home folder."""
        cache, config = self.state / "home" / "cache", self.state / "home" / "config"
        return {
            "XDG_CACHE_HOME": str(cache),
            "XDG_CONFIG_HOME": str(config),
            "MPLCONFIGDIR": str(config / "matplotlib"),
        }

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that name this folder where its path cannot stand."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    def triton(self, role: str) -> Path:
        """Returns the folder of the Triton called `role`: `models/` and `models.list`."""
        return self.state / "triton" / role

    def save(self) -> None:
        """Notes in the state folder what `down`, `status` and the next `up` need."""
        self.state.mkdir(parents=True, exist_ok=True)
        replace(
            self.note,
            json.dumps(
                {
                    "environment": self.environment,
                    "base_port": self.base_port,
                    "stack_home": str(self.stack_home),
                    "log_level": self.log_level,
                    "addresses": self.ports.addresses(),
                },
                indent=2,
            ),
        )


def load(
    state: Path,
    *,
    environment: str | None = None,
    base_port: int | None = None,
    stack_home: Path | None = None,
    log_level: str | None = None,
) -> Settings:
    """Returns the settings of the stack in `state`.

    What is not given is what the last `up` in this folder used, else the default.

    Args:
        state: The state folder; need not exist.
        environment: See `Settings`.
        base_port: See `Settings`.
        stack_home: See `Settings`.
        log_level: See `Settings`.

    Raises:
        BadSetting: A value is out of range, or the folder's note is damaged.
    """
    state = state.expanduser().resolve()
    defaults = Settings(state)
    note = defaults.note
    try:
        last = json.loads(note.read_text()) if note.exists() else {}
        return Settings(
            state=state,
            environment=last.get("environment", defaults.environment)
            if environment is None
            else environment,
            base_port=int(last.get("base_port", defaults.base_port))
            if base_port is None
            else base_port,
            stack_home=(stack_home or Path(last.get("stack_home", defaults.stack_home))).resolve(),
            log_level=log_level or last.get("log_level", defaults.log_level),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise BadSetting(
            f"{note} is damaged ({error}): delete it, and name --base-port and --env again."
        ) from error


def replace(path: Path, text: str) -> None:
    """Writes a file such that readers see the old text or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def purge(settings: Settings) -> None:
    """Deletes the state folder.

    Raises:
        BadSetting: The folder holds no note of a stack, so it may be anything else's.
    """
    if not settings.state.exists():
        return
    if not settings.note.exists():
        raise BadSetting(
            f"{settings.state} holds no stack.json, so no stack of Ciclo was ever started in it:"
            " it is not deleted. Check --state (CICLO_STATE_DIR).",
            field="state",
        )
    shutil.rmtree(settings.state)
