"""Recognise the tables that well-known clients make, by the names of their columns.

Each recogniser knows which text its client embeds, what divides the table, and what must be changed beside the
vectors so that the client goes on working with them.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass

from ragops.facts import quoted
from ragops.introspection.texts import TextChoice, column_text, json_text
from ragops.playbook.targets import template_parts
from ragops.postgres.statements import literal
from ragops.survey_facts import NodeSurvey, Survey, VectorizerSurvey

_NESTED = ("metadata with lists or objects: the text has them as JSON, and LlamaIndex writes them as Python does",)
_SAME_MODEL = "the application's own embedding model must be the campaign's: it embeds the queries, and new rows"


@dataclass(frozen=True, slots=True)
class Recognised:
    """A client's table, and what follows from that."""

    client: str
    why: str
    """The evidence, e.g. the columns that only this client makes."""
    text: TextChoice | None = None
    """What it embeds; None: its tables do not say."""
    is_certain: bool = True
    """The client always embeds that text; false where it depends on settings that no row tells."""
    doubt: str = ""
    """Why the text cannot be embedded as it stands, or is not certain."""
    group: str | None = None
    """The column that divides the table into collections."""
    also: tuple[str, ...] = ()
    """What must be changed or known beside the vectors."""
    may_realign: bool = False
    """The rows hold nothing that emptying and filling from files would lose by the client's own design."""


def recognise(survey: Survey) -> Recognised | None:
    """Return what is known of the client that made the table; None for a table of one's own."""
    found = (recogniser(survey) for recogniser in _RECOGNISERS)
    return next((one for one in found if one is not None), None)


def _langchain(survey: Survey) -> Recognised | None:
    if not survey.has("document", "cmetadata", "collection_id"):
        return None
    return Recognised(
        "LangChain (PGVector)",
        "columns document, cmetadata and collection_id",
        column_text("document"),
        group="collection_id",
        also=(_SAME_MODEL,),
    )


def _pgvectorstore(survey: Survey) -> Recognised | None:
    if not survey.has("langchain_id"):
        return None
    return Recognised(
        "LangChain (PGVectorStore)",
        "column langchain_id",
        column_text("content") if survey.has("content") else None,
        also=(_SAME_MODEL,),
    )


def _llama_index(survey: Survey) -> Recognised | None:
    if not survey.has("node_id", "metadata_", "text"):
        return None
    why = "columns node_id, metadata_ and text"
    if (node := survey.node) is None:
        return Recognised("LlamaIndex", f"{why}; no row has _node_content", column_text("text"), False)
    doubt = f"{node.variants} sets of templates in the sampled rows" if node.variants > 1 else ""
    try:
        text = node_text(node)
    except ValueError as error:
        return Recognised("LlamaIndex", why, None, False, doubt=str(error), also=(_SAME_MODEL,))
    return Recognised(
        "LlamaIndex",
        f"{why}; metadata_ has _node_content",
        text,
        is_certain=not doubt,
        doubt=doubt,
        also=(_SAME_MODEL, *_NESTED[: node.has_nested]),
    )


def node_text(node: NodeSurvey, *, text: str = "text", metadata: str = "metadata_") -> TextChoice:
    """Return the text that LlamaIndex embeds: the metadata's lines in front of the node's text.

    Its order of keys and those that are not embedded stand in the row's `_node_content`. Raises ValueError for
    templates with other fields than LlamaIndex knows.
    """
    stored = f"({quoted(metadata)}->>'_node_content')"
    value = (
        "CASE json_typeof(m.value) WHEN 'string' THEN m.value #>> '{}' WHEN 'null' THEN 'None' "
        "WHEN 'boolean' THEN initcap(m.value::text) ELSE m.value::text END"
    )
    line = _concatenated(node.metadata_template, {"key": "m.key", "value": value})
    whole = _concatenated(node.text_template, {"metadata_str": "n.lines", "content": quoted(text)})
    space = r"E' \t\n\r\f\x0B'"
    sql = (
        f"coalesce((SELECT btrim({whole}, {space})\n"
        f"  FROM (SELECT btrim(string_agg({line},\n"
        f"                     {_literal(node.separator)} ORDER BY m.place), {space}) AS lines\n"
        f"          FROM json_each({stored}::json->'metadata') WITH ORDINALITY AS m (key, value, place)\n"
        f"         WHERE NOT coalesce({stored}::jsonb->'excluded_embed_metadata_keys' ? m.key, false)) AS n\n"
        f" WHERE n.lines <> ''), {quoted(text)})"
    )
    return TextChoice("metadata lines + text, as LlamaIndex embeds it", sql=sql)


def _concatenated(template: str, fields: dict[str, str]) -> str:
    parts: list[str] = []
    for words, field in template_parts(template):
        if words:
            parts.append(_literal(words))
        if field is not None:
            if field not in fields:
                raise ValueError(f"the template {template!r} of a node has the field {field!r}")
            parts.append(fields[field])
    return " || ".join(parts) or "''"


def _literal(value: str) -> str:
    """Return a text as SQL on one line."""
    if any(mark in value for mark in "\n\r\t\\"):
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        return "E'" + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"
    return literal(value)


def _haystack(survey: Survey) -> Recognised | None:
    if not survey.has("blob_meta", "blob_mime_type", "content"):
        return None
    return Recognised(
        "Haystack",
        "columns blob_meta, blob_mime_type and content",
        column_text("content"),
        is_certain=False,
        doubt="a document embedder with meta_fields_to_embed puts those fields in front: then --sql",
        also=(_SAME_MODEL,),
    )


