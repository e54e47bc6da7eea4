from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from newsie.errors import FingerprintError, TrainingError
from newsie.training import soft_labels
from newsie.training.batches import TokenStore
from newsie.training.model import MultiTaskModel
from newsie.training.progress import Progress
from newsie.training.soft_labels import (
    SoftLabels,
    SoftLabelsHeader,
    compute_logits,
    compute_soft_labels,
    load_soft_labels,
)
from tests.tiny import LABELS
from tests.training.tiny_run import tiny_batches, tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher() -> MultiTaskModel:
    return tiny_model().eval()


@pytest.fixture(scope="module")
def tokens() -> TokenStore:
    return tiny_batches().data.tokens["full"]


@pytest.fixture
def header(teacher: MultiTaskModel, tokens: TokenStore) -> SoftLabelsHeader:
    return SoftLabelsHeader.of([teacher.fingerprint()], LABELS, "data", "full", 24, len(tokens))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soft_labels, "SHARD_ARTICLES", 50)


def bias_of(model: MultiTaskModel, task: str) -> torch.Tensor:
    return dict(model.named_parameters())[f"heads.{task}.classifier.bias"]


def compute(
    teachers: list[MultiTaskModel], tokens: TokenStore, header: SoftLabelsHeader, directory: Path
) -> SoftLabels:
    compute_soft_labels(teachers, tokens, header, directory, device=CPU)
    return load_soft_labels(directory)


def test_stored_logits_are_the_teachers(
    teacher: MultiTaskModel, tokens: TokenStore, header: SoftLabelsHeader, tmp_path: Path
) -> None:
    stored = compute([teacher], tokens, header, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3  # 120 articles in shards of 50
    for row in (0, 57, 119):
        ids = torch.from_numpy(np.array([tokens.row(row, 24)], dtype=np.int64))
        with torch.inference_mode():
            alone = teacher(ids, torch.ones_like(ids))
        for task, logits in stored.logits.items():
            np.testing.assert_allclose(logits[row], alone[task][0].numpy(), atol=5e-3)
    assert {task: logits.shape for task, logits in stored.logits.items()} == {
        "section": (120, 3),
        "mood": (120, 2),
    }


def test_resumes_at_the_missing_shard(
    teacher: MultiTaskModel, tokens: TokenStore, header: SoftLabelsHeader, tmp_path: Path
) -> None:
    whole = compute([teacher], tokens, header, tmp_path)
    kept = (tmp_path / "00000.safetensors").stat().st_mtime_ns
    (tmp_path / "00001.safetensors").unlink()
    again = compute([teacher], tokens, header, tmp_path)
    assert (tmp_path / "00000.safetensors").stat().st_mtime_ns == kept
    assert all((whole.logits[task] == again.logits[task]).all() for task in whole.logits)


def test_processes_share_the_shards(
    teacher: MultiTaskModel, tokens: TokenStore, header: SoftLabelsHeader, tmp_path: Path
) -> None:
    whole = compute([teacher], tokens, header, tmp_path / "one")
    for process in (0, 1):
        compute_soft_labels(
            [teacher],
            tokens,
            header,
            tmp_path / "two",
            device=CPU,
            process=process,
            processes=2,
        )
        written = {path.name for path in (tmp_path / "two").glob("*.safetensors")}
        assert written == {f"0000{shard}.safetensors" for shard in ((0, 2), (0, 1, 2))[process]}
    shared = load_soft_labels(tmp_path / "two")
    assert all((whole.logits[task] == shared.logits[task]).all() for task in whole.logits)


def test_progress_counts_articles(
    teacher: MultiTaskModel, tokens: TokenStore, header: SoftLabelsHeader, tmp_path: Path
) -> None:
    compute([teacher], tokens, header, tmp_path)
    (tmp_path / "00001.safetensors").unlink()
    with Progress("test", len(tokens)) as progress:
        compute_soft_labels([teacher], tokens, header, tmp_path, device=CPU, progress=progress)
        assert progress.done == 70 + 50  # shards of 50 and 20 were there


def test_logits_too_large_for_the_store_are_an_error(
    tokens: TokenStore, header: SoftLabelsHeader, tmp_path: Path
) -> None:
    model = tiny_model()
    with torch.no_grad():
        bias_of(model, "mood")[0] = 1e6
    with pytest.raises(TrainingError, match="'mood' are too large for float16"):
        compute([model], tokens, header, tmp_path)


def test_several_teachers_average_their_probabilities(tokens: TokenStore) -> None:
    models = [tiny_model(), tiny_model()]
    with torch.no_grad():
        bias_of(models[1], "section").add_(torch.tensor([3.0, 0.0, -2.0]))
    rows = np.arange(5)
    one, two, both = (
        compute_logits(members, tokens, rows, max_tokens=24, device=CPU)["section"]
        for members in (models[:1], models[1:], models)
    )
    mean = (torch.softmax(torch.tensor(one), -1) + torch.softmax(torch.tensor(two), -1)) / 2
    torch.testing.assert_close(torch.softmax(torch.tensor(both), -1), mean)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"teacher": ("other",)}, "teacher"),
        (
            {"labels": {"section": ("science", "business", "sports"), "mood": ("calm", "loud")}},
            "labels",
        ),
        ({"data": "other"}, "data"),
        ({"view": "headline"}, "view"),
        ({"max_tokens": 16}, "max_tokens"),
        ({"articles": 119}, "articles"),
    ],
)
def test_other_inputs_are_refused_by_name(
    change: dict[str, object],
    word: str,
    teacher: MultiTaskModel,
    tokens: TokenStore,
    header: SoftLabelsHeader,
    tmp_path: Path,
) -> None:
    compute([teacher], tokens, header, tmp_path)
    other = replace(header, **change)  # type: ignore[arg-type]
    message = f"belong to other inputs(?s:.)*{word}: stored"
    with pytest.raises(FingerprintError, match=message):
        compute([teacher], tokens, other, tmp_path)


