"""The report as Markdown and on the terminal; every reason and share in words."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from data_report import report, rows, source
from sft_runner.data.report import reasons
from sft_runner.data.report.numbers import percent, sentence
from sft_runner.data.report.sample import Sampled
from sft_runner.data.report.summary import summary
from sft_runner.data.report.terminal import chosen, show
from sft_runner.data.row import Dropped, Example, Fill, Row
from sft_runner.data.template import Encoded


def test_every_reason_to_drop_a_row_is_explained() -> None:
    assert set(reasons.DROPPED) == set(Dropped)
    assert all(reason.meaning for reason in reasons.DROPPED.values())
    assert reasons.dropped("of a later version").meaning == ""


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.9999, "99.9 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0.4531, "45.3 %")],
)
def test_a_share_never_rounds_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_sum_as_a_sentence() -> None:
    assert sentence(rows(1, 2, {"overlong": 3})) == "6 read = 1 to learn from + 2 held out + 3 dropped"
    assert sentence(rows(1, 2, {"overlong": 3}), chosen=False) == "6 read = 3 usable + 3 dropped"
    assert sentence(rows(4, 0, {}, added=1)) == "3 read + 1 added = 4 to learn from + 0 held out + 0 dropped"


def test_summary_has_sums_warnings_and_a_row() -> None:
    text = summary(report())
    assert "2,127 read + 7 added = 1,812 to learn from + 200 held out + 122 dropped." in text
    assert "| docs | docs | 1,044 | 833 | 91 | 120 |" in text
    assert "**Warning**, 86 rows: a placeholder is left in, such as `identity.json:1`. To do: fill them in" in text
    assert "- 102 duplicate: the same row stood there before, such as `docs/a.md:7`" in text
    assert "<|im_start|>assistant\n⟦  yes<|im_end|>⟧\n```" in text


def test_summary_is_not_broken_by_what_the_data_says() -> None:
    sample = {"source": "a|b.md:1", "tokens": 3, "trained": 3, "spans": [["````\n# no heading", True]]}
    text = summary(report(samples=[sample], sources={"a|b\n# c": source("a", "qa", rows(1, 0, {}))}))
    assert "`````text\n⟦````\n# no heading⟧\n`````\n" in text
    assert "| a\\|b # c | qa |" in text


ROW = Row({"q": "Is [bold]it[/bold]  so?\x1b[2J", "a": "yes\nno"}, "a.jsonl", 7)
MESSAGES = [{"role": "user", "content": "Is [bold]it[/bold] so?"}, {"role": "assistant", "content": "yes\nno"}]


def used(row: Row = ROW, **parts: Any) -> Sampled:
    encoded = Encoded([1, 2, 3], [-100, 2, 3], 1, 2, MESSAGES, [])  # type: ignore[call-arg,unused-ignore]
    spans = [("<s>Is [bold]it[/bold] so?\n", False), ("yes\nno</s>", True), ("\n", False)]
    example = Example(row, "qa", **{"messages": MESSAGES, **parts})
    return Sampled(row, example, encoded, spans=spans, special=["<s>", "</s>"])


def printed(*samples: Sampled, coloured: bool = False, **options: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=coloured, color_system="standard" if coloured else None)
    show(console, samples, report(), **options)
    return file.getvalue()


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_a_row_is_shown_as_read_as_messages_and_as_tokens() -> None:
    assert lines(printed(used()))[:9] == [
        "a.jsonl:7  qa  3 tokens, 2 trained",
        'row        {"q": "Is [bold]it[/bold]··so?\\u001b[2J", "a": "yes\\nno"}',
        "user       Is [bold]it[/bold] so?",
        "assistant  yes↵",
        "           no",
        "tokens     <s>Is [bold]it[/bold] so?↵",
        "           ⟦yes↵",
        "           no</s>⟧↵",
        "",
    ]


def test_a_sample_can_be_written() -> None:
    assert used().to_json() == {
        "source": "a.jsonl:7",
        "tokens": 3,
        "trained": 2,
        "spans": [["<s>Is [bold]it[/bold] so?\n", False], ["yes\nno</s>", True], ["\n", False]],
        "special": ["<s>", "</s>"],
    }


def test_colours_take_the_place_of_brackets() -> None:
    text = printed(used(), coloured=True)
    assert "⟦" not in text
    assert "\x1b[1;32myes" in text
    assert "\x1b[2J" not in text


def test_no_color_brings_the_brackets_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    show(Console(file=file, width=120, force_terminal=True), [used()], report())
    assert "⟦" in file.getvalue()
    assert "\x1b[3" not in file.getvalue()


def test_tools_thoughts_fills_and_rejected_answers_are_shown() -> None:
    call = {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    text = printed(
        used(
            messages=[
                {"role": "user", "content": "1 + 1?"},
                {"role": "assistant", "content": None, "reasoning_content": "easy", "tool_calls": [call]},
                {"role": "tool", "content": "2", "name": "add"},
                {"role": "assistant", "content": "2"},
            ],
            tools=[{"type": "function", "function": {"name": "add"}}],
            untrained=frozenset({1}),
            rejected=[{"role": "assistant", "content": "3"}],
        ),
        used(messages=[], fill=Fill("def f():", "return 1", "end")),
        used(messages=[], text="plain"),
    )
    for part in (
        "tools                    add",
        "assistant (not trained)  (thinks: easy)",
        'add({"a": 1})',
        "tool                     2",
        "rejected                 3",
        "middle  return 1",
        "text    plain",
    ):
        assert part in text


def test_a_dropped_row_says_why() -> None:
    text = printed(Sampled(ROW, dropped=Dropped.EMPTY_ANSWER))
    assert "a.jsonl:7  dropped: an answer says nothing" in text
    assert "tokens  " not in text


def test_a_file_name_is_not_obeyed() -> None:
    text = printed(used(Row({"a": "b"}, "a\x1b[2J\nb.jsonl", 1)), coloured=True)
    assert "a⟨U+001B⟩[2J↵b.jsonl:1" in text
    assert "\x1b[2J" not in text


def test_long_texts_are_shortened_unless_they_are_wanted_whole() -> None:
    row = Row({"text": "x" * 5000}, "a.jsonl", 1)
    assert "characters⟩" in printed(used(row))
    assert "characters⟩" not in printed(used(row), most=10_000)


def test_the_sums_stand_below() -> None:
    text = printed()
    for part in (
        "2,127 read + 7 added = 2,012 usable + 122 dropped",
        "docs: 924 docs",
        "48.8 % carry loss; mean 227.6, longest 1,977 of at most 2,048",
        "0 █▇ ▂ 2,000 tokens",
        "dropped 102 duplicate: the same row stood there before (such as docs/a.md:7)",
        "warning 86 placeholder: a placeholder is left in; fill them in",
    ):
        assert part in text


def test_the_rows_shown_come_from_all_files_and_dropped_ones_last() -> None:
    def at(file: str, number: int, dropped: bool = False) -> Sampled:
        row = Row({}, file, number)
        return Sampled(row, dropped=Dropped.OVERLONG) if dropped else used(row)

    samples = [at("a", 1, dropped=True), at("a", 2), at("a", 3), at("b", 1), at("b", 2)]
    assert [s.row.source for s in chosen(samples, 3)] == ["a:2", "b:1", "a:3"]
    assert [s.row.source for s in chosen(samples, 9)][-1] == "a:1"


def test_values_that_json_does_not_know_are_shown() -> None:
    row = Row({"when": {1}, "a": "b"}, "a.parquet", 1)
    assert '"when": "{1}"' in printed(used(row))
    assert json.dumps("b") in printed(used(row))
