"""Numbers as people read them."""

from __future__ import annotations


def size(count: float | None) -> str:
    """Bytes in binary units, e.g. `1.4 GiB`."""
    if count is None:
        return "–"
    value, sign = abs(float(count)), "-" if count < 0 else ""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{sign}{value:,.0f} {unit}" if unit == "B" or value >= 100 else f"{sign}{value:,.1f} {unit}"
        value /= 1024
    return ""


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def estimate(value: float | None, *, is_estimated: bool) -> str:
    """A number that says so when it is none that was counted, e.g. `≈ 1,100,000`; None is `unknown`."""
    if value is None:
        return "unknown"
    return f"≈ {number(value)}" if is_estimated else number(value)


def percent(share: float) -> str:
    return f"{share:.2%}"


def duration(seconds: float | None) -> str:
    """e.g. `0.8 s`, `42 s`, `3 min 10 s`, `14 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
