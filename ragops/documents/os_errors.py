"""Tell a document's own fault from that of the file system, the network or this machine."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from ragops.errors import RagopsError

# What to do first, by error.
_CURES = {
    "EMFILE": "raise this process's limit of open files (ulimit -n; LimitNOFILE= in a systemd unit)",
    "ENFILE": "raise the system's limit of open files (sysctl fs.file-max), or end what holds them",
    "ENOMEM": "free memory, or run fewer workers",
    "ENOBUFS": "free memory, or run fewer workers",
    "ENOSPC": "make room there",
    "EDQUOT": "raise the quota, or make room there",
    "EIO": "check the disk and the mount; if this one file is damaged, restore or delete it",
    "EACCES": "grant this user access to it",
}
# A disk, a mount or a server that fails does so for every document. Not all systems have all names.
_NAMES = (
    *("EIO", "ESTALE", "ETIMEDOUT", "ENODEV", "EREMOTEIO", "ENOLINK", "EKEYEXPIRED", "ENOKEY", "ESHUTDOWN"),
    *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ENOSPC", "EDQUOT"),
    *("ENOTCONN", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
)
_OUTAGES = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
# https://learn.microsoft.com/windows/win32/debug/system-error-codes: too many open files, memory, not ready,
# network path, network busy, device gone, network error, network name deleted and not found, timeout, I/O device,
# network and host not reachable, resources. Python maps some of them to ENOENT (53, 67) or to EINVAL.
_WINDOWS = frozenset({4, 8, 14, 21, 53, 54, 55, 59, 64, 67, 121, 1117, 1231, 1232, 1450})


def is_outage(error: OSError) -> bool:
    """Return whether an error is one that every document would meet, and so no document's fault."""
    return error.errno in _OUTAGES or getattr(error, "winerror", None) in _WINDOWS


def outage(what: str, error: OSError, *, where: Path | str, at: str = "") -> RagopsError:
    """Return the error that ends a run: what could not be done and where, with the system's error by name."""
    code = getattr(error, "winerror", None)
    name = f"WinError {code}" if code is not None else errno.errorcode.get(error.errno or 0, type(error).__name__)
    cure = _CURES.get(name, "check the disk, the mount and the network behind it")
    return RagopsError(
        what,
        where=str(where),
        actual=f"{name}: {error.strerror or error}" + (f" ({at})" if at else ""),
        hint=f"{cure}; then run the same command again, a campaign with: ragops reset --resume",
    )


def corpus_outage(error: OSError, *, folder: Path, location: str = "") -> RagopsError:
    """Return the error of a corpus folder that cannot be read; no document failed by it."""
    return outage(
        "the corpus folder cannot be read; no document was failed for it", error, where=folder, at=location
    )


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder. Raises RagopsError if the file system does not tell."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except ValueError:  # NUL in the path
        return False
    except OSError as error:
        is_answer = isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ELOOP
        if is_answer and not is_outage(error):
            return False
        raise corpus_outage(error, folder=path) from error
