from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from newsie.bulk import resumable_file as parts_module
from newsie.bulk import rows as rows_module
from newsie.bundles.bundle import CascadeRule, read_bundle, write_bundle
from tests.tiny import LABELS, tiny_articles

ROOT = Path(__file__).parents[2]
FIELDS = ("id", "headline", "body")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and windows of 10 articles."""
    monkeypatch.setattr(parts_module, "PART_ROWS", 10)
    monkeypatch.setattr("newsie.inference.classifier.FIRST_WINDOW_ARTICLES", 10)
    monkeypatch.setattr("newsie.inference.student.Student.window_articles", 10)


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
    assert (
        "what is finished is kept, in steps of 10 rows of a file; type the same command again"
        in err
    )
    assert not target.exists()
    with pytest.MonkeyPatch.context() as patch:
        counter = Stop(patch, 100, AssertionError())
        code, _, err = newsie("classify", "-f", source, "-o", target)
    assert (code, counter.rows) == (0, 48 - 30)
    assert "going on behind row 30, where the last run ended" in err
    assert f"48 predictions written to {target}" in err
    assert read(target) == read(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {".newsie", source.name, whole.name, target.name}
    )


def read(path: Path) -> Any:
    return pq.read_table(path).to_pylist() if path.suffix == ".parquet" else path.read_bytes()


@pytest.mark.parametrize("many", [True, False])
def test_before_the_first_part_nothing_is_kept(newsie: Any, tmp_path: Path, many: bool) -> None:
    source = write_articles(tmp_path / "in" / "a.csv", 48)
    given = (tmp_path / "in" / "*.csv", tmp_path / "out") if many else (source, tmp_path / "b.csv")
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 4, KeyboardInterrupt())
        code, _, err = newsie("classify", "-f", given[0], "-o", given[1])
    assert (code, "nothing is kept yet: that begins after 10 rows of a file" in err) == (130, True)
    assert "what is finished is kept" not in err


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
    assert "going on behind row 21" in err  # the end of a window of 10 articles
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
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as stream:
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


def test_answers_in_the_folder_that_one_is_in(
    newsie: Any, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    code, _, err = newsie("classify", "--file", big / "*.parquet", "-o", ".")
    assert (code, counts(Path())) == (0, WANTED)
    assert "3 of 3 files are answered in .\n" in err


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
    assert found == {"a.csv", "b.jsonl", "c.parquet", "d.jsonl", ".newsie"}
    command = ("classify", "-f", tmp_path / "in" / "*", "--json", "-o", tmp_path / "lines")
    assert newsie(*command).code == 0
    assert {p.suffix for p in (tmp_path / "lines").glob("[a-d].*")} == {".jsonl"}


def refusal(newsie: Any, *arguments: str | Path) -> str:
    """What is said to a wrong usage, in one line."""
    code, _, err = newsie("classify", *arguments)
    assert code == 2
    return " ".join(err.replace("│", " ").split())


def test_files_of_others_are_not_overwritten(newsie: Any, big: Path, tmp_path: Path) -> None:
    article = write_articles(tmp_path / "news" / "a.csv", 3)
    packed = article.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(article.read_bytes()))
    before = article.read_bytes()
    said = refusal(newsie, "-f", article.parent / "*.csv.gz", "-o", article.parent)
    assert (
        "a.csv exists, and no earlier run of newsie wrote it; name another folder, or give --overwrite"
        in said
    )
    assert article.read_bytes() == before
    out = tmp_path / "out"
    assert newsie("classify", "-f", big / "*.parquet", "-o", out).code == 0
    write_articles(tmp_path / "other" / "0.parquet", 3)
    said = refusal(newsie, "-f", tmp_path / "other" / "*.parquet", "-o", out)
    assert f"for another input, {big / '0.parquet'}; name another folder" in said
    assert counts(out) == WANTED
    command = ("classify", "-f", tmp_path / "other" / "*.parquet", "-o", out, "--overwrite")
    code, _, err = newsie(*command)
    assert (code, "1 of 1 files are answered anew: what is there answers other" in err) == (0, True)
    assert counts(out)["0.parquet"] == 3


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_single_file_is_replaced_only_for_the_same_input(
    newsie: Any, tmp_path: Path, name: str
) -> None:
    source, target = write_articles(tmp_path / "a.csv", 3), tmp_path / name
    other = write_articles(tmp_path / "b.csv", 3)
    target.write_text("precious")
    said = refusal(newsie, "-f", source, "-o", target)
    assert f"{name} exists, and no earlier run of newsie wrote it; name another file" in said
    assert "or give --overwrite to replace it" in said
    assert target.read_text() == "precious"
    assert newsie("classify", "-f", source, "-o", target, "--overwrite").code == 0
    for options in ((), ("-k", "2")):  # the same command works again, also with other options
        assert newsie("classify", "-f", source, "-o", target, *options).code == 0
    before = target.read_bytes()
    said = refusal(newsie, "-f", other, "-o", target)
    assert f"holds the predictions for another input, {source}; name another file" in said
    assert target.read_bytes() == before


def test_an_empty_file_is_replaced_and_keeps_its_permissions(newsie: Any, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.touch(mode=0o600)
    assert newsie("classify", "goal", "-o", target).code == 0
    assert target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600


def test_texts_and_standard_input_replace_only_their_own_file(
    newsie: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.jsonl"
    (tmp_path / "in.txt").write_text("goal\n")
    for _ in range(2):
        assert newsie("classify", "goal", "-o", target).code == 0
    assert "holds the predictions for another input" in refusal(newsie, "cup", "-o", target)
    for options in (("--overwrite",), ()):
        with (tmp_path / "in.txt").open() as stream:
            monkeypatch.setattr("sys.stdin", stream)
            assert newsie("classify", "-", "-o", target, *options).code == 0
    target.unlink()
    assert newsie("classify", "cup", "-o", target).code == 0


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_pipe_is_not_replaced_by_a_file(newsie: Any, tmp_path: Path, overwrite: bool) -> None:
    source, target = write_articles(tmp_path / "a.csv", 3), tmp_path / "out.jsonl"
    os.mkfifo(target)
    for articles in (("-f", source), ("goal",)):
        code, _, err = newsie("classify", *articles, "-o", target, *["--overwrite"] * overwrite)
        assert (code, "out.jsonl is a pipe or a device" in err) == (1, True)
        assert target.is_fifo()


def test_what_is_answered_anew_is_told(newsie: Any, big: Path, tmp_path: Path) -> None:
    command = ("classify", "-f", big / "*.parquet", "-o", tmp_path / "out")
    assert "answered anew" not in newsie(*command).err
    assert "answered anew" not in newsie(*command).err
    write_articles(big / "1.parquet", 20)
    assert "1 of 3 files are answered anew: they have changed since" in newsie(*command).err
    code, _, err = newsie(*command, "-k", "2")
    assert (code, "3 of 3 files are answered anew: what is there is of other options" in err) == (
        0,
        True,
    )


def test_a_file_that_changes_while_it_is_answered_is_answered_again(
    newsie: Any, tmp_path: Path
) -> None:
    source = write_articles(tmp_path / "in" / "a.csv", 5)
    command = ("classify", "-f", source.parent / "*.csv", "-o", tmp_path / "out")
    flat_row = rows_module.flat_row

    def change(*arguments: Any) -> Any:
        os.utime(source, ns=(1, 1))
        return flat_row(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "flat_row", change)
        assert newsie(*command).code == 0
    with pytest.MonkeyPatch.context() as patch:
        counter = Stop(patch, 100, AssertionError())
        assert newsie(*command).code == 0
    assert counter.rows == 5


def test_a_file_that_ends_early_has_failed_and_its_answers_are_kept(
    newsie: Any, tmp_path: Path
) -> None:
    whole = write_articles(tmp_path / "whole.jsonl", 3_000)
    packed = gzip.compress(whole.read_bytes())
    source = tmp_path / "in" / "a.jsonl.gz"
    write_articles(tmp_path / "in" / "b.jsonl", 3)
    source.write_bytes(packed[: len(packed) // 2])
    out = tmp_path / "out"
    command = ("classify", "-f", tmp_path / "in" / "*", "-o", out)
    code, _, err = newsie(*command)
    assert code == 1
    assert "a.jsonl.gz is damaged or ends early behind row" in err
    assert not (out / "a.jsonl").exists()
    assert (out / "b.jsonl").exists()
    assert (out / ".a.jsonl.parts" / "progress.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        counter = Stop(patch, 0, AssertionError())
        code, _, err = newsie(*command)
    assert (code, counter.rows) == (1, 0)
    assert "going on behind row" in err
    source.write_bytes(packed)
    assert newsie(*command).code == 0
    assert len((out / "a.jsonl").read_text().splitlines()) == 3_000
    assert not (out / ".a.jsonl.parts").exists()
    source.write_bytes(packed[: len(packed) // 2])
    assert newsie("classify", "-f", source, "--json").code == 1


def test_empty_files_in_a_folder_are_answered_by_empty_files(newsie: Any, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    full = write_articles(folder / "b.parquet", 3)
    pq.write_table(pq.read_table(full).slice(0, 0), folder / "a.parquet")
    (folder / "c.csv").write_text("headline,body\n")
    (folder / "d.jsonl").touch()
    (folder / "e.csv.gz").write_bytes(gzip.compress(b""))
    command = ("classify", "-f", folder / "*", "-o", out)
    code, _, err = newsie(*command)
    assert (code, "5 of 5 files are answered" in err) == (0, True)
    assert f"a.parquet is empty, and so is {out / 'a.parquet'}" in err
    # The folder as a whole is one table, whichever file comes first.
    table = pq.read_table([out / "a.parquet", out / "b.parquet"])
    assert (table.num_rows, table.schema) == (3, pq.read_schema(out / "b.parquet"))
    assert (out / "c.csv").read_text("utf-8-sig").startswith("row,id,headline,")
    assert (out / "d.jsonl").read_bytes() == (out / "e.csv").read_bytes() == b""
    code, _, err = newsie(*command)
    assert (code, "is empty" in err) == (0, False)
    assert newsie("classify", "-f", folder / "a.parquet", "-o", tmp_path / "one.csv").code == 1
    (folder / "f.parquet").touch()  # a table says even of no rows which columns it has
    assert newsie(*command).code == 1


def test_folders_below_a_pattern_are_kept_apart(
    newsie: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for year in (2020, 2021):
        write_articles(Path(f"big/year={year}/part-0.parquet"), year - 2015)
    command = ("classify", "-f", "big/**/*.parquet", "-o", "big/out")
    for run in range(2):
        code, _, err = newsie(*command)
        assert (code, "2 of 2 files are answered in big/out" in err) == (0, True), run
        for year in (2020, 2021):
            path = f"big/out/year={year}/part-0.parquet"
            assert pq.read_metadata(path).num_rows == year - 2015
    taken_apart = ("big/year=2020/part-0.parquet", "big/year=2021/part-0.parquet")
    assert "in quotation marks" in refusal(newsie, "-f", *taken_apart, "-o", "other/")
    assert "name another folder" in refusal(newsie, "-f", "big/out/**/*.parquet", "-o", "big/out")


def test_what_another_run_is_at_work_on_is_left_to_it_and_waited_for(
    newsie: Any, big: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    other = parts_module.Parts(out / "0.parquet", {}).__enter__()

    def end() -> None:
        """Without an answer, once the others are there."""
        while counts(out) != {"1.parquet": 13, "2.parquet": 14}:
            time.sleep(0.01)
        other.__exit__(None, None, None)

    ending = threading.Thread(target=end)
    ending.start()
    code, _, err = newsie("classify", "--file", big / "*.parquet", "-o", out)
    ending.join()
    assert (code, counts(out)) == (0, WANTED)
    assert "waiting for another process that is at work on 1 of the files" in err
    assert "3 of 3 files are answered" in err


def test_one_file_waits_for_a_run_that_ends(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    ending = parts_module.Parts(target, {}).__enter__()
    threading.Timer(0.3, ending.__exit__, (None, None, None)).start()
    with parts_module.Parts(target, {}, wait_seconds=60) as parts:
        parts.write(1, {"id": "a"})
        parts.finish()
    assert target.read_text() == '{"id": "a"}\n'
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_wrong_usage_of_folders(newsie: Any, big: Path, tmp_path: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        return refusal(newsie, *arguments)

    assert "name it: -o out/" in refused("-f", big / "*.parquet")
    assert "there is no file" in refused("-f", big / "*.csv", "-o", tmp_path / "out")
    assert "name another folder" in refused("-f", big / "*.parquet", "-o", big)
    write_articles(tmp_path / "other" / "0.parquet", 3)
    both = refused(
        "-f", big / "0.parquet", tmp_path / "other" / "0.parquet", "-o", tmp_path / "out"
    )
    assert "would both be answered in" in both
    (tmp_path / "out.csv").touch()
    assert "is the name of a file; name a folder" in refused(
        "-f", big / "*.parquet", "-o", tmp_path / "many.csv"
    )
    assert "is a file; name a folder" in refused(
        "-f", big / "*.parquet", "-o", tmp_path / "out.csv"
    )


# --- stopped at any point ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cascade(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student twice in one bundle: it passes about half of the articles on to itself."""
    large, space = read_bundle(tiny_bundle), LABELS
    calibration = large.manifest.calibration
    thresholds = {task.name: dict.fromkeys(task.labels, 0.9) for task in space.tasks}
    return write_bundle(
        tmp_path_factory.mktemp("cascade") / "both",
        name="both",
        label_space=space,
        encoding=large.manifest.encoding,
        calibration=calibration,
        model=large.model_path,
        tokenizer=large.tokenizer_path.read_text(encoding="utf-8"),
        card="",
        cascade=CascadeRule(calibration, thresholds),
        first=large.model_path,
    ).path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", ["student", "cascade"])
