"""`ragops cache status · clear`: the vectors cached on this machine."""

from __future__ import annotations

import typer

from ragops.cli.options import AsJson, Yes
from ragops.cli.session import confirm, emit

app = typer.Typer(
    no_args_is_help=True,
    help="Vectors kept on this machine, so that nothing is embedded twice.",
    epilog="Example: ragops cache status",
)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show how many vectors are cached, and where.

    Example: ragops cache status
    """
    from ragops.paths import cache_file
    from ragops.report.units import number, size
    from ragops.workers.cache import VectorCache

    facts = VectorCache(cache_file(), limit_bytes=0).facts()
    result = {"file": str(facts.file), "vectors": facts.vectors, "bytes": facts.bytes}
    emit(
        result,
        as_json=as_json,
        screen=lambda _: f"{number(facts.vectors)} vectors, {size(facts.bytes)}, in {facts.file}",
    )


@app.command()
def clear(yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete all cached vectors; the next campaign embeds every text.

    Example: ragops cache clear --yes
    """
    from ragops.errors import RagopsError
    from ragops.paths import cache_file
    from ragops.report.units import number, size
    from ragops.workers.cache import VectorCache

    cache = VectorCache(cache_file(), limit_bytes=0)
    facts = cache.facts()
    if facts.bytes:  # with nothing to lose there is nothing to confirm
        confirm(f"This deletes {number(facts.vectors)} vectors in {facts.file}.", answer="clear", yes=yes)
    try:
        cache.clear()
    except OSError as error:
        raise RagopsError(
            "the cache cannot be deleted",
            where=str(facts.file),
            actual=error.strerror or str(error),
            # Windows refuses to delete a file that another process has open.
            hint="stop the commands that embed on this machine, then: ragops cache clear",
        ) from error
    result = {"vectors": facts.vectors, "bytes": facts.bytes}
    emit(
        result,
        as_json=as_json,
        screen=lambda r: f"deleted {number(r['vectors'])} vectors, {size(r['bytes'])}",
    )
