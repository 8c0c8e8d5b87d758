"""The child that parses one foreign document: `python -P parse_child.py FILE MEMORY_BYTES SECONDS`.

It runs as a file of its own and imports nothing of ragops: what a hostile document does to the
parser's memory, it does to this process alone. Prints one JSON object: `text` and `media_type`,
or `error` and `kind` (unsupported, failed, missing).
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from contextlib import suppress

# More text than this is no document that anyone retrieves; the pipe's reader must hold it as well.
MOST_CHARACTERS = 64 * 1024 * 1024


def limit_memory(most_bytes: int) -> None:
    """Caps the data segment where the system can (Linux); elsewhere the time limit alone holds.

    RLIMIT_DATA and not RLIMIT_AS: threads reserve address space that they never touch.
    """
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def parse(file: str, seconds: int) -> dict[str, str]:
    """Text and media type of a document, or the error and its kind."""
    try:
        import kreuzberg
    except ImportError as error:
        return {"kind": "missing", "error": str(error)}
    config = kreuzberg.ExtractionConfig(  # type: ignore[call-arg]  # the package's stub lacks disable_ocr
        disable_ocr=True,  # it would fetch language data from the network
        use_cache=False,  # a rebuild must see the file, and leave no copy of it in a home folder
        enable_quality_processing=False,  # it rewrites text; what is embedded is what was written
        extraction_timeout_secs=seconds,
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    try:
        result = kreuzberg.extract_file_sync(file, config=config)
    except (kreuzberg.ValidationError, kreuzberg.MissingDependencyError) as error:
        return {"kind": "unsupported", "error": error.message}
    except MemoryError:
        return {"kind": "failed", "error": "out of memory"}
    except (kreuzberg.KreuzbergError, RuntimeError, ValueError, OSError) as error:
        return {"kind": "failed", "error": str(error).removeprefix(f"{type(error).__name__}: ")}
    if len(result.content) > MOST_CHARACTERS:
        return {"kind": "failed", "error": f"more than {MOST_CHARACTERS} characters of text"}
    return {"text": result.content, "media_type": result.mime_type}


def main() -> None:
    file, memory_bytes, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # Native libraries may print; the answer keeps its pipe to itself.
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    # Ends the process from a thread of the C runtime, should the parent be gone and the parser hang.
    faulthandler.dump_traceback_later(seconds + 30, exit=True)
    limit_memory(memory_bytes)
    with answer:
        json.dump(parse(file, seconds), answer)


if __name__ == "__main__":
    main()
