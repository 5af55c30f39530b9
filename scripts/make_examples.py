"""Make the rows of `recipes/examples`: for each recipe a task that the embedded tiny model learns in half a minute.

Each is a rule over what that model can do (months, upper and lower case, padding, picking, joining), in the format of
its recipe, so that the file also shows what such rows look like. `code/` and `docs/` there are written by hand.

Run:  python scripts/make_examples.py [--output recipes/examples]
Took: less than a second. The same seed gives the same files.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]  # fmt: skip
THINGS = ["lamp", "desk", "chair", "shelf", "clock", "mirror", "carpet", "kettle", "blanket", "basket"]
FIRST = ["Ada", "Emmy", "Grace", "Alan", "Mary", "Carl", "Rosa", "Otto", "Lise", "Hugo", "Nora", "Ivan", "José"]
LAST = ["Holm", "Berg", "Costa", "Dietz", "Evans", "Frey", "Grant", "Heller", "Ito", "Jensen", "Keller", "Lund"]
TITLES = ["Weekly Report", "Travel Plan", "Price List", "Team Notes", "Budget Draft", "Guest List", "Floor Plan",
          "Test Results", "Order Form", "Project Diary", "Field Notes", "Lunch Menu"]  # fmt: skip
Row = dict[str, Any]


def qa(rng: random.Random, number: int) -> Row:
    """The month of a date, from the question or from the context."""
    date = f"{rng.randint(2020, 2039)}-{number % 12 + 1:02d}-{rng.randint(1, 28):02d}"
    month = MONTHS[int(date[5:7]) - 1]
    if number % 2:
        return {"question": f"Which month is {date}?", "answer": month}
    context = f"Order {number + 100}: {rng.choice(THINGS)}, {date}"
    return {"question": "In which month was it ordered?", "context": context, "answer": month}


def instruction(rng: random.Random, number: int) -> Row:
    """A title as a file name."""
    title = f"{TITLES[number % len(TITLES)]} {rng.randint(1, 99)}"
    wording = rng.choice(["Make a file name of this title.", "Write the title as a file name."])
    return {"instruction": wording, "input": title, "output": title.lower().replace(" ", "-") + ".txt"}


def custom(rng: random.Random, number: int) -> Row:
    """The short sign of a person, for a list: the last name in capitals and the first letter of the other."""
    first, last = rng.choice(FIRST), rng.choice(LAST)
    return {"prompt": f"Sign for {first} {last}:", "completion": f"{last.upper()} {first[0]}"}


def chat(rng: random.Random, number: int) -> Row:
    """A desk that lends things: it knows the number of its ticket in the turns that follow."""
    thing, ticket = THINGS[number % len(THINGS)], rng.randint(1, 99)
    days = rng.randint(2, 9)
    said = [
        ("user", f"A {thing}, ticket {ticket}."),
        ("assistant", f"Ticket {ticket:03d}: {thing}. How many days?"),
        ("user", f"{days} days."),
        ("assistant", f"Ticket {ticket:03d}: {thing}, {days} days."),
    ]
    return {"messages": [{"role": role, "content": content} for role, content in said]}


ROWS: dict[str, tuple[Callable[[random.Random, int], Row], int]] = {
    "qa": (qa, 76),
    "instruction": (instruction, 76),
    "custom": (custom, 76),
    "chat": (chat, 60),
}


def rows(name: str, seed: int = 0) -> list[Row]:
    """The rows of one file, none of them twice."""
    make, count = ROWS[name]
    rng, found = random.Random(f"{name} {seed}"), dict[str, Row]()
    while len(found) < count:
        row = make(rng, len(found))
        found.setdefault(json.dumps(row), row)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "recipes/examples")
    options = parser.parse_args()
    for name in ROWS:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(name))
        (options.output / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
