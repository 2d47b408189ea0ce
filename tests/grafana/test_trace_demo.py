"""`make trace-demo`: a viewer that is not ours takes the model's span for a model's, and pictures can be taken."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.needs import lack, need_program

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-phoenix/bin/python"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.soak
def test_the_viewer_shows_a_streamed_and_a_failed_turn(tmp_path: Path) -> None:
    """Phoenix recognises the model's span of both turns, with model and tokens, and its waterfall can be pictured."""
    if not (PYTHON.with_name("phoenix")).exists():
        lack("Arize Phoenix is not installed; to run this test: make .venv-phoenix/.viewer")
    need_program("chromium", "apt-get install chromium")
    command = [str(PYTHON), "grafana/trace_demo.py", "--port", str(_free_port()), "--pictures", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "chat scripted-tutor: kind LLM, no tokens, status ERROR" in done.stdout
    assert done.stdout.count("chat scripted-tutor: kind LLM") == 2
    pictures = [tmp_path / f"trace-{name}.png" for name in ("streamed", "failed")]
    assert [picture.read_bytes()[:8] for picture in pictures] == [PNG, PNG]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
