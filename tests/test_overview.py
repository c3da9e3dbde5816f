"""The overview of runs and README's figure: what they show is what the runs' records say."""

from pathlib import Path

import pytest

from cokv_bench.errors import RequestError
from tests.report.made_run import make_run as made_run
from tests.scripted import script


def test_overview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores by budget as the run's own table has them, and the primary tests, from the records alone."""
    folder, page = made_run(tmp_path / "run", questions=False), tmp_path / "overview.md"
    script("overview").main(runs=[f"{folder}:snapkv,cokv"], out=page)
    text = page.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert "## smollm2-135m: needle, 12 examples" in text
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][:6]
    assert table[0] == ["method", "64", "128", "points over snapkv", "points over cokv"]
    rows = {row[0]: row[1:] for row in table[2:]}
    assert rows["full"] == ["100.0", "100.0", "", ""]
    assert rows["snapkv"][:3] == ["66.7", "66.7", ""]
    # CoKV is right in three of four needles, SnapKV in two of three.
    assert rows["cokv"][2].startswith("8.3 (")
    assert "p = " in rows["cokv"][2]
    assert rows["snapkv"][3].startswith("-8.3 (")
    assert not (folder / "comparisons.csv").exists()


def test_overview_calls_a_file_by_its_folder() -> None:
    called = script("overview")._called
    assert called("../models/qwen2.5-coder-0.5b/model.gguf") == "qwen2.5-coder-0.5b"
    assert called("model.gguf") == "model.gguf"
    assert called("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"


def test_overview_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a run"):
        script("overview").main(runs=[str(tmp_path)], out=None)


def test_headline(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures as files need it")
    folder, png = made_run(tmp_path / "run", questions=False), tmp_path / "headline.png"
    module = script("headline")
    text = f"Needles={folder}:needle"
    module.main(panels=[text], method="full,SnapKV=snapkv,ada-snapkv", out=png, title="Scores")
    assert png.read_bytes().startswith(b"\x89PNG")
    panel = module._panel(text, {"full": "full", "snapkv": "SnapKV", "ada-snapkv": "ada-snapkv"})
    assert [line.name for line in panel.series] == ["full", "SnapKV", "ada-snapkv"]
    assert panel.title == "Needles, 12 examples"
    assert len({line.style for line in panel.series if not line.reference}) == 2


@pytest.mark.parametrize("panel", ["needle", "Needles=nowhere:needle", "Needles={run}:ruler/vt"])
def test_headline_of_nothing(tmp_path: Path, panel: str) -> None:
    folder = made_run(tmp_path / "run", questions=False)
    with pytest.raises(RequestError):
        script("headline")._panel(panel.format(run=folder), {"snapkv": "SnapKV"})


def test_headline_names_methods_with_options() -> None:
    named = script("headline")._named
    assert named("searched=cokv-search:file=fading") == ("cokv-search:file=fading", "searched")
    assert named("snapkv:kernel=11") == ("snapkv:kernel=11", "snapkv:kernel=11")
