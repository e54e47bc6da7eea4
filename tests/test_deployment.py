"""What is in serving/ and nobody imports: parsed, held against the server, and run as far as it can be."""

from __future__ import annotations

import configparser
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from newsie.inference.openvino import VARIABLE
from newsie.serving.metrics import Metrics
from newsie.serving.routes.admin import ModelRequest
from newsie.serving.schemas import ClassifyRequest
from newsie.serving.settings import Settings
from newsie.version import __version__
from tests.dockerfile import Stage, build, read_dockerfile

ROOT = Path(__file__).parents[1]
SERVING = ROOT / "serving"
KUBERNETES = SERVING / "kubernetes"
UNIT = SERVING / "newsie.service"
TEXTS = [
    path
    for path in SERVING.rglob("*")
    if path.suffix in {".yaml", ".yml", ".md", ".service", ".json"} or path.name == "Dockerfile"
]
MAX_ENVIRONMENT_MB = 250
STAGES = read_dockerfile(SERVING / "Dockerfile")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def container() -> Any:
    (found,) = load(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    return found


def routes() -> set[str]:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "newsie/serving").rglob("*.py"))
    return set(re.findall(r'"(/[a-z0-9/_{}.-]*)"', text))


# -- What is named exists --------------------------------------------------------------------------


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(SERVING)))
def test_every_variable_is_a_setting(path: Path) -> None:
    known = {f"NEWSIE_{name.upper()}" for name in Settings.model_fields} | {VARIABLE}
    named = set(re.findall(r"NEWSIE_[A-Z_]*[A-Z]", path.read_text("utf-8")))
    assert named <= known


def metric_labels() -> dict[str, set[str]]:
    """The names under which the app's metrics are found -> their labels."""
    found = {}
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_labelnames"):
            labels = set(metric._labelnames) | {"instance", "job"}
            if metric._type == "histogram":
                found[f"{metric._name}_bucket"] = labels | {"le"}
                found[f"{metric._name}_sum"] = found[f"{metric._name}_count"] = labels
            else:
                found[metric._name + ("_total" if metric._type == "counter" else "")] = labels
    return found


