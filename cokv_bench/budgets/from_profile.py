"""From a profile's head values to budget files."""

from collections.abc import Sequence
from pathlib import Path

from cokv_bench.budgets import embedded
from cokv_bench.budgets.head_budgets import HeadBudgets
from cokv_bench.budgets.head_file import head_file_path
from cokv_bench.budgets.head_values import HeadValues
from cokv_bench.files import file_sha256
from cokv_bench.hub import on_hub


def write_budgets(
    profile: str | Path | None,
    budgets: Sequence[int],
    *,
    window: int | None = None,
    zeroed: int | None = None,
    published_rounding: bool = False,
    folder: Path | None = None,
) -> list[tuple[Path, HeadBudgets]]:
    """Write CoKV's budgets (arXiv 2502.17501) as `cokv-<budget>.budgets.json`, one file a budget.

    Args:
        profile: a profile's folder or values.json, or "hf:OWNER/REPO/FILE"; None for the embedded one.
        budgets: tokens per KV head on average, window included.
        window: default the profile's.
        zeroed: alpha; default what the profile chose for the nearest budget.
        folder: where to; default the profile's folder, or the current one for the embedded profile and one on the hub.

    Raises:
        RequestError: no such profile, a budget not above the window, alpha out of range, a folder that cannot be
            written. Nothing is written unless all budgets can be made.
    """
    path = embedded.values_path() if profile is None else head_file_path(profile)
    values = HeadValues.load(path)
    width = values.window if window is None else window
    made = []
    for budget in budgets:
        alpha = values.alpha(budget) if zeroed is None else zeroed
        tokens = values.budgets(budget, window=width, zeroed=alpha, published_rounding=published_rounding)
        rule = {
            "text": "CoKV (arXiv 2502.17501): window + share of the value above the alpha-th smallest",
            "parameters": {
                "method": "cokv",
                "alpha": alpha,
                "estimator": values.estimator,
                "published_rounding": published_rounding,
            },
        }
        made.append(
            HeadBudgets(
                values.model,
                budget,
                width,
                tokens,
                rule,
                file_sha256(path),
                tasks=values.tasks,
                examples=values.examples,
                documents=values.documents,
            )
        )
    # The copy of a file on the hub lies in the hub's cache.
    target = folder or (Path() if profile is None or on_hub(profile) else path.parent)
    files = [(target / f"cokv-{file.budget}.budgets.json", file) for file in made]
    for name, file in files:
        file.save(name)
    return files
