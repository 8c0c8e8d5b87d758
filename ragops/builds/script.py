"""Write the steps of an aligned reinstall as a script, for a worker machine without ragops. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from ragops.builds.cmake_flags import is_on, parse_flags, split_arguments
from ragops.builds.features import FEATURE_OF
from ragops.builds.records import check_version
from ragops.builds.standalone import parse_system_info
from ragops.errors import UsageError

# Runs on the worker machine after `parse_system_info`, which comes from this package's own text.
_CHECK = """\
import ctypes, importlib.metadata, importlib.util, os, pathlib, sys
folder = pathlib.Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"
names = ("libllama.so", "libllama.dylib", "llama.dll", "libllama.dll")
file = next(folder / name for name in names if (folder / name).is_file())
if sys.platform == "win32":
    os.add_dll_directory(str(folder))
library = ctypes.CDLL(str(file), winmode=0) if sys.platform == "win32" else ctypes.CDLL(str(file))
library.llama_print_system_info.restype = ctypes.c_char_p
info = library.llama_print_system_info().decode()
on = {name for name, value in parse_system_info(info).items() if value not in ("", "0")}
print("llama-cpp-python", importlib.metadata.version("llama-cpp-python"))
print("effective:", " ".join(sorted(on)))
differs = [name for name, asked in EXPECTED.items() if (name in on) != asked]
for name in differs:
    state = "on" if name in on else "off"
    print("WARNING:", name, "is", state, "in the library, which is not what CMAKE_ARGS requested")
print("requested flags and effective features", "differ" if differs else "agree")
"""

_BASH = """\
#!/usr/bin/env bash
# Aligned reinstall of llama-cpp-python {version}: 5 to 10 minutes, needs a C++ compiler.
set -euo pipefail

VENV="${{1:-.venv-llama}}"
PYTHON="${{PYTHON:-python3}}"

if ! command -v "${{CXX:-c++}}" >/dev/null 2>&1; then
    echo "no C++ compiler: apt install build-essential, dnf install gcc-c++ make, or xcode-select --install" >&2
    exit 1
fi

# 1. Create a virtual environment, or use the existing one.
[ -e "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"

# 2. Uninstall: pip would call an installed version satisfied.
"$VENV/bin/python" -m pip uninstall --yes llama-cpp-python

# 3. Compile with these arguments, from source and without pip's cache of wheels.
unset SOURCE_DATE_EPOCH
export CMAKE_ARGS={cmake_args}
export FORCE_CMAKE=1
"$VENV/bin/python" -m pip install --no-cache-dir --no-binary=llama-cpp-python {requirement}

# 4. Read the effective features from the library: requested flags are not effective flags.
"$VENV/bin/python" - <<'CHECK'
{check}CHECK
echo "interpreter: $VENV/bin/python"
"""

_POWERSHELL = """\
# Aligned reinstall of llama-cpp-python {version}: 5 to 10 minutes, needs Visual Studio Build Tools
# 2022 with the workload "Desktop development with C++".
param([string]$Venv = '.venv-llama', [string]$Python = 'python')
$ErrorActionPreference = 'Stop'

function Invoke-Step([string]$Program, [string[]]$Arguments) {{
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) {{ throw "$Program ended with exit status $LASTEXITCODE" }}
}}

$programs = ${{env:ProgramFiles(x86)}}
if (-not $programs) {{ $programs = $env:ProgramFiles }}
$locator = Join-Path $programs 'Microsoft Visual Studio\\Installer\\vswhere.exe'
$compiler = Get-Command cl, g++, clang++ -ErrorAction SilentlyContinue
if (-not $compiler -and (Test-Path $locator)) {{
    $compiler = & $locator -latest -products * -requires Microsoft.VisualStudio.Component.VC.Tools.x86.x64 `
        -property installationPath
}}
if (-not $compiler) {{
    throw 'no C++ compiler: install Visual Studio Build Tools 2022 with "Desktop development with C++"'
}}

# 1. Create a virtual environment, or use the existing one.
$interpreter = Join-Path $Venv 'Scripts\\python.exe'
if (-not (Test-Path $interpreter)) {{ Invoke-Step $Python @('-m', 'venv', $Venv) }}

# 2. Uninstall: pip would call an installed version satisfied.
Invoke-Step $interpreter @('-m', 'pip', 'uninstall', '--yes', 'llama-cpp-python')

# 3. Compile with these arguments, from source and without pip's cache of wheels.
Remove-Item Env:SOURCE_DATE_EPOCH -ErrorAction SilentlyContinue
$env:CMAKE_ARGS = {cmake_args}
$env:FORCE_CMAKE = '1'
Invoke-Step $interpreter @('-m', 'pip', 'install', '--no-cache-dir', '--no-binary=llama-cpp-python', {requirement})

# 4. Read the effective features from the library: requested flags are not effective flags.
$check = @'
{check}'@
$file = Join-Path ([System.IO.Path]::GetTempPath()) "check-$([System.IO.Path]::GetRandomFileName()).py"
Set-Content -Path $file -Value $check -Encoding ASCII
try {{ Invoke-Step $interpreter @($file) }} finally {{ Remove-Item $file }}
Write-Output "interpreter: $interpreter"
"""


def write_script(version: str, cmake_args: Sequence[str], *, shell: str) -> str:
    """Return the script's text.

    Raises UsageError for a shell other than bash and powershell, and for arguments or a version that
    would need quoting: without it both shells read them alike.
    """
    templates = {"bash": _BASH, "powershell": _POWERSHELL}
    if shell not in templates:
        raise UsageError("unknown shell", where="--shell", actual=shell, expected="bash or powershell")
    arguments = split_arguments(cmake_args)
    flags = parse_flags(arguments)
    expected = {FEATURE_OF[flag]: is_on(value) for flag, value in flags.items() if flag in FEATURE_OF}
    # The future import keeps annotations such as dict[str, str] from being evaluated on old interpreters.
    head = f"from __future__ import annotations\nEXPECTED = {expected!r}\n"
    return templates[shell].format(
        version=check_version(version),
        cmake_args=f"'{' '.join(arguments)}'",
        requirement=f"'llama-cpp-python=={version}'",
        check=f"{head}{inspect.getsource(parse_system_info)}{_CHECK}",
    )