def test_stopped_at_random_points_the_file_is_equal_byte_for_byte(
    newsie: Any,
    tmp_path: Path,
    tiny_bundle: Path,
    cascade: Path,
    kind: str,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("newsie.inference.classifier.FIRST_WINDOW_ARTICLES", 7)
    monkeypatch.setattr("newsie.inference.student.Student.window_articles", 40)
    monkeypatch.setattr(parts_module, "PART_ROWS", 30)
    model = cascade if kind == "cascade" else tiny_bundle
    source, whole = write_articles(tmp_path / f"a{suffix}", 400), tmp_path / f"whole{suffix}"
    assert newsie("classify", "-f", source, "-o", whole, "--model", model).code == 0
    random = Random(suffix)
    for attempt in range(3):
        target, stops = tmp_path / f"{attempt}{suffix}", 0
        while not target.exists():
            with pytest.MonkeyPatch.context() as patch:
                Stop(patch, random.randrange(250), KeyboardInterrupt())
                code = newsie("classify", "-f", source, "-o", target, "--model", model).code
            stops += code == 130
            assert code == (0 if target.exists() else 130)
        assert stops
        assert target.read_bytes() == whole.read_bytes()


PROGRAM = (
    "import newsie.bulk.resumable_file as p; p.PART_ROWS = 300; from newsie.cli import main; main()"
)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_killed_at_random_points_the_file_is_equal_byte_for_byte(
    tmp_path: Path, tiny_bundle: Path, suffix: str
) -> None:
    source, whole = write_articles(tmp_path / f"a{suffix}", 6_000), tmp_path / f"whole{suffix}"
    target, progress = tmp_path / f"out{suffix}", tmp_path / f".out{suffix}.parts/progress.json"
    environment = {**os.environ, "NEWSIE_MODEL": str(tiny_bundle), "PYTHONPATH": str(ROOT)}

    def command(output: Path) -> list[str]:
        return [sys.executable, "-c", PROGRAM, "classify", "-f", str(source), "-o", str(output)]

    subprocess.run(command(whole), env=environment, check=True, capture_output=True)
    random = Random(suffix)
    for _ in range(4):
        before = progress.read_bytes() if progress.exists() else b""
        run = subprocess.Popen(command(target), env=environment, stderr=subprocess.DEVNULL)
        while run.poll() is None and (not progress.exists() or progress.read_bytes() == before):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.1))
        run.kill()
        if run.wait() == 0:
            break
        assert not target.exists()
    again = subprocess.run(command(target), env=environment, capture_output=True, text=True)
    assert again.returncode == 0
    assert target.read_bytes() == whole.read_bytes()


