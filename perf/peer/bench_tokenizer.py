"""Encoding speed of Hugging Face tokenizers (Rust) on one thread, measured as `z1 perf run --suite tokenizer` does.

usage: bench_tokenizer.py tokenizer.json text-file...
Prints for each file one line: name, UTF-8 MB/s (median of five after one warm-up), tokens.
"""
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers

tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
print("tokenizers", tokenizers.__version__, file=sys.stderr)
for path in sys.argv[2:]:
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    size = len(text.encode("utf-8"))
    count = len(tokenizer.encode(text, add_special_tokens=False).ids)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        tokenizer.encode(text, add_special_tokens=False)
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(os.path.basename(path), f"{size / 1e6 / seconds[2]:.2f}", count, flush=True)
