"""`ragops embed` against the recovery procedure as written, with the same build, model and texts.

    python benchmarks/procedure.py --python INTERPRETER [--target 3]

INTERPRETER holds the build of llama-cpp-python, with psycopg and pgvector beside it. As written means: 3
processes, each with `n_threads=cpu_count` and the procedure's other parameters, `Llama.embed` for one text at a
time, one INSERT and one COMMIT a row. Both ways read the same files and store the same rows; both times hold the
start of their processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROCESSES = 3
CHARACTERS = 400  # about 60 tokens


def as_written(dsn: str, model: str, folder: str, part: int) -> None:
    """One of the procedure's workers; runs under the build's interpreter and needs no ragops."""
    import psycopg
    from llama_cpp import Llama

    threads = os.cpu_count()
    llama = Llama(
        model_path=model,
        embedding=True,
        n_ctx=512,
        n_batch=2048,
        n_ubatch=2048,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    insert = "INSERT INTO documents (file_path, content, embedding) VALUES (%s, %s, %s::vector)"
    files = sorted(Path(folder).rglob("*.txt"))[part::PROCESSES]
    with psycopg.connect(dsn) as connection:
        for file in files:
            text = file.read_text(encoding="utf-8")
            vector = llama.embed(text, normalize=True)
            connection.execute(insert, [file.relative_to(folder).as_posix(), text, str(vector)])
            connection.commit()


def run_as_written(dsn: str, python: str, model: Path, folder: Path) -> float:
    """Seconds that the procedure's workers take together."""
    began = time.perf_counter()
    command = [python, __file__, "--as-written", dsn, str(model), str(folder)]
    with tempfile.TemporaryFile("w+") as log:  # 0.3.16 writes a line for every text
        workers = [subprocess.Popen([*command, str(part)], stderr=log) for part in range(PROCESSES)]
        codes = [worker.wait() for worker in workers]
        seconds = time.perf_counter() - began
        if any(codes):
            log.seek(0)
            raise SystemExit(f"a worker of the procedure failed:\n{log.read()[-2000:]}")
    return seconds


def main() -> int:
    from support import (
        corpus,
        create_tables,
        info,
        judge,
        machine,
        playbook,
        run_sql,
        server,
        timed_embed,
    )

    from ragops.builds.library import run_probe
    from ragops.demo.model import minilm_gguf
    from ragops.embedder.config import probe_model
    from ragops.host import read_limits
    from ragops.paths import cache_folder
    from ragops.workers.sizing import plan_fleet

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, metavar="INTERPRETER")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--target", type=float, default=3.0)
    parser.add_argument("--model", type=Path, help="GGUF (default: all-MiniLM-L6-v2, Q8_0)")
    given = parser.parse_args()
    model = given.model or minilm_gguf(cache_folder())
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as scratch, server() as target:
        folder = corpus(Path(scratch, "corpus"), documents=given.documents, characters=CHARACTERS)
        book = playbook(source={"folder": folder}, model=model, workers={"python": Path(given.python)})
        create_tables(target, book, dimensions=probe_model(book).dimensions)
        for _ in range(given.rounds):
            run_sql(target, "TRUNCATE documents, document_chunks")
            theirs.append(run_as_written(target.conninfo, given.python, model, folder))
            ((count,),) = run_sql(target, "SELECT count(*) FROM documents WHERE embedding IS NOT NULL")
            assert count == given.documents, f"the procedure stored {count} of {given.documents} documents"
            seconds, count = timed_embed(target, book)
            assert count == given.documents, f"ragops stored {count} of {given.documents} documents"
            ours.append(seconds)
    probe = run_probe(Path(given.python))
    info(machine())
    info(f"llama-cpp-python {probe.package_version}: {probe.system_info}")
    rates = [given.documents / min(seconds) for seconds in (theirs, ours)]
    info(f"the procedure as written: {rates[0]:.1f} documents/s (3 × {os.cpu_count()} threads)")
    info(f"ragops embed: {rates[1]:.1f} documents/s ({plan_fleet(book, read_limits())})")
    return judge("ragops embed against the procedure", rates[1] / rates[0], given.target)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-written"]:
        as_written(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        sys.exit(main())
