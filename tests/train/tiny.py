"""A tiny random model with a real tokenizer and chat template, and examples for it."""

import json
import random
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]


def tokenizer(template: str = CHATML, special: list[str] = SPECIAL, bos: str = "") -> Any:
    """Byte-level BPE, trained on a few words; `special[1]` ends a turn."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    made = ByteLevelBPETokenizer()
    made.train_from_iterator(texts(200), vocab_size=320, special_tokens=special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, eos_token=special[1], bos_token=bos or None
    )
    fast.add_special_tokens({"additional_special_tokens": special})
    fast.chat_template = template
    return fast


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [
        f"What is {draw.randint(1, 99)} plus {draw.randint(1, 99)}? "
        + "Let us check it step by step. " * draw.choice([1, 1, 2, 3, 6])
        for _ in range(count)
    ]


def model_folder(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """A random Llama of two layers in float32, as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    fast = tokenizer()
    config = LlamaConfig(
        **{
            "vocab_size": len(fast), "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 2048, "tie_word_embeddings": True,
            "eos_token_id": fast.eos_token_id, "pad_token_id": 0, "bos_token_id": None,
        } | settings
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def data_file(file: Path, count: int = 24) -> Path:
    rows = [{"question": text[:20], "solution": text} for text in texts(count)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def overrides(folder: Path, **changed: Any) -> list[str]:
    """Arguments of a training of the tiny model in a test's folder."""
    settings = {
        "name": "tiny", "store": folder / "store", "model": folder / "model",
        "data": folder / "data.jsonl", "rows.system": "Be brief.", "rows.max_tokens": 256,
        "batch.examples": 8, "batch.pack_tokens": 256, "optimizer.lr": 1e-3,
        "optimizer.epochs": 2, "workers.count": 2, "workers.device": "cpu", "workers.cpus": 0.5,
        "compute.precision": "float32", "compute.recompute": "false", "zero.stage": 3,
        "zero.bucket": 100_000,
    } | changed  # fmt: skip
    return [f"{key}={value}" for key, value in settings.items()]
