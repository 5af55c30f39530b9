"""What each metric of answers says of single answers, and of rows for which it means nothing."""

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sft_runner.errors import StageFailed, UnknownName, UserError
from sft_runner.evaluation import names
from sft_runner.evaluation.metrics import json_value, number, statistics
from sft_runner.evaluation.metrics.metric import metrics_of


def score(name: str, answer: str, expected: str, pattern: str | None = None) -> float | None:
    """A metric of one row; None where it means nothing."""
    (metric,) = metrics_of([name], pattern)
    matrix = statistics.of_answers(metric, [(answer, expected)])
    return statistics.of_rows(metric, matrix)[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 18", "18"),
        ("She has 1,000 dollars.", "1000"),
        ("$1,000.00.", "1000"),
        ("1000.0", "1000"),
        ("16-3=13", "13"),
        ("5-3", "3"),
        ("x is -7", "-7"),
        ("x is −7", "-7"),  # noqa: RUF001
        ("$-5", "-5"),
        ("-$5", "-5"),
        ("50 %", "50"),
        ("50%", "50"),
        ("about .5", "0.5"),
        ("1e3", "1000"),
        ("- 4 apples", "4"),
        ("#### Step 3: that is 42 in all", "42"),
        ("first 7\n#### 1,234\nthen 9", "1234"),
        ("#### 3\n#### $18", "18"),
        ("9" * 6000, "9" * 6000),
    ],
)
def test_the_number_of_an_answer(text: str, value: str) -> None:
    found = number.number(text)
    assert found is not None
    assert found == number.Decimal(value)


def test_numbers_are_compared_as_numbers() -> None:
    assert score("number", "That makes 1,000.", "<<10*100=1000>> so\n#### 1000") == 1
    assert score("number", "#### 0.1", "#### 0.10") == 1
    assert score("number", "none at all", "#### 1000") == 0
    assert score("number", "3", "there is no number") is None


def test_a_pattern_finds_the_same_in_both() -> None:
    said = r"[Aa]nswer: *(\w+)"
    assert score("pattern", "I think. answer: Rome", "Answer:Rome", said) == 1
    assert score("pattern", "Rome", "Answer: Rome", said) == 0
    assert score("pattern", "Answer: Rome", "Rome", said) is None
    assert score("pattern", "a 1 b", "c 1", r"\d") == 1
    assert score("pattern", "x", "y", r"(\d)?[xy]") is None
    with pytest.raises(UserError, match=r"pattern needs evaluate\.pattern"):
        metrics_of(["pattern"])


THINKING = [
    ("<think>4, or 5?</think>5", "5", 1),
    ("\n<think>4</think>\n\n5", "<think>so</think>\n\n5", 1),
    ("4? </think>5", "so</think>5", 1),  # the prompt has begun the thoughts
    ("<think>a</think><think>b</think>5", "5", 1),
    ("<think>It must be 5", "5", 0),  # cut off
    ("It must be 5", "so</think>5", 0),
    ("<think>\n\n5", "so</think>5", 0),
    ("5", "<think>so</think>5", 1),
    ("<think>5</think>", "5", 0),
    ("Say <think> 5", "Say <think> 5", 1),
    ("<think>5</think>", "<think>5</think>", 1),  # nothing but thoughts is expected
    ("<think>4", "<think>5</think>", 0),
    ("", "<think>5</think>", 0),
]


@pytest.mark.parametrize("name", ["exact_match", "number", "pattern", "rouge1", "bleu", "chrf"])
@pytest.mark.parametrize(("answer", "expected", "right"), THINKING)
def test_no_metric_reads_what_is_thought(name: str, answer: str, expected: str, right: float) -> None:
    found = score(name, answer, expected, r"\d")
    assert found is not None
    assert (found in (1, pytest.approx(100))) is bool(right)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("json_equal", '{"a": 1}'),
        ("tool_arguments", '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'),
        ("code_parses", "print(1)"),
    ],
)
def test_what_is_thought_has_no_json_no_call_and_no_code(name: str, said: str) -> None:
    other = {"json_equal": "{}", "tool_arguments": said.replace("1", "2"), "code_parses": "x = = 1"}[name]
    assert score(name, f"<think>{other}</think>{said}", f"<think>{other}</think>{said}") == 1
    assert score(name, f"<think>{said}</think>{other}", said) == 0
    assert score(name, f"<think>\n{said}", said) == 0
    assert score(name, said, f"<think>{said}</think>Sorry.") is None


