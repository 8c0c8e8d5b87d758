"""The compiler is found before anything is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ragops.builds import compiler
from ragops.builds.compiler import find_compiler
from ragops.errors import RagopsError


def having(*programs: str) -> Callable[[str], str | None]:
    return lambda name: f"/usr/bin/{name}" if name in programs else None


def test_unix_needs_c_and_c_plus_plus() -> None:
    assert find_compiler({}, which=having("cc", "c++"), system="Linux") == "/usr/bin/c++"
    assert find_compiler({}, which=having("gcc", "clang++"), system="Linux") == "/usr/bin/clang++"
    with pytest.raises(RagopsError):
        find_compiler({}, which=having("cc"), system="Linux")


def test_a_named_compiler() -> None:
    which = having("cc", "g++-13")
    assert find_compiler({"CXX": "g++-13 -m64"}, which=which, system="Linux") == "g++-13 -m64"
    with pytest.raises(RagopsError) as caught:
        find_compiler({"CC": "icc"}, which=which, system="Linux")
    assert (caught.value.where, caught.value.actual) == ("CC", "icc")


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt install build-essential"),
        ("dnf", "dnf install gcc gcc-c++"),
        ("pacman", "pacman -S base-devel"),
        ("apk", "apk add build-base"),
        ("none", "package manager"),
    ],
)
def test_linux_names_what_to_install(manager: str, command: str) -> None:
    with pytest.raises(RagopsError) as caught:
        find_compiler({}, which=having(manager), system="Linux")
    assert command in (caught.value.hint or "")
    assert "nothing was downloaded" in caught.value.what


def test_macos_stubs_are_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_output_of", lambda command: "")
    with pytest.raises(RagopsError) as caught:
        find_compiler({}, which=having("cc", "c++"), system="Darwin")
    assert caught.value.hint == "xcode-select --install"
    monkeypatch.setattr(compiler, "_output_of", lambda command: "/Library/Developer/CommandLineTools")
    assert find_compiler({}, which=having("cc", "c++"), system="Darwin") == "/usr/bin/c++"


def test_windows_runs_visual_studio_s_locator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"ProgramFiles(x86)": str(tmp_path)}
    with pytest.raises(RagopsError) as caught:
        find_compiler(environment, which=having(), system="Windows")
    assert "Visual Studio Build Tools 2022" in (caught.value.hint or "")
    assert "C++" in (caught.value.hint or "")
    locator = tmp_path / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    locator.parent.mkdir(parents=True)
    locator.touch()
    commands: list[list[str]] = []

    def output_of(command: list[str]) -> str:
        commands.append(command)
        return "C:\\BuildTools"

    monkeypatch.setattr(compiler, "_output_of", output_of)
    assert find_compiler(environment, which=having(), system="Windows") == "C:\\BuildTools"
    assert commands[0][0] == str(locator)
    assert find_compiler(environment, which=having("cl"), system="Windows") == "/usr/bin/cl"
