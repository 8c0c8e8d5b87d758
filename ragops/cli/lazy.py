"""Commands that are imported when they are typed: a program that shows its help needs none of them."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup


class Entry(NamedTuple):
    """One command or group: its module in `ragops.cli`, and the line that its help begins with."""

    module: str
    help: str


# In the order of the help. A test compares every line with the help of the command itself.
ENTRIES: dict[str, Entry] = {
    "reset": Entry(
        "campaign",
        "Run a whole campaign: verify, drop, empty, reseed, embed, validate at the gate, index, validate.",
    ),
    "undo": Entry(
        "campaign", "Bring back the rows that the last campaign archived and the indexes that it dropped."
    ),
    "demo": Entry(
        "campaign",
        "Tell the incident's story with real parts on the embedded server: broken, found out, realigned.",
    ),
    "embed": Entry("work", "Embed what the queue holds: claim, extract, chunk, embed, check, write."),
    "validate": Entry(
        "work",
        "Check what is stored; a random sample is embedded again and must agree. Exit 3 when it does not.",
    ),
    "tune": Entry(
        "work", "Measure shapes of the fleet on the corpus; keep the fastest for this host, build and model."
    ),
    "verify": Entry(
        "inspection",
        "Show the build as it effectively is, the model and the host, and measure drift against a reference.",
    ),
    "search": Entry(
        "inspection", "Show the nearest documents, by a full scan and as the index finds them, with distances."
    ),
    "status": Entry(
        "inspection", "Show documents, queue, parsed files, indexes, campaign and step on one screen."
    ),
    "index": Entry("index", "HNSW indexes: found in the catalog, journaled, restored."),
    "fingerprint": Entry("fingerprint", "What identifies a vector space: capture it, compare two of them."),
    "tables": Entry("tables", "The tables that a campaign empties."),
    "queue": Entry("queue", "The queue of documents to embed."),
    "archive": Entry("archive", "Rows kept in the schema `ragops` before tables were emptied."),
    "cache": Entry("cache", "Vectors kept on this machine, so that nothing is embedded twice."),
    "db": Entry("database", "The embedded PostgreSQL, and what ragops needs in any database."),
    "playbook": Entry("playbooks", "Playbooks: check, list, JSON Schema for editors."),
    "build": Entry("build", "Isolated builds of llama-cpp-python, compiled from source and read back."),
    "probe": Entry("probe", "The procedure's debug endpoint, provided by ragops."),
}


# Newer Typers carry a click of their own: commands, contexts and formatters have no type that all versions share.
class LazyCommands(MutableMapping[str, Any]):
    """The program's commands by name. Names are known at once, a command is built when it is looked up."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _build(name, ENTRIES[name].module)
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**ENTRIES, **self._built})

    def __len__(self) -> int:
        return len({**ENTRIES, **self._built})


class LazyGroup(TyperGroup):
    """The whole program. Its help is plain text: drawing it with Rich would take longer than all the rest."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LazyCommands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands' lines from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in ENTRIES.items()])


def _build(name: str, module_name: str) -> Any:
    """Import a module of the command line, and build its group `app` or the command that it registers."""
    module = import_module(f"ragops.cli.{module_name}")
    part = typer.Typer(add_completion=False, rich_markup_mode="rich")
    part.callback()(lambda: None)
    if hasattr(module, "register"):
        module.register(part)
    else:
        part.add_typer(module.app, name=name)
    return typer.main.get_group(part).commands[name]
