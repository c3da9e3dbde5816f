"""Generation settings that evaluation leaves out are named, on the screen and in run.json."""

import json
import shutil
from pathlib import Path
from typing import Any


def test_settings_that_are_left_out_are_named(cli: Any, texty_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "penalised"
    shutil.copytree(texty_folder, folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "repetition_penalty": 1.05}))
    common = ("--method", "streaming-llm", "--budget", 16, "--tasks", "needle", "--lengths", 300, "--examples", 1)
    status, _, said = cli("eval", "--model", folder, *common, "--out", "named")
    assert status == 0
    assert "repetition_penalty=1.05; evaluation is plain greedy decoding" in " ".join(said.split())
    produced_by = json.loads(Path("named/run.json").read_text())["versions"]
    assert produced_by["generation settings left out"] == "repetition_penalty=1.05"
    status, _, said = cli("eval", "--model", texty_folder, *common, "--out", "plain")
    assert (status, "greedy" in said) == (0, False)
