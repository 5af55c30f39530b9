"""How much of the expected text an answer has: BLEU and chrF by sacrebleu, ROUGE by rouge_score.

Both packages are imported only where one of their metrics is asked for. BLEU and chrF are of all answers together,
from sacrebleu's own statistics of each row, with its default settings (`nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp`
and `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Parts = tuple[
        int,
        Callable[[str, str], tuple[float, ...]],
        Callable[[NDArray[Any]], float],
        Callable[[NDArray[Any]], float],
    ]
    """Width, statistics of a row, value of the sums, value of one row."""


def bleu() -> "Parts":
    """BLEU; of one row up to the longest n-gram that it has, else short answers would always have 0."""
    from sacrebleu.metrics.bleu import BLEU

    corpus, row = BLEU(), BLEU(effective_order=True)
    return 2 + 2 * corpus.max_ngram_order, _statistics(corpus), _value(corpus), _value(row)


def chrf() -> "Parts":
    """chrF2."""
    from sacrebleu.metrics.chrf import CHRF

    corpus = CHRF()
    return 3 * corpus.order, _statistics(corpus), _value(corpus), _value(corpus)


def rouge(name: str) -> Callable[[str, str], float | None]:
    """F of one row without stemming; None where nothing is expected that ROUGE takes for a word (a-z and digits)."""
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
    from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped]

    tokenizer = DefaultTokenizer(use_stemmer=False)
    scorer = RougeScorer([name], tokenizer=tokenizer)

    def compare(answer: str, expected: str) -> float | None:
        return float(scorer.score(expected, answer)[name].fmeasure) if tokenizer.tokenize(expected) else None

    return compare


def _statistics(metric: Any) -> Callable[[str, str], tuple[float, ...]]:
    def statistics(answer: str, expected: str) -> tuple[float, ...]:
        return tuple(metric._extract_corpus_statistics([answer], [[expected]])[0])

    return statistics


def _value(metric: Any) -> Callable[["NDArray[Any]"], float]:
    def value(sums: "NDArray[Any]") -> float:
        return float(metric._compute_score_from_stats(sums.tolist()).score)

    return value
