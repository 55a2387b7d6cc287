"""Numbers as a person reads them; the only place that rounds for the eye."""

# ruff: noqa: PLR2004 (the numbers are where the rounding turns)

import math

THOUSAND, MINUTE, HOUR, DAY = 1000, 60, 3600, 86400
SUFFIXES = ("", "k", "M", "B", "T")


def count(number: float) -> str:
    """1234 → `1,234`, 12_345_678 → `12.3M`: three digits that matter, exact below ten thousand."""
    if abs(number) < 10 * THOUSAND:
        return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.3g}"
    power = min(int(math.log10(abs(number)) / 3), len(SUFFIXES) - 1)
    scaled = number / THOUSAND**power
    if abs(scaled) >= THOUSAND - 0.5 and power < len(SUFFIXES) - 1:  # 999,999 is 1.00M, not 1000k
        scaled, power = scaled / THOUSAND, power + 1
    return f"{_three(scaled)}{SUFFIXES[power]}"


def size(num_bytes: float) -> str:
    """1536 → `1.50 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(num_bytes) < 1000 or unit == "TiB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{_three(num_bytes)} {unit}"
        num_bytes /= 1024
    raise AssertionError


def duration(seconds: float) -> str:
    """0.42 → `0.4s`, 80 → `1m 20s`, 7300 → `2h 01m`, 200_000 → `2d 07h`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02d}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d {whole % DAY // HOUR:02d}h"


def rate(per_second: float) -> str:
    """2340.0 → `2,340/s`, 2.1 → `2.10/s`, and of what is slow how long one takes: 0.1 → `10s each`."""
    if per_second <= 0:
        return ""
    if per_second < 0.5:
        return f"{duration(1 / per_second)} each"
    return f"{count(round(per_second)) if per_second >= 100 else _three(per_second)}/s"


def metric(value: float) -> str:
    """Four digits that matter, without an exponent where it can be helped."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 10 * THOUSAND:
        return f"{value:.4g}"
    return count(value) if abs(value) >= 10 * THOUSAND else f"{value:.2e}"


def _three(number: float) -> str:
    """Three digits that matter: 1.23, 12.3, 123."""
    size_of = abs(number)
    return f"{number:.2f}" if size_of < 9.995 else f"{number:.1f}" if size_of < 99.95 else f"{number:.0f}"
