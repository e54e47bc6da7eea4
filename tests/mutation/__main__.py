"""Mutation testing of newsie: python -m tests.mutation [--only PATTERN] [--list]

Applies each small fault of mutants/*.toml to a copy of the tree, never to the checkout, and runs the tests
that must notice it. A result is kept until the fault, its source file or its tests change, so a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.catalogue import ROOT, Mutant, StaleMutantError, read_mutants, select
from tests.mutation.table import RESULTS, Store, as_json, as_markdown, share_killed
from tests.mutation.trials import Tree, Trial, copy_tree, fingerprint, preload, try_mutant


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 where at least the share `--at-least` of the mutants was killed."""
    options = _parse(arguments)
    mutants = select(read_mutants(), options.only)
    try:
        for mutant in mutants:
            mutant.check(ROOT)
    except StaleMutantError as error:
        print(f"stale mutant: {error}", file=sys.stderr)
        return 2
    if not mutants:
        print(f"no mutant matches {options.only!r}; --list shows all", file=sys.stderr)
        return 2
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name:<48} {mutant.file:<40} {mutant.why}")
        return 0
    trials = _run(mutants, options)
    if options.only == "*":
        _write(mutants, trials)
    print(f"{100 * share_killed(trials):.1f} % of {len(trials)} mutants killed")
    return 0 if share_killed(trials) >= options.at_least else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="*", help="shell pattern of names or source files")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for a mutant [300]")
    parser.add_argument("--at-least", type=float, default=0.95, help="share to be killed [0.95]")
    parser.add_argument("--again", action="store_true", help="do not use stored results")
    return parser.parse_args(arguments)


def _run(mutants: Sequence[Mutant], options: argparse.Namespace) -> dict[str, Trial]:
    store = Store(RESULTS / "unfinished.jsonl")
    trials: dict[str, Trial] = {}
    os.environ["OMP_NUM_THREADS"] = "1"
    preload()
    with tempfile.TemporaryDirectory() as scratch:
        tree = Tree(copy_tree(ROOT, Path(scratch) / "tree"), Path(scratch))
        for number, mutant in enumerate(mutants, start=1):
            key = fingerprint(tree.root, mutant)
            trial = None if options.again else store.get(key)
            if trial is None:
                trial = try_mutant(tree, mutant, options.timeout)
                if trial.outcome in ("killed", "survived"):  # others may go another way next time
                    store.add(key, trial)
            trials[mutant.name] = trial
            line = f"{number:>4} of {len(mutants)}  {mutant.name:<48} {trial.outcome}"
            print(f"{line} ({trial.seconds:.1f} s)", flush=True)
            if trial.output:
                print(trial.output, flush=True)
    return trials


def _write(mutants: Sequence[Mutant], trials: dict[str, Trial]) -> None:
    describe = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    about = {
        "command": "python -m tests.mutation",
        "commit": result.stdout.strip(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    (RESULTS / "mutation.json").write_text(as_json(mutants, trials, about), encoding="utf-8")
    (RESULTS / "mutation.md").write_text(as_markdown(mutants, trials, about), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
