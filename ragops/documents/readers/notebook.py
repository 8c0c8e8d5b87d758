"""Read Jupyter notebooks of the formats 2 to 4: the cells in their order, each with the texts of its outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from ragops.documents.errors import Unreadable
from ragops.documents.readers.result import Read

MEDIA_TYPE = "application/x-ipynb+json"
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_HTML = "text/html"
# A figure of a plotting library can be megabytes of coordinates.
_LONGEST_JSON = 65536
# Of the forms that an output has, the first that it has is read.
_FORMS = ("text/plain", "text/markdown", "text/latex")


def read_notebook(data: bytes) -> Read:
    """Return sources and text outputs of a notebook. Raises Unreadable for damaged ones and unknown versions."""
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"damaged: no JSON ({error})") from None
    version = notebook.get("nbformat") if isinstance(notebook, dict) else None
    if version == 4:
        sheets = [notebook]
    elif version in (2, 3):
        sheets = _dicts(notebook.get("worksheets"))
    else:
        raise Unreadable(f"unsupported format: a notebook of format {version!r}; formats 2, 3 and 4 are read")
    texts: list[str] = []
    cells = 0
    missing: list[str] = []
    for sheet in sheets:
        if not isinstance(sheet.get("cells"), list):
            raise Unreadable(f"damaged: a notebook of format {version} without cells")
        for cell in _dicts(sheet["cells"]):
            cells += 1
            if not {"source", "input"} & cell.keys():
                missing.append(f"cell {cells}")
            texts.append(_joined(cell.get("source", cell.get("input"))))
            for output in _dicts(cell.get("outputs")):
                found = list(_output(output))
                texts += [text for text in found if text is not None]
                missing += [f"an output of cell {cells}" for text in found if text is None]
    kept = "\n\n".join(text.strip("\n") for text in texts if text and text.strip())
    return Read(kept, MEDIA_TYPE, cells - min(len(missing), cells), cells, "cells", tuple(missing))


def _dicts(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _joined(value: object) -> str:
    """Return a multiline string, which notebooks store whole or as a list of lines."""
    if isinstance(value, str):
        return value
    return "".join(one for one in value if isinstance(one, str)) if isinstance(value, Iterable) else ""


def _output(output: dict[str, object]) -> Iterator[str | None]:
    """Yield the text of one output, None for one that cannot be read; pictures have no text."""
    if output.get("output_type") in ("error", "pyerr"):
        yield _COLOURS.sub("", _joined([f"{line}\n" for line in _lines(output.get("traceback"))]))
        return
    if "text" in output and "data" not in output:  # a stream, and every output of format 3
        yield _COLOURS.sub("", _joined(output["text"]))
        return
    data = output.get("data")
    forms = data if isinstance(data, dict) else output
    for form in (*_FORMS, *(form.rpartition("/")[2] for form in _FORMS[1:])):
        if form in forms:
            yield _COLOURS.sub("", _joined(forms[form]))
            return
    html = forms.get(_HTML, forms.get("html"))
    if html:
        from ragops.documents.markup import text_of_html

        yield text_of_html(_joined(html))
        return
    for form, value in forms.items():
        if form.endswith(("/json", "+json")):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield text if len(text) <= _LONGEST_JSON else None
            return


def _lines(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
