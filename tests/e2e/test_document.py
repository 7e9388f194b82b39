"""The merged API document is true: schemathesis sends right and wrong requests as everybody who may call."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# For each of those who ask. `make fuzz` gives more.
SECONDS = os.environ.get("DUGOUT_FUZZ_SECONDS")
FEW = "15"
RULES = Path(__file__).with_name("schemathesis.toml")
# When the token is void (the session was ended, the account erased), a new one is fetched.
SIGN_IN = """
[auth.dynamic.openapi.HTTPBearer]
path = "/auth/dev/login"
payload = { email = "fuzz-%(role)s@example.com", role = "%(role)s" }
extract_selector = "/access_token"
retry_on = [401]
"""


@pytest.mark.skipif(
    "DUGOUT_URL" in os.environ and SECONDS is None,
    reason="it bans, erases and rotates whatever it finds; make fuzz does it to any system",
)
@pytest.mark.parametrize("role", ["nobody", "player", "viewer", "admin"])
def test_no_reply_contradicts_the_document(url: str, role: str, tmp_path: Path) -> None:
    rules = tmp_path / "schemathesis.toml"
    rules.write_text(RULES.read_text() + (SIGN_IN % {"role": role} if role != "nobody" else ""))
    command = shutil.which("schemathesis", path=Path(sys.executable).parent)
    assert command
    run = (command, "--no-color", "--config-file", str(rules), "run", f"{url}/openapi.json", "--checks", "all")
    done = subprocess.run((*run, "--max-time", SECONDS or FEW), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.stdout.write(done.stdout[done.stdout.index("API Operations:") :])
