"""`ragops playbook check · list · schema`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ragops.cli.options import AsJson
from ragops.cli.session import emit

app = typer.Typer(
    no_args_is_help=True,
    help="Playbooks: check, list, JSON Schema for editors.",
    epilog="Example: ragops playbook check realign.yaml",
)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="Playbook file, or the name of a shipped one.")],
    as_json: AsJson = False,
) -> None:
    """Report every problem of a playbook at once, each with its place. Exit 2 if there is one.

    Example: ragops playbook check realign.yaml
    """
    from ragops.playbook import load_playbook

    playbook = load_playbook(file, environment=os.environ)
    steps = [step.step for step in playbook.steps]
    emit(
        {"file": file, "name": playbook.name, "steps": steps, "gates": list(playbook.gates())},
        as_json=as_json,
        screen=lambda _: f"{file}: playbook {playbook.name} is valid: {' → '.join(steps)}",
    )


@app.command("list")
def list_playbooks(as_json: AsJson = False) -> None:
    """List the playbooks that come with ragops.

    Example: ragops playbook list
    """
    from ragops.playbook.loading import shipped_playbooks

    names = sorted(path.name for path in shipped_playbooks().glob("*.yaml"))
    emit({"playbooks": names}, as_json=as_json, screen=lambda _: "\n".join(names))


@app.command()
def schema() -> None:
    """Print the JSON Schema of playbooks, for editors that complete and check YAML.

    Example: ragops playbook schema > playbook.schema.json
    """
    import json

    from ragops.playbook.schema import playbook_schema

    print(json.dumps(playbook_schema(), indent=2))  # noqa: T201
