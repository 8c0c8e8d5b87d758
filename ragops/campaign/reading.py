"""What a command that only looks needs of the mapped tables: the columns that it reads, and nothing else.

What an INSERT would need (a default, a logged table, the type `vector`) is no concern of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

from ragops.campaign.privileges import privilege_problems
from ragops.errors import PlanRefused
from ragops.facts import READABLE_TYPE, DatabaseFacts, TableFacts, quoted
from ragops.findings import PlanProblem
from ragops.playbook.tables import Tables

# By logical table, the columns that a command reads.
Needs = Mapping[str, Collection[str]]

BOOKKEEPING = ("attempts", "phase", "claim_id", "claimed_by", "lease_until", "last_error")
VECTORS: Needs = {"documents": ("embedding",)}
TEXTS: Needs = {"documents": ("id", "content", "embedding")}
CHUNKS: Needs = {"document_chunks": ("document_id", "chunk_index", "content", "embedding")}
QUEUE: Needs = {"files_queue": ("status",)}
STATUS: Needs = {"documents": ("embedding",), "parsed_files": ("file_id",), "files_queue": ("status",)}


def missing_table(tables: Tables, facts: DatabaseFacts, logical: str) -> str:
    """Return the words for a mapped table that is not there, or is something else."""
    name = tables.mapped()[logical]
    kind = facts.not_tables.get(logical)
    if kind is not None:
        return f"{name} ({logical}) is a {kind}, and ragops needs a table"
    return f"table {name} ({logical}) does not exist"


def missing_column(tables: Tables, table: TableFacts, logical: str, word: str) -> str:
    """Return the words for a mapped column that is not there, with those that could be meant."""
    mapped = tables.columns_of(logical)
    column = mapped[word]
    text = f"column {table.quoted}.{quoted(column)} ({logical}.columns.{word}) does not exist"
    free = [name for name in table.columns if name not in mapped.values()]
    if word == "embedding":
        free = [name for name in free if READABLE_TYPE.fullmatch(table.columns[name].type)] or free
    near = difflib.get_close_matches(column.lower(), free, n=3, cutoff=0.5)
    likely = [*near, *(name for name in free if name not in near)][:5]
    if not likely:
        return text
    return f"{text}; not mapped yet: {', '.join(quoted(name) for name in likely)}"


def table_problems(
    tables: Tables, facts: DatabaseFacts, logical: str, words: Collection[str]
) -> Iterator[PlanProblem | str]:
    """Yield why a command cannot read some columns of a mapped table; nothing if it can."""
    yield from access_problems(tables, facts, logical)
    yield from mapping_problems(tables, facts, logical, words)


def access_problems(tables: Tables, facts: DatabaseFacts, logical: str) -> Iterator[PlanProblem | str]:
    """Yield why a table cannot be read now: it is not there, locked, or the role may not."""
    table = facts.tables.get(logical)
    if logical not in tables.mapped():
        yield f"{logical} is set to null in the playbook's tables:"
    elif table is None and logical not in facts.not_tables:
        yield missing_table(tables, facts, logical)
    elif table is not None:
        if table.locked_by is not None:
            yield f"table {table.quoted} is locked by {table.locked_by}, which keeps every reader out"
        yield from privilege_problems(facts, logical, "USAGE", "SELECT")


def mapping_problems(
    tables: Tables, facts: DatabaseFacts, logical: str, words: Collection[str]
) -> Iterator[PlanProblem | str]:
    """Yield where the playbook does not fit: a view for a table, a column that is not there or holds no vector."""
    table = facts.tables.get(logical)
    if table is None:
        if logical in facts.not_tables:
            yield missing_table(tables, facts, logical)
        return
    columns = tables.columns_of(logical)
    for word in words:
        if columns.get(word) is not None and columns[word] not in table.columns:
            yield missing_column(tables, table, logical, word)
    embedding = columns.get("embedding")
    if "embedding" in words and embedding is not None and embedding in table.columns:
        type_name = table.columns[embedding].type
        if not READABLE_TYPE.fullmatch(type_name):
            yield f"column {table.quoted}.{quoted(embedding)} has type {type_name}, needed: vector"


def extension_problems(facts: DatabaseFacts) -> Iterator[PlanProblem | str]:
    """Yield why the role cannot use pgvector's operators; nothing if it can."""
    server = facts.server
    if server.vector_schema is not None and not server.may_use_vector:
        schema = quoted(server.vector_schema)
        yield PlanProblem(
            f"role {server.role} lacks USAGE on schema {schema}, where pgvector is installed",
            f"GRANT USAGE ON SCHEMA {schema} TO {quoted(server.role)}",
        )


def refuse_unreadable(
    tables: Tables, facts: DatabaseFacts, needs: Needs, *, where: str, computes: bool = False
) -> None:
    """Raise PlanRefused with every reason why a command cannot read what it needs; `computes` distances."""
    found = [
        problem for logical, words in needs.items() for problem in table_problems(tables, facts, logical, words)
    ]
    if computes:
        found += extension_problems(facts)
    refuse(found, where=where)


def refuse_misfit(tables: Tables, facts: DatabaseFacts, needs: Needs, *, where: str) -> None:
    """Raise PlanRefused where the playbook does not fit the tables that are there, or none of them is there."""
    found = [
        problem for logical, words in needs.items() for problem in mapping_problems(tables, facts, logical, words)
    ]
    if not found and not any(facts.tables.values()):
        found = [missing_table(tables, facts, logical) for logical in tables.mapped()]
    refuse(found, where=where)


def refuse(found: Collection[PlanProblem | str], *, where: str) -> None:
    """Raise PlanRefused with all problems, unless there is none."""
    if not found:
        return
    problems = [problem if isinstance(problem, PlanProblem) else PlanProblem(problem) for problem in found]
    is_only_locked = all("is locked by" in problem.what for problem in problems)
    raise PlanRefused(
        f"this command cannot read what it needs: {len(problems)} problem{'s' if len(problems) != 1 else ''}; "
        "nothing was changed",
        where=where,
        problems=problems,
        hint="try again when that session has ended its transaction" if is_only_locked else remedy(problems),
    )


def remedy(problems: Collection[PlanProblem]) -> str:
    """Return what to do about tables and columns that do not fit the playbook."""
    # db init also adds the columns that another tool's queue has no need of.
    made = [f"(files_queue.columns.{word})" for word in BOOKKEEPING]
    absent = [problem.what for problem in problems if "does not exist" in problem.what]
    if any(what.startswith("table ") or any(word in what for word in made) for what in absent):
        return "ragops db init   (creates what is missing)   or map your own names in the playbook's tables:"
    if absent or any(" is a " in problem.what for problem in problems):
        return "map your own names in the playbook's tables:"
    return "fix these, then the same command again"


def readable(tables: Tables, facts: DatabaseFacts, needs: Needs) -> set[str]:
    """Return those of the tables that can be read now."""
    return {logical for logical, words in needs.items() if not list(table_problems(tables, facts, logical, words))}


def notes(tables: Tables, facts: DatabaseFacts, needs: Needs) -> list[str]:
    """Return what a result lacks, a line each: tables that cannot be read, and rows that policies hide."""
    found: list[str] = []
    for logical, words in needs.items():
        if logical not in tables.mapped():
            continue
        found += [str(problem) for problem in table_problems(tables, facts, logical, words)]
        table = facts.tables.get(logical)
        if table is not None and "COPY" not in table.privileges and "SELECT" in table.privileges:
            found.append(
                f"row-level security of {table.quoted} applies to role {facts.server.role}: "
                "rows that its policies hide are not counted here"
            )
    return found
