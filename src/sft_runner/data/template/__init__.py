"""From examples to token ids and labels, by the chat template that is in effect."""

from sft_runner.data.template.chat_template import ChatTemplate
from sft_runner.data.template.encoded import IGNORED, Encoded
from sft_runner.data.template.rendering import FIXED_DATE, Renderer

__all__ = ["FIXED_DATE", "IGNORED", "ChatTemplate", "Encoded", "Renderer"]
