"""`cokv-bench eval --leave-out-seen`: what head files were made from is refused, or left out and told."""

import json
from pathlib import Path

import numpy as np

from cokv_bench.budgets import HeadValues
from cokv_bench.models import Model
from cokv_bench.tasks.rows.jsonl import JsonlTask


def test_the_command_names_the_option_and_says_what_it_leaves_out(cli, texty: Model, texty_folder: Path) -> None:
    rows = [{"input": f"Q{q}?", "context": f"Text {d}.", "answers": ["yes"]} for d in range(12) for q in range(3)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    examples = JsonlTask("rows.jsonl").examples("test")
    shape = (texty.layers, texty.kv_heads)
    HeadValues(
        values=np.arange(6.0).reshape(shape),
        standard_errors=np.zeros(shape),
        estimator="ssv",
        samples=1,
        seed=0,
        utility="loglik",
        window=8,
        tasks=("jsonl:elsewhere.jsonl",),
        examples=(examples[0].id,),
        model=texty.fingerprint,
    ).save(Path("values.json"))
    command = ("eval", "--model", texty_folder, "--method", "full,cokv", "--profile", "values.json", "--budget", "30")
    command += ("--tasks", "jsonl:rows.jsonl", "--dry-run")
    status, _, err = cli(*command)
    assert status == 2
    assert "--leave-out-seen" in err
    assert len(err.strip()) <= 420
    status, out, err = cli(*command, "--leave-out-seen")
    assert status == 0, err
    assert f"or earlier runs had them: jsonl:rows.jsonl 3 of {len(examples)}." in out
