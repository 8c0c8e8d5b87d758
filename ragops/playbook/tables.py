"""The mapping of ragops' logical tables and columns onto a user's own.

A column that may be `null` is optional: ragops then neither reads nor writes it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from ragops.playbook.names import TableName, check_identifier, check_table

LogicalTable = Literal["documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue"]
VectorTable = Literal["documents", "document_chunks"]


# Columns that a table of an older version, or of another program, need not have: written where they are there and
# hold JSON or text, and left alone otherwise.
WHERE_PRESENT = frozenset({("parsed_files", "partial")})

Identifier = Annotated[str, AfterValidator(check_identifier)]
TableText = Annotated[str, AfterValidator(check_table)]


class Section(BaseModel):
    """A part of the playbook: frozen, without unknown keys, without silent conversion of types."""

    # hide_input_in_errors: a traceback would print the input, including the DSN with its password.
    # allow_inf_nan: NaN compares false with everything, so it would switch a limit off.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class DocumentsColumns(Section):
    id: Identifier = "id"
    file_id: Identifier | None = "file_id"
    file_path: Identifier | None = "file_path"
    content: Identifier = "content"
    metadata: Identifier | None = "metadata"
    embedding: Identifier = "embedding"


class ChunksColumns(Section):
    document_id: Identifier = "document_id"
    chunk_index: Identifier = "chunk_index"
    content: Identifier = "content"
    embedding: Identifier = "embedding"


class ParsedFilesColumns(Section):
    file_id: Identifier = "file_id"
    content_hash: Identifier | None = "content_hash"
    characters: Identifier | None = "characters"
    chunks: Identifier | None = "chunks"
    partial: Identifier | None = "partial"
    """What is missing in the stored text, as JSON; NULL for a whole document."""


class MetricsColumns(Section):
    worker: Identifier | None = "worker"
    fingerprint: Identifier | None = "fingerprint"
    documents: Identifier | None = "documents"
    chunks: Identifier | None = "chunks"
    tokens: Identifier | None = "tokens"
    milliseconds: Identifier | None = "milliseconds"


class QueueColumns(Section):
    id: Identifier = "id"
    location: Identifier = "file_path"
    status: Identifier = "status"
    attempts: Identifier = "attempts"
    phase: Identifier = "phase"
    claim_id: Identifier = "claim_id"
    claimed_by: Identifier = "claimed_by"
    lease_until: Identifier = "lease_until"
    last_error: Identifier = "last_error"


class DocumentsTable(Section):
    table: TableText = "documents"
    columns: DocumentsColumns = DocumentsColumns()


class ChunksTable(Section):
    table: TableText = "document_chunks"
    columns: ChunksColumns = ChunksColumns()


class ParsedFilesTable(Section):
    table: TableText = "parsed_files"
    columns: ParsedFilesColumns = ParsedFilesColumns()


class MetricsTable(Section):
    table: TableText = "ingestion_metrics"
    columns: MetricsColumns = MetricsColumns()


class QueueTable(Section):
    table: TableText = "files_queue"
    columns: QueueColumns = QueueColumns()


class Tables(Section):
    """The five tables; `null` for one that the user's database lacks."""

    documents: DocumentsTable | None = DocumentsTable()
    """Null only for a playbook with `targets:`, which writes into other tables."""
    document_chunks: ChunksTable | None = ChunksTable()
    parsed_files: ParsedFilesTable | None = ParsedFilesTable()
    ingestion_metrics: MetricsTable | None = MetricsTable()
    files_queue: QueueTable = QueueTable()

    def mapped(self) -> dict[str, TableName]:
        """Return logical name → table, for the tables that the playbook maps."""
        return {logical: TableName.parse(section.table) for logical, section in self._sections()}

    def columns_of(self, logical: str) -> dict[str, str]:
        """Return logical column → database column, without those set to null.

        Raises KeyError for a table that the playbook sets to null.
        """
        section = dict(self._sections())[logical]
        return {name: column for name, column in section.columns.model_dump().items() if column is not None}

    def in_schema(self, schema: str) -> Tables:
        """Return the same tables, with that schema in front of every name that has none."""
        named = {
            logical: section.model_copy(
                update={"table": TableName.parse(section.table).in_schema(schema).quoted()}
            )
            for logical, section in self._sections()
        }
        return self.model_copy(update=named)

    def _sections(
        self,
    ) -> list[tuple[str, DocumentsTable | ChunksTable | ParsedFilesTable | MetricsTable | QueueTable]]:
        pairs = [(name, getattr(self, name)) for name in type(self).model_fields]
        return [(name, section) for name, section in pairs if section is not None]