@pytest.mark.parametrize(
    ("answer", "valid", "equal"),
    [
        ('{"b": [1, 2.50], "a": null}', 1, 1),
        ('Here it is:\n```json\n{"a": null, "b": [1.0, 2.5]}\n```\nDone.', 1, 1),
        ('```\n{"a": null, "b": [1, 2.5]}\n```', 1, 1),
        ('<think>\n\n</think>\n\n{"a": null, "b": [1, 2.5]}', 1, 1),
        ('{"a": null, "b": [2.5, 1]}', 1, 0),
        ('{"a": null, "b": [true, 2.5]}', 1, 0),
        ('{"a": null}', 1, 0),
        ('{"a": null, "b": [1, 2.5]} and more', 0, 0),
        ('```json\n{"a": null, "b": [1, 2.5]', 0, 0),
        ('```json\n{}\n```\n```json\n{"a": null, "b": [1, 2.5]}\n```', 0, 0),
        ('{"a": NaN, "b": [1, 2.5]}', 0, 0),
        ("{'a': None, 'b': [1, 2.5]}", 0, 0),
        ("42", 0, 0),
        ("", 0, 0),
        ("[" * 100_000, 0, 0),
        ('Here it is:\r\n```json\r\n{"b": [1, 2.5],\r\n"a": null}\r\n```\r\nDone.', 1, 1),
        ('```json\n{"b": [1, 2.5], "a": null}\n````\nDone.', 1, 1),
        ('~~~json\n{"b": [1, 2.5], "a": null}\n~~~~ \nDone.', 1, 1),
        ('````json\n{"b": [1, 2.5], "a": null}\n```\nDone.', 0, 0),
        ('{"a": 1e99999999999999999999}', 0, 0),
    ],
)
def test_json(answer: str, valid: float, equal: float) -> None:
    expected = '{"a": null, "b": [1, 2.5]}'
    assert score("json_valid", answer, expected) == valid
    assert score("json_equal", answer, expected) == equal


def test_a_row_that_asks_for_no_json_does_not_count() -> None:
    for expected in ("some text", "42", '"text"', ""):
        assert score("json_valid", "{}", expected) is None
        assert score("json_equal", expected, expected) is None


def test_json_values_are_not_taken_for_each_other() -> None:
    assert not json_value.same(1, True)
    assert not json_value.same(False, 0)
    assert not json_value.same([], {})
    assert not json_value.same("1", 1)
    assert json_value.same({"a": [{"b": 1}]}, {"a": [{"b": 1.0}]})
    assert not json_value.same({"a": [{"b": 1}]}, {"a": [{"c": 1}]})
    assert not json_value.same([1, [2, 3]], [1, [2]])
    assert not json_value.same([[1]], [1])


def test_json_may_be_deep() -> None:
    deep, other = "[" * 900 + "]" * 900, "[" * 900 + "1" + "]" * 900
    assert score("json_equal", deep, deep) == 1
    assert score("json_equal", other, deep) == 0


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("def f(x):\n    return x + 1\n", 1),
        ("Sure:\n```python\nx = 1\n```\nand\n```py\ny = 2\n```", 1),
        ("Sure:\r\n```python\r\nif x:\r\n    y = 1\r\n```\r\nThat is it.", 1),
        ("```python\nx = 1\n`````\nThat is it.", 1),
        ("```python\nx = 1\n~~~\nThat is it.", 0),
        ("```\nx = 1\n```", 1),
        ("    x = 1\n    y = 2", 1),  # a part of a function
        ("s = '\\d'", 1),  # an escape that Python warns of
        ("```python\nx = 1\n```\n```python\nx = = 1\n```", 0),
        ("```python\ndef f(:\n", 0),
        ("```bash\nls\n```", 0),
        ("Here is the function you asked for.", 0),
        ("", 0),
        ("# only a comment", 0),
        ("x = 1\0", 0),
        ("(" * 10_000, 0),
    ],
)
def test_code_parses(answer: str, right: float) -> None:
    assert score("code_parses", answer, "x = 1") == right


def test_a_row_without_code_does_not_count() -> None:
    for expected in ("Not today, I am afraid.", "yes", "2024-10-12", "(1, 2)"):
        assert score("code_parses", "x = 1", expected) is None
    for expected in ("print(1)", "```python\nyes\n```", "import os", "f(x)[0]"):
        assert score("code_parses", "x = 1", expected) == 1


def test_no_code_of_an_answer_is_run(tmp_path: Path) -> None:
    file = tmp_path / "written"
    assert score("code_parses", f"open({str(file)!r}, 'w').write('x')", "x = 1") == 1
    assert not file.exists()


