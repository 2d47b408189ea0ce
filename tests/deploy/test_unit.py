"""deploy/nursery-chat@.service: systemd takes it, and it fits the server."""

import re
import subprocess
import sys
from pathlib import Path

from app.__main__ import CANNOT_START
from app.settings import Settings
from tests.deploy.proxied import FOLDER, PLACES
from tests.needs import need_program

NAME = "nursery-chat@.service"
EXPOSURE_MAX = 20
"""Of 100, by `systemd-analyze security`: lower is safer; a unit that says nothing has 96."""


def test_systemd_takes_it(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say, and calls what it may do little."""
    program = need_program("systemd-analyze", "apt-get install systemd")
    text = (FOLDER / NAME).read_text("utf-8")
    for there, here in (("/opt/nursery-chat/.venv/bin/python", sys.executable), ("=/opt/nursery-chat", f"={tmp_path}")):
        assert there in text
        text = text.replace(there, here)
    unit = tmp_path / NAME.replace("@", "@8001")
    (tmp_path / NAME).write_text(text)
    unit.write_text(text)
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    judged = [program, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", str(unit)]
    done = subprocess.run(judged, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:]


def test_it_fits_the_server() -> None:
    """It waits longer than a drain, starts nothing again that cannot start, and serves where the proxies ask."""
    said = dict(re.findall(r"(?m)^(\w+)=(.*)$", (FOLDER / NAME).read_text("utf-8")))
    fields = Settings.model_fields
    assert float(said["TimeoutStopSec"]) >= fields["graceful_timeout"].default + 10
    assert int(said["RestartPreventExitStatus"]) == CANNOT_START
    assert int(said["LimitNOFILE"]) > fields["max_connections"].default
    told = dict(pair.split("=") for pair in said["Environment"].split())
    assert set(told) <= {name.upper() for name in fields}
    assert {told["BIND"].replace("%i", place.rpartition(":")[2]) for place in PLACES} == set(PLACES)
    assert told["DATA_DIR"] == f"%S/{said['StateDirectory']}"
