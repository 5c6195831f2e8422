"""Fetches Kafka's jars, checks each against the committed digest, and makes its start-up cache."""

import hashlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ciclo_local import kafka
from ciclo_local.errors import InstallFailed
from ciclo_local.ports import LOOPBACK
from ciclo_local.settings import Settings
from ciclo_local.start import Say

COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{kafka.VERSION}",
    f"org.apache.kafka:kafka-tools:{kafka.VERSION}",
    # Logs warnings and errors to stderr. With a silent binding a broker that refuses
    # to start would leave an empty log.
    "org.slf4j:slf4j-simple:1.7.36",
)
"""What to fetch, in Maven's notation; what they need comes with them."""

TABLE = Path(__file__).with_name("kafka-jars.sha256")
"""Digest and name of every jar, in the format of sha256sum."""

_TRAINING_TIMEOUT = 60.0


def expected() -> dict[str, str]:
    """Returns the committed table: jar name to SHA-256 in hexadecimal."""
    lines = (line.split() for line in TABLE.read_text().splitlines())
    return {name: digest for digest, name in lines}


def differences(folder: Path) -> list[str]:
    """Returns what a folder of jars lacks, has besides, or has with another digest.

    Args:
        folder: Where the jars lie; may be missing.
    """
    table = expected()
    found = {path.name: _digest(path) for path in folder.glob("*.jar")}
    return [
        *(f"{name} is missing" for name in sorted(table.keys() - found.keys())),
        *(f"{name} is not expected" for name in sorted(found.keys() - table.keys())),
        *(
            f"{name} has SHA-256 {found[name]}, expected {table[name]}"
            for name in sorted(table.keys() & found.keys())
            if found[name] != table[name]
        ),
    ]


def install(settings: Settings, say: Say) -> None:
    """Brings the jars into `stack_home/kafka/lib`. Does nothing if they are there and right.

    Raises:
        InstallFailed: They cannot be fetched, or are not those that were pinned.
    """
    library = kafka.home(settings) / "lib"
    if differences(library):
        cache = settings.stack_home / "cache" / "kafka"
        say(f"Kafka {kafka.VERSION}: fetching {len(expected())} jars, 54 MB")
        _fetch(cache)
        fresh = _gather(cache, library.with_name("lib.new"))
        if wrong := differences(fresh):
            shutil.rmtree(cache)
            raise InstallFailed(
                f"Kafka's jars are not those listed in {TABLE.name}: {'; '.join(wrong[:3])}."
                " What was fetched has been deleted: try again. If it happens twice, what lies"
                " between here and the repository alters files."
            )
        shutil.rmtree(library, ignore_errors=True)
        fresh.rename(library)
        shutil.rmtree(cache)
        (kafka.home(settings) / "kafka.aot").unlink(missing_ok=True)
    say(f"Kafka {kafka.VERSION}: {len(expected())} jars, digests checked")
    if not (kafka.home(settings) / "kafka.aot").exists():
        _train(settings, say)


def _fetch(cache: Path) -> None:
    command = [sys.executable, "-m", "jgo", "--quiet", "--ignore-config", "--resolver", "python"]
    command += ["--links", "copy", "--cache-dir", str(cache / "jgo"), "--repo-cache"]
    command += [str(cache / "m2"), "info", "jars", "+".join(COORDINATES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise InstallFailed(
            f"Kafka's jars could not be fetched from Maven Central: {last[0]}. Is the network"
            " there? What was fetched is kept; `make setup` goes on from it."
        )


def _gather(cache: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for jar in (cache / "jgo" / "envs").rglob("*.jar"):
        shutil.copy2(jar, folder / jar.name)
    return folder


def _train(settings: Settings, say: Say) -> None:
    """Runs a throw-away broker once, from which Java writes the cache that halves later starts.

    The stack also runs without it, so a failure here is said and no error.
    """
    cache = kafka.home(settings) / "kafka.aot"
    with tempfile.TemporaryDirectory() as state:
        trial = Settings(Path(state), stack_home=settings.stack_home, base_port=_free_base())
        kafka.prepare(trial)
        command = kafka.command(trial)
        command.insert(1, f"-XX:AOTCacheOutput={cache}")
        broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _TRAINING_TIMEOUT
            while time.monotonic() < deadline and broker.poll() is None:
                with suppress(Exception):
                    kafka.probe(trial)
                    break
                time.sleep(0.2)
            broker.terminate()
            broker.wait(_TRAINING_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            broker.kill()
            broker.wait()
    if cache.exists():
        say(f"Kafka {kafka.VERSION}: start-up cache made, {cache.stat().st_size >> 20} MB")
    else:
        say("Kafka: no start-up cache could be made; it will start, but slower")


def _free_base() -> int:
    """Returns a base port that is free now; if it is taken in between, there is no cache."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return min(int(probe.getsockname()[1]), 65000)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
