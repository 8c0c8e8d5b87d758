"""Define `ragops build install · list · show · remove · script`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ragops.cli.options import AsJson, Yes
from ragops.cli.session import confirm, emit, print_json, stoppable

if TYPE_CHECKING:
    from ragops.builds.install import BuildRequest

app = typer.Typer(
    no_args_is_help=True,
    help="Isolated builds of llama-cpp-python, compiled from source and read back.",
    epilog="Example: ragops build install --version 0.3.16 --cmake-arg -DGGML_NATIVE=OFF",
)

Version = Annotated[
    str | None,
    typer.Option("--version", metavar="V", help="Version of llama-cpp-python.", show_default="the installed one"),
]
CmakeArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--cmake-arg", metavar="-DX=Y", help="e.g. -DGGML_AVX=OFF; repeatable, or a whole CMAKE_ARGS string."
    ),
]
Name = Annotated[str, typer.Argument(help="Name of a build.")]


@app.command()
def install(
    version: Version = None,
    cmake_arg: CmakeArgs = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Its name.", show_default="version and hash of the arguments"),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python", metavar="INTERPRETER", help="Python to build for.", show_default="this"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile a build into a separate virtual environment, and read its effective features from the library.

    Exit 3: it was built, but this machine cannot run it. An existing build is not compiled again.

    Example: ragops build install --version 0.3.16 --cmake-arg -DGGML_NATIVE=OFF --cmake-arg -DGGML_AVX=OFF
    """
    from ragops.builds.install import install as install_build
    from ragops.builds.install import present_build
    from ragops.host import read_exact_host
    from ragops.report.builds import build_screen
    from ragops.report.console import console_reporter

    request = _request(version, cmake_arg, name, python)
    reporter = console_reporter()
    record = present_build(request)
    is_new = record is None
    if record is None:
        with stoppable(reporter):
            record = install_build(request, reporter=reporter, host=read_exact_host())
    else:
        reporter.info(
            f"{record.name} exists already; to build it again, first run: ragops build remove {record.name}"
        )
    emit({**record.to_json(), "is_new": is_new}, as_json=as_json, screen=lambda _: build_screen(record))
    if record.verdict == "unusable":
        raise typer.Exit(3)


def _request(
    version: str | None, cmake_args: list[str] | None, name: str | None, python: str | None
) -> BuildRequest:
    """Return the validated request; without a version that of the llama-cpp-python beside ragops."""
    # Not llama_cpp.__version__: importing the package loads the library, which may die on this machine.
    from importlib.metadata import version as installed_version

    from ragops.builds.cmake_flags import split_arguments
    from ragops.builds.install import BuildRequest

    arguments = split_arguments(cmake_args or ())
    return BuildRequest(
        version or installed_version("llama-cpp-python"), arguments, name=name or "", python=python or ""
    )


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the builds with version, arguments and effective features.

    Example: ragops build list
    """
    from ragops.builds.records import builds_folder, list_builds, list_incomplete
    from ragops.report.builds import builds_screen

    folder, records, incomplete = builds_folder(), list_builds(), list_incomplete()
    emit(
        {"folder": str(folder), "builds": [record.to_json() for record in records], "incomplete": incomplete},
        as_json=as_json,
        screen=lambda _: builds_screen(records, incomplete, folder=folder),
    )


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show a build: arguments, effective features, libraries, and whether this CPU can run it.

    Example: ragops build show 0.3.16-default
    """
    from ragops.builds.cpu_support import predict_illegal
    from ragops.builds.records import find_build
    from ragops.host import read_exact_host
    from ragops.report.builds import build_screen

    record = find_build(name)
    # The record's own findings are about the machine that compiled it.
    here = list(predict_illegal(record.features, read_exact_host()))
    result = {**record.to_json(), "illegal_here": [finding.to_json() for finding in here]}
    emit(result, as_json=as_json, screen=lambda _: build_screen(record, here))


@app.command()
def remove(name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a build, complete or not.

    Example: ragops build remove 0.3.16-default --yes
    """
    from ragops.builds.records import check_removable, remove_build

    folder = check_removable(name)
    confirm(f"This deletes {folder}.", answer="remove", yes=yes)
    remove_build(name)
    emit({"removed": name, "folder": str(folder)}, as_json=as_json, screen=lambda r: f"removed {r['folder']}")


@app.command()
def script(
    version: Version = None,
    cmake_arg: CmakeArgs = None,
    shell: Annotated[str, typer.Option("--shell", metavar="bash|powershell", help="The script's shell.")] = "bash",
    as_json: AsJson = False,
) -> None:
    """Print the same steps as a script, for a worker machine without ragops.

    Example: ragops build script --version 0.3.16 --cmake-arg -DGGML_NATIVE=OFF --shell powershell
    """
    from ragops.builds.script import write_script

    request = _request(version, cmake_arg, None, None)
    text = write_script(request.version, request.cmake_args, shell=shell)
    if as_json:
        print_json({"shell": shell, "script": text})
    else:
        typer.echo(text, nl=False)
