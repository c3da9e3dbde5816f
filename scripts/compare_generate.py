"""Whether FullKV says, token by token, what transformers' own `generate` says.

python scripts/compare_generate.py --model FILE.gguf --tasks needle,ruler/vt,longbench/qasper --max-length 8000 --most 2

Rows of the test split. Where the two part, the table has the place and the difference of the two best logits there by
`generate`: near 0 in a tie that rounding decides.
"""

from typing import Annotated, Any

import torch
import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import grouped
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, Selection, decode, prefill
from cokv_bench.models import Model
from cokv_bench.models.spec import ModelSpec
from cokv_bench.runs.versions import versions
from cokv_bench.tasks import Example
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.registry import resolve

_WINDOW = 8


@grouped
def main(
    model: ModelSpec,
    tasks: TaskOptions,
    encoding: Encoding,
    most: Annotated[int, typer.Option(min=1, help="Rows of each task, at most.")] = 1,
    json_file: o.JsonFile = None,
) -> None:
    """Compare the answers to the first rows of each task."""
    loaded = o.load(model)
    rows = [
        {"task": task.name, "example": example.id, **compare(loaded, example, encoding)}
        for task in resolve(tasks.names, loaded, tasks)
        for example in task.examples("test")[:most]
    ]
    if not rows:
        raise RequestError("The tasks have no rows in the test split; name others with --tasks.")
    shown = [[str(value) for value in row.values()] for row in rows]
    o.print_table("FullKV and generate", tuple(rows[0]), shown, words=["task", "example"])
    equal = sum(row["equal"] for row in rows)
    o.console.print(f"{equal} of {len(rows)} answers are equal token by token.")
    o.save_figures(json_file, {"model": loaded.fingerprint, "rows": rows, "equal": equal, "versions": versions()})


def compare(model: Model, example: Example, encoding: Encoding) -> dict[str, Any]:
    """Counts of tokens, whether both answers are equal, and where and how closely they part."""
    encoded = encode_parts(model, example, encoding)
    ids = [*encoded.prompt, *encoded.question]
    prompt: Prompt = prefill(model, encoded.prompt, window=_WINDOW, question=encoded.question)
    full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
    (answer,) = decode(
        model,
        prompt,
        [full],
        max_new_tokens=example.max_new_tokens,
        question=encoded.question,
        stop_at_newline=example.stop_at_newline,
    )
    stops = model.stop_ids | model.newline_ids if example.stop_at_newline else model.stop_ids
    start = torch.tensor([ids], device=model.device)
    told = model.network.generate(
        start,
        attention_mask=torch.ones_like(start),
        max_new_tokens=example.max_new_tokens,
        do_sample=False,
        # The official code of the tasks that end at a line break asks for one token at least.
        min_new_tokens=int(example.stop_at_newline),
        eos_token_id=sorted(stops) or None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    plain = told.sequences[0, len(ids) :].tolist()
    mine = list(answer.token_ids)  # As in `generate`'s, the token that ends it is part of it.
    apart = next((place for place, pair in enumerate(zip(mine, plain, strict=False)) if pair[0] != pair[1]), None)
    if apart is None and len(mine) != len(plain):
        apart = min(len(mine), len(plain))
    gap = None
    if apart is not None:
        best = told.logits[apart][0].float().topk(2).values
        gap = round(float(best[0] - best[1]), 5)
    return {"prompt": len(ids), "tokens": len(plain), "equal": apart is None, "apart_at": apart, "gap": gap}


if __name__ == "__main__":
    run_script(main)
