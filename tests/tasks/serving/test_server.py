"""The service, in a process of its own: what it answers, what it refuses, and what it survives."""

import base64
import io
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from PIL import Image
from running import TAGS, Client, free_port, running, save_tagged_run

import e2fashion
from e2fashion.__main__ import main
from e2fashion.data.catalogue import Catalogue
from e2fashion.data.decode import read_pixels
from e2fashion.encoder import Encoder
from e2fashion.tasks.classification.tag_predictor import TagPredictor
from e2fashion.tasks.localization.explain import explain_image
from e2fashion.tasks.search.build import sync_index
from e2fashion.tasks.search.config import EmbedConfig, RecommendConfig

pytestmark = pytest.mark.slow
TEXTS = ["a red dress", "coat of wool"]
Service: TypeAlias = "tuple[Client, subprocess.Popen[str]]"


@pytest.fixture(scope="module")
def folder(synth_catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an index and tags."""
    place = tmp_path_factory.mktemp("service")
    encoder = save_tagged_run(synth_catalogue, place / "run")
    e2fashion.build_index(encoder, str(synth_catalogue.path), place / "index")
    return place


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return e2fashion.load_encoder(str(folder / "run"))


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    settings = (
        "demo",
        "run",
        "run",
        "index=index",
        "index_b=index",
        "name_b=other",
        "max_body=1",
        "max_pixels=10000",
        "max_items=8",
        "max_text=200",
    )
    with running(folder, *settings, "batch_wait=50", "timeout=5") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Client:
    return service[0]


def picture(color: str, size: tuple[int, int] = (48, 40)) -> Image.Image:
    return Image.new("RGB", size, color)


def uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def vectors(answer: Any) -> torch.Tensor:
    return torch.tensor([item["embedding"] for item in answer["data"]])


def test_embeddings_are_the_encoders_in_the_order_of_the_input(client: Client, encoder: Encoder) -> None:
    red, blue = picture("red"), picture("blue")
    answer = client.get("/v1/embeddings", {"input": [TEXTS[0], {"image": uri(red)}, TEXTS[1], uri(blue)]})
    texts, images = encoder.embed_texts(TEXTS), encoder.embed_images([red, blue])
    expected = torch.stack([texts[0], images[0], texts[1], images[1]])
    torch.testing.assert_close(vectors(answer), expected, atol=1e-5, rtol=0)
    assert [item["index"] for item in answer["data"]] == [0, 1, 2, 3]
    assert (answer["object"], answer["model"]) == ("list", "run")
    packed = client.get("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "base64", "dimensions": 16})
    read = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(read, texts[0].numpy(), atol=1e-5)


def test_search_is_that_of_the_index(client: Client, encoder: Encoder, folder: Path) -> None:
    index = e2fashion.open_index(folder / "index", encoder)
    red = picture("red")
    brand = next(hit.tags["brand"] for hit in index.search(TEXTS[0], top=50) if "brand" in hit.tags)
    for body, query in [
        ({"text": TEXTS[0]}, {"text": TEXTS[0]}),
        ({"image": uri(red)}, {"image": red}),
        (
            {"text": TEXTS[0], "image": uri(red), "weight": 0.3, "where": {"brand": brand}},
            {"text": TEXTS[0], "image": red, "weight": 0.3, "where": {"brand": brand}},
        ),
    ]:
        hits = client.get("/search", {**body, "top": 5})["hits"]
        expected = index.search(**query, top=5)  # type: ignore[arg-type]
        assert [hit["id"] for hit in hits] == [hit.product_id for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    small = client.get("/search", {"text": TEXTS[0], "top": 1, "thumbnail": 16})["hits"][0]["image"]
    with Image.open(io.BytesIO(base64.b64decode(small.partition(",")[2]))) as image:
        assert image.size == (16, 16)


@pytest.mark.parametrize("features", ["global", "region", "both"])
def test_classification_is_the_classifiers(client: Client, encoder: Encoder, features: str) -> None:
    labels, images = {"dress": "a dress", "coat": "coat of wool", "shoe": "shoes"}, [picture("red"), picture("blue")]
    body = {"images": [uri(image) for image in images], "labels": labels, "features": features, "entity": "brand"}
    found = client.get("/classify", body)["images"]
    expected = e2fashion.ZeroShotClassifier(encoder).classify(images, labels, features=features, entity="brand")
    assert [item["label"] for item in found] == expected.labels
    for item, row in zip(found, expected.scores, strict=True):
        scores = {label["label"]: label["score"] for label in item["labels"]}
        assert [scores[name] for name in labels] == pytest.approx(row.tolist(), abs=1e-5)
        assert sum(label["probability"] for label in item["labels"]) == pytest.approx(1)


def test_tags_are_the_predictors(client: Client, encoder: Encoder) -> None:
    found = client.get("/tags", {"images": uri(picture("red"))})["images"]
    [expected] = TagPredictor(encoder, TAGS).predict_tags(picture("red"))
    assert list(found[0]) == ["brand", "kind"]
    assert found[0]["brand"]["value"] == expected["brand"].value
    assert found[0]["kind"] == {
        "value": None,
        "nearest": expected["kind"].best,
        "probability": pytest.approx(expected["kind"].score, abs=1e-4),
    }


def test_a_service_describes_itself(client: Client) -> None:
    assert client.get("/health") == {"status": "ok", "models": ["run", "other"]}
    model, other = client.get("/v1/models")["data"]
    assert (model["id"], model["dimension"], model["products"], model["tags"]) == ("run", 16, 120, ["brand", "kind"])
    assert "brand" in model["filters"]
    assert other == {**model, "id": "other"}
    assert client.get("/search", {"text": "x", "model": "other"}) == client.get("/search", {"text": "x"})
    schema = client.get("/openapi.json")
    assert schema["info"]["version"] == e2fashion.__version__
    paths = schema["paths"]
    assert {"/v1/embeddings", "/search", "/classify", "/tags", "/health", "/metrics"} <= set(paths)


def test_recommendations_are_those_of_the_index(client: Client, encoder: Encoder, folder: Path) -> None:
    index = e2fashion.open_index(folder / "index", encoder)
    start = index.search(TEXTS[0], top=1)[0].product_id
    body = {"product": start, "text": TEXTS[1], "steps": 3}
    expected = e2fashion.recommend(RecommendConfig(index=str(index.path), **body), index)  # type: ignore[arg-type]
    found = client.get("/recommend", body)
    assert [hit["id"] for hit in found["hits"]] == [item.hit.product_id for item in expected.hits]
    assert [hit["grade"] for hit in found["hits"]] == pytest.approx([item.grade for item in expected.hits], abs=1e-5)
    assert client.get("/recommend", {"image": uri(picture("red")), "text": TEXTS[1], "steps": 1})["hits"]


def test_maps_are_those_of_the_explanation(client: Client, encoder: Encoder) -> None:
    found = client.get("/explain", {"image": uri(picture("red")), "texts": [TEXTS[0]]})["maps"]
    expected = explain_image(encoder, read_pixels(picture("red")), None, [TEXTS[0]])
    assert [(item["method"], item["subject"]) for item in found] == [(item.heading, item.subject) for item in expected]
    for item, other in zip(found, expected, strict=True):
        assert len(item["heat"]) ** 2 == len(other.heatmap.heat)
        assert max(map(max, item["heat"])) in (0, pytest.approx(1))
        assert item["selected"] == sorted(set(other.heatmap.selected))


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_a_page_needs_nothing_from_another_host(client: Client, page: str) -> None:
    status, content = Client(client.port, None).ask(page)
    assert status == 200
    links = re.findall(r'(?:src|href)="([^"]*)"', content)
    assert all(link.startswith(("/", "#", "data:,")) and not link.startswith("//") for link in links)
    for link in (link for link in links if link.startswith("/page/")):
        status, content = client.ask(link)
        assert status == 200
        assert "://" not in content.replace("https://www.w3.org", "")


TOO_LARGE = {"input": {"image": uri(picture("red", (200, 200)))}}
OF_OTHER = {
    "images": uri(picture("red")),
    "labels": ["x"],
    "features": "region",
    "entity": "collar",
    "model": "other",
}
BAD: dict[str, tuple[str, Any, int, str]] = {
    "no JSON": ("/search", b'{"text":', 400, "not JSON"),
    "no UTF-8": ("/search", b'{"text": "\xff"}', 400, ""),
    "an unknown key": ("/search", {"text": "x", "tpo": 1}, 422, "tpo"),
    "an empty query": ("/search", {"text": " "}, 422, "nothing to search for"),
    "no query": ("/search", {}, 422, "nothing to search for"),
    "an unknown tag": ("/search", {"text": "x", "where": {"barnd": "y"}}, 422, "barnd"),
    "tags without regions": ("/search", {"text": "x", "tags": {"brand": "y"}}, 422, "tags.brand needs regions"),
    "a weight below 0": ("/search", {"text": "x", "region_weight": -1}, 422, "region_weight"),
    "a large top": ("/search", {"text": "x", "top": 1000}, 422, "up to 200"),
    "a share beyond 1": ("/search", {"text": "x", "weight": 2}, 422, "weight"),
    "a long text": ("/search", {"text": "x" * 10_000}, 422, "10,000 characters"),
    "half a character": ("/v1/embeddings", b'{"input": "\\ud800"}', 422, "surrogate"),
    "half a character in a filter": ("/search", b'{"text": "x", "where": {"brand": "\\ud800"}}', 422, "surrogate"),
    "many texts": ("/v1/embeddings", {"input": ["x"] * 9}, 422, "1 to 8"),
    "no text": ("/v1/embeddings", {"input": []}, 422, "0 items"),
    "another width": ("/v1/embeddings", {"input": "x", "dimensions": 8}, 422, "has 16"),
    "a URL": ("/v1/embeddings", {"input": {"image": "http://127.0.0.1/x.png"}}, 422, "never fetched"),
    "a file": ("/v1/embeddings", {"input": {"image": "file:///etc/hosts"}}, 422, "never fetched"),
    "damaged base64": ("/v1/embeddings", {"input": "data:image/png;base64,@"}, 422, "base64"),
    "no image": ("/v1/embeddings", {"input": "data:image/png;base64,Z2FyYmFnZQ=="}, 422, "image"),
    "a large image": ("/v1/embeddings", TOO_LARGE, 422, "max_pixels"),
    "a large body": ("/search", b"x" * 3_000_000, 413, "takes up to 1 MB"),
    "labels that are equal": ("/classify", {"images": [uri(picture("red"))], "labels": ["x", "x"]}, 422, "more than"),
    "no labels": ("/classify", {"images": [uri(picture("red"))], "labels": []}, 422, "labels"),
    "an unknown entity of the other model": ("/classify", OF_OTHER, 422, "'other': no entity 'collar'"),
    "an unknown model": ("/search", {"text": "x", "model": "third"}, 404, "there is no model 'third'"),
    "no start": ("/recommend", {"text": "x"}, 422, "give one start"),
    "an unknown product": ("/recommend", {"text": "x", "product": "nowhere"}, 422, "nowhere"),
    "no direction": ("/recommend", {"text": " ", "product": "x"}, 422, "the text is empty"),
    "an empty text to explain": ("/explain", {"image": uri(picture("red")), "texts": [" "]}, 422, "a text is empty"),
    "an unknown path": ("/v2/embeddings", {}, 404, "/v2/embeddings"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(client: Client, name: str) -> None:
    path, body, expected, part = BAD[name]
    status, answer = client.ask(path, body)
    assert status == expected, answer
    assert part in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 400
    assert answer["error"]["code"] == expected


def test_a_key_is_needed(client: Client) -> None:
    assert Client(client.port, None).ask("/search", {"text": "x"})[0] == 401
    assert Client(client.port, "another").ask("/metrics")[0] == 401
    assert Client(client.port, None).ask("/health")[0] == 200
    assert Client(client.port, None).ask("/search", {"text": "x"}, **{"X-API-Key": "a key of the test"})[0] == 200


def test_requests_are_encoded_together_and_a_bad_one_spoils_no_other(client: Client, encoder: Encoder) -> None:
    good = {"input": [uri(picture("red")), "a red dress"]}
    bad = {"input": ["data:image/png;base64,Z2FyYmFnZQ=="]}
    bodies = [bad if number % 8 == 0 else good for number in range(32)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda body: client.ask("/v1/embeddings", body), bodies))
    expected = torch.cat([encoder.embed_images(picture("red")), encoder.embed_texts("a red dress")])
    for body, (status, answer) in zip(bodies, found, strict=True):
        assert status == (422 if body is bad else 200)
        if body is good:
            torch.testing.assert_close(vectors(answer), expected, atol=1e-5, rtol=0)
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").splitlines() if not line.startswith("#"))
    assert float(lines["e2fashion_batch_requests_sum"]) > float(lines["e2fashion_batch_requests_count"])
    assert float(lines['e2fashion_requests_total{path="/v1/embeddings",status="200"}']) >= 28
    assert float(lines['e2fashion_items_total{kind="image"}']) >= 28


def test_what_cannot_start(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2FASHION_API_KEY", raising=False)
    assert main(["serve", "run", "host=0.0.0.0"]) == 1
    assert "set a key for them in E2FASHION_API_KEY" in capsys.readouterr().err
    assert main(["serve", "run", "port=80"]) == 1
    assert "port is 80; give one from 1024" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "run", f"port={port}"]) == 1
        assert f"port {port} at 127.0.0.1 cannot be used" in capsys.readouterr().err
    assert main(["demo", "run"]) == 1
    assert "the page searches: give index=<folder>" in capsys.readouterr().err
    assert main(["demo", "run", "run", "index=i", "index_b=i", f"port={free_port()}"]) == 1
    assert "both models are called 'run': give name_b=" in capsys.readouterr().err
    assert main(["serve", str(folder / "missing"), f"port={free_port()}"]) == 1
    assert "missing" in capsys.readouterr().err
    assert not multiprocessing.active_children()


def test_a_sync_is_seen_without_a_restart_and_no_request_fails(
    client: Client, encoder: Encoder, folder: Path, synth_catalogue: Catalogue
) -> None:
    splits = synth_catalogue.manifest.splits
    done = threading.Event()

    def search() -> list[int]:
        found = []
        while not done.is_set():
            found.append(client.ask("/search", {"text": TEXTS[0], "top": 3})[0])
        return found

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(search) for _ in range(2)]
        try:
            for names in (["test"], ["all"]):
                sync_index(folder / "index", encoder, synth_catalogue, EmbedConfig(split=names), progress=False)
                expected = sum(splits[name]["products"] for name in (splits if names == ["all"] else names))
                answer = client.get("/search", {"text": TEXTS[1], "top": 200})
                assert (answer["products"], len(answer["hits"])) == (expected, expected)
        finally:
            done.set()
        for each in asked:
            assert set(each.result()) == {200}


def children(process: int) -> dict[int, str]:
    """The commands of the processes that a process has started, by their id."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process:
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError, IndexError):
            continue
    return found


def works(process: int) -> bool:
    """Whether a process has not ended; one that has may wait for the process that adopted it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_worker_is_replaced_and_no_process_outlives_the_first(service: Service) -> None:
    """The last test: it kills the service."""
    client, process = service
    worker = next(child for child, command in children(process.pid).items() if "spawn_main" in command)
    os.kill(worker, signal.SIGKILL)
    for model in ("run", "other"):
        while worker in children(process.pid) or client.ask("/search", {"text": "x", "model": model})[0] != 200:
            time.sleep(0.2)
    others = children(process.pid)
    assert len(others) >= 3
    process.kill()
    process.wait()
    while any(map(works, others)):
        time.sleep(0.05)
