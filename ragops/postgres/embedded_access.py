"""Close the embedded server to the other users of this machine.

The wheel trusts whoever reaches the socket. Run by root it starts the server as a user of its own, opens every
folder above the data to all users, and makes the folder of the socket writable for all.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragops.subprocesses import Purpose, child_environment

_MARK = "# written by ragops at every start: only the user who runs the server may connect\n"
_SOCKET_MODE = "unix_socket_permissions = 0700  # by ragops\n"


def protect(package: Any, server: Any) -> None:
    """Make a server of the wheel close itself when it starts. On Windows it stays as the wheel has it."""
    if sys.platform == "win32":
        return  # no peer authentication there, and the server listens on 127.0.0.1
    package.postgres_server.ensure_prefix_permissions = let_pass
    initialise = server.ensure_pgdata_inited

    def initialise_closed() -> None:
        initialise()
        close_folder(server.pgdata, _user_name())

    server.ensure_pgdata_inited = initialise_closed


def close_folder(folder: Path, user: str) -> None:
    """Let only `user` connect, as whatever role. Existing files are rewritten in place and keep their owner."""
    # Quoted: a user's name may have a space. `all` as the role needs PostgreSQL 16.
    quoted = '"' + user.replace('"', '""') + '"'
    _write(folder / "pg_ident.conf", f"{_MARK}ragops {quoted} all\n")
    # No line for TCP: the server does not listen there.
    hba = f"{_MARK}local all all peer map=ragops\nlocal replication all peer map=ragops\n"
    _write(folder / "pg_hba.conf", hba)
    settings = folder / "postgresql.conf"
    text = settings.read_text(encoding="utf-8")
    if _SOCKET_MODE not in text:
        settings.write_text(f"{text.rstrip()}\n{_SOCKET_MODE}", encoding="utf-8")


def _write(file: Path, text: str) -> None:
    # Not without need: a server that starts at this moment would read half a file.
    if file.read_text(encoding="utf-8", errors="replace") != text:
        file.write_text(text, encoding="utf-8")


def close_socket_folder(socket_folder: Path | None, server: Any) -> None:
    """Take back the rights that the wheel gives to everyone on the folder of the socket, where root runs it."""
    if sys.platform == "win32" or socket_folder is None or server.system_user is None:
        return
    if socket_folder.resolve() == server.pgdata:
        return
    import pwd

    entry = pwd.getpwnam(server.system_user)
    os.chown(socket_folder, entry.pw_uid, entry.pw_gid)
    socket_folder.chmod(0o700)


def let_pass(path: Path) -> None:
    """Let the server's own user pass through the folders above `path`, without letting anyone list them.

    In place of the wheel's function, which lets everyone list them too, a home folder included.
    """
    # Of the group as well: the wheel changes the user of a process, and its group stays root's.
    needed = stat.S_IXGRP | stat.S_IXOTH
    for folder in path.parents:
        mode = folder.stat().st_mode
        if mode & needed != needed:
            folder.chmod(stat.S_IMODE(mode) | needed)


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Start the server without this process's secrets: it keeps the environment of whoever starts it.

    The wheel passes on the environment of the process, so it is changed for that moment.
    """
    before = dict(os.environ)
    kept = child_environment(before, Purpose.PARSER)
    for name in before.keys() - kept.keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def _user_name() -> str:
    """Return the name that the server's system has for the user of this process."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number without a name; peer authentication then fails as well
        return getpass.getuser()