def test_rouge_counts_words() -> None:
    assert score("rouge1", "the cat sat", "the cat ran") == pytest.approx(2 / 3)
    assert score("rouge2", "the cat sat", "the cat ran") == pytest.approx(1 / 2)
    assert score("rougeL", "a x b y c", "a b c") == pytest.approx(2 * 3 / 5 * 1 / (3 / 5 + 1))
    assert score("rouge1", "", "the cat") == 0
    assert score("rouge1", "数据", "数据") is None  # rouge_score sees no words there, and would give 0


def test_bleu_is_of_all_rows_together() -> None:
    pairs = [("the cat sat on the mat", "the cat sat on the mat today"), ("a b c", "x y z"), ("a", "a")]
    (metric,) = metrics_of(["bleu"])
    matrix = statistics.of_answers(metric, pairs)
    together = statistics.scores({"bleu": matrix}, [metric])["bleu"]
    rows = statistics.of_rows(metric, matrix)
    assert rows[2] == pytest.approx(100)  # a short answer that is right
    assert together != pytest.approx(sum(row or 0 for row in rows) / 3, abs=1)


def test_scores_of_many_rows_by_code_of_others() -> None:
    """JSON, patterns, calls and code of 60 rows, a part of the answers right, wrong, or none of it at all, beside
    `json.loads`, `re` and `compile`."""

    def loaded(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            return None

    def compiles(text: str) -> bool:
        try:
            return bool(compile(text, "", "exec"))
        except SyntaxError:
            return False

    def call(number: int, name: str = "add") -> str:
        return json.dumps({"name": name, "arguments": {"x": number, "unit": "€"}})

    def inside(text: str) -> Any:
        return loaded(text.removeprefix("<tool_call>").removesuffix("</tool_call>")) or {}

    numbers = range(60)
    records = [json.dumps({"n": number, "of": [number / 4, None]}) for number in numbers]
    answers = [
        json.dumps({"of": [number / 4, None], "n": number + (number % 3 == 1)})[: -1 if number % 5 == 2 else None]
        for number in numbers
    ]
    values = list(zip(answers, records, strict=True))
    pairs = [(loaded(answer), loaded(record)) for answer, record in values]
    assert whole("json_valid", values) == sum(one is not None for one, _ in pairs) / 60 == 48 / 60
    assert whole("json_equal", values) == sum(one == other for one, other in pairs) / 60 == 32 / 60

    said = r"Answer: (\d+)"
    texts = [("Answer:" if number % 4 == 1 else "So. Answer: ") + str(number // 2 * 2) for number in numbers]
    rows = [(text, f"Answer: {number}") for number, text in zip(numbers, texts, strict=True)]
    theirs = [re.findall(said, answer)[:1] == re.findall(said, wanted)[:1] for answer, wanted in rows]
    assert whole("pattern", rows, said) == sum(theirs) / 60 == 0.5

    calls = [
        (f"<tool_call>{call(number % 50, 'add' if number % 6 else 'sub')}</tool_call>", call(number))
        for number in numbers
    ]
    both = [(inside(answer), inside(wanted)) for answer, wanted in calls]
    assert whole("tool_name", calls) == sum(one["name"] == other["name"] for one, other in both) / 60 == 50 / 60
    assert whole("tool_arguments", calls) == sum(one == other for one, other in both) / 60 == 41 / 60

    code = [(f"def f(x):\n    return x {'+' if number % 7 else '+/'} {number}\n", "f(1)") for number in numbers]
    assert whole("code_parses", code) == sum(compiles(answer) for answer, _ in code) / 60 == 51 / 60


def whole(name: str, pairs: list[tuple[str, str]], pattern: str | None = None) -> float:
    """A metric of all rows together."""
    (metric,) = metrics_of([name], pattern)
    return statistics.scores({name: statistics.of_answers(metric, pairs)}, [metric])[name]


def test_rows_that_do_not_count_change_nothing() -> None:
    (metric,) = metrics_of(["number"])
    pairs = [("1", "1"), ("1", "no number"), None, ("2", "3")]
    matrix = statistics.of_answers(metric, pairs)
    assert statistics.counted(matrix).tolist() == [True, False, False, True]
    assert statistics.scores({"number": matrix}, [metric]) == {"number": 0.5}
    assert statistics.scores({"number": matrix}, [metric], [1, 2]) == {}
    assert statistics.of_rows(metric, matrix) == [1.0, None, None, 0.0]


def test_statistics_are_kept(tmp_path: Path) -> None:
    kept = {"loss": np.array([[1.5, 2.0], [np.nan, np.nan]]), "été/x": np.zeros((2, 3))}
    statistics.write(tmp_path / "statistics.npz", kept)
    found = statistics.read(tmp_path / "statistics.npz")
    assert found.keys() == kept.keys()
    for name in kept:
        np.testing.assert_array_equal(found[name], kept[name])


def test_every_metric_says_what_it_is() -> None:
    assert {name for name in names.known() if names.is_share(name)} == {
        *("token_accuracy", "exact_match", "number", "pattern", "rouge1", "rouge2", "rougeL"),
        *("json_valid", "json_equal", "tool_name", "tool_arguments", "code_parses"),
    }
    assert [name for name in names.known() if names.lower_is_better(name)] == ["loss", "perplexity", "bits_per_byte"]
    for name in names.METRICS:
        assert len(names.find(name).help) < 80
        (metric,) = metrics_of([name], "x")
        assert metric.name == name
    assert metrics_of(list(names.ALWAYS)) == []


def test_packages_are_imported_only_where_they_are_asked_for() -> None:
    program = (
        "import sys; from sft_runner.evaluation.metrics.metric import metrics_of;"
        "metrics_of(['exact_match', 'number', 'json_equal', 'tool_name', 'code_parses']);"
        "heavy = [n for n in ('sacrebleu', 'rouge_score', 'nltk', 'torch', 'numpy') if n in sys.modules];"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- a user's own -----------------------------------------------------------------------------------------------------

MODULE = """\
def length_error(answer: str, expected: str) -> float:
    \"\"\"By how many characters the length differs.\"\"\"
    return abs(len(answer) - len(expected))

length_error.lower_is_better = True

def longer(answer, expected):
    return len(answer)

def some(answer, expected):
    return None if not expected else True

def broken(answer, expected):
    raise KeyError("oh")

def endless(answer, expected):
    return float("inf")

text = "no function"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installed package with metrics."""
    (tmp_path / "my_metrics.py").write_text(MODULE)
    info = tmp_path / "my_metrics-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-metrics\nVersion: 1.2\n")
    points = {name: f"my_metrics:{name}" for name in ("length_error", "longer", "some", "broken", "endless", "text")}
    points |= {"missing": "my_metrics_that_are_not_there:f", "exact_match": "my_metrics:broken"}
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{names.GROUP}]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))
    names.plugins.cache_clear()
    yield
    names.plugins.cache_clear()
    sys.modules.pop("my_metrics", None)


