"""What is said, apart from what is thought first: all that metrics see of an answer and of the expected text."""

_OPENS, _ENDS = "<think>", "</think>"


def spoken(answer: str, expected: str) -> tuple[str, str]:
    """What stands behind `</think>` in both, all of a text that does not think.

    Thoughts that were begun and not ended, such as those cut off at `evaluate.max_new_tokens`, are followed by nothing.
    They are begun by `<think>`, or by the prompt: then the expected text ends them without beginning them. Where
    nothing but thoughts is expected, they are the answer, and both texts stay as they are.
    """
    wanted = _said(expected)
    if not wanted.strip():
        return answer, expected
    begun = _ENDS in expected and not _begins(expected)
    return _said(answer, begun), wanted


def _said(text: str, begun: bool = False) -> str:
    _, end, said = text.rpartition(_ENDS)
    return said if end or not (begun or _begins(text)) else ""


def _begins(text: str) -> bool:
    return text.lstrip().startswith(_OPENS)
