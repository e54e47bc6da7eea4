"""Load tests of `newsie serve`, on this machine only.

    python -m serving.load                  # beside a one-by-one FastAPI server; about 15 minutes
    python -m serving.load --shares ''      # ... with clients that wait only; about 5 minutes
    python -m serving.load --soak           # 4 times what it can do, for 10 minutes
    python -m serving.load --readme         # ... and put the sizing table into serving/README.md

Results, with every measurement, go to serving/load/results. The exit code is 1 if anything was answered
wrongly, not at all, or counted wrongly.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.processes import ROOT
from benchmarks.report import Spread, circumstances, without_folders, write_report
from newsie import Classifier, read_articles
from newsie.atomic import write_text
from serving.load.compare import (
    Comparison,
    compare,
    comparison_table,
    ratio_of,
    sizing_table,
    start_both,
)
from serving.load.offered import Offer, latency_ratio, offer, offered_table
from serving.load.requests import MIX, Request, prepare_mixed_requests, prepare_requests
from serving.load.soak import Soak, soak

T = TypeVar("T", int, float)

SAMPLE = ROOT / "data" / "sample" / "articles.jsonl"
RESULTS = Path(__file__).parent / "results"
README = ROOT / "serving" / "README.md"
BEGIN, END = "<!-- sizing: begin -->\n", "<!-- sizing: end -->\n"
SOAK_SIZES = (1, 1, 1, 8)
PACKAGES = ("fastapi", "uvicorn", "onnxruntime", "tokenizers")
AIMS = {"articles_per_second": 1.2, "p99_seconds": 5.0}
AIM_CLIENTS = 128
ALIKE, MIXED = "alike", "mixed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the two tests; the exit code."""
    _allow_many_connections()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    report = circumstances("load", given)
    report["command"] = " ".join(["python -m serving.load", *map(without_folders, given)])
    report["sides"] = {"server": {"packages": {name: version(name) for name in PACKAGES}}}
    classifier = Classifier.from_pretrained(options.model)
    report["model"] = classifier.bundle.manifest.name
    articles = read_articles(options.file)
    if options.soak:
        return _soak(options, report, prepare_requests(classifier, articles, sizes=SOAK_SIZES))
    workloads = {
        ALIKE: prepare_requests(classifier, articles),
        MIXED: prepare_mixed_requests(classifier, articles),
    }
    del classifier
    return _compare(options, report, workloads)


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.load", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--soak", action="store_true", help="overload for minutes")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--times", type=float, default=4.0, help="its load in capacities")
    parser.add_argument("--clients", type=_numbers(int), default="1,8,32,128,512", metavar="N,N...")
    parser.add_argument(
        "--shares",
        type=_numbers(float),
        default="0.5,0.8,1,1.1",
        metavar="X,X...",
        help="offered loads, in capacities of the one-by-one server",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=None, help="a bundle (default: the bundled)")
    parser.add_argument("--file", type=Path, default=SAMPLE, help="articles to send")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--readme", action="store_true", help="update serving/README.md")
    return parser


def _numbers(kind: type[T]) -> Callable[[str], tuple[T, ...]]:
    """Reads numbers with commas between them."""
    return lambda text: tuple(map(kind, filter(None, text.split(","))))


def _compare(
    options: argparse.Namespace,
    report: dict[str, Any],
    workloads: Mapping[str, Sequence[Request]],
) -> int:
    plan = Comparison(options.clients, options.seconds, options.rounds)
    offers = Offer(options.shares, AIM_CLIENTS, options.seconds, options.rounds)
    with start_both(options.model, workloads[ALIKE]) as servers:
        found = compare(plan, workloads[ALIKE], servers)
        offered = offer(offers, workloads, servers) if offers.shares else []
    sizing = sizing_table(found, report["machine"]["cores"])
    text = (
        f"# newsie serve beside one request at a time\n\n{_closed(found)}{_offered(offered)}"
        f"## Sizing\n\n{sizing}\n{_fairness([*found, *offered])}"
    )
    content = {"summary": {}, "measurements": found, "offered": offered}
    write_report(options.results, report | content, text)
    if options.readme:
        _into_readme(f"{sizing}\n`{report['command']}`, {report['date'][:10]}\n")
    failed = [row for row in [*found, *offered] if row["wrong"] or row["unanswered"]]
    return 1 if failed else 0


