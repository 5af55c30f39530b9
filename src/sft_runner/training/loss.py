"""The loss of a batch where no fused kernel computes it.

TRL never holds all logits, and pays for it on the CPU: it computes those of tokens without loss too, and each twice.
Here the output head sees only the tokens that carry loss.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sft_runner.data.template import IGNORED


def summed_loss(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """The sum of the cross-entropies of `labels`, of shape (rows, tokens), each given the tokens before it."""
    rows, labels = {name: value for name, value in inputs.items() if name != "labels"}, inputs["labels"]
    trained = labels[:, 1:] != IGNORED
    with _only(model.get_output_embeddings(), trained) as calls:
        logits = model(**rows, use_cache=False).logits
    if not calls:  # a model that computes its logits without calling its head
        logits = logits[:, :-1][trained][None]
    return nn.functional.cross_entropy(logits[0].float(), labels[:, 1:][trained], reduction="sum")


@contextmanager
def _only(head: nn.Module, trained: Tensor) -> Iterator[list[str]]:
    """Within it the output head is given the hidden states before the trained tokens, as one row.

    Gives a list that holds an entry for each call of the head.
    """
    calls: list[str] = []

    def chosen(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        calls.append(type(head).__name__)
        hidden, *rest = given
        return (hidden[:, :-1][trained][None], *rest)

    handle = head.register_forward_pre_hook(chosen)
    try:
        yield calls
    finally:
        handle.remove()
