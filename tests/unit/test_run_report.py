"""The report of a run: what it says, in which order, and that nothing in it runs, leaks, or breaks the run."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from platform import node
from typing import Any

import pytest

import sft_runner.report as report
from html_pages import Checked, said
from pace import in_loops
from run_folders import METRICS, PREDICTIONS, SCORES, STAGES, run_folder
from sft_runner import load, plan
from sft_runner.errors import StageFailed
from sft_runner.evaluation.verdict import Verdict
from sft_runner.outcome import Outcome
from sft_runner.page import without_links
from sft_runner.report import curves, dots, examples, scores
from sft_runner.report.cleaning import clean
from sft_runner.report.markdown import markdown
from sft_runner.report.page import page, parts, problems
from sft_runner.report.record import read
from sft_runner.report.scores import Value
from sft_runner.report.verdict import verdict
from sft_runner.runs import RunFolder
from sft_runner.tracking.numbers import flat

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{123*457}} | `x` @someone\n# no title"
GATES = [
    {"gate": "exact_match", "limit": "min", "wanted": 0.6, "found": 0.41, "passed": False, "missed_by": 0.19},
    {"gate": "general.perplexity", "limit": "max_ratio", "wanted": 1.02, "found": 1.01, "passed": True},
]


def made(folder: Path, broken: bool = False) -> tuple[str, str]:
    """The page and the Markdown of a run folder; no part of them may be missing."""
    record = clean(read(folder))
    found = parts(record)
    assert bool(problems(found)) is broken, problems(found)
    return page(record, found), markdown(record, found)


def test_it_says_all_that_is_known(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, stages=(*STAGES[:5], "export", "serve"), gates=GATES, fit_to_serve=False)
    html, short = made(folder)
    text = said(html)
    for part in (
        "dates · embedded:tiny · lora r=8 · cpu · 2026-03-01 12:00 · took 43.0 s",
        "Not fit to serve exact match 41.0 %, wanted at least 60.0 %, missed by 19.0 points. The model is kept;",
        "41.0 % exact match, tuned",
        "+41.0 points 95 % interval +33.0 to +48.0 points, 4 rows",
        "exact match 0 % 41.0 % +41.0 points +33.0 to +48.0 points better",
        "loss 7.66 0.6 +7.06 +6.9 to +7.2 better",
        "general exact match 22.0 % 20.0 % −2.0 points −5.0 to +1.0 points no difference told",
        "unseen loss 7.9 0.7 +7.2 –",
        "gsm8k exact match 11.0 % 21.0 % +10.0 points",
        "general.perplexity max_ratio 1.02 x base 1.01 x base – ✓ met by 0.01",
        "logits differ by at most 1.5e-05, mean 1.8e-06, 8.0e-07 of the largest; KL 3.0e-08 nats a token",
        "the same next token at 100 % of positions on 8 rows",
        "38 tensors, of which 28 changed",
        "the same token ids as in training on 8 prompts",
        "original 0.6100, quantized 0.5980; merged into the quantized one",
        "in a stream, tensor by tensor, stored in float32, 0.4 s at 1.21 GB/s",
        "51 prompt tokens, as in training; transformers 5.23.0 answered, ready after 6.4 s",
        "memory ≈ 3.3 of 25.3 GB of this machine 0.69 GB at most while training",
        "time ≈ 40 s: train 12 s (rough) 43.0 s: prepare 1.5 s, baseline 1.5 s",
        "rows up to 2,048 tokens; at most 90 to learn from 20 steps, 22,199 tokens in 0.5 epochs",
        "100 read = 90 to learn from + 4 held out + 6 dropped",
        "duplicate 6 the same row stood there before",
        "python -m sft_runner recipe=quickstart train.max_steps=20",
        "goal: from nothing to a served model in two minutes",
        "quantization.bits 8 hardware=rtx3060 changes what is learned",
        "gguf: 1 file, 2.0 MB",
        f"{'5eed' * 10} + uncommitted changes",
        "ab" * 32,
        "c0ffee",
        "torch 2.13.0",
        "workshop",
        "By exact match, 1 got worse, 1 better, and 2 stayed.",
    ):
        assert part in text, part
    assert text.count("missed by 19.0 points") == 2  # in the verdict and in the table
    assert "workshop" not in short
    order = ["Not fit to serve", "Gates", "Scores", "Real rows", "What proves it", "The loss", "The plan, and"]
    places = [text.index(part, text.index("dates · ")) for part in order]
    assert places == sorted(places)
    assert '<path d="M0,0 L1,1"/>' in html
    for part in (
        "**Not fit to serve.**",
        "| exact match | 0 % | 41.0 % | +41.0 points | +33.0 to +48.0 points | ▲ |",
        "| general: exact match | 22.0 % | 20.0 % | −2.0 points | −5.0 to +1.0 points | ≈ |",
        "✗ missed by 19.0 points",
        "python -m sft_runner recipe=quickstart train.max_steps=20",
        f"commit {'5eed' * 3} + uncommitted changes",
    ):
        assert part in short, part
    assert len(short) < 10_000


def test_the_page_is_whole_by_itself(tmp_path: Path) -> None:
    html, _ = made(run_folder(tmp_path))
    found = Checked(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes
    links = {value for name, value in found.attributes if name in ("href", "src", "xlink:href")}
    assert links
    assert all(value and "://" not in value for value in links)
    assert all((tmp_path / "runs/dates/20260301-120000-ab12" / str(link)).is_file() for link in links)
    assert not re.search(r"url\(|@import|https?://", html.replace("http://www.w3.org/2000/svg", ""))
    headings = [tag for tag in found.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    assert ("lang", "en") in found.attributes


def test_the_same_run_gives_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "outputs", gates=GATES)
    for name in ("a", "b"):  # more parts, more sets in an order of their own
        (read(folder).place("evaluate") / f"predictions.{name}.jsonl").write_text("{}\n")
    program = (
        "import sys; from pathlib import Path; from sft_runner.report.record import read;"
        "from sft_runner.report.cleaning import clean; from sft_runner.report.comparison import compare;"
        "from sft_runner.report.page import page, parts; from sft_runner.report.markdown import markdown;"
        "from sft_runner.report.comparison_page import page as side_by_side;"
        f"r = clean(read(Path({str(folder)!r}))); m = parts(r);"
        "sys.stdout.write(page(r, m) + markdown(r, m) + side_by_side(compare([r, r])))"
    )
    texts = set()
    for seed, place in (("1", tmp_path), ("2", folder), ("3", Path.cwd())):
        words = [sys.executable, "-c", program]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        ended = subprocess.run(words, capture_output=True, cwd=place, env=environment, timeout=60)
        assert ended.returncode == 0, ended.stderr
        texts.add(ended.stdout)
    assert len(texts) == 1


def test_nothing_of_the_user_runs_or_breaks_out(tmp_path: Path) -> None:
    row = PREDICTIONS[0] | {"source": EVIL, "prompt": [{"role": EVIL, "content": EVIL}], "expected": EVIL}
    rows = [row | {"base": {"answer": EVIL, "loss": 1.0}, "tuned": {"answer": EVIL + "!", "loss": 2.0}}]
    sets = {EVIL: {"loss": 1.0}}
    metrics = {"evaluate": {"base": {EVIL: 1.0, "sets": sets}, "tuned": {EVIL: 2.0, "sets": sets}}}
    folder = run_folder(
        tmp_path,
        metrics=metrics,
        predictions=rows,
        config={"model.name": EVIL, "evaluate.headline": EVIL},
        overrides=[EVIL],
        gates=[GATES[0] | {"gate": EVIL}],
    )
    html, short = made(folder)
    found = Checked(html)
    assert not {"script", "img"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert str(123 * 457) not in html
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", short)
    assert not re.search(r"(?<!\\)<script", outside)
    assert "@someone" not in outside
    assert "\n# no title" not in outside


def test_secrets_and_places_of_the_machine_stay_out(tmp_path: Path) -> None:
    folder = run_folder(
        tmp_path,
        state="failed",
        done=("prepare",),
        overrides=[
            "data.path=git+https://me:hunter2@host/x@0",
            "tracking.mlflow.uri=https://host/?token=hunter2",
            f"output_dir={tmp_path}",
            f"hooks={tmp_path}-other",
        ],
    )
    plan_file = json.loads((folder / "plan.json").read_text())
    plan_file["warnings"] = ["https://me:hunter2@host is slow"]
    (folder / "plan.json").write_text(json.dumps(plan_file))
    record = read(folder)
    (record.place("baseline")).mkdir(parents=True)
    (record.place("baseline") / "stage.log").write_text("it broke")
    record = clean(replace(record, error=f"baseline: no\n  log: {record.place('baseline')}/stage.log"))
    found = parts(record)
    for text in (page(record, found), markdown(record, found)):
        assert "hunter2" not in text
        assert str(tmp_path) not in text.replace(f"{tmp_path}-other", "")
        assert f"output_dir={tmp_path.name} hooks={tmp_path}-other" in text.replace("&#39;", "'")
        assert "Failed at baseline" in text
        assert "stage.log" in text


@pytest.mark.parametrize(
    ("state", "done", "wanted"),
    [
        ("failed", (), ["Failed at prepare", "The prepare stage has not completed", "Nothing was scored, because"]),
        ("failed", STAGES[:2], ["Failed at train", "the train stage has not completed in this run", "0 %"]),
        (
            "cancelled",
            STAGES[:3],
            ["Stopped before the end", "merge run: first time stopped", "serve run: first time not reached"],
        ),
        ("completed", STAGES[:3], ["Not evaluated", "The proofs of merging are missing"]),
        ("killed", STAGES[:3], ["Killed before the end", "merge run: first time killed"]),
        ("running", STAGES[:3], ["Killed before the end"]),  # nobody holds its lock
    ],
)
def test_what_did_not_run_is_said(tmp_path: Path, state: str, done: tuple[str, ...], wanted: list[str]) -> None:
    html, short = made(run_folder(tmp_path, state=state, done=done, fit_to_serve=None, host=node()))
    for part in wanted:
        assert part in said(html)
    assert wanted[0] in short


@pytest.mark.parametrize("odd", [{}, None, {"base": None, "rows": None}, []], ids=str)
def test_manifests_of_other_versions_leave_no_hole(tmp_path: Path, odd: Any) -> None:
    metrics = dict.fromkeys(METRICS, odd)
    record = clean(read(run_folder(tmp_path, metrics=metrics, gates=[])))
    found = parts(record)
    html = page(record, found)
    Checked(html)
    for problem in problems(found):
        assert unescape(problem.partition(": ")[2]) in unescape(html)
    assert "To get it again" in html
    assert markdown(record, found)


def test_old_runs_without_anything_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "old" / "20250101-000000-0000"
    folder.mkdir(parents=True)
    html, short = made(folder)
    assert "Not evaluated" in html
    assert "Not evaluated" in short


def test_whether_a_gain_can_be_told() -> None:
    lines = {line.metric: line for line in scores.overall(SCORES, "exact_match")}
    assert [line.verdict for line in lines.values()] == ["better", "better", ""]
    assert next(iter(lines)) == "exact_match"
    worse = scores.Line("", "loss", Value(1.0), Value(2.0), Value(-1.0, -1.5, -0.5))
    assert (worse.verdict, scores.less_is_better(worse)) == ("worse", True)
    (task,) = scores.benchmarks(SCORES)
    assert task.tuned == Value(0.21, pytest.approx(0.161), pytest.approx(0.259))


def test_a_gain_that_cannot_be_told_is_said_first(tmp_path: Path) -> None:
    open_ = SCORES | {"intervals": {"exact_match": {"gain": {"low": -0.1, "high": 0.3}}}}
    html, _ = made(run_folder(tmp_path, metrics={"evaluate": open_}, gates=GATES[1:]))
    assert "Fit to serve, but not shown to be better" in said(html)
    assert "On these rows no difference of its exact match to the base model's can be told." in said(html)


def judged(folder: Path, gain: float | None, ends: tuple[float, float] | None, **more: Any) -> Any:
    """The verdict on a run with this gain of its headline metric."""
    tuned = {"exact_match": 0.5 + (gain or 0.0), "loss": 0.6, "rows": 1}
    scored = {"base": {"exact_match": 0.5, "loss": 1.0, "rows": 1}, "tuned": tuned}
    scored |= {"gain": {"exact_match": gain}} if gain is not None else {}
    scored |= {"intervals": {"exact_match": {"gain": dict(zip(("low", "high"), ends, strict=True))}}} if ends else {}
    return verdict(read(run_folder(folder, metrics={"evaluate": scored}, **more)))


@pytest.mark.parametrize(
    ("gain", "ends", "doubt"),
    [
        (0.2, (0.1, 0.3), ""),
        (0.2, None, "has no interval"),
        (0.2, (-0.1, 0.3), "no difference"),
        (-0.2, (-0.3, -0.1), "is worse than"),
        (-0.4, None, "is worse than"),
        (0.0, None, "is the same as"),
        (None, None, "was not measured"),
    ],
)
def test_fit_is_only_what_was_judged_and_shown(
    tmp_path: Path, gain: float | None, ends: tuple[float, float] | None, doubt: str
) -> None:
    gated = judged(tmp_path / "gated", gain, ends, gates=GATES[1:])
    assert (gated.kind, gated.title.startswith("Fit to serve")) == ("open" if doubt else "fit", True)
    assert doubt in gated.text
    free = judged(tmp_path / "free", gain, ends)
    assert (free.kind, free.title) == ("open", "No gates: nobody said what is good enough")
    assert (doubt or "is better than the base model's") in free.text
    ended = judged(tmp_path / "ended", gain, ends, gates=GATES[1:], stages=STAGES[:5])
    assert "This run served nothing." in ended.text
    assert "This run served nothing." not in gated.text


def test_scores_outlive_their_stage_folders(tmp_path: Path) -> None:
    """What `run.json` kept is enough for the verdict."""
    folder = run_folder(tmp_path, metrics={"evaluate": SCORES}, gates=GATES[1:])
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(known | {"metrics": flat(SCORES)}))
    before = verdict(read(folder))
    shutil.rmtree(tmp_path / "stages")
    assert verdict(read(folder)) == before
    assert before.title == "Fit to serve"


def test_one_row_is_one_row(tmp_path: Path) -> None:
    html, short = made(run_folder(tmp_path, metrics={"evaluate": {"tuned": {"loss": 1.0, "rows": 1, "tokens": 1}}}))
    for text in (said(html), short):
        assert "1 row, 1 token." in text
        assert not re.search(r"(?<![\d.,])1 (rows|tokens|prompts)", text)


def test_a_model_that_was_trained_whole_has_no_adapter(tmp_path: Path) -> None:
    merged = METRICS["merge"] | {"how": "copy", "weights": {"tensors": 38, "changed": 37, "steps": 0.0, "converted": 0}}
    merged |= {"adapted_modules": 38, "changed_modules": 38}
    text = said(made(run_folder(tmp_path, metrics={"merge": merged}))[0])
    assert "38 tensors, of which 37 other than the base's; all as training kept them, bit for bit" in text
    assert "trained whole, so nothing was merged: the files are copied" in text
    for part in ("PEFT", "adapted modules", "the others are the base's"):
        assert part not in text


def test_a_training_that_did_not_end_has_its_curve(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, state="failed", done=STAGES[:2], fit_to_serve=None)
    assert "There is no curve" in said(made(folder)[0])
    record = read(folder)
    record.place("train").mkdir(parents=True)
    events = [{"step": step, "loss": 8.0 / step} for step in (1, 2, 3, 2, 4)] + [{"step": 5, "loss": float("nan")}]
    lines = [json.dumps(event) for event in ({"state": "running"}, *events, ["odd"])]
    (record.place("train") / "events.jsonl").write_text("\n".join(lines) + '\n{"step": 6, "lo')
    assert curves.points(record) == [(1, 8.0), (2, 4.0), (3, pytest.approx(8 / 3)), (4, 2.0)]
    html, _ = made(folder)
    assert "The training did not come to its end" in said(html)
    assert Checked(html).tags.count("path") == 1


def test_a_copy_elsewhere_has_no_dead_links(tmp_path: Path) -> None:
    html, _ = made(run_folder(tmp_path))
    assert html.count("<a href") >= 3
    copied = without_links(html)
    Checked(copied)
    assert "<a " not in copied
    assert said(copied).replace(" ", "") == said(html).replace(" ", "")


def test_dots_lie_on_their_scale() -> None:
    share = dots.picture("exact_match", [("a", [("train", "tuned", Value(0.5, 0.4, 0.6))])])
    (dot,) = share.rows[0].dots
    assert (dot.x, share.logarithmic) == (50.0, False)
    assert [text for _, text in share.ticks] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert [x for x, _ in share.ticks] == sorted({x for x, _ in share.ticks})
    assert dot.low is not None
    assert dot.high is not None
    assert dot.x - dot.low == pytest.approx(dot.high - dot.x)
    wide = dots.picture(
        "perplexity",
        [
            ("a", [("source", "base", Value(2000.0)), ("train", "tuned", Value(2.0))]),
            ("b", [("train", "tuned", Value(63.2456))]),
        ],
    )
    assert wide.logarithmic
    assert [text for _, text in wide.ticks] == ["10", "100", "1,000"]
    left, right = wide.rows[0].dots[1].x, wide.rows[0].dots[0].x
    assert wide.rows[1].dots[0].x == pytest.approx((left + right) / 2, abs=0.1)  # the geometric mean
    for values in (
        [Value(1.0)],
        [Value(0.0)],
        [Value(-3.0, -4.0, -2.0), Value(5.0)],
        [Value(1.0), Value(float("inf"))],
        [None],
    ):
        drawn = dots.picture("x", [("a", [("train", "t", value) for value in values])])
        assert all(0 <= dot.x <= 100 for row in drawn.rows for dot in row.dots)
        assert all(0 <= x <= 100 for x, _ in drawn.ticks)
        assert 1 <= len(drawn.ticks) <= 7


def predictions(folder: Path, changes: list[float]) -> Path:
    """A file with a row for each change of the headline metric."""
    path = folder / "predictions.jsonl"
    with open(path, "w") as file:
        for number, change in enumerate(changes):
            row = {"source": f"row {number}", "prompt": "p", "expected": "e"}
            row |= {
                "base": {"answer": "b", "f": 0.5, "loss": 1.0},
                "tuned": {"answer": "t", "f": 0.5 + change, "loss": 1.0},
            }
            file.write(json.dumps(row) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ([0.1] * 20 + [-0.1] * 20 + [0.0] * 20, ["worse"] * 4 + ["better"] * 3 + ["same"] * 3),
        ([0.1] * 20, ["better"] * 10),
        ([0.1] * 5 + [0.0] * 20, ["better"] * 3 + ["same"] * 7),
        ([-0.1] * 20, ["worse"] * 10),
        ([0.0], ["same"]),
        ([], []),
    ],
)
def test_rows_of_each_kind_are_chosen(tmp_path: Path, changes: list[float], kinds: list[str]) -> None:
    found, counts = examples.choose(predictions(tmp_path, changes), "f")
    assert [row.kind for row in found] == kinds
    wanted = [sum(change < 0 for change in changes), sum(change > 0 for change in changes), changes.count(0.0)]
    assert list(counts.values()) == wanted
    assert len({row.source for row in found}) == len(found)


def test_the_largest_change_comes_first(tmp_path: Path) -> None:
    path = predictions(tmp_path, [0.1, -0.3, -0.5, 0.4, 0.0, -0.1])
    found, _ = examples.choose(path, "f")
    assert [row.source for row in found] == ["row 2", "row 1", "row 5", "row 3", "row 0", "row 4"]
    assert examples.choose(path, "f")[0] == found


def test_rows_without_answers_are_chosen_by_the_loss(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    rows = [{"expected": "e", "base": {"loss": 1.0}, "tuned": {"loss": loss}} for loss in (0.5, 2.0)]
    path.write_text("\n".join(map(json.dumps, rows)))
    found, _ = examples.choose(path, "exact_match")
    assert [(row.kind, row.answers) for row in found] == [("worse", {}), ("better", {})]


def test_what_differs_is_marked() -> None:
    assert examples.compared("2021-04-03", "2021-03-03") == [("2021-", False), ("04", True), ("-03", False)]
    assert examples.compared("same", "same") == [("same", False)]
    assert examples.compared("quite another", "thing altogether!?") == [("quite another", False)]
    assert examples.compared("", "x") == [] or examples.compared("", "x") == [("", False)]
    long = "word " * 5000
    assert not any(differs for _, differs in examples.compared(long, long + "x"))
    text = " ".join(f"word{number}" for number in range(250))
    pieces = examples.compared(text.replace("word99 ", "odd "), text)
    assert [piece for piece, differs in pieces if differs] == ["odd"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a " * 700, "b a " * 370),
        ("a " * 290, "b a " * 145),
        ("the answer is " * 99, " ".join(f"w{number}" for number in range(290))),
        (" ".join(str(number % 7) for number in range(299)), " ".join(str(number % 5) for number in range(299))),
    ],
)
def test_answers_that_loop_take_no_time(text: str, expected: str) -> None:
    assert "".join(piece for piece, _ in examples.compared(text, expected)).strip() == text.strip()
    assert in_loops(lambda: list(examples.compared(text, expected))) < 10


def test_many_rows_are_looked_through_as_far_as_time_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "MOST_ROWS", 3)
    folder = run_folder(tmp_path)
    assert "of the first 3 rows of 4 1 got worse, 1 better, and 1 stayed." in said(made(folder)[0])
    monkeypatch.setattr(examples, "MOST_BYTES", 1)
    _, counts = examples.choose(read(folder).place("evaluate") / "predictions.jsonl", "exact_match")
    assert sum(counts.values()) == 1


def test_long_texts_are_folded_and_unicode_is_kept(tmp_path: Path) -> None:
    long = "日本語 🦜 " * 2000
    row = PREDICTIONS[0] | {"prompt": long, "expected": "\ud800 half", "tuned": {"answer": "é́ Straße ​", "loss": 1.0}}
    folder = run_folder(tmp_path, predictions=[row])
    html, _ = made(folder)
    assert "characters)</span></summary>" in html
    assert "Straße" in html
    (tmp_path / "page.html").write_bytes(html.encode("utf-8", "replace"))
    assert "? half" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_it_is_written_whole_when_a_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan(load("recipe=quickstart", "name=here"))
    folder = RunFolder(planned)
    missed = Verdict("exact_match", "min", 0.6, 0.41, False, 0.19)
    manifest = {"metrics": SCORES, "notes": [], "seconds": 1.0}
    error = StageFailed("evaluate.gates: exact_match 0.41 < min 0.6", "train it better")
    outcome = Outcome("failed", folder.path, {"evaluate": manifest}, error=error, verdicts=[missed])
    files = report.write(planned, outcome, folder)
    assert files == [folder.path / "report.html", folder.path / "report.md"]
    for file in files:
        assert "Not fit to serve" in file.read_text()
        assert "exact match 41.0 %, wanted at least 60.0 %" in unescape(file.read_text())
        assert "exact_match 0.41" not in unescape(file.read_text())  # the same in another unit
    assert not list(folder.path.glob("*.tmp"))
    assert not list(folder.path.glob(".*.tmp"))
    folder.end("failed", {})


def test_a_mistake_in_it_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = plan(load("recipe=quickstart", "name=here"))
    folder = RunFolder(planned)

    def fails(*_: Any) -> str:
        raise ValueError("a mistake")

    monkeypatch.setattr("sft_runner.report.page.page", fails)
    assert report.write(planned, Outcome("completed", folder.path), folder) == []
    assert capsys.readouterr().err == "warning: the run's report could not be written: ValueError: a mistake\n"
    folder.end("completed", {})


def test_nothing_heavy_is_needed(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    program = (
        "import sys; from pathlib import Path; from sft_runner.report.record import read;"
        "from sft_runner.report.page import page, parts; from sft_runner.report.markdown import markdown;"
        f"r = read(Path({str(folder)!r})); m = parts(r); page(r, m); markdown(r, m);"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib', 'pandas', 'mlflow'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
