"""Make the embedded date task: alpaca rows that ask for a date as ISO, for the quick start and the tests.

Each row asks for another date (years 1900 to 2099) in one of several spellings and wordings. Only spellings with
a single reading are used: 03.04.2021 would be March to one reader and April to another.

Run:  python scripts/make_dates.py [--rows 2000] [--output src/sft_runner/embedded/dates.jsonl] [--seed 0]
Took: less than a second. The same seed gives the same file.
"""

import argparse
import datetime
import json
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]  # fmt: skip
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SPELLINGS = [
    "{day} {month} {year}",
    "{day:02d} {month} {year}",
    "{month} {day}, {year}",
    "{ordinal} of {month} {year}",
    "{month} {ordinal}, {year}",
    "{short} {day} {year}",
    "{day} {short} {year}",
    "{day:02d}-{short}-{year}",
    "{weekday}, {day} {month} {year}",
]
WORDINGS = [  # with {date} the input is empty, otherwise the date is the input
    "Write this date as ISO:",
    "Convert to an ISO date.",
    "Give the ISO date.",
    "Rewrite the date in ISO form:",
    "Write {date} as an ISO date.",
    "What is the ISO date of {date}?",
]


def ordinal(day: int) -> str:
    suffix = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def spell(date: datetime.date, spelling: str) -> str:
    """The date in one of the spellings; names are written here, so the locale does not matter."""
    month = MONTHS[date.month - 1]
    return spelling.format(
        day=date.day, ordinal=ordinal(date.day), month=month, short=month[:3], year=date.year,
        weekday=WEEKDAYS[date.weekday()],
    )  # fmt: skip


def make_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Rows of different dates, so that held-out rows never repeat a date of the training rows."""
    rng = random.Random(seed)
    first, last = datetime.date(1900, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
    rows = []
    for number in rng.sample(range(first, last + 1), count):
        date = datetime.date.fromordinal(number)
        written, wording = spell(date, rng.choice(SPELLINGS)), rng.choice(WORDINGS)
        inline = "{date}" in wording
        rows.append({
            "instruction": wording.format(date=written),
            "input": "" if inline else written,
            "output": date.isoformat(),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=ROOT / "src/sft_runner/embedded/dates.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = make_rows(options.rows, options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} rows in {options.output}")


if __name__ == "__main__":
    main()
