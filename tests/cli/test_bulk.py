from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from newsie.cli import rows as rows_module
from newsie.data import parts as parts_module
from tests.tiny import tiny_articles

ROOT = Path(__file__).parents[2]
FIELDS = ("id", "headline", "body")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "PART_ROWS", 10)


def write_articles(path: Path, count: int, *, ids: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = FIELDS if ids else FIELDS[1:]
    rows = [{name: getattr(a, name) for name in columns} for a in tiny_articles(count)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        return path
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".csv":
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


class Stop:
    """Ends a run with an exception when so many rows are made, as Ctrl-C or a full disk would."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
        self.rows = 0
        for name in ("flat_row", "nested_row"):
            patch.setattr(rows_module, name, self.wrap(getattr(rows_module, name), after, error))

    def wrap(self, make: Any, after: int, error: BaseException) -> Any:
        def row(*arguments: Any) -> Any:
            self.rows += 1
            if self.rows > after:
                raise error
            return make(*arguments)

        return row


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_run_that_ended_early_goes_on_and_gives_the_same_file(
    newsie: Any, tmp_path: Path, suffix: str
) -> None:
    source = write_articles(tmp_path / f"articles{suffix}", 48)
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    assert newsie("classify", "-f", source, "-o", whole).code == 0
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 34, KeyboardInterrupt())
        code, _, err = newsie("classify", "-f", source, "-o", target)
    assert code == 130
    assert "what is finished is kept; type the same command again to go on" in err
    assert not target.exists()
    with pytest.MonkeyPatch.context() as patch:
        counter = Stop(patch, 100, AssertionError())
        code, _, err = newsie("classify", "-f", source, "-o", target)
    assert (code, counter.rows) == (0, 48 - 30)
    assert "going on behind row 30, where the last run ended" in err
    assert f"48 predictions written to {target}" in err
    assert read(target) == read(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {source.name, whole.name, target.name}
    )


def read(path: Path) -> Any:
    return pq.read_table(path).to_pylist() if path.suffix == ".parquet" else path.read_bytes()


def test_parts_of_other_answers_are_thrown_away(newsie: Any, tmp_path: Path) -> None:
    source, target = write_articles(tmp_path / "a.csv", 30), tmp_path / "out.csv"
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 25, OSError(28, "No space left on device"))
        code, _, err = newsie("classify", "-f", source, "-o", target)
    assert (code, "No space left on device" in err) == (1, True)
    code, _, err = newsie("classify", "-f", source, "-o", target, "-k", "2")
    assert (code, "going on" in err) == (0, False)
    assert "mood_2" in target.read_text().splitlines()[0]
    assert len(target.read_text().splitlines()) == 31


def test_rows_that_were_skipped_and_cut_off_are_told_of_all_parts(
    newsie: Any, tmp_path: Path
) -> None:
    source = tmp_path / "a.csv"
    lines = ["headline", *("goal" for _ in range(12)), '""', "goal " * 40, *("cup",) * 10]
    source.write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 21, KeyboardInterrupt())
        newsie("classify", "-f", source, "-o", tmp_path / "out.csv")
    code, _, err = newsie("classify", "-f", source, "-o", tmp_path / "out.csv")
    assert code == 0
    assert "going on behind row 20" in err
    assert "1 of 23 articles are longer than the model reads" in err
    assert "1 row skipped" in err


def test_a_full_disk_at_the_very_end_answers_no_row_twice(newsie: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "out.jsonl"
    source.write_text("goal\n\n" * 17)  # numbers up to 33, and 17 rows
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(parts_module, "_join", full)
        assert newsie("classify", "-f", source, "-o", target).code == 1
    code, _, err = newsie("classify", "-f", source, "-o", target)
    assert (code, "17 predictions written" in err) == (0, True)
    found = [json.loads(line)["row"] for line in target.read_text().splitlines()]
    assert found == list(range(1, 34, 2))


def test_answers_without_ids_tell_their_row(newsie: Any, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("headline,other\ngoal,1\n,2\ncup,3\n")
    assert newsie("classify", "-f", source, "-o", tmp_path / "out.csv").code == 0
    with (tmp_path / "out.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [(row["row"], row["headline"]) for row in found] == [("1", "goal"), ("3", "cup")]
    printed = newsie("classify", "-f", source, "--json").out.splitlines()
    assert [json.loads(line)["row"] for line in printed] == [1, 3]


# --- many files -----------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """Three Parquet files in a folder."""
    for number in range(3):
        write_articles(tmp_path / "big" / f"{number}.parquet", 12 + number)
    return tmp_path / "big"


def counts(folder: Path) -> dict[str, int]:
    return {path.name: pq.read_metadata(path).num_rows for path in folder.glob("*.parquet")}


WANTED = {"0.parquet": 12, "1.parquet": 13, "2.parquet": 14}


def test_many_files_into_a_folder(newsie: Any, big: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, err = newsie("classify", "--file", big / "*.parquet", "-o", f"{out}/")
    assert (code, printed) == (0, "")
    assert counts(out) == WANTED
    assert f"3 of 3 files are answered in {out}" in err
    # As a shell that takes the pattern apart would call it; what is done is not done again.
    with pytest.MonkeyPatch.context() as patch:
        counter = Stop(patch, 0, AssertionError())
        assert newsie("classify", "--file", *sorted(big.iterdir()), "-o", f"{out}/").code == 0
    assert counter.rows == 0


def test_a_folder_goes_on_where_it_was(newsie: Any, big: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("classify", "--file", big / "*.parquet", "-o", out)
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 12 + 11, KeyboardInterrupt())
        code, _, err = newsie(*command)
    assert (code, counts(out)) == (130, {"0.parquet": 12})
    assert "1 of 3 files are done" in err
    with pytest.MonkeyPatch.context() as patch:
        counter = Stop(patch, 100, AssertionError())
        assert newsie(*command).code == 0
    assert (counter.rows, counts(out)) == (3 + 14, WANTED)


def test_a_file_that_changed_is_answered_again(newsie: Any, big: Path, tmp_path: Path) -> None:
    command = ("classify", "--file", big / "*.parquet", "-o", tmp_path / "out")
    assert newsie(*command).code == 0
    write_articles(big / "1.parquet", 20)
    assert newsie(*command).code == 0
    assert counts(tmp_path / "out") == WANTED | {"1.parquet": 20}


def test_a_file_that_cannot_be_read_stops_no_others(newsie: Any, big: Path, tmp_path: Path) -> None:
    (big / "1.parquet").write_bytes(b"PAR1 and nothing else")
    code, _, err = newsie("classify", "--file", big / "*.parquet", "-o", tmp_path / "out")
    assert code == 1
    assert "1.parquet: not a Parquet file, or damaged" in err
    assert "1 of 3 files could not be classified" in err.splitlines()[-1]
    assert counts(tmp_path / "out") == {"0.parquet": 12, "2.parquet": 14}
    code, *_ = newsie(
        "classify", "--file", big / "*.parquet", "-o", tmp_path / "strict", "--strict"
    )
    assert (code, counts(tmp_path / "strict")) == (1, {"0.parquet": 12})


def test_each_kind_of_file_has_its_kind_of_answers(newsie: Any, tmp_path: Path) -> None:
    names = ("a.csv", "b.jsonl", "c.parquet", "d.txt")
    for name in names:
        write_articles(tmp_path / "in" / name, 3)
    assert newsie("classify", "-f", tmp_path / "in" / "*", "-o", tmp_path / "out").code == 0
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"a.csv", "b.jsonl", "c.parquet", "d.jsonl", ".newsie.json"}
    command = ("classify", "-f", tmp_path / "in" / "*", "--json", "-o", tmp_path / "lines")
    assert newsie(*command).code == 0
    assert {p.suffix for p in (tmp_path / "lines").glob("[a-d].*")} == {".jsonl"}


def test_wrong_usage_of_folders(newsie: Any, big: Path, tmp_path: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        code, _, err = newsie("classify", *arguments)
        assert code == 2
        return " ".join(err.replace("│", " ").split())

    assert "name it: -o out/" in refused("-f", big / "*.parquet")
    assert "there is no file" in refused("-f", big / "*.csv", "-o", tmp_path / "out")
    assert "name another folder" in refused("-f", big / "*.parquet", "-o", big)
    write_articles(tmp_path / "other" / "0.parquet", 3)
    both = refused(
        "-f", big / "0.parquet", tmp_path / "other" / "0.parquet", "-o", tmp_path / "out"
    )
    assert "would both be answered in" in both
    (tmp_path / "out.csv").touch()
    assert "is a file; name a folder" in refused(
        "-f", big / "*.parquet", "-o", tmp_path / "out.csv"
    )


# --- killed ---------------------------------------------------------------------------------------

PROGRAM = "import newsie.data.parts as p; p.PART_ROWS = 100; from newsie.cli import main; main()"


@pytest.mark.slow
def test_killed_outright_nothing_is_lost_and_nothing_is_half_there(
    newsie: Any, tmp_path: Path, tiny_bundle: Path
) -> None:
    source = write_articles(tmp_path / "articles.jsonl", 3_000)
    target = tmp_path / "out.jsonl"
    progress = tmp_path / ".out.jsonl.parts" / "progress.json"
    command = [sys.executable, "-c", PROGRAM, "classify", "-f", str(source), "-o", str(target)]
    environment = {**os.environ, "NEWSIE_MODEL": str(tiny_bundle), "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while run.poll() is None and not progress.exists():
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not target.exists()
    done = json.loads(progress.read_text())["done"]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"going on behind row {done:,}" in again.stderr
    assert newsie("classify", "-f", source, "-o", tmp_path / "whole.jsonl").code == 0
    found, wanted = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (target, tmp_path / "whole.jsonl")
    )
    assert [row["id"] for row in found] == [row["id"] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        for task, scores in one["predictions"].items():
            # Beside other articles the last digits of a sum may differ.
            assert {s["label"]: s["score"] for s in scores} == pytest.approx(
                {s["label"]: s["score"] for s in other["predictions"][task]}, abs=1e-5
            )
