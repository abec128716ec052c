"""The files of the container: what they copy exists, and what they run is a command."""

import re
from pathlib import Path

import yaml

from e2fashion.__main__ import argument_parser, parse
from e2fashion.tasks.serving.config import KEY_VARIABLE, ServeConfig

ROOT = Path(__file__).resolve().parents[3]


def test_the_dockerfile_copies_what_exists_and_runs_the_service() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in allowed
    words = re.findall(r'"([^"]+)"', re.findall(r"^CMD (.+)$", text, re.MULTILINE)[-1])
    command, arguments = parse(*argument_parser().parse_known_args(words))
    config = command.configure(arguments)
    assert isinstance(config, ServeConfig)
    assert (config.host, f"EXPOSE {config.port}" in text) == ("0.0.0.0", True)


def test_the_compose_file_needs_a_key_and_publishes_the_port_on_the_loopback_address() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["service"]
    assert service["environment"][KEY_VARIABLE].startswith(f"${{{KEY_VARIABLE}:?")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"] == ["./served:/data"]
