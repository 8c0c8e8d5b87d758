"""Options that several commands share; the last three belong to every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_PLAYBOOK = "realign.yaml"

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="DSN",
        help="PostgreSQL to work on; else RAGOPS_DSN, the playbook's database.dsn, the embedded server.",
        show_default=False,
    ),
]
PlaybookName = Annotated[
    str,
    typer.Option(
        "--playbook",
        "-p",
        metavar="FILE",
        envvar="RAGOPS_PLAYBOOK",
        help="YAML playbook: a path, or the name of a shipped one.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
# None below means "not given": the playbook, which is read later, has the value.
WorkerCount = Annotated[
    int | None,
    typer.Option("--workers", "-w", min=1, help="Parallel embedders.", show_default="the playbook's"),
]
ThreadCount = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads per worker.", show_default="auto"),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Embed every text again; keep no vectors on this machine."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Documents per claim.", show_default="the playbook's"),
]
ModelFile = Annotated[
    Path | None,
    typer.Option("--model", metavar="FILE.gguf", help="GGUF embedding model.", show_default="the playbook's"),
]

TrustStored = Annotated[
    bool,
    typer.Option(
        "--trust-stored", help="Use files, programs and addresses that only the database names, not the playbook."
    ),
]

# One place for them all: `ragops.cli.command` adds them to each command and group.
_PANEL = "Logging"
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show a traceback when something fails.", expose_value=False, rich_help_panel=_PANEL
    ),
]
LogFile = Annotated[
    str | None,
    typer.Option(
        "--log-file",
        metavar="FILE",
        help="Append notices, progress and errors to a file, with time and level; one line per event.",
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]
LogFormat = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        metavar="text|json",
        help="Format of the lines in --log-file; stderr stays as it is.",
        show_default="text",
        expose_value=False,
        rich_help_panel=_PANEL,
    ),
]
