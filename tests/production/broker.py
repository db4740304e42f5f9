"""A Redis server as Celery's broker. It records every write, so that a test can search all that it ever held."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from tests.ledger.postgres import free_port

_START_S = 30


class Broker:
    """A Redis server on a loopback port of its own that asks for a password."""

    def __init__(self, program: str) -> None:
        self.password = secrets.token_hex(16)
        self._folder = Path(tempfile.mkdtemp(prefix="sluice-redis-"))
        self._port = free_port()
        settings = {
            "bind": "127.0.0.1",
            "port": self._port,
            "unixsocket": '""',
            "requirepass": self.password,
            "dir": self._folder,
            "save": '""',
            # Every write, in order, and never compacted.
            "appendonly": "yes",
            "appendfsync": "no",
            "auto-aof-rewrite-percentage": 0,
        }
        configuration = self._folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self.url = f"redis://:{self.password}@127.0.0.1:{self._port}/0"
        with (self._folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.client = redis.Redis.from_url(self.url)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.client.ping()
            except redis.ConnectionError:
                assert self._process.poll() is None, (self._folder / "redis.log").read_text()
                assert time.monotonic() < deadline, "Redis does not answer"
                time.sleep(0.05)
            else:
                return

    def waiting(self, queue: str) -> int:
        """How many messages of a queue no worker has taken."""
        return int(self.client.llen(queue))

    def unacknowledged(self) -> int:
        """How many messages a worker has taken and not finished."""
        return int(self.client.hlen("unacked"))

    def everything(self) -> bytes:
        """All that was ever written to it."""
        return b"".join(path.read_bytes() for path in sorted(self._folder.glob("appendonlydir/*.aof")))

    def stop(self) -> None:
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(_START_S)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)
