"""Markdown and LaTeX of a run: what is marked, and that the syntax holds whatever the names are."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.report import write_formats
from cokv_bench.report.latex import escape as escape_latex
from cokv_bench.report.markdown import escape as escape_markdown
from cokv_bench.runs.journal import read_run
from cokv_bench.scores.tables import write_tables

RESULTS = Path(__file__).resolve().parents[2] / "results" / "smollm2-135m"
CONFIGURATION = {"model": {"id": "org/m_1"}, "split": "test", "window": 8}
LATEX_NAMES = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<"}
LATEX_NAMES |= {"textgreater": ">", "textbar": "|"}


def tables_of(task: str = "a") -> dict[str, pd.DataFrame]:
    """FullKV is best, x differs from snapkv in the mean alone, y kept more than its budget, z has no task t/b."""
    task = f"t/{task}"
    wide = pd.DataFrame(
        [
            ("full", None, 99.0, 99.0, 99.0),
            ("snapkv", 64, 10.0, 20.0, 15.0),
            ("x", 64, 30.0, 10.0, 20.0),
            ("y", 64, 90.0, 90.0, 90.0),
            ("z", 64, 5.0, np.nan, np.nan),
        ],
        columns=["method", "budget", task, "t/b", "mean"],
    )
    rows: list[dict[str, Any]] = []
    for row in wide.to_dict("records"):
        for name in (task, "t/b", "mean"):
            if pd.notna(row[name]):
                cost = {"kept_per_head": 64.5 if row["method"] == "y" else 64.0, "kv_bytes": 3 * 2**20}
                exact = {"exact_total": row["method"] != "y", "ci_low": 1.0, "ci_high": 98.0}
                key = {"method": row["method"], "budget": row["budget"], "task": name}
                rows.append({**key, "n": 8 if name == "mean" else 4, "score": row[name], **cost, **exact})
    compared = [
        {
            "family": "primary" if name == "mean" else "task",
            "baseline": "snapkv",
            "method": method,
            "budget": 64,
            "task": name,
            "difference": np.nan if pd.isna(noise) else 5.0,
            "ci_low": 1.0,
            "ci_high": 9.0,
            "p_adjusted": 0.0004,
            **dict.fromkeys(("wins", "ties", "losses"), 1.0),
            "least_p": 0.001,
            "within_noise": noise,
            "discriminates": pd.NA if pd.isna(noise) else name != "t/b",
        }
        for method, noises in {"x": (True, True, False), "y": (pd.NA, pd.NA, pd.NA)}.items()
        for name, noise in zip((task, "t/b", "mean"), noises, strict=True)
    ]
    wide["budget"] = wide["budget"].astype("Int64")
    scores = pd.DataFrame(rows).astype({"budget": "Int64"})
    return {"scores.csv": scores, "table.csv": wide, "comparisons.csv": pd.DataFrame(compared)}


def written(folder: Path, tables: dict[str, pd.DataFrame], configuration: Any = CONFIGURATION) -> tuple[str, str]:
    write_formats(folder, tables, configuration)
    return (folder / "table.md").read_text(encoding="utf-8"), (folder / "table.tex").read_text(encoding="utf-8")


def check_latex(text: str) -> None:
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for body in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns = len(re.match(r"\{(\w+)\}", body)[1])  # type: ignore[index]
        lines = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert len(lines) > 1
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}


def check_markdown(text: str, number: int = 3) -> None:
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == number
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in re.sub(r"\\\\", "", table).splitlines()}
        assert len(counts) == 1


def test_marks(tmp_path: Path) -> None:
    md, tex = written(tmp_path, tables_of())
    assert "| full |  | 99.0 | 99.0 | 99.0 |" in md
    assert "| snapkv | 64 | 10.0 | **20.0** | 15.0 |" in md
    assert "| x | 64 | **30.0** | 10.0 | **20.0**† |" in md
    assert "| method | budget | t/a | t/b§ | mean |" in md
    assert "§ cannot discriminate: too few examples" in md
    assert "t/b§" in tex
    assert "Primary tests: points over snapkv; p corrected for 1 comparison**" in md
    assert "| x | mean | 5.0† | 1.0 to 9.0 | \\<0.001 |" in md
    assert "| y | mean | ‡ |  |  |" in md
    assert "hold for new examples of these tasks, not for other tasks" in md
    assert "| y | 64 | 90.0‡ | 90.0‡ | 90.0‡ |" in md
    assert "| z | 64 | 5.0 |  |  |" in md
    assert "| y | 64 | 90.0 | 1.0–98.0 | 64.5 unequal | 3.0 |" in md
    assert "| z | 64 |  |  |  |  |" in md
    assert "‡ unequal totals, not compared with snapkv." in md
    assert "† differs from snapkv" in md
    assert "Model org/m\\_1; 4 examples per task; split test; window 8" in md
    assert r"x & 64 & \textbf{30.0} & 10.0 & \textbf{20.0}\textsuperscript{\dag} \\" in tex
    assert r"org/m\_1; 4 examples per task" in tex
    assert "unequal totals, not compared with snapkv" in tex
    assert md.index("| full |") < md.index("| snapkv |")
    check_markdown(md)
    check_latex(tex)


def test_no_comparisons_no_marks(tmp_path: Path) -> None:
    tables = tables_of()
    del tables["comparisons.csv"]
    md, tex = written(tmp_path, tables)
    assert not set("†‡§") & set(md)
    assert "Primary" not in md
    assert "dag" not in tex


def test_a_real_run(tmp_path: Path) -> None:
    for name in ("run.json", "records.jsonl.gz"):
        shutil.copy(RESULTS / name, tmp_path)
    md, tex = written(tmp_path, write_tables(tmp_path), read_run(tmp_path)["configuration"])
    header = next(line for line in md.splitlines() if line.startswith("| method"))
    assert header.startswith("| method | budget | needle | longbench/")
    # Four or five rows per task cannot tell anything; 72 needles and 66 rows can.
    assert header.count("§") == 16
    assert re.search(r"\| cokv \| needle \| -8\.3† \| -12\.9 to -3\.8 \| 0\.003 \|", md)
    assert "p corrected for 16 comparisons" in md
    assert header.endswith(" | longbench mean |")  # one task has no mean
    assert "| cokv | 64 | 61.1 |" in md
    assert "| streaming-llm | 64 | 6.9† |" in md
    check_markdown(md, 4)  # scores, primary tests, intervals of the needles and of LongBench's mean
    check_latex(tex)


@pytest.mark.parametrize("name", ["a|b", "a\\", "\\|", "x_e & 50%", "{#$~^}", "[2pt]", "**", "a\nb"])
def test_names_of_any_sort(tmp_path: Path, name: str) -> None:
    md, tex = written(tmp_path, tables_of(name), {**CONFIGURATION, "model": {"id": name}})
    check_markdown(md)
    check_latex(tex)


@given(st.text())
def test_escaped_markdown_reads_as_the_text(text: str) -> None:
    escaped = escape_markdown(text)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*\|", escaped)
    assert len(escaped.splitlines()) <= 1


@given(st.text(alphabet=st.one_of(st.sampled_from("\\{}_%&#$~^<>|[]* ab"), st.characters(exclude_characters="–"))))
def test_escaped_latex_reads_as_the_text(text: str) -> None:
    read = re.sub(
        r"\\(text\w+)\{\}|\\([_%&#${}])|\{([\[*])\}",
        lambda m: LATEX_NAMES[m[1]] if m[1] else m[2] or m[3],
        escape_latex(text),
    )
    assert read == " ".join(text.split())
