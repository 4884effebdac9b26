"""A real PostgreSQL server of a test's own, where one is installed."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

USERS = ("postgres", "nobody")
"""Who runs the server where tests are run by root, whom it refuses."""


def why_not() -> str | None:
    """Why no server can be started here; none if one can."""
    if _program("initdb") is None or _program("pg_ctl") is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'nas-face[postgresql]')"
    if os.getuid() == 0 and _user() is None:
        return f"PostgreSQL refuses root, and there is no user {' or '.join(USERS)}"
    return None


class Server:
    """A server that listens on a socket in its own folder, to every user without a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"postgresql+psycopg://search@/postgres?host={folder}"

    def make(self) -> None:
        words = ["-U", "search", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", "-D", self._folder / "data", *words)

    def start(self) -> None:
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        log = self._folder / "log"
        self._run("pg_ctl", "-D", self._folder / "data", "-l", log, "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-w", "-m", mode, "stop")

    def _run(self, name: str, *words: object) -> None:
        owner = {"user": _user(), "group": _group()} if os.getuid() == 0 else {}
        subprocess.run(
            [str(_program(name)), *map(str, words)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            timeout=120,
            **owner,
        )


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A new server; its path is short, as those of sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="nas-face-pg-"))
    if os.getuid() == 0:
        shutil.chown(folder, _user(), _group())
    running = Server(folder)
    try:
        running.make()
        running.start()
        yield running
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it may be down already
            running.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str | None:
    found = shutil.which(name)
    if found is None:
        installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(installed[-1]) if installed else None
    return found


def _user() -> str | None:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((user for user in USERS if user in known), None)


def _group() -> int:
    return pwd.getpwnam(str(_user())).pw_gid
