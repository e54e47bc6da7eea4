from __future__ import annotations

import shutil
import subprocess
from typing import Any

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient

from newsie import Article, Classifier
from tests.serving.live import Live, live
from tests.tiny import LABELS, tiny_articles

TEXT = "goal match striker\nthe derby at the stadium"
SECTIONS = list(LABELS["section"].labels)


def scores_of(classifier: Classifier, text: str, task: str = "section") -> list[dict[str, Any]]:
    return classifier.classify([text])[0].to_json()[task]


def assert_scores(found: Any, wanted: list[dict[str, Any]]) -> None:
    assert [row["label"] for row in found] == [row["label"] for row in wanted]
    np.testing.assert_allclose(
        [row["score"] for row in found], [row["score"] for row in wanted], atol=1e-5
    )
    assert all(set(row) == {"label", "score"} for row in found)


def test_own(client: httpx.Client, tiny_classifier: Classifier) -> None:
    articles = tiny_articles(5)
    body = {"articles": [{"headline": a.headline, "body": a.body} for a in articles], "top_k": 2}
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert set(content) == {"predictions", "truncated", "model"}
    assert content["model"] == tiny_classifier.bundle.fingerprint
    assert content["truncated"] == [p.truncated for p in tiny_classifier.classify(articles)]
    for found, wanted in zip(
        content["predictions"], tiny_classifier.classify(articles), strict=True
    ):
        assert list(found) == ["section", "mood"]
        for task, rows in found.items():
            assert_scores(rows, wanted.to_json(2)[task])


def test_own_with_tasks(client: httpx.Client) -> None:
    body = {"articles": [{"headline": "goal"}], "tasks": ["mood"]}
    [prediction] = client.post("/v1/classify", json=body).json()["predictions"]
    assert list(prediction) == ["mood"]
    assert len(prediction["mood"]) == 2


def test_explain(client: httpx.Client, tiny_classifier: Classifier) -> None:
    article = {"headline": "goal match", "body": "the cup"}
    answer = client.post(
        "/v1/explain", json={"article": article, "labels": {"section": "science"}}
    ).json()
    wanted = tiny_classifier.explain(
        Article("goal match", "the cup"), labels={"section": "science"}
    ).to_json()
    assert answer.pop("model") == tiny_classifier.bundle.fingerprint
    assert answer["words"] == wanted["words"]
    assert answer["tasks"]["section"]["label"] == "science"
    for task in ("section", "mood"):
        np.testing.assert_allclose(
            answer["tasks"][task].pop("effects"), wanted["tasks"][task].pop("effects"), atol=1e-5
        )
        assert answer["tasks"][task]["score"] == pytest.approx(
            wanted["tasks"][task]["score"], abs=1e-5
        )
    assert set(answer) == set(wanted)


