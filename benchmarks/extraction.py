"""Word recall of ragops' text against independent converters, on real files of more than 12 formats.

    python benchmarks/extraction.py --cache FOLDER
    python benchmarks/extraction.py --cache FOLDER --only .pdf .html --files --json result.json

Needs Debian 12 or later, the package registries, and these packages: poppler-utils mupdf-tools pandoc lynx w3m
catdoc antiword odt2txt unrtf mblaze libxml2-utils xlsx2csv. The files come out of published packages
(`extraction_files.py`); FOLDER keeps them, and what the converters printed: remove FOLDER/converted after an
upgrade of one. What is measured is `extract()`, whose text is what a campaign stores: no database takes part.
Recall is the share of the converter's words, as a multiset, that stand in ragops' text; what a converter adds of
itself is left out by the rules in `extraction_words.py`. A file counts as whole, partial (recorded as incomplete,
with numbers) or failed (with a reason); the columns of recall are those of whole files.
Exit code 1 when the mean is below 99 %, or a file under 95 % counts as whole.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import reduce
from operator import and_
from pathlib import Path
from statistics import fmean

from extraction_files import KINDS, collect
from extraction_words import CONVERTERS, Words, words_of
from support import info, judge, machine

from ragops.documents.errors import Unreadable
from ragops.documents.extraction import extract_file

TARGET_MEAN, TARGET_FILE = 0.99, 0.95
MOST_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file; `recall` is None where no converter found a word."""

    file: str
    suffix: str
    state: str
    """whole, partial or failed"""
    reason: str
    recall: float | None
    expected: int
    """Words that the converters found."""
    surplus: float
    """Share of ragops' words that the converter did not find."""
    missing: str
    """The most frequent missing words."""


def main() -> int:
    """Measure and print the table; the exit code."""
    parser = argparse.ArgumentParser(description="Word recall against independent converters.")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the downloads")
    parser.add_argument("--only", nargs="+", default=[kind.suffix for kind in KINDS], metavar="SUFFIX")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--files", action="store_true", help="list every file below the target, and every failure")
    parser.add_argument("--json", type=Path, help="write every file's outcome there")
    options = parser.parse_args()
    cache: Path = options.cache.resolve()
    found = collect(cache)
    chosen = [
        (file, suffix) for suffix in options.only for file in found[suffix] if file.stat().st_size <= MOST_BYTES
    ]
    with ThreadPoolExecutor(options.jobs) as threads:
        outcomes = list(threads.map(lambda one: measure(cache, *one), chosen))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1, ensure_ascii=False))
    return report(outcomes, with_files=options.files)


def measure(cache: Path, file: Path, suffix: str) -> Outcome:
    """Extract a file and compare its words with the converter's."""
    expected = expected_words(cache, file, suffix)
    name = f"{suffix[1:]}/{file.name}"
    try:
        extracted = extract_file(file)
    except Unreadable as failure:
        return Outcome(name, suffix, "failed", failure.reason, None, expected.total(), 0.0, "")
    got = words_of(extracted.text)
    lost = expected - got
    recall = 1 - lost.total() / expected.total() if expected else None
    surplus = (got - expected).total() / got.total() if got else 0.0
    missing = " ".join(f"{word}×{count}" if count > 1 else word for word, count in lost.most_common(12))
    partial = extracted.partial
    state = "partial" if partial else "whole"
    return Outcome(name, suffix, state, str(partial or ""), recall, expected.total(), surplus, missing)


def expected_words(cache: Path, file: Path, suffix: str) -> Words:
    """Return the words that every converter of the format found in a file."""
    texts: list[str] = []
    for converter in CONVERTERS[suffix]:
        kept = (
            cache
            / "converted"
            / converter.name.replace(":", "").replace(" ", "_")
            / f"{suffix[1:]}-{file.name}.txt"
        )
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(converter.raw(file).encode("utf-8", "replace"))
        texts.append(converter.without_noise(kept.read_bytes().decode("utf-8")))
    return reduce(and_, map(words_of, texts))


def report(outcomes: Sequence[Outcome], *, with_files: bool) -> int:
    """Print the table and what lies below the target; the exit code."""
    by_suffix: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        by_suffix[one.suffix].append(one)
    info(machine())
    info("| Format | Against | Files | Whole | Partial | Failed | Recall, mean | Minimum | Whole and under 95 % |")
    info("|---|---|---|---|---|---|---|---|---|")
    for suffix, group in by_suffix.items():
        against = " and ".join(converter.name for converter in CONVERTERS[suffix])
        info(f"| `{suffix}` | {against} | {_row(group)} |")
    info(f"| all | | {_row(outcomes)} |")
    failed = [one for one in outcomes if one.state == "failed"]
    info("\nFailures by reason, with the most words that a converter found in one of these files:")
    for (suffix, reason), count in sorted(Counter((one.suffix, one.reason[:90]) for one in failed).items()):
        most = max(one.expected for one in failed if (one.suffix, one.reason[:90]) == (suffix, reason))
        info(f"  {count:3} {suffix} {reason} ({most} words)")
    low = [one for one in outcomes if one.state == "whole" and one.recall is not None and one.recall < TARGET_FILE]
    if with_files:
        info("\nFiles below the target, and partial ones:")
        for one in sorted(outcomes, key=lambda one: (one.suffix, one.recall or 0)):
            if one in low or one.state == "partial" or (one.state == "failed" and one.expected):
                info(
                    f"  {one.recall or 0:6.1%} {one.state:7} {one.file} {one.reason} "
                    f"({one.expected} words) {one.missing}"
                )
    rates = [one.recall for one in outcomes if one.state == "whole" and one.recall is not None]
    code = judge("mean recall of whole files", fmean(rates), TARGET_MEAN)
    return max(code, judge("whole files under 95 %", len(low), 0, at_most=True))


def _row(group: Sequence[Outcome]) -> str:
    states = Counter(one.state for one in group)
    rates = [one.recall for one in group if one.state == "whole" and one.recall is not None]
    low = sum(rate < TARGET_FILE for rate in rates)
    mean, least = (f"{fmean(rates):.1%}", f"{min(rates):.1%}") if rates else ("–", "–")
    counts = f"{len(group)} | {states['whole']} | {states['partial']} | {states['failed']}"
    return f"{counts} | {mean} | {least} | {low}"


if __name__ == "__main__":
    raise SystemExit(main())
