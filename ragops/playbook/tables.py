"""How a playbook maps ragops' words onto a user's own tables and columns.

Columns that may be `null` are optional: ragops then neither reads nor writes them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from ragops.playbook.names import TableName, check_identifier

LogicalTable = Literal["documents", "document_chunks", "parsed_files", "ingestion_metrics", "files_queue"]
VectorTable = Literal["documents", "document_chunks"]


def _check_table(text: str) -> str:
    TableName.parse(text)
    return text


Identifier = Annotated[str, AfterValidator(check_identifier)]
TableText = Annotated[str, AfterValidator(_check_table)]


class Section(BaseModel):
    """A part of the playbook: frozen, no unknown keys, no silent conversion of types."""

    # Inputs are hidden, since a traceback would print them, the DSN with its password among them.
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
    """The five tables. `null` says that a user's database has no such table."""

    documents: DocumentsTable = DocumentsTable()
    document_chunks: ChunksTable | None = ChunksTable()
    parsed_files: ParsedFilesTable | None = ParsedFilesTable()
    ingestion_metrics: MetricsTable | None = MetricsTable()
    files_queue: QueueTable = QueueTable()

    def mapped(self) -> dict[str, TableName]:
        """Logical name → table, for the tables that the playbook has."""
        return {logical: TableName.parse(section.table) for logical, section in self._sections()}

    def columns_of(self, logical: str) -> dict[str, str]:
        """Logical column → column of the database, without the optional ones set to null.

        Raises KeyError for a table that the playbook has not.
        """
        section = dict(self._sections())[logical]
        return {name: column for name, column in section.columns.model_dump().items() if column is not None}

    def _sections(
        self,
    ) -> list[tuple[str, DocumentsTable | ChunksTable | ParsedFilesTable | MetricsTable | QueueTable]]:
        pairs = [(name, getattr(self, name)) for name in type(self).model_fields]
        return [(name, section) for name, section in pairs if section is not None]