def expressions() -> list[str]:
    dashboard = json.loads((SERVING / "grafana/newsie.json").read_text("utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    notes = [note["expr"] for note in dashboard["annotations"]["list"]]
    variables = [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    rules = [
        rule["expr"] for group in load(SERVING / "alerts.yml")["groups"] for rule in group["rules"]
    ]
    return [*panels, *notes, *variables, *rules]


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_alerts_ask_for_metrics_that_there_are(expression: str) -> None:
    known = metric_labels()
    used = re.findall(r"\b(newsie_\w+)(?:\{([^}]*)\})?", expression)
    assert used or expression.startswith("up{")
    for name, matchers in used:
        assert name in known
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
        assert labels <= known[name]
    groups = re.findall(r"\bby \(([^)]*)\)", expression)
    grouped = {label.strip() for group in groups for label in group.split(",")}
    assert grouped <= set().union(*(known[name] for name, _ in used)) if used else not grouped
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_alerts_know_why_requests_are_refused() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "newsie/serving").rglob("*.py"))
    rules = {
        rule["alert"]: set(re.findall(r"\w+", matched[1]))
        for group in load(SERVING / "alerts.yml")["groups"]
        for rule in group["rules"]
        if (matched := re.search(r'reason=~"([^"]*)"', rule["expr"]))
    }
    assert rules["NewsieErrors"] == {"backend", "internal", "not_ready"}
    assert rules["NewsieOverloaded"] == {"overloaded", "timeout", "held_bytes", "connections"}
    for reason in set().union(*rules.values()):
        assert f'"{reason}"' in code


def test_the_dashboard_shows_every_metric() -> None:
    text = " ".join(expressions())
    for name in vars(Metrics()).values():
        if hasattr(name, "_labelnames"):
            assert name._name in text


def test_the_dashboard_is_laid_out() -> None:
    dashboard = json.loads((SERVING / "grafana/newsie.json").read_text("utf-8"))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_the_run_book_names_every_alert() -> None:
    book = (SERVING / "README.md").read_text("utf-8")
    rules = [rule for group in load(SERVING / "alerts.yml")["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert f"| {rule['alert']} |" in book


def test_the_run_book_names_flags_and_routes_that_there_are() -> None:
    book = (SERVING / "README.md").read_text("utf-8")
    for flag in re.findall(r"newsie serve[^\n|`]*?--([a-z-]+)", book):
        assert flag.replace("-", "_") in {*Settings.model_fields, "help"}
    for route in set(re.findall(r"`(?:GET |POST )?(/[a-z0-9/]+)", book)) - {"/tmp"}:
        if not route.startswith("/opt"):
            assert any(known.startswith(route) for known in routes()), route


def test_the_run_book_asks_as_the_server_wants_to_be_asked() -> None:
    book = (SERVING / "README.md").read_text("utf-8")
    classify, admin = (json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", book))
    assert ClassifyRequest.model_validate(classify).articles[0].headline
    assert ModelRequest.model_validate(admin).model


# -- Docker, compose, Prometheus, Grafana ----------------------------------------------------------


def test_the_image_is_small_and_nobodys() -> None:
    first, last = STAGES
    assert first.base == last.base == "python:${PYTHON}-slim"
    assert last.values("USER") == ["10001:10001"]
    assert not last.values("RUN")
    assert last.values("COPY") == ["--from=build /opt/newsie /opt/newsie"]
    assert last.command() == ["newsie", "serve"]


def test_the_context_lets_through_what_is_copied() -> None:
    lines = (SERVING / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for value in STAGES[0].values("COPY") for source in value.split()[:-1]}
    assert copied == let_through
    assert "*" in lines


def test_ports_and_paths_agree() -> None:
    (exposed,) = STAGES[1].values("EXPOSE")
    port = Settings.model_fields["port"].default
    assert str(port) == exposed
    compose, prometheus = load(SERVING / "compose.yaml"), load(SERVING / "prometheus.yml")
    assert compose["services"]["newsie"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (scrape,) = prometheus["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"newsie:{port}"]}]
    (opened,) = container()["ports"]
    assert opened["containerPort"] == port
    probes = [
        container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    ]
    assert [probe["path"] for probe in probes] == ["/health/ready", "/health/live", "/health/ready"]
    assert {probe["port"] for probe in probes} == {opened["name"]}
    paths = {*(probe["path"] for probe in probes), scrape["metrics_path"]}
    assert paths <= routes()
    assert load(KUBERNETES / "service.yaml")["spec"]["ports"][0]["targetPort"] == opened["name"]


@pytest.mark.parametrize(
    "name", ["AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "NEWSIE_PORT", "nothing"]
)
def test_the_image_listens_where_the_host_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in STAGES[1].environment().items():
        if variable.startswith("NEWSIE_"):
            monkeypatch.setenv(variable, value)
    monkeypatch.setenv(name, "8080")
    assert Settings().port == (8_000 if name == "nothing" else 8_080)


def test_the_health_check_asks_the_port_that_the_host_gives() -> None:
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return

    command = [sys.executable, *STAGES[1].health_check()[1:]]
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = os.environ | {"AIP_HTTP_PORT": str(server.server_port)}
        assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
        server.shutdown()
    assert seen == ["/health/ready"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode != 0


def test_compose_mounts_files_that_there_are() -> None:
    services = load(SERVING / "compose.yaml")["services"]
    assert services["newsie"]["read_only"] is True
    assert services["newsie"]["cap_drop"] == ["ALL"]
    context = (SERVING / services["newsie"]["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / services["newsie"]["build"]["dockerfile"]).is_file()
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (SERVING / source).is_file()
    (provider,) = load(SERVING / "grafana/dashboards.yaml")["providers"]
    mounted = " ".join(services["grafana"]["volumes"])
    assert f"{provider['options']['path']}/newsie.json" in mounted
    (source,) = load(SERVING / "grafana/datasource.yaml")["datasources"]
    dashboard = json.loads((SERVING / "grafana/newsie.json").read_text("utf-8"))
    assert dashboard["templating"]["list"][0]["current"]["value"] == source["uid"]
    assert load(SERVING / "prometheus.yml")["rule_files"] == ["alerts.yml"]


# -- Kubernetes and systemd ------------------------------------------------------------------------


def test_kubernetes_files_belong_together() -> None:
    deployment, service, scaler, disruption = (
        load(KUBERNETES / f"{name}.yaml")
        for name in ("deployment", "service", "autoscaler", "disruption")
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        disruption["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]  # it would fight the autoscaler
    assert 2 <= scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]
    files = load(KUBERNETES / "kustomization.yaml")
    assert set(files["resources"]) == {p.name for p in KUBERNETES.glob("*")} - {
        "kustomization.yaml"
    }


def test_one_image_is_built_and_run_everywhere() -> None:
    image = f"newsie:{__version__}"
    assert container()["image"] == image
    [listed] = load(KUBERNETES / "kustomization.yaml")["images"]
    assert f"{listed['newName']}:{listed['newTag']}" == image
    assert load(SERVING / "compose.yaml")["services"]["newsie"]["image"] == image
    for name in ("Dockerfile", "README.md"):
        text = (SERVING / name).read_text(encoding="utf-8")
        assert set(re.findall(r"docker build .* -t (\S+)[ `]", text)) == {image}, name
        runs = re.findall(r"docker run .*", text)
        assert {run.split()[-1] for run in runs} == {image}, name
        assert set(re.findall(r"\bnewsie:[\w.]+", text)) == {image}, name


def test_the_pod_may_do_little_and_leaves_in_time() -> None:
    pod = load(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    security = container()["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:10001" == STAGES[1].values("USER")[0]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {"requests", "limits"} <= container()["resources"].keys()
    sleep = container()["lifecycle"]["preStop"]["exec"]["command"]
    pause = float(re.findall(r"sleep\((\d+)\)", sleep[-1])[0])
    leave = pause + sum(
        Settings.model_fields[name].default
        for name in ("drain_seconds", "shutdown_timeout_seconds")
    )
    assert leave < pod["terminationGracePeriodSeconds"]


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(UNIT, encoding="utf-8")
    return parser


def test_the_unit_reloads_stops_and_is_hardened() -> None:
    service = unit()["Service"]
    assert service["ExecStart"].endswith("/newsie serve")
    assert service["ExecReload"] == "kill -HUP $MAINPID"
    assert service["KillMode"] == "mixed"
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    patience = Settings.model_fields["shutdown_timeout_seconds"].default
    assert float(service["TimeoutStopSec"]) > patience


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "newsie.service"
    text = UNIT.read_text("utf-8").replace("/opt/newsie/bin/newsie", shutil.which("true") or "")
    copy.write_text(text, encoding="utf-8")
    for line in ("LoadCredential=key:/etc/newsie/key", "Environment=NEWSIE_API_KEY_FILE=%d/key"):
        assert line in text  # what it says about keys can be read by systemd, too
        text = text.replace("\nDynamicUser", f"\n{line}\nDynamicUser")
    copy.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -- The commands of the Dockerfile, run -----------------------------------------------------------

READ_ONLY = """
mount --make-rprivate / && mount -t tmpfs tmpfs "$1" && mount -o remount,bind,ro / && shift && exec "$@"
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for the image, built by the commands of the Dockerfile."""
    folder = tmp_path_factory.mktemp("image")
    build(STAGES[0], ROOT, folder)
    (folder / "tmp").mkdir()
    return folder


@pytest.mark.slow
def test_the_environment_of_the_image_is_small(image: Path) -> None:
    files = [path for path in (image / "opt/newsie").rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files if not path.is_symlink()) / 1e6
    assert megabytes < MAX_ENVIRONMENT_MB
    site = next((image / "opt/newsie/lib").glob("python*/site-packages"))
    names = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"newsie_classifier", "fastapi", "uvicorn", "onnxruntime"} <= names
    assert not names & {"torch", "transformers", "pip", "setuptools", "pytest"}
    assert (site / "newsie/serving/page.html").is_file()


@pytest.mark.slow
def test_the_image_serves_from_a_file_system_that_cannot_be_written(image: Path) -> None:
    last = STAGES[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = placed(last, image) | {"NEWSIE_PORT": str(port), "NEWSIE_HOST": "127.0.0.1"}
    prefix = read_only(image)
    command = [*prefix, str(image / "opt/newsie/bin" / last.command()[0]), *last.command()[1:]]
    process = subprocess.Popen(command, cwd=image / "tmp", env=environment)
    try:
        wait_until_healthy(last, image, environment)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/classify",
            b'{"articles": [{"headline": "Rain stops play at the Oval"}], "tasks": ["section"]}',
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            (prediction,) = json.load(answer)["predictions"]
        assert prediction["section"][0]["label"] == "sports"
        browser = urllib.request.Request(
            f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"}
        )
        with urllib.request.urlopen(browser, timeout=30) as page:
            assert b"<title>Newsie</title>" in page.read()
    finally:
        process.send_signal(getattr(signal, last.values("STOPSIGNAL")[0]))
        assert process.wait(60) == 0
    assert check_health(last, image, environment) != 0


def placed(stage: Stage, image: Path) -> dict[str, str]:
    """The variables of the image, its paths in the folder that stands for it."""
    paths = {"HOME": str(image / "tmp"), "TMPDIR": str(image / "tmp")}
    search = f"{image}/opt/newsie/bin{os.pathsep}{os.environ['PATH']}"
    return stage.environment() | paths | {"PATH": search}


def read_only(image: Path) -> list[str]:
    """What makes a command see the machine read-only but for the image's /tmp, if that can be done."""
    prefix = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(image / "tmp")]
    probe = [*prefix, "touch", str(image / "written")]
    if not shutil.which("unshare") or b"Read-only" not in (
        subprocess.run(probe, capture_output=True, check=False).stderr
    ):
        pytest.skip("needs the right to mount, to make the file system read-only")
    return prefix


def check_health(stage: Stage, image: Path, environment: dict[str, str]) -> int:
    command = stage.health_check()
    command[0] = str(image / "opt/newsie/bin" / command[0])
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode


def wait_until_healthy(stage: Stage, image: Path, environment: dict[str, str]) -> None:
    end = time.monotonic() + 60
    while check_health(stage, image, environment) != 0:
        assert time.monotonic() < end, "not healthy after a minute"
        time.sleep(0.5)
