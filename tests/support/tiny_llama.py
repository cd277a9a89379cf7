"""A tiny Llama with a chat template, and conversations to train it on: deterministic, offline, made in a second."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.support.tiny_gpt2 import POSITIONS, WORDS, byte_tokenizer

BEGIN, END, START_TURN, END_TURN, PAD = "<|begin|>", "<|end|>", "<|turn|>", "<|done|>", "<|pad|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|done|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""Template with each turn between marks; earlier turns stay as they were."""
MARKED_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|done|>{% endgeneration %}{% else %}{{ message['content'] }}<|done|>"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""The same template with marks for what the assistant generates."""
THINKING_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<t>\n\n</t>\n\n{% endif %}{{ message['content'] }}<|done|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""Template that puts an empty thought before the assistant's last turn, and before no earlier turn."""
FORGETFUL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and not loop.last %}...{% else %}{{ message['content'] }}{% endif %}"
    "<|done|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""Template that leaves out the assistant's earlier turns."""

_CALLS = "{% for call in message['tool_calls'] or [] %}"
CALLING_TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|turn|>tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|done|>\n{% endif %}"
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n{% if message['reasoning_content'] %}"
    "<t>{{ message['reasoning_content'] }}</t>{% endif %}{{ message['content'] }}"
    + _CALLS
    + "<call>{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}</call>{% endfor %}<|done|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""Template that writes tools, thoughts and calls, with arguments as an object: the way of Qwen, Llama and others."""
TEXT_CALLING_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and message['content'] is none %}"
    + _CALLS
    + "{{ '<call>' + call['function']['name'] + ' ' + call['function']['arguments'] + '</call>' }}{% endfor %}"
    "{% else %}{{ message['content'] }}{% endif %}<|done|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
"""Template that takes arguments as text, and knows a call by its null content: the way of DeepSeek."""


def pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return pairs of a word and the word that follows it in the cycle of `tiny_gpt2`: `{"prompt": ..., "completion": ...}`."""
    random_source = random.Random(seed)
    starts = [random_source.randrange(len(WORDS)) for _ in range(count)]
    return [{"prompt": f"after {WORDS[i]}", "completion": f" {WORDS[(i + 1) % len(WORDS)]}"} for i in starts]


def chats(count: int, *, seed: int = 0, turns: int = 2) -> list[dict[str, Any]]:
    """Return conversations that ask for the word that follows: `{"messages": [...]}`."""
    random_source = random.Random(seed)
    rows = []
    for _ in range(count):
        messages = []
        for _ in range(turns):
            index = random_source.randrange(len(WORDS))
            messages.append({"role": "user", "content": f"after {WORDS[index]}"})
            messages.append({"role": "assistant", "content": WORDS[(index + 1) % len(WORDS)]})
        rows.append({"messages": messages})
    return rows


def tiny_llama(
    folder: Path,
    *,
    template: str | None = TEMPLATE,
    hidden: int = 32,
    layers: int = 2,
    positions: int = POSITIONS,
    seed: int = 0,
) -> Path:
    """Save an untrained Llama with its tokenizer in `folder`, and return the folder. Llama knows no dropout."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD, "turn_token": START_TURN, "done_token": END_TURN}
    tokenizer = byte_tokenizer(special=special, template=f"{BEGIN} $A", positions=positions)
    tokenizer.chat_template = template
    set_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=positions,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_TURN)],
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
