"""Command `ragops probe serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, Dsn, ModelFile, PlaybookName
from ragops.cli.session import look, overrides, stoppable
from ragops.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="The runbook's debug endpoint, provided by ragops.",
    epilog="Example: ragops probe serve --port 8791",
)


@app.callback()
def _probe() -> None:
    """The runbook's debug endpoint, provided by ragops."""


@app.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes any free one.")] = 8791,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help="Environment variable that holds the required bearer token.",
            show_default=False,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="Name to answer to beside localhost and --host; repeatable.",
            show_default=False,
        ),
    ] = None,
    query_timeout: Annotated[
        float, typer.Option("--query-timeout", min=1, metavar="SECONDS", help="Longest scan for one query.")
    ] = 60.0,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Certificate (PEM), to serve https.", show_default=False),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key (PEM).", show_default=False)
    ] = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    dsn: Dsn = None,
    model: ModelFile = None,
) -> None:
    """Serve the distances of queries to the stored vectors, read only, until Ctrl-C.

    GET /api/v3/debug/compare-rag-embedding?query=TEXT

    Example: ragops probe serve --port 8791 --model model.gguf
    """
    from ragops.campaign.reading import VECTORS
    from ragops.probe import server as probe
    from ragops.report.console import console_reporter

    probe.check_extra()
    token = os.environ.get(token_env, "").strip() if token_env is not None else None
    if token == "":
        # Without this an unset variable would serve the endpoint without a token.
        raise UsageError(
            "the environment variable with the token is empty",
            where="--token-env",
            actual=f"{token_env} is not set, or empty",
            expected="the name of a variable that holds the token",
        )
    probe.check_exposure(host, token=token)
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together", expected="both, or neither")
    tls = probe.Tls(tls_cert, tls_key) if tls_cert and tls_key else None
    if tls is not None:
        tls.check()
    changes = overrides(model=model)
    with look(playbook, dsn, changes=changes, needs=VECTORS, computes=True) as (session, _):
        target, adapted = session.target, session.playbook
    reporter = console_reporter()
    with stoppable(reporter):
        probe.serve(
            target=target,
            playbook=adapted,
            host=host,
            port=port,
            token=token,
            reporter=reporter,
            query_timeout_s=query_timeout,
            allowed_hosts=allowed_host or (),
            tls=tls,
        )
