"""What a card on the hub tells about a head file."""

from cokv_bench.budgets.head_curves import HeadCurves
from cokv_bench.budgets.head_file import HeadFile
from cokv_bench.budgets.head_shares import WINDOW


def card_section(file: HeadFile, name: str, repository: str, table: str | None = None) -> str:
    """Markdown: the model, what the file was made on and how, how to use it, and what a run found.

    Args:
        name: of the file in the repository.
        table: Markdown tables of a run.
    """
    model = file.model
    ranking = ", ".join(f"{key} {value}" for key, value in file.ranking.items())
    total = "any total" if file.only_budget is None else f"{file.only_budget} tokens per KV head"
    facts = {
        "Kind": file.noun,
        "Model": f"{model['id']} (weights {model.get('weights', 'not hashed')})",
        "Heads": f"{model['layers']} layers x {model['kv_heads']} KV heads",
        "Serves": total,
        "Ranks with": ranking or "any window and pooling",
        "Made on": f"{len(file.examples)} examples of {', '.join(file.tasks) or 'unknown tasks'}",
        **file.describe(),
        "Made by": file.made_by,
    }
    lines = [f"## {name}", "", "| | |", "| --- | --- |"]
    lines += [f"| {what} | {str(value).replace('|', '/')} |" for what, value in facts.items()]
    # A split alone needs a ranking before it.
    method = f"{WINDOW}+{HeadCurves.method}" if file.method == HeadCurves.method else file.method or "cokv"
    asked = f"--method full,snapkv,{method} --heads hf:{repository}/{name}"
    asked += "" if file.only_budget is None else f" --budget {file.only_budget}"
    lines += ["", "```", f"cokv-bench eval --model {model['id']} {asked}", "```"]
    if table:
        lines += ["", "### What a run found", "", table.strip()]
    return "\n".join(lines) + "\n"