@pytest.mark.parametrize(
    "body", [b'{"articles":[{"headline":"caf\xe9"}]}', b'{"top_k":' + b"1" * 5_000 + b"}"]
)
def test_bytes_that_are_no_json(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/classify", content=body)
    assert (answer.status_code, answer.json()["reason"]) == (400, "malformed")
    assert answer.json()["error"].startswith("the body is not JSON in UTF-8: ")


def test_a_label_of_a_task_that_is_not_explained(client: httpx.Client) -> None:
    body = {"article": {"headline": "goal"}, "tasks": ["mood"], "labels": {"section": "science"}}
    answer = client.post("/v1/explain", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (422, "task")
    assert answer.json()["error"] == "a label is given for 'section'; asked for: mood"


def test_hub_client(served: Live, tiny_classifier: Classifier) -> None:
    hub = InferenceClient(model=served.url)
    found = hub.text_classification(TEXT, top_k=2, function_to_apply="softmax")
    wanted = scores_of(tiny_classifier, TEXT)[:2]
    assert [(row.label, pytest.approx(row.score, abs=1e-5)) for row in found] == [
        (row["label"], row["score"]) for row in wanted
    ]
    assert len(hub.text_classification(TEXT)) == 3


def test_hub_shapes(client: httpx.Client, tiny_classifier: Classifier) -> None:
    [one] = client.post("/", json={"inputs": TEXT}).json()
    assert_scores(one, scores_of(tiny_classifier, TEXT))
    both = client.post("/", json={"inputs": [TEXT, "goal"], "parameters": {"top_k": 1}}).json()
    assert [len(rows) for rows in both] == [1, 1]
    none = client.post("/", json={"inputs": []})
    assert (none.status_code, set(none.json())) == (422, {"error"})
    [mood] = client.post("/?task=mood", json={"inputs": TEXT}).json()
    assert_scores(mood, scores_of(tiny_classifier, TEXT, "mood"))


def test_hub_functions(client: httpx.Client, tiny_classifier: Classifier) -> None:
    logits = np.sort(tiny_classifier.logits([TEXT])["section"][0].astype(float))[::-1]

    def ask(function: str) -> list[float]:
        body = {"inputs": TEXT, "parameters": {"function_to_apply": function}}
        return [row["score"] for row in client.post("/", json=body).json()[0]]

    np.testing.assert_allclose(ask("none"), logits, atol=1e-4)
    np.testing.assert_allclose(ask("sigmoid"), 1 / (1 + np.exp(-logits)), atol=1e-4)
    body = {"inputs": TEXT, "parameters": {"function_to_apply": "tanh"}}
    assert client.post("/", json=body).status_code == 422


def test_tei(client: httpx.Client, tiny_classifier: Classifier) -> None:
    wanted = scores_of(tiny_classifier, TEXT)
    assert_scores(client.post("/predict", json={"inputs": TEXT}).json(), wanted)
    for inputs in ([[TEXT], ["goal"]], [TEXT, "goal"]):
        first, second = client.post("/predict", json={"inputs": inputs}).json()
        assert_scores(first, wanted)
        assert_scores(second, scores_of(tiny_classifier, "goal"))
    raw = client.post(
        "/predict",
        json={
            "inputs": TEXT,
            "raw_scores": True,
            "truncation_direction": "Right",
        },
    ).json()
    logits = np.sort(tiny_classifier.logits([TEXT])["section"][0])[::-1]
    np.testing.assert_allclose([row["score"] for row in raw], logits, atol=1e-4)


def test_tei_errors(client: httpx.Client, tiny_classifier: Classifier) -> None:
    def ask(**body: Any) -> tuple[int, str]:
        answer = client.post("/predict", json=body)
        assert set(answer.json()) == {"error", "error_type"}
        return answer.status_code, answer.json()["error_type"]

    assert ask(inputs=[]) == (400, "Empty")
    assert ask(inputs=" ") == (400, "Empty")
    assert ask(inputs=["goal"] * 257) == (413, "Validation")
    assert ask(inputs=[["a", "b"]]) == (422, "Tokenizer")
    assert ask(inputs=3) == (422, "Tokenizer")
    assert ask(inputs="goal", truncation_direction="Left") == (422, "Tokenizer")
    long = {"inputs": "goal " * 100}
    assert client.post("/predict", json=long).status_code == 200
    assert client.post("/predict", json=long | {"truncate": False}).status_code == 413
    short = {"inputs": "goal", "truncate": False}
    assert client.post("/predict", json=short).status_code == 200
    for cached in (0, 10):
        with live(tiny_classifier, cache_articles=cached) as server, server.client() as asking:
            for _ in range(2):
                answer = asking.post("/predict", json=long | {"truncate": False})
                assert answer.status_code == 413
            assert not server.samples("newsie_predictions_total")
            assert asking.post("/predict", json=long).status_code == 200
            assert asking.post("/predict", json=long | {"truncate": False}).status_code == 413
    with live(tiny_classifier, auto_truncate=False) as strict, strict.client() as asking:
        answer = asking.post("/predict", json=long)
        assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")
        assert "32 tokens" in answer.json()["error"]
        assert asking.post("/predict", json=long | {"truncate": True}).status_code == 200


def test_info(client: httpx.Client, tiny_classifier: Classifier) -> None:
    info = client.get("/info").json()
    assert info["model_id"] == "tiny"
    assert info["model_sha"] == tiny_classifier.bundle.fingerprint
    classifier = info["model_type"]["classifier"]
    assert classifier["id2label"] == {"0": "business", "1": "science", "2": "sports"}
    assert classifier["label2id"] == {"business": 0, "science": 1, "sports": 2}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (32, 256)
    assert info["tasks"] == {"section": SECTIONS, "mood": ["calm", "loud"]}


def test_v2(client: httpx.Client, tiny_classifier: Classifier) -> None:
    texts = [TEXT, "goal", "shares profit"]
    for shape, data in (([3], texts), ([3, 1], texts), ([3, 1], [[text] for text in texts])):
        tensor = {"name": "text", "shape": shape, "datatype": "BYTES", "data": data}
        answer = client.post("/v2/models/tiny/infer", json={"id": "7", "inputs": [tensor]})
        content = answer.json()
        assert (content["model_name"], content["id"]) == ("tiny", "7")
        assert content["model_version"] == tiny_classifier.bundle.fingerprint
        label, probabilities = content["outputs"]
        predictions = tiny_classifier.classify(texts)
        assert label == {
            "name": "label",
            "shape": [3],
            "datatype": "BYTES",
            "data": [p.label("section") for p in predictions],
        }
        assert (probabilities["shape"], probabilities["datatype"]) == ([3, 3], "FP32")
        np.testing.assert_allclose(
            np.reshape(probabilities["data"], (3, 3)),
            [p.probabilities["section"] for p in predictions],
            atol=1e-5,
        )


def test_v2_metadata(client: httpx.Client, tiny_classifier: Classifier) -> None:
    assert set(client.get("/v2").json()) == {"name", "version", "extensions"}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    model = client.get("/v2/models/tiny").json()
    assert set(model) == {"name", "versions", "platform", "inputs", "outputs"}
    assert model["outputs"][1]["shape"] == [-1, 3]
    assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    version = tiny_classifier.bundle.fingerprint
    assert client.get(f"/v2/models/tiny/versions/{version}").json() == model
    assert client.get(f"/v2/models/tiny/versions/{version}/ready").status_code == 200


def test_v2_errors(client: httpx.Client) -> None:
    def ask(model: str = "tiny", **changes: Any) -> int:
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["goal"]} | changes
        answer = client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})
        assert set(answer.json()) == {"error"} or answer.status_code == 200
        return answer.status_code

    assert ask() == 200
    assert ask("other") == 404
    assert ask("tiny/versions/9") == 404
    assert ask(shape=[2]) == 400
    assert ask(shape=[0], data=[]) == 400
    assert ask(datatype="FP32") == 422
    assert ask(data=[1]) == 422