def test_a_metric_of_an_installed_package(own: None) -> None:
    assert score("length_error", "abc", "a") == 2
    assert names.lower_is_better("length_error")
    assert not names.is_share("length_error")
    found = names.find("length_error")
    assert (found.help, found.source) == ("By how many characters the length differs.", "my-metrics 1.2")
    assert score("longer", "<think>four</think>ab", "x") == 2  # it sees what is said, as ours do
    assert score("some", "x", "y") == 1
    assert score("some", "x", "") is None
    assert score("exact_match", "x", "x") == 1  # a built-in name is ours


def test_an_own_metric_that_does_not_work(own: None) -> None:
    with pytest.raises(StageFailed, match=r"'broken' of my-metrics 1\.2 failed on the row that expects 'y': KeyError"):
        score("broken", "x", "y")
    with pytest.raises(StageFailed, match="gives inf"):
        score("endless", "x", "y")
    with pytest.raises(UserError, match=r"metric 'missing' of my-metrics 1\.2 cannot be loaded: ModuleNotFoundError"):
        metrics_of(["missing"])
    with pytest.raises(UserError, match="'text' of my-metrics 1.2 is not a function"):
        names.find("text")
    with pytest.raises(UnknownName) as caught:
        names.find("lenght_error")
    assert "length_error" in caught.value.hint


def test_a_known_name_looks_for_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> list[EntryPoint]:
        raise AssertionError("packages are searched")

    monkeypatch.setattr("importlib.metadata.entry_points", refuse)
    names.plugins.cache_clear()
    for name in (*names.ALWAYS, *names.METRICS):
        names.find(name)
        names.lower_is_better(name)


def test_metrics_are_listed(own: None, capsys: pytest.CaptureFixture[str]) -> None:
    from sft_runner.commands import metrics

    assert metrics.main([]) == 0
    told = capsys.readouterr().out
    assert "bits_per_byte   bits for each UTF-8 byte" in told
    assert "(less is better, always measured)" in told
    assert "length_error    By how many characters the length differs. (less is better, by my-metrics 1.2)" in told
    assert "metric 'missing' of my-metrics 1.2 cannot be loaded" in told
    assert metrics.main(["--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed][: len(names.ALWAYS)] == list(names.ALWAYS)
