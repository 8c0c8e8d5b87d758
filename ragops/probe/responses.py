"""JSON responses of the probe."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from ragops.errors import RagopsError
from ragops.probe.comparer import finite_or_none


def json_response(
    content: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a value as strict JSON that no cache keeps."""
    # Not Starlette's JSONResponse: it raises ValueError for NaN and UnicodeEncodeError for a lone surrogate, both
    # of which a query or a fingerprint may contain.
    text = json.dumps(finite_or_none(content), ensure_ascii=False, allow_nan=False, default=str)
    own = {"Cache-Control": "no-store", **(headers or {})}
    return Response(
        text.encode("utf-8", "replace"), status_code=status, headers=own, media_type="application/json"
    )


def refusal(error: RagopsError, *, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as JSON."""
    # Without `where`: it names folders and servers of this machine, and the client may be anyone.
    parts = {key: value for key, value in error.as_dict().items() if key != "where"}
    return json_response({"success": False, **parts}, status=status, headers=headers)
