"""Tiny random language models and their sequences, for what is tested with transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import transformers

VOCABULARY, LENGTH = 97, 12


def llama(**options: Any) -> Any:
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        **options,
    )
    return transformers.LlamaForCausalLM(config)


def gpt2() -> Any:
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=16,
        n_layer=1,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return transformers.GPT2LMHeadModel(config)


MODELS = {"llama": llama, "llama, tied": partial(llama, tie_word_embeddings=True), "gpt2": gpt2}


def sequences(count: int = 16) -> list[dict[str, Any]]:
    """Sequences of which 1 to 11 tokens count, the first among them; one counts none."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(VOCABULARY, (count, LENGTH), generator=generator)
    labels = ids.clone()
    for i in range(count):
        labels[i, i % LENGTH :] = -100
    return [{"input_ids": i, "labels": k} for i, k in zip(ids, labels, strict=True)]


def batch(count: int = 4) -> dict[str, Any]:
    rows = sequences(count)
    return {k: torch.stack([row[k] for row in rows]) for k in rows[0]}
