"""`.ci/secrets`, a part of `make lint`, keeps secrets out of the repository."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_scanner_finds_every_planted_secret_without_printing_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / ".env.example", tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    # Without the 07, one token in 200 has too few digits for the scanner's rules.
    secret = f"{secrets.token_urlsafe(32)}07"
    planted = {
        "password": f"TRAINING_DB_PASSWORD={secrets.token_hex(24)}\n",
        "fernet": f"AIRFLOW_FERNET_KEY={secret}\n",
        "url": f"postgresql://training:{secret}@db:5432/training\n",
        "key": f"-----BEGIN PRIVATE KEY-----\n{secret}{secret}\n-----END PRIVATE KEY-----\n",
    }
    for name, text in planted.items():
        (tmp_path / name).write_text(text)
    for command in (["git", "init", "--quiet"], ["git", "add", ".ci", ".env.example", *planted]):
        subprocess.run(command, cwd=tmp_path, check=True)

    scanned = subprocess.run([".ci/secrets"], cwd=tmp_path, capture_output=True, text=True)

    assert scanned.returncode != 0
    assert set(re.findall(r"Path\.*: (\S+)", scanned.stdout)) == set(planted)
    assert secret not in scanned.stdout + scanned.stderr
