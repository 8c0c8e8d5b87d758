"""Format numbers for people."""

from __future__ import annotations

# Binary, as pg_size_pretty and PostgreSQL's memory settings count; with IEC names, as its `MB` is 1024² bytes.
_LARGER_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size(count: float | None) -> str:
    """Format bytes in binary units, e.g. `1.4 GiB`; None is `–`."""
    if count is None:
        return "–"
    value, sign, unit = abs(float(count)), "-" if count < 0 else "", "B"
    for larger in _LARGER_UNITS:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    # Three digits are enough to compare two sizes.
    digits = 0 if unit == "B" or value >= 100 else 1
    return f"{sign}{value:,.{digits}f} {unit}"


def number(value: float | None) -> str:
    """Format a whole number with separators, e.g. `1,100,000`; None is `–`."""
    return "–" if value is None else f"{value:,.0f}"


def estimate(value: float | None, *, is_estimated: bool) -> str:
    """Format a number, with `≈` before it if it is an estimate; None is `unknown`."""
    if value is None:
        return "unknown"
    return f"≈ {number(value)}" if is_estimated else number(value)


def percent(share: float) -> str:
    """Format a share of 1, e.g. `12.50%`."""
    return f"{share:.2%}"


def rate(count: float, seconds: float, *, what: str = "documents") -> str:
    """Format a speed in the unit in which it is a number of at least 1, e.g. `13.2 documents/h`."""
    if seconds <= 0:
        return f"– {what}/s"
    per_s = count / seconds
    for factor, unit in ((1, "s"), (60, "min")):
        if per_s * factor >= 1:
            return f"{per_s * factor:,.1f} {what}/{unit}"
    return f"{per_s * 3600:,.1f} {what}/h"


def duration(seconds: float | None) -> str:
    """Format a time span, e.g. `0.8 s`, `42 s`, `3 min 10 s`, `14 h 5 min`; None is `–`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    # Rounded before it is taken apart: 59.7 s is `1 min 0 s`, not `60 s`.
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