def test_v2_outputs_and_tasks(client: httpx.Client) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["goal"]}
    body = {
        "inputs": [tensor],
        "outputs": [{"name": "label"}],
        "parameters": {"task": "mood"},
    }
    answer = client.post("/v2/models/tiny/infer", json=body).json()
    assert [output["name"] for output in answer["outputs"]] == ["label"]
    assert answer["outputs"][0]["data"][0] in ("calm", "loud")
    assert "id" not in answer


def test_sagemaker(client: httpx.Client, tiny_classifier: Classifier) -> None:
    assert client.get("/ping").status_code == 200
    own = client.post("/invocations", json={"articles": [{"headline": "goal"}]}).json()
    assert_scores(own["predictions"][0]["section"], scores_of(tiny_classifier, "goal"))
    [hub] = client.post("/invocations", json={"inputs": "goal"}).json()
    assert_scores(hub, scores_of(tiny_classifier, "goal"))


def test_vertex(tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/aip/health")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/predict")
    with live(tiny_classifier) as served, served.client() as asking:
        assert asking.get("/aip/health").status_code == 200
        body = {
            "instances": ["goal", {"headline": "shares", "body": "profit"}],
            "parameters": {"tasks": ["section"], "top_k": 1},
        }
        answer = asking.post("/predict", json=body).json()
        assert set(answer) == {"predictions"}
        first, second = answer["predictions"]
        assert_scores(first["section"], scores_of(tiny_classifier, "goal")[:1])
        assert_scores(second["section"], scores_of(tiny_classifier, "shares\nprofit")[:1])


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_health(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.json()["status"] in ("ready", "live")


def test_root(client: httpx.Client) -> None:
    page = client.get("/", headers={"Accept": "text/html,*/*"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.text.lower().startswith("<!doctype html>")
    links = client.get("/", headers={"Accept": "*/*"}).json()
    assert client.get(links["docs"]).status_code == 200


def test_curl(served: Live) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    command = [curl, "-sS", "--noproxy", "*", f"{served.url}/v1/classify"]
    command += ["-H", "Content-Type: application/json", "-d", '{"articles":[{"headline":"goal"}]}']
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer.startswith('{"predictions":[{"section":[{"label":')


def test_request_ids(served: Live, client: httpx.Client) -> None:
    assert (
        client.get("/health", headers={"X-Request-Id": "a-b.C:1_"}).headers["x-request-id"]
        == "a-b.C:1_"
    )
    for bad in (b"", b"a b", b"a" * 65, "ü".encode(), b'"'):
        given = client.get("/health", headers=[(b"X-Request-Id", bad)]).headers["x-request-id"]
        assert len(given) == 32
        assert int(given, 16)
    found = served.line("a-b.C:1_")
    assert (found["route"], found["code"], found["method"]) == ("/health", 200, "GET")


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/health", "/health/live", "/ping", "/info", "/v2", "/none"],
)
def test_head(served: Live, client: httpx.Client, path: str) -> None:
    name = path.replace("/", ".")
    got = client.get(path, headers={"X-Request-Id": f"get-{name}"})
    head = client.head(path, headers={"X-Request-Id": f"hd.-{name}"})
    assert head.status_code == got.status_code
    assert head.content == b""
    for header in ("content-type", "content-length"):
        assert head.headers[header] == got.headers[header]
    line = served.line(f"hd.-{name}")
    assert (line["method"], line["code"]) == ("HEAD", got.status_code)
    assert line["route"] == ("other" if path == "/none" else path)
    assert client.head("/v1/classify").status_code == 405


def test_no_route(client: httpx.Client) -> None:
    answer = client.get("/nothing")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error", "reason", "request_id"}
    answer = client.get("/v1/classify")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"] == "GET does not work here; use POST"
    assert client.post("/v1/classify/", json={}).status_code == 404
