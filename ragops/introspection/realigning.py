"""Map a table onto `documents` of a playbook that empties and refills, where that is possible at all."""

from __future__ import annotations

from dataclasses import dataclass

from ragops.errors import UsageError
from ragops.introspection.gathering import Gathered
from ragops.introspection.texts import TextChoice, text_columns

# The words of the playbook, with the names that other tables have for them.
_WORDS = {
    "file_id": ("file_id",),
    "file_path": ("file_path", "path", "source_path", "filename"),
    "metadata": ("metadata", "meta"),
}
_TABLES = ("document_chunks", "parsed_files", "ingestion_metrics")


@dataclass(frozen=True, slots=True)
class Mapping:
    """The columns of `documents`, and which of the other four tables exist."""

    columns: tuple[tuple[str, str], ...]
    tables: tuple[str, ...]
    text: TextChoice
    notes: tuple[str, ...]


def map_documents(gathered: Gathered) -> Mapping:
    """Return how the table is mapped. Raises UsageError where emptying it would lose more than vectors."""
    survey, vector, client = gathered.survey, gathered.vector, gathered.recognised
    instead = "--campaign reembed replaces the vectors where the rows are, and loses nothing"
    if client is not None and not client.may_realign:
        raise UsageError(
            f"realign empties the table and fills it from files; the rows of {client.client} would come back with "
            "new ids, without their metadata, and the client would not find them",
            where=survey.table.quoted,
            hint=instead,
        )
    keys = survey.key
    texts = text_columns(survey)
    if len(keys) != 1 or not texts:
        lacking = "one column as its primary key" if len(keys) != 1 else "a column with the texts"
        raise UsageError("realign needs another table", where=survey.table.quoted, expected=lacking, hint=instead)
    content = next((c for c in texts if c.name == "content"), texts[0])
    columns = [("id", keys[0])]
    for word, names in _WORDS.items():
        columns.append((word, next((name for name in names if name in survey.columns), "")))
    columns += [("content", content.name), ("embedding", vector.name)]
    mapped = {name for _, name in columns}
    left = [name for name in survey.columns if name not in mapped]
    notes = ["realign empties the table and fills it from files (RAGOPS_CORPUS): rows get new ids"]
    if left:
        notes.append(f"columns that no file fills would be empty: {', '.join(left)}")
    if "files_queue" not in survey.relations:
        notes.append("there is no table files_queue yet: ragops db init creates it")
    tables = tuple(name for name in _TABLES if name in survey.relations and name != survey.table.name)
    return Mapping(tuple(columns), tables, TextChoice("content", text="{content}"), tuple(notes))
