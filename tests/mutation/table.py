"""Results of mutation testing: stored as they come, and written as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.mutation.catalogue import Mutant
from tests.mutation.trials import Trial

__all__ = ["RESULTS", "Store", "as_json", "as_markdown", "share_killed"]

RESULTS = Path(__file__).parent / "results"


class Store:
    """Trials in a file, one a line, by the fingerprint of what they came from.

    Args:
        path: the file; made with the first trial.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        self._trials = {entry.pop("fingerprint"): Trial(**entry) for entry in entries}

    def get(self, fingerprint: str) -> Trial | None:
        """The stored trial; None where there is none."""
        return self._trials.get(fingerprint)

    def add(self, fingerprint: str, trial: Trial) -> None:
        """Store a trial at once."""
        self._trials[fingerprint] = trial
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fingerprint": fingerprint} | asdict(trial)) + "\n")


def share_killed(trials: Mapping[str, Trial]) -> float:
    """Share of the mutants that a failing test noticed; a time-out does not count."""
    return sum(trial.outcome == "killed" for trial in trials.values()) / max(len(trials), 1)


def as_json(
    mutants: Sequence[Mutant], trials: Mapping[str, Trial], about: Mapping[str, Any]
) -> str:
    """The results for machines: about the run, counts, and each mutant with its outcome."""
    content = {
        **about,
        "mutants": len(trials),
        "share_killed": round(share_killed(trials), 4),
        "outcomes": Counter(trial.outcome for trial in trials.values()),
        "results": [
            {**asdict(mutant), **{k: v for k, v in asdict(trials[mutant.name]).items() if v != ""}}
            for mutant in mutants
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def as_markdown(
    mutants: Sequence[Mutant], trials: Mapping[str, Trial], about: Mapping[str, Any]
) -> str:
    """The results for people: one row for each source file, then the mutants that were not killed."""
    killed = sum(trial.outcome == "killed" for trial in trials.values())
    lines = [
        "# Mutation testing",
        "",
        f"{killed} of {len(trials)} mutants were killed ({100 * share_killed(trials):.1f} %): a test "
        f"failed with the fault and passed without it. Commit {about['commit']}, {about['date']}; "
        f"printed by `{about['command']}`.",
        "",
        "| source file | mutants | killed | survived | other |",
        "| --- | --- | --- | --- | --- |",
    ]
    for file in sorted({mutant.file for mutant in mutants}):
        counts = Counter(trials[m.name].outcome for m in mutants if m.file == file)
        total, hit, missed = counts.total(), counts["killed"], counts["survived"]
        lines.append(f"| {file} | {total} | {hit} | {missed} | {total - hit - missed} |")
    rest = [mutant for mutant in mutants if trials[mutant.name].outcome != "killed"]
    if rest:
        lines += ["", "Not killed:", ""]
        lines += [f"- `{m.name}` ({trials[m.name].outcome}): {m.why}" for m in rest]
    return "\n".join(lines) + "\n"