def _closed(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return ""
    return (
        "## Clients that wait for their answers\n\n"
        "Each client keeps one connection and asks again when it is answered, one article a request.\n\n"
        f"{comparison_table(found)}\n{_aims(found)}"
        "In a closed loop N clients wait N / throughput on average (Little's law), on either side. So "
        "where all cores are busy, times fall as far as throughput rises and no further: a p99 five "
        "times lower than that of a server that answers in order would take five times its "
        "throughput. What users see who do not wait for each other is below.\n\n"
    )


def _offered(offered: Sequence[dict[str, Any]]) -> str:
    if not offered:
        return ""
    counts = Counter(MIX)
    mixture = ", ".join(f"{count} of {len(MIX)} {kind}" for kind, count in counts.items())
    return (
        f"## The same load for both\n\n{AIM_CLIENTS} connections; requests come at times drawn at random "
        "(a Poisson process), the same for both sides, whatever the answers. A load of 1 × is what the "
        f"one-by-one server answered to {AIM_CLIENTS} clients that wait, measured before in the same "
        "round. Times count from when a request is due, also while it waits for a connection. From 1 × "
        "on, the one-by-one server falls behind for as long as it is asked: its times, and with them the "
        "ratios, grow with the length of the measurement. Times are those of requests that were "
        "answered; the share that was refused stands beside them.\n\n"
        f"One article a request:\n\n{offered_table(offered, ALIKE)}\n"
        f"{_offered_aims(offered, ALIKE, 'article')}"
        f"A mixture ({mixture}):\n\n{offered_table(offered, MIXED)}\n"
    )


def _offered_aims(offered: Sequence[dict[str, Any]], workload: str, kind: str) -> str:
    aim = AIMS["p99_seconds"]
    lines = [f"Aim with {AIM_CLIENTS} connections: p99 at least {aim} times lower\n\n"]
    for share in dict.fromkeys(row["share"] for row in offered):
        ratio = latency_ratio(offered, workload, share, kind, "p99_seconds")
        lines.append(f"- at {share:g} ×: {ratio.text(2)} times lower: {_word(ratio, aim)}\n")
    return "".join([*lines, "\n"])


def _word(ratio: Spread, aim: float) -> str:
    return "reached" if ratio.median >= aim else "**missed**"


def _aims(found: Sequence[dict[str, Any]]) -> str:
    if AIM_CLIENTS not in {row["clients"] for row in found}:
        return ""
    lines = [f"Aims at {AIM_CLIENTS} clients:\n\n"]
    for key, aim in AIMS.items():
        ratio = ratio_of(found, AIM_CLIENTS, key)
        word = _word(ratio, aim)
        lines.append(f"- {key}: {ratio.text(2)} times better, at least {aim} wanted: {word}\n")
    busy = ratio_of(found, AIM_CLIENTS, "articles_per_cpu_second")
    lines.append(f"- articles for the same processor time: {busy.text(2)} times as many\n")
    return "".join([*lines, "\n"])


def _fairness(found: Sequence[dict[str, Any]]) -> str:
    cores = max(row["client_cores"] for row in found)
    wrong = sum(row["wrong"] for row in found)
    unanswered = sum(row["unanswered"] for row in found)
    return (
        "Sides take turns in the same run; medians of the rounds, ratios with the least and the "
        f"greatest. The clients took at most {cores:.2f} of a core, which both sides were short of. "
        f"Answers that were not the model's: {wrong}; requests without an answer: {unanswered}.\n"
    )


def _soak(options: argparse.Namespace, report: dict[str, Any], requests: Sequence[Request]) -> int:
    found = soak(Soak(options.minutes, options.times), requests, options.model)
    slope = {name: value / 2**20 for name, value in found["slope_bytes_per_minute"].items()}
    parts = ", ".join(f"{value / 2**20:+.3f}" for value in found["growth_bytes_per_minute"])
    growth = f"{found['verdict']}; growth by quarter of the time: {parts} MB a minute"
    if isfinite(slope["per_minute"]):
        growth += (
            f"; slope of the second half: {slope['per_minute']:+.3f} MB a minute (95 %: "
            f"{slope['low']:+.3f} to {slope['high']:+.3f}, from the means of six blocks)"
        )
    codes = ", ".join(f"{code}: {n:,}" for code, n in found["codes"].items())
    text = (
        f"# newsie serve under {options.times:g} times its capacity for {options.minutes:g} "
        f"minutes\n\n"
        f"- capacity {found['capacity_requests_per_second']:,.0f} requests/s, sent "
        f"{found['sent_requests_per_second']:,.0f}/s ({found['not_sent']:,} more would have needed "
        f"another connection)\n"
        f"- answers by code: {codes}; none: {found['unanswered']}; not the model's: "
        f"{found['wrong']}\n"
        f"- counted by the server: {found['counted_by_server']}\n"
        f"- answered 200: p50 {1000 * found['p50_seconds']:,.0f} ms, p99 "
        f"{1000 * found['p99_seconds']:,.0f} ms, {found['articles_per_second']:,.0f} articles/s\n"
        f"- memory: {growth}\n"
        f"- the clients took {found['client_cores']:.2f} of a core\n\n"
        + "".join(f"**Wrong: {problem}.**\n\n" for problem in found["problems"])
    )
    measurements = {"summary": {}, "measurements": [found]}
    write_report(options.results, report | {"benchmark": "soak"} | measurements, text)
    return 1 if found["problems"] else 0


def _into_readme(text: str) -> None:
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(README, f"{before}{BEGIN}{text}{END}{after}")


if __name__ == "__main__":
    raise SystemExit(main())
