"""Events are read while they are written, and a killed writer's half line spoils nothing."""

from pathlib import Path

from sft_runner.events import EventReader, EventWriter


def test_only_new_events_are_returned(tmp_path: Path) -> None:
    writer, reader = EventWriter(tmp_path / "events.jsonl"), EventReader(tmp_path / "events.jsonl")
    writer(step=1)
    assert [event["step"] for event in reader.new()] == [1]
    assert list(reader.new()) == []
    writer(step=2)
    assert [event["step"] for event in reader.new()] == [2]
    writer.close()


def test_a_half_line_waits_and_a_killed_writers_half_line_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"step": 1}\n{"ste')
    reader = EventReader(file)
    assert [event["step"] for event in reader.new()] == [1]
    assert list(reader.new()) == []
    writer = EventWriter(file)
    writer(step=3)
    writer.close()
    assert [event["step"] for event in reader.new()] == [3]


def test_a_file_that_is_not_there_has_no_events(tmp_path: Path) -> None:
    assert list(EventReader(tmp_path / "none").new()) == []


def test_reading_can_begin_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"step": 1}\n')
    assert list(EventReader(file, from_end=True).new()) == []
