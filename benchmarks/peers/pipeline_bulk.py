"""What `newsie classify --file` is measured against: python pipeline_bulk.py MODEL TEXTS BATCH_SIZE

TEXTS is a JSON list. Prints as JSON how long classifying took, without loading the model.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import pipeline

MAX_TOKENS = 256  # as many as the bundled student reads

model, texts_path, batch_size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
texts = json.loads(texts_path.read_text(encoding="utf-8"))
classifier = pipeline("text-classification", model=model, device="cpu")
options = {"batch_size": batch_size, "truncation": True, "max_length": MAX_TOKENS}
classifier(texts[: max(8, batch_size)], **options)  # to warm up

started, cpu_started = time.perf_counter(), time.process_time()
answers = classifier(texts, **options)
seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started

assert len(answers) == len(texts)
parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
report = {
    "articles": len(texts),
    "seconds": seconds,
    "cpu_seconds": cpu_seconds,
    "parameters": parameters,
    "dtype": str(classifier.model.dtype),
    "threads": torch.get_num_threads(),
}
print(json.dumps(report))
