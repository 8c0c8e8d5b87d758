"""The end of the single file that captures a fingerprint where ragops is not installed.

`ragops fingerprint script` puts `standalone.py`, the `child_*.py`, `child.py` and the
canary texts before it. It is also what makes that file a program: `python capture.py MODEL.gguf -o FILE`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

EMBEDDED: dict[str, Any] = globals().get("EMBEDDED", {})


def run(arguments: list[str]) -> int:
    """Capture and write the fingerprint; return the exit status."""
    engine, child = EMBEDDED["child_engine"], EMBEDDED["child"]
    parser = argparse.ArgumentParser(description="Capture the fingerprint of this interpreter's llama.cpp.")
    parser.add_argument("model", help="GGUF embedding model")
    parser.add_argument("-o", "--output", help="file to write; standard output without it")
    parser.add_argument("--pooling", default="auto", choices=("auto", *engine.USABLE_POOLINGS))
    parser.add_argument("--attention", default="auto", choices=("auto", *engine.ATTENTIONS))
    parser.add_argument("--dimensions", type=int, help="cut vectors to so many values (Matryoshka)")
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--n-batch", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--document-prefix", default="")
    parser.add_argument("--query-prefix", default="")
    parser.add_argument("--document-suffix", default="", help="special tokens, such as <|endoftext|>")
    parser.add_argument("--query-suffix", default="")
    given = parser.parse_args(arguments)
    config = {
        "model": given.model,
        "pooling": given.pooling,
        "attention": given.attention,
        "dimensions": given.dimensions,
        "document_suffix": given.document_suffix,
        "query_suffix": given.query_suffix,
        "n_ctx": given.n_ctx,
        "n_batch": given.n_batch,
        "n_threads": given.threads,
        "tokens_per_batch": 1,
    }
    try:
        lib = child.import_library()
        document = child.capture(
            lib,
            engine.Engine(lib, config, EMBEDDED["child_vocabulary"].Vocabulary),
            canary=EMBEDDED["canary"],
            prefix=given.document_prefix,
            query_prefix=given.query_prefix,
            suffix=given.document_suffix,
            query_suffix=given.query_suffix,
        )
    except engine.Refusal as refusal:
        sys.stderr.write(f"error: {refusal}\n")
        return 1
    text = json.dumps(document)
    if given.output:
        with open(given.output, "w", encoding="utf-8") as file:  # noqa: PTH123 (as the user typed it)
            file.write(text + "\n")
    else:
        sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__" and EMBEDDED:
    sys.exit(run(sys.argv[1:]))
