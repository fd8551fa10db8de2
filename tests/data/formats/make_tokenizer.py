"""Writes tests/data/formats/tokenizer with Hugging Face's library: a small tokenizer, and what it makes of some texts.

python tests/data/formats/make_tokenizer.py
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent / "tokenizer"
TEXTS = [
    "the quick brown fox",
    "",
    "jumps over the lazy dog",
    "Ünïcödé 🎉 \t日本語",
    "the the the",
    "a" * 40,
    "</s> mid </s>",
]


def main() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    expected = [tokenizer.encode(text).ids for text in TEXTS]
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=8)
    HERE.mkdir(exist_ok=True)
    (HERE / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))
    (HERE / "expected.json").write_text(json.dumps({"texts": TEXTS, "ids": expected}) + "\n")


if __name__ == "__main__":
    main()
