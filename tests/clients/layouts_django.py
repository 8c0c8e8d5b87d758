"""A Django application: an ordinary model with a title, a body, a vector field and an HNSW index."""

from __future__ import annotations

from functools import cache
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from clients.corpus import Document, Vector
from clients.layout import DIMENSIONS, Application, Found, Layout, Store


@cache
def _article() -> Any:
    """Return the model class; an app registry has it only once in a process."""
    import django
    from django.conf import settings

    settings.configure(INSTALLED_APPS=["django.contrib.postgres"], DATABASES={"default": {}}, USE_TZ=True)
    django.setup()

    from django.db import models
    from pgvector.django import HnswIndex, VectorField

    class Article(models.Model):
        title = models.CharField(max_length=200)
        body = models.TextField()
        topic = models.SlugField()
        updated_at = models.DateTimeField(auto_now=True)
        embedding = VectorField(dimensions=DIMENSIONS, null=True)

        class Meta:
            app_label = "library"
            indexes = (
                HnswIndex(
                    name="article_hnsw",
                    fields=["embedding"],
                    m=16,
                    ef_construction=64,
                    opclasses=["vector_cosine_ops"],
                ),
            )

    return Article


class Django:
    """The application's view of its articles."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, document: Document) -> None:
        made = _article()(title=document.title, body=document.body, topic=document.topic)
        made.pk = document.number + 1
        made.embedding = self.store.vector(document)
        made.save(force_insert=True)

    def remove(self, document: Document) -> None:
        _article().objects.get(pk=document.number + 1).delete()

    def search(self, query: Vector, limit: int) -> list[Found]:
        from pgvector.django import CosineDistance

        found = _article().objects.order_by(CosineDistance("embedding", query))[:limit]
        return [Found(hit.pk - 1, hit.body, {"number": hit.pk - 1, "topic": hit.topic}) for hit in found]


def article_text(document: Document) -> str:
    """Return what the application embeds."""
    return f"{document.title}\n\n{document.body}"


def open_django(store: Store) -> Application:
    """Make the model's table as a migration does, and save the articles."""
    article = _article()
    from django.db import connections

    parts = conninfo_to_dict(store.dsn)
    connections["default"].close()
    del connections["default"]
    connections.databases["default"] = connections.configure_settings(
        {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts["dbname"],
                "USER": parts["user"],
                "HOST": parts["host"],
                "PORT": parts.get("port", 5432),
            }
        }
    )["default"]
    with connections["default"].schema_editor() as editor:
        editor.create_model(article)
    application = Django(store)
    for document in store.documents:
        application.add(document)
    return application


LAYOUTS = (
    Layout(
        "django",
        open_django,
        targets=({"table": "library_article", "text": "{title}\n\n{body}"},),
        vectors=(("public.library_article", "embedding"),),
        embedded=article_text,
        init=("--table", "library_article", "--text", "{title}\\n\\n{body}"),
        client="django",
    ),
)
