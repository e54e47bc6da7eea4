"""The choice between bf16 and fp32 by measuring their speed on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from newsie.atomic import write_text

__all__ = ["Precision", "PrecisionChoice", "choose_precision", "measure_gflops"]

Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]

LIMIT_SECONDS = 1.0
"""The time after which no further product is measured."""


def choose_precision(wanted: PrecisionChoice, record: Path) -> Precision:
    """Return the precision to train in. "auto" measures once and stores the result in the file `record`.

    CPUs that list avx512_bf16 among their features may multiply bf16 at half the speed of fp32, or at
    three times the speed, so the choice needs a measurement.
    """
    if wanted != "auto":
        return wanted
    if record.exists():
        found: Precision = json.loads(record.read_text(encoding="utf-8"))["precision"]
        return found
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    speed = {name: measure_gflops(dtype, device) for name, dtype in DTYPES.items()}
    chosen: Precision = "bf16" if speed["bf16"] > 1.2 * speed["fp32"] else "fp32"
    write_text(record, json.dumps({"precision": chosen, "gflops": speed}))
    return chosen


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure_gflops(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Return the median speed of an encoder's matrix product, (2048, 384) x (384, 1536), in GFLOP/s.

    If the products are slow, fewer than `repeats` are measured.
    """
    left = torch.ones(2048, 384, dtype=dtype, device=device)
    right = torch.ones(384, 1536, dtype=dtype, device=device)
    float((left @ right)[0, 0])  # the first product takes longer
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < LIMIT_SECONDS:
        start = time.perf_counter()
        float((left @ right)[0, 0])
        seconds.append(time.perf_counter() - start)
    return 2 * 2048 * 384 * 1536 / median(seconds) / 1e9