def test_a_damaged_or_missing_shard_is_found(
    teacher: MultiTaskModel, tokens: TokenStore, header: SoftLabelsHeader, tmp_path: Path
) -> None:
    compute([teacher], tokens, header, tmp_path)
    shard = tmp_path / "00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FingerprintError, match=r"00001\.safetensors is damaged"):
        load_soft_labels(tmp_path)
    shard.unlink()
    with pytest.raises(FingerprintError, match=r"missing 00001\.safetensors"):
        load_soft_labels(tmp_path)


def test_an_empty_folder_holds_none(tmp_path: Path) -> None:
    with pytest.raises(FingerprintError, match="holds no soft labels"):
        load_soft_labels(tmp_path)


def test_answers_that_are_not_numbers_stop(tokens: TokenStore) -> None:
    model = tiny_model()
    with torch.no_grad():
        bias_of(model, "mood")[0] = float("inf")
    with pytest.raises(TrainingError, match="'mood' with values that are not numbers"):
        compute_logits([model], tokens, np.arange(3), max_tokens=24, device=CPU)


def test_teachers_read_without_dropout(tokens: TokenStore) -> None:
    model = tiny_model(dropout=0.5).train()
    rows = np.arange(40)
    one, two = (compute_logits([model], tokens, rows, max_tokens=24, device=CPU) for _ in range(2))
    for task, logits in one.items():
        np.testing.assert_array_equal(two[task], logits)


def test_answers_stand_in_the_order_of_the_rows(tokens: TokenStore) -> None:
    model, rows = tiny_model(), np.array([7, 0, 31, 4])
    together = compute_logits([model], tokens, rows, max_tokens=24, device=CPU)
    for place, row in enumerate(rows):
        alone = compute_logits([model], tokens, np.array([row]), max_tokens=24, device=CPU)
        for task, logits in together.items():
            np.testing.assert_allclose(logits[place], alone[task][0], atol=1e-5)
