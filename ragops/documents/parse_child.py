"""The child process that parses one foreign document: `python -P parse_child.py FILE MEMORY_BYTES SECONDS`.

Runs as a script: whatever a hostile document does to the parser's memory happens in this process only. Prints
one JSON object: `text`, `media_type` and what is missing (`found`, `expected`, `unit`, `missing`), or `error` and
`kind` (refused: the reason stands for itself; unsupported, failed, missing, system).
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

# The parent holds this text as well. Nobody retrieves a document of 64 million characters; a file that
# expands to it is a decompression bomb.
MOST_CHARACTERS = 64 * 1024 * 1024


class _Answer(TypedDict):
    text: str
    media_type: str
    found: int
    expected: int
    unit: str
    missing: tuple[str, ...]


def limit_memory(most_bytes: int) -> None:
    """Limit the data segment where the system supports it (Linux); elsewhere only the time limit applies."""
    if sys.platform == "win32":
        return
    import resource

    # RLIMIT_DATA and not RLIMIT_AS: the parser's threads reserve address space that they never touch.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    # A container may forbid it. The document is then parsed with the time limit alone.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    # A core file of 2 GiB per hostile document would fill the disk.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def leave_the_network() -> None:
    """Give up the network where an unprivileged process can (Linux, unless user namespaces are forbidden).

    A document's own code, should it ever run here, then reaches no machine, and no server on this one.
    """
    if sys.platform != "linux":
        return
    import ctypes

    # os.unshare needs Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newuser, clone_newnet, no_new_privileges = 0x10000000, 0x40000000, 38
    with suppress(AttributeError):  # musl and older C libraries may lack a function
        libc.prctl(no_new_privileges, 1, 0, 0, 0)
        if libc.unshare(clone_newuser | clone_newnet) == 0:
            # The new user namespace comes with all capabilities in it, which open more of the kernel than before.
            version_3 = 0x20080522
            libc.capset((ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)())


def parse(file: str, seconds: int) -> dict[str, object]:
    """Return text, media type and what is missing of a document, or the error and its kind."""
    try:
        read = _read(Path(file), seconds)
    except ImportError as error:
        return {"kind": "missing", "error": str(error)}
    except MemoryError:
        return {"kind": "failed", "error": "out of memory"}
    except RecursionError:
        return {"kind": "failed", "error": "its parts are nested too deeply"}
    except OSError as error:
        # Of this machine, not of the document: the disk for temporary files, or the limit of open files.
        system = (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EIO)
        return {"kind": "system" if error.errno in system else "failed", "error": str(error)}
    except BaseException as error:  # noqa: BLE001
        # pyo3's PanicException is no Exception. Whatever one document does to a parser is its failure.
        name = type(error).__name__
        kind = {"Unreadable": "refused", "ValidationError": "unsupported", "MissingDependencyError": "unsupported"}
        message = str(getattr(error, "reason", None) or error).removeprefix(f"{name}: ")
        return {"kind": kind.get(name, "failed"), "error": message or name}
    if len(read["text"]) > MOST_CHARACTERS:
        return {"kind": "failed", "error": f"more than {MOST_CHARACTERS} characters of text"}
    return dict(read)


def _read(file: Path, seconds: int) -> _Answer:
    """Return a document as ragops' readers see it, or kreuzberg for the formats that they leave to it."""
    # The package that this script belongs to, and not another one that happens to be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from ragops.documents.errors import Unreadable
    from ragops.documents.formats import LEFT_TO_KREUZBERG
    from ragops.documents.readers.registry import read_document

    read = read_document(file.read_bytes(), file.suffix)
    if read is not None:
        return {
            "text": read.text,
            "media_type": read.media_type,
            "found": read.found,
            "expected": read.expected,
            "unit": read.unit,
            "missing": read.missing,
        }
    if file.suffix not in LEFT_TO_KREUZBERG:
        # By the suffix of a programming language, kreuzberg 4.10 fetches a compiled grammar, also when its
        # configuration says that tree-sitter is off.
        raise Unreadable(f"unsupported format: {file.suffix or 'no suffix'}")
    import kreuzberg

    config = kreuzberg.ExtractionConfig(  # type: ignore[call-arg]  # the package's stub lacks disable_ocr
        disable_ocr=True,  # OCR downloads language data
        use_cache=False,  # a rebuild must read the file again, and must not leave a copy in a home folder
        enable_quality_processing=False,  # rewrites the text; embed what was written
        extraction_timeout_secs=seconds,
        tree_sitter=kreuzberg.TreeSitterConfig(enabled=False),
        content_filter=kreuzberg.ContentFilterConfig(include_headers=True, include_footers=True),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    result = kreuzberg.extract_file_sync(str(file), config=config)
    return {
        "text": result.content,
        "media_type": result.mime_type,
        "found": 0,
        "expected": 0,
        "unit": "",
        "missing": (),
    }


def main() -> None:
    """Parse the document named on the command line and print the result."""
    file, memory_bytes, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # Native libraries may print to file descriptor 1; point it to stderr and keep the pipe for the result.
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    # If the parent is gone and the parser hangs in native code, only a thread of the C runtime can end this
    # process. 30 s later than the parser's own limit, so that this never happens instead of its error.
    faulthandler.dump_traceback_later(seconds + 30, exit=True)
    limit_memory(memory_bytes)
    leave_the_network()
    with output:
        json.dump(parse(file, seconds), output)


if __name__ == "__main__":
    main()
