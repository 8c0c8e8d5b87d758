"""Define `ragops fingerprint capture · compare · script`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragops.cli.options import DEFAULT_PLAYBOOK, AsJson, ModelFile, PlaybookName
from ragops.cli.session import emit, load, overrides, print_json, stoppable

app = typer.Typer(
    no_args_is_help=True,
    help="What identifies a vector space: capture it, compare two of them.",
    epilog="Example: ragops fingerprint compare worker.json backend.json",
)


@app.command()
def capture(
    python: Annotated[
        Path | None,
        typer.Option(
            "--python", metavar="INTERPRETER", help="Interpreter with llama_cpp; it need not have ragops."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.")] = None,
    model: ModelFile = None,
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    as_json: AsJson = False,
) -> None:
    """Capture build, model, effective parameters and canary vectors as one JSON document.

    Without -o the document goes to stdout.

    Example: ragops fingerprint capture --model model.gguf -o worker.json
    """
    from ragops.fingerprint.against import capture_own
    from ragops.report.console import console_reporter
    from ragops.report.fingerprint import capture_screen

    reporter = console_reporter()
    loaded, _ = load(playbook, None, reporter=reporter)
    changes = overrides(model=model)
    if python is not None:
        changes["workers"]["python"] = python
    adapted = loaded.with_changes(**changes)
    with stoppable(reporter):
        fingerprint = capture_own(adapted)
    if output is None:
        print_json(fingerprint.document)
        return
    fingerprint.save(output)
    # Two megabytes of base64 are of no use in a terminal or a pipe: the file has them.
    result = {"file": str(output), **{k: v for k, v in fingerprint.document.items() if k != "vectors"}}
    emit(result, as_json=as_json, screen=capture_screen)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Fingerprint in question, e.g. the workers'.")],
    b: Annotated[Path, typer.Argument(help="Fingerprint of the reference, e.g. the backend's.")],
    metric: Annotated[
        str, typer.Option("--metric", help="cosine, l2 or ip; lengths matter for the last two only.")
    ] = "cosine",
    playbook: PlaybookName = DEFAULT_PLAYBOOK,
    as_json: AsJson = False,
) -> None:
    """Show differences, drift, verdict and the likely cause. Exit 3 when the verdict is below build.accept.

    Example: ragops fingerprint compare worker.json backend.json
    """
    from ragops.cli.session import check_names
    from ragops.fingerprint.against import is_accepted, limits_of
    from ragops.fingerprint.compare import compare_fingerprints
    from ragops.fingerprint.document import Fingerprint
    from ragops.report.fingerprint import comparison_screen

    check_names([metric], ["cosine", "l2", "ip"], what="metric")
    loaded, _ = load(playbook, None)
    mine = Fingerprint.load(a)
    comparison = compare_fingerprints(mine, Fingerprint.load(b), limits=limits_of(loaded), metric=metric)
    result = {
        **comparison.to_json(),
        "limits": {"max_drift": loaded.build.max_drift, "min_overlap": loaded.build.min_overlap},
        "effective": {"build": mine.document["build"], "model": mine.document["model"]},
        "requested": loaded.build.model_dump(mode="json"),
    }
    emit(result, as_json=as_json, screen=lambda _: comparison_screen(comparison))
    if not is_accepted(comparison.verdict, loaded):
        raise typer.Exit(3)


@app.command()
def script(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write.")] = None,
) -> None:
    """Print one Python file that captures a fingerprint where ragops is not installed.

    It needs llama_cpp and numpy only: copy it over and run `python capture.py MODEL.gguf -o backend.json`.

    Example: ragops fingerprint script -o capture.py
    """
    from ragops.fingerprint.document import capture_script

    text = capture_script()
    if output is None:
        print(text)  # noqa: T201
        return
    output.write_text(text + "\n", encoding="utf-8")
    emit({"file": str(output)}, as_json=False, screen=lambda r: f"wrote {r['file']}")
