"""Write a playbook: the shipped one of the chosen campaign, with a database's own names, texts and conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ragops.introspection.choices import Campaign
from ragops.introspection.texts import TextChoice
from ragops.introspection.yaml_text import block, comment, scalar
from ragops.playbook.loading import shipped_playbooks
from ragops.playbook.steps import RowKind
from ragops.playbook.targets import LongText, RowTarget

DEFAULT_ROWS: tuple[RowKind, ...] = ("missing", "broken")


@dataclass(frozen=True, slots=True)
class Draft:
    """All that a playbook for one vector column says beyond the shipped one."""

    campaign: Campaign
    table: str
    """Qualified, quoted as SQL needs it."""
    column: str
    text: TextChoice
    key: tuple[str, ...] = ()
    """Empty: as the catalog has it."""
    conditions: tuple[str, ...] = ()
    """One for each target; none: one target with every row."""
    model: Path | None = None
    pooling: str = "auto"
    document_prefix: str = ""
    dimensions: int | None = None
    """Of stored vectors that are shorter than the model's (Matryoshka)."""
    long_text: LongText = "mean"
    rows: tuple[RowKind, ...] = DEFAULT_ROWS
    comments: tuple[str, ...] = ()
    """What the operator should know when reading the targets."""
    mapped: tuple[tuple[str, str], ...] = ()
    """Of a realign: the words for the columns of `documents` and the table's names; "" for those it lacks."""
    tables: tuple[str, ...] = ()
    """Of a realign: which of the other tables exist."""

    def target(self, condition: str | None = None) -> RowTarget:
        """Return a target of the playbook. Raises ValidationError for what the playbook refuses."""
        return RowTarget(
            table=self.table,
            key=self.key,
            text=self.text.text,
            sql=self.text.sql,
            where=condition,
            embedding=self.column,
            long_text=self.long_text,
            write="beside" if self.campaign == "reembed" else "in_place",
        )


def write_playbook(draft: Draft, *, file: str, written_by: str) -> str:
    """Return the text of the playbook."""
    text = (shipped_playbooks() / f"{draft.campaign}.yaml").read_text(encoding="utf-8")
    text = _head(draft, file=file, written_by=written_by) + text[text.index("version: 1\n") :]
    slug = re.sub(r"[^a-z0-9]+", "-", draft.table.lower()).strip("-") or "table"
    text = _replaced(text, r"^name: .*$", f"name: {draft.campaign}-{slug}")
    text = _model(text, draft)
    if draft.campaign == "realign":
        return _tables(text, draft)
    text = _section(text, "targets", _targets(draft))
    if draft.campaign == "repair" and draft.rows != DEFAULT_ROWS:
        text = _replaced(text, r"^    rows: \[.*$", f"    rows: [{', '.join(draft.rows)}]")
    return text


def _head(draft: Draft, *, file: str, written_by: str) -> str:
    what = {
        "repair": "Write the vectors that are missing or broken, where they are.",
        "reembed": "Embed every row into a second column, compare it with the first, and exchange them.",
        "realign": "Empty the table and fill it again from files.",
    }[draft.campaign]
    place = scalar(file)
    lines = [
        f"# {draft.table}: {what}" if draft.table.isprintable() else f"# {what}",
        f"# Written by {written_by}. Every key: docs/reference/playbook.md.",
        "#",
        f"#   ragops reset --playbook {place} --dry-run",
        f"#   ragops reset --playbook {place}",
    ]
    if draft.campaign == "reembed":
        lines.append("#   ragops cutover run                       exchanges the columns")
        lines.append("#   ragops cutover rollback                  exchanges them back")
    lines.append("#   ragops reset --resume                    after Ctrl-C, a crash or a failed gate")
    if draft.campaign != "reembed":
        lines.append("#   ragops undo                              puts back what was there")
    return "\n".join(lines) + "\n"


