"""Ranking, table, JSON and picture of a sweep."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sft_runner import screen, sweep
from sft_runner.sweep import Job

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def job(number: int, overrides: list[str], exact_match: float = 0.0, loss: float = 1.0, **more: object) -> Job:
    metrics = {"base.exact_match": 0.05, "tuned.exact_match": exact_match, "tuned.loss": loss}
    return Job(**{"number": number, "overrides": overrides, "state": "completed", "metrics": metrics, **more})  # type: ignore[arg-type]


def ranks(count: int = 3) -> list[Job]:
    """A sweep over `lora.r` in which the middle one wins."""
    scores = [(0.5, 0.4), (1.0, 0.1), (1.0, 0.2), (0.9, 0.1)]
    return [
        job(number, ["recipe=code", f"lora.r={4 * 2**number}"], *scores[number], seconds=60.4)
        for number in range(count)
    ]


def numbers(jobs: list[Job]) -> list[int]:
    return [found.number for found in jobs]


def test_higher_is_better_and_loss_breaks_ties() -> None:
    assert numbers(sweep.rank(ranks(4), "exact_match")) == [1, 2, 3, 0]


@pytest.mark.parametrize("headline", ["loss", "perplexity"])
def test_lower_is_better_for_loss_and_perplexity(headline: str) -> None:
    jobs = [Job(number, [], "completed", {f"tuned.{headline}": score}) for number, score in enumerate((3.0, 1.0, 2.0))]
    assert numbers(sweep.rank(jobs, headline)) == [1, 2, 0]


@pytest.mark.parametrize("headline", ["exact_match", "loss"])
def test_failed_jobs_come_last_and_missing_scores_before_them(headline: str) -> None:
    jobs = [
        job(0, [], 1.0, 0.01, state="failed"),
        Job(1, [], "completed", {}),
        Job(2, [], "completed", {f"tuned.{headline}": float("nan")}),
        job(3, [], 0.1, 5.0),
    ]
    assert numbers(sweep.rank(jobs, headline)) == [3, 1, 2, 0]


def test_without_answers_the_loss_ranks(tmp_path: Path) -> None:
    jobs = [Job(number, [f"lora.r={number}"], "completed", {"tuned.loss": 2.0 - number}) for number in range(2)]
    assert sweep.ranked_by(jobs, "exact_match") == "loss"
    assert sweep.ranked_by([*jobs, job(2, [])], "exact_match") == "exact_match"
    assert sweep.ranked_by([Job(0, [], "completed", {})], "exact_match") == "exact_match"
    for one in jobs:
        sweep.write(tmp_path, one)
    shown = screen.ranking(tmp_path, "exact_match")
    assert "ranked by loss: no job has a tuned exact_match" in shown
    assert "lora.r=1   # merges" in shown
    assert json.loads((tmp_path / "sweep.json").read_text())["headline"] == "loss"


def test_jobs_are_kept_one_file_each_and_read_in_order(tmp_path: Path) -> None:
    for one in reversed(ranks()):
        sweep.write(tmp_path, one)
    (tmp_path / "jobs" / "0009.json").write_text('{"number": 9, "over')
    assert sweep.read(tmp_path) == ranks()


def test_no_jobs_yet(tmp_path: Path) -> None:
    assert sweep.read(tmp_path) == []


def test_only_what_differs_is_swept() -> None:
    jobs = [job(0, ["recipe=qa", "+lora.r=4", "model=tiny"]), job(1, ["recipe=qa", "+lora.r=8"])]
    assert sweep.swept(jobs) == {"lora.r": ["4", "8"], "model": ["tiny", ""]}


def test_table() -> None:
    jobs = [*ranks(2), Job(2, ["recipe=code", "lora.r=16"], "failed", seconds=3)]
    assert sweep.table(jobs, "exact_match").splitlines() == [
        "rank  lora.r  base exact_match  tuned exact_match  tuned loss  seconds      state",
        "   1       8              0.05                  1         0.1       60  completed",
        "   2       4              0.05                0.5         0.4       60  completed",
        "   -      16                 -                  -           -        3     failed",
    ]


def test_table_names_the_job_where_nothing_differs_and_loss_once() -> None:
    header, row = sweep.table(ranks(1), "loss").splitlines()
    assert header.split("  ")[:2] == ["rank", "job"]
    assert header.count("tuned loss") == 1
    assert row.split()[:2] == ["1", "0"]


def test_jobs_without_a_score_have_no_rank(tmp_path: Path) -> None:
    """As after `stage=train`."""
    for number in range(2):
        sweep.write(tmp_path, Job(number, [f"lora.r={number + 1}"], "completed", {"train.loss": 0.1}))
    shown = screen.ranking(tmp_path, "exact_match")
    assert "not ranked" in shown
    assert "next:" not in shown
    assert all(line.split()[0] == "-" for line in shown.splitlines() if line.endswith("completed"))


def test_json_is_ranked(tmp_path: Path) -> None:
    jobs = [*ranks(), Job(3, ["recipe=code", "lora.r=32"], "failed")]
    sweep.save(tmp_path, jobs, "exact_match")
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert (found["headline"], found["better"], found["swept"]) == ("exact_match", "higher", ["lora.r"])
    assert [(entry["rank"], entry["number"]) for entry in found["jobs"]] == [(1, 1), (2, 2), (3, 0), (None, 3)]
    assert found["jobs"][0]["metrics"]["tuned.loss"] == 0.1


@pytest.mark.parametrize(
    "overrides",
    [
        [["lora.r=4"], ["lora.r=8"], ["lora.r=64"]],
        [["method=lora"], ["method=dora"], ["method=qlora"]],
        [["lora.r=4", "train.seed=1"], ["lora.r=8", "train.seed=1"], ["lora.r=8", "train.seed=2"]],
        [["data.path=" + "x" * 200], ["data.path=$a_{b$"], []],
        [["lora.r=4"], ["lora.r=4"], ["lora.r=4"]],
    ],
)
def test_picture_of_any_sweep(tmp_path: Path, overrides: list[list[str]]) -> None:
    jobs = [job(number, said, 0.3 * number) for number, said in enumerate(overrides)]
    written = sweep.save(tmp_path, jobs, "exact_match")
    assert [path.name for path in written] == ["sweep.json", "sweep.png"]
    picture = (tmp_path / "sweep.png").read_bytes()
    assert picture.startswith(SIGNATURE)
    assert len(picture) > 10_000


def test_picture_shows_the_scores(tmp_path: Path) -> None:
    jobs = ranks()
    sweep.save(tmp_path, jobs, "exact_match")
    before = (tmp_path / "sweep.png").read_bytes()
    sweep.save(tmp_path, jobs, "exact_match")
    assert (tmp_path / "sweep.png").read_bytes() == before
    jobs[0].metrics["tuned.exact_match"] = 0.7
    sweep.save(tmp_path, jobs, "exact_match")
    assert (tmp_path / "sweep.png").read_bytes() != before


def test_no_picture_where_nothing_was_measured(tmp_path: Path) -> None:
    written = sweep.save(tmp_path, [Job(0, ["lora.r=4"], "failed"), Job(1, ["lora.r=8"], "completed")], "exact_match")
    assert [path.name for path in written] == ["sweep.json"]


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from sft_runner import sweep; from sft_runner.sweep import Job\n"
        "jobs = [Job(n, [f'lora.r={n}'], 'completed', {'tuned.loss': n + 1.0}) for n in range(3)]\n"
        "sweep.table(jobs, 'loss'); print('matplotlib' in sys.modules)\n"
        "sweep.save(Path(sys.argv[1]), jobs, 'loss'); print('matplotlib.pyplot' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