# --- two runs, one output ------------------------------------------------------------------------


@pytest.mark.parametrize("second_reads", ["-", "file"])
def test_a_second_run_to_one_output_is_refused(
    newsie: Any,
    tmp_path: Path,
    tiny_bundle: Path,
    second_reads: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("newsie.cli.bulk.BUSY_SECONDS", 0.1)
    target = tmp_path / "out.jsonl"
    first = subprocess.Popen(
        [sys.executable, "-m", "newsie", "classify", "-", "-o", str(target)],
        cwd=ROOT,
        env={**os.environ, "NEWSIE_MODEL": str(tiny_bundle)},
        stdin=subprocess.PIPE,
        text=True,
    )
    assert first.stdin is not None
    first.stdin.write("goal\n")  # it opens its output once it has read a line
    first.stdin.flush()
    end = time.monotonic() + 60
    while not (tmp_path / ".out.jsonl.parts" / "lock").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    (tmp_path / "in.txt").write_text("cup\n")
    with (tmp_path / "in.txt").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        given = ["-"] if second_reads == "-" else ["--file", tmp_path / "in.txt"]
        code, _, err = newsie("classify", *given, "-o", target)
    assert code == 1
    assert err.splitlines()[-1] == (
        f"newsie: {target} is being written by another run; wait for it, or name another file"
    )
    first.communicate("goal\n" * 2)
    assert first.returncode == 0
    assert len(target.read_text().splitlines()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [".newsie", "in.txt", "out.jsonl"]


def test_texts_do_not_remove_the_parts_of_a_file(newsie: Any, tmp_path: Path) -> None:
    source, target = write_articles(tmp_path / "a.csv", 48), tmp_path / "out.csv"
    with pytest.MonkeyPatch.context() as patch:
        Stop(patch, 34, KeyboardInterrupt())
        assert newsie("classify", "-f", source, "-o", target).code == 130
    assert newsie("classify", "goal", "-o", target).code == 0
    again = newsie("classify", "-f", source, "-o", target, "--overwrite")
    assert "going on behind row" in again.err


# --- file names that are not UTF-8 -----------------------------------------------------------------


def test_file_names_that_are_not_utf8(newsie: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in (b"caf\xe9.csv", b"zz.csv"):
        write_articles(Path(os.fsdecode(os.path.join(os.fsencode(folder), name))), 12)
    for _ in range(2):  # the second run finds all of it done
        code, _, err = newsie("classify", "-f", folder / "*.csv", "-o", f"{tmp_path / 'out'}/")
        assert (code, "2 of 2 files are answered" in err) == (0, True)
    names = [os.fsencode(path.name) for path in (tmp_path / "out").glob("*.csv")]
    assert sorted(names) == [b"caf\xe9.csv", b"zz.csv"]
    code, _, err = newsie(
        "classify", "-f", folder / "caf\udce9.csv", "-o", tmp_path / "o\udce9.csv"
    )
    assert (code, "12 predictions written to" in err) == (0, True)
    assert "o\\xe9.csv" in err