def _pgai(survey: Survey) -> Recognised | None:
    if not survey.has("embedding_uuid", "chunk_seq", "chunk"):
        return None
    vectorizer = survey.vectorizer
    also = ["the vectorizer's own model setting must be changed, too: its worker embeds new rows, and undoes this"]
    doubt = ""
    text: TextChoice | None = column_text("chunk")
    if vectorizer is None:
        doubt = "ai.vectorizer does not name the table, so its formatting is unknown"
    else:
        if vectorizer.model:
            also.append(f"the vectorizer embeds with {vectorizer.model}, from {vectorizer.source}")
        if vectorizer.template.strip() != "$chunk":
            doubt = f"the vectorizer formats its texts as {vectorizer.template!r}, from {vectorizer.source}"
            text = formatted_text(vectorizer)
    return Recognised(
        "pgai",
        "columns embedding_uuid, chunk_seq and chunk",
        text,
        is_certain=not doubt,
        doubt=doubt,
        also=tuple(also),
    )


def formatted_text(vectorizer: VectorizerSurvey) -> TextChoice | None:
    """Return the text that a vectorizer of pgai makes of a chunk and of columns of the row that it comes from.

    None for a template that Python's `string.Template` could not fill in, either.
    """
    if not vectorizer.source_key or not all(vectorizer.source_key):
        return None
    parts: list[str] = []
    position = 0
    for found in string.Template.pattern.finditer(vectorizer.template):
        if words := vectorizer.template[position : found.start()]:
            parts.append(_literal(words))
        position = found.end()
        name = found["named"] or found["braced"]
        if found["escaped"] is not None:
            parts.append("'$'")
        elif name is None:
            return None
        elif name == "chunk":
            parts.append("chunk")
        else:
            # The key has other names inside, so that those of the store are meant where they stand alone.
            keys = [f"{quoted(one)} AS key{place}" for place, one in enumerate(vectorizer.source_key)]
            same = [f"s.key{place} = {quoted(one)}" for place, one in enumerate(vectorizer.source_key)]
            parts.append(
                f"coalesce((SELECT s.part::text FROM (SELECT {', '.join(keys)}, {quoted(name)} AS part "
                f"FROM {vectorizer.source}) AS s WHERE {' AND '.join(same)}), 'None')"
            )
    if words := vectorizer.template[position:]:
        parts.append(_literal(words))
    return TextChoice("the vectorizer's formatting", sql=" || ".join(parts))


def _open_webui(survey: Survey) -> Recognised | None:
    if not survey.has("vmetadata", "collection_name", "text"):
        return None
    why = "columns vmetadata and collection_name"
    if survey.columns["text"].base_type == "bytea":
        return Recognised(
            "Open WebUI",
            why,
            None,
            doubt="its texts are encrypted (PGVECTOR_PGCRYPTO); "
            "--sql \"pgp_sym_decrypt(text, 'KEY')\" would put the key into the playbook: use "
            "current_setting('app.key') or a function of your own",
            also=(_SAME_MODEL,),
        )
    return Recognised(
        "Open WebUI",
        why,
        column_text("text"),
        also=("RAG_EMBEDDING_MODEL and its prefixes in Open WebUI must be the campaign's",),
    )


def _supabase(survey: Survey) -> Recognised | None:
    functions = sorted(name for name in survey.functions if name.startswith("match_"))
    if not functions or not survey.has("content"):
        return None
    named = ", ".join(functions[:3])
    return Recognised(
        "Supabase",
        f"function {named} beside a column content",
        column_text("content"),
        is_certain=len([c for c in survey.columns.values() if c.is_text and c.average_length >= 24]) < 2,
        doubt="its templates embed content",
        also=(
            f"the function {named} has the number of dimensions in its argument, and the metric in its body: both "
            "stay as they are",
            _SAME_MODEL,
        ),
        may_realign=True,
    )


def _spring_ai(survey: Survey) -> Recognised | None:
    if survey.table.name != "vector_store" or not survey.has("content", "metadata", "embedding"):
        return None
    return Recognised(
        "Spring AI",
        "table vector_store with content, metadata and embedding",
        column_text("content"),
        also=(_SAME_MODEL,),
    )


def _json_store(
    client: str, columns: tuple[str, ...], json: str, key: str
) -> Callable[[Survey], Recognised | None]:
    def recognise_it(survey: Survey) -> Recognised | None:
        if not survey.has(*columns) or not survey.columns[json].is_json:
            return None
        if not any(one.name == key for one in survey.columns[json].keys):
            return None
        why = f"columns {', '.join(columns[:-1])} and {columns[-1]}; {json} has {key}"
        return Recognised(client, why, json_text(json, key), also=(_SAME_MODEL,))

    return recognise_it


def _django(survey: Survey) -> Recognised | None:
    if "django_migrations" not in survey.relations:
        return None
    return Recognised(
        "Django",
        "table django_migrations in the same schema",
        None,
        also=(
            "fields such as auto_now are set by Python, not by the database: they stay as they are",
            "another number of dimensions needs a migration of the model's VectorField, too",
        ),
        may_realign=True,
    )


_RECOGNISERS: tuple[Callable[[Survey], Recognised | None], ...] = (
    *(_langchain, _pgvectorstore, _llama_index, _haystack, _pgai, _open_webui),
    _json_store("AnythingLLM", ("namespace", "metadata"), "metadata", "text"),
    _json_store("mem0", ("vector", "payload"), "payload", "data"),
    *(_spring_ai, _supabase, _django),
)