def _model(text: str, draft: Draft) -> str:
    if draft.model is not None:
        path = str(draft.model)
        # A default ends at its first brace; a path with one has to come from the variable alone.
        given = "" if "}" in path else path
        text = _replaced(text, r"^  file: \$\{RAGOPS_MODEL:-\}$", "  file: " + _variable("RAGOPS_MODEL", given))
    if draft.dimensions is not None:
        text = _replaced(text, r"^(  pooling: )", rf"  dimensions: {draft.dimensions}\n\g<1>")
    if draft.pooling != "auto":
        text = _replaced(text, r"^(  pooling: \$\{RAGOPS_POOLING:-)auto\}", rf"\g<1>{draft.pooling}}}")
    if draft.document_prefix:
        is_default = "}" not in draft.document_prefix
        value = (
            _variable("RAGOPS_DOCUMENT_PREFIX", draft.document_prefix)
            if is_default
            else scalar(draft.document_prefix)
        )
        text = _replaced(
            text, r'^  document_prefix: "\$\{RAGOPS_DOCUMENT_PREFIX:-\}"', f"  document_prefix: {value}"
        )
    return text


def _variable(name: str, default: str) -> str:
    """Return a variable with a default, in quotes where the default needs them."""
    written = scalar(default) if default else ""
    mark = written[:1] if written[:1] in ("'", '"') else ""
    return f"{mark}${{{name}:-{written[1:-1] if mark else written}}}{mark}"


def _targets(draft: Draft) -> str:
    found: list[str] = ["targets:"]
    found += [comment(one, indent=2) for one in draft.comments]
    for condition in draft.conditions or ("",):
        found.append(f"  - table: {scalar(draft.table)}")
        if draft.key:
            found.append(f"    key: [{', '.join(map(scalar, draft.key))}]")
        found.append("    # What a vector is made of.")
        if draft.text.text is not None:
            found.append(f"    text: {scalar(draft.text.text)}")
        else:
            found.append(f"    sql: {block(draft.text.sql or '', indent=6)}")
        if condition:
            found.append(f"    where: {block(condition, indent=6)}")
        found.append(f"    embedding: {scalar(draft.column)}")
        found.append(f"    long_text: {draft.long_text}      # mean of the chunks' vectors, truncate or fail")
        if draft.campaign == "reembed":
            found += ["    write: beside", "    # new_column and type: as the old one's, until you name others."]
        else:
            found.append("    write: in_place")
        found.append("    # Your triggers that fire when this column is updated: refuse, fire or disable.")
        found.append("    triggers: ${RAGOPS_TRIGGERS:-refuse}")
    return "\n".join(found) + "\n\n"


def _tables(text: str, draft: Draft) -> str:
    """Return a realign's text with the table of the documents, and null for those that do not exist."""
    columns = [f"      {word}: {scalar(name) if name else 'null'}" for word, name in draft.mapped]
    found = ["tables:", *(comment(one, indent=2) for one in draft.comments)]
    found += ["  documents:", f"    table: {scalar(draft.table)}", "    columns:", *columns]
    missing = [
        name for name in ("document_chunks", "parsed_files", "ingestion_metrics") if name not in draft.tables
    ]
    for name in ("document_chunks", "parsed_files", "ingestion_metrics"):
        found.append(f"  {name}: null" if name in missing else f"  {name}:\n    table: {name}")
    found.append("  files_queue:\n    table: files_queue")
    text = _section(text, "tables", "\n".join(found) + "\n\n")
    for name in missing:
        text = re.sub(rf"^      - \{{table: {name}, .*\n", "", text, flags=re.MULTILINE)
    return _section(text, "indexes", "# Indexes that exist are restored as they are.\nindexes: []\n\n")


def _section(text: str, key: str, new: str) -> str:
    """Return the text with a top-level key and all that is indented below it replaced."""
    found = re.search(rf"^{key}:.*\n(?:[ \t].*\n|\n)*", text, flags=re.MULTILINE)
    assert found is not None, f"the shipped playbook has no {key}:"
    return text[: found.start()] + new + text[found.end() :]


def _replaced(text: str, pattern: str, new: str) -> str:
    changed, count = re.subn(
        pattern, new.replace("\\", "\\\\") if "\\g" not in new else new, text, count=1, flags=re.M
    )
    assert count == 1, f"the shipped playbook has no line {pattern}"
    return changed
