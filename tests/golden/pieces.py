"""Take the pieces in data/ from the whole collection: `python tests/golden/pieces.py ../shared data-folder`.

A piece of a selection has the layers and heads named below and only those queries that the policy looks at. Layers do
not depend on each other in any of these cases; heads are left out only where their budgets do not either.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: By case: layers and KV heads, where None stands for all of them.
SELECTIONS: dict[str, tuple[list[int], list[int] | None]] = {
    "ada_snapkv_02": ([0], None),
    "cokv_given_02": ([0], None),
    "h2o_01": ([0], [0]),
    "headkv_01": ([0], [0, 1]),
    "snapkv_gqa_05": ([0], [0]),
    "streamingllm_adakv_01": ([0], [0]),
}
BUDGETS = ("cokv_budget_llama_passage_count", "headkv_synth_budget_3", "headkv_synth_budget_4")
GAMES = ("airport_n8", "glove_n7", "saturating_noisy_n10")
SCHEDULES = ("pyr_L28_w32_B1024_q250", "pyr_L28_w32_B1024_q8000", "pyr_L28_w32_B128_q1000")
FROZEN = ("freeze_2",)
#: Of a case's entry; what is measured on the whole of it would be wrong for a piece.
FIELDS = ("id", "kind", "family", "source", "params", "tie_free")

Arrays = dict[str, np.ndarray]


def of_games(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Arrays]]:
    index = {game["id"]: game for game in read(folder / "index.json")["games"]}
    entries = [{key: index[name][key] for key in ("id", "file", "n", "description", "slices")} for name in GAMES]
    # Complementary contributions follow from `u`.
    arrays = {name: load(folder / index[name]["file"]) for name in GAMES}
    return entries, {
        name: {k: v for k, v in a.items() if k != "complementary_contribution"} for name, a in arrays.items()
    }


def of_policies(shared: Path) -> tuple[list[dict[str, Any]], dict[str, Arrays]]:
    folder = shared / "golden" / "policies"
    index = {case["id"]: case for case in read(folder / "index.json")["cases"]}
    entries, files = [], {}
    for name in (*SELECTIONS, *BUDGETS):
        case, arrays = index[name], load(folder / index[name]["file"])
        entry = {field: case[field] for field in FIELDS if field in case} | {"file": f"{name}.npz"}
        params = {k: v for k, v in case["params"].items() if not k.startswith(("total_", "layer_total_"))}
        if name in SELECTIONS:
            arrays = piece_of(case, arrays, *SELECTIONS[name])
            layers, q_heads, _, dim = arrays["q"].shape
            stored = arrays["kept_len"].shape[1]
            entry["shape"] = {
                "layers": layers,
                "q_heads": q_heads,
                "kv_heads": arrays["k"].shape[1],
                "stored_heads": stored,
                "seq": arrays["k"].shape[2],
                "head_dim": dim,
            }
            entry["total_kept"] = int(arrays["kept_len"].sum())
        elif "scores_file" in params:
            published = load(shared / params["scores_file"])
            rows = params["rows"]
            files[f"{name}_scores"] = {key: published[key][rows] for key in ("cc_left", "count_left")}
            params |= {"scores_file": f"policies/{name}_scores.npz", "rows": list(range(len(rows)))}
        entries.append(entry | {"params": params, "arrays": sorted(arrays)})
        files[name] = {key: small(value) for key, value in arrays.items()}
    return entries, files


def piece_of(case: dict[str, Any], arrays: Arrays, layers: list[int], heads: list[int] | None) -> Arrays:
    """The arrays of some layers and heads. H2O looks at all queries, StreamingLLM at none, others at the window's."""
    shape, window = case["shape"], case["params"]["window"]
    looked_at = {"h2o": shape["seq"], "streamingllm": 1}.get(case["family"], window)
    heads = heads or list(range(shape["kv_heads"]))
    group = shape["q_heads"] // shape["kv_heads"]
    kept = np.split(arrays["kept_flat"], np.cumsum(arrays["kept_len"])[:-1])
    queries = arrays["q"][np.ix_(layers, [head * group + i for head in heads for i in range(group)])]
    piece = {
        "q": queries[:, :, -looked_at:],
        "kept_flat": np.concatenate([kept[layer * shape["stored_heads"] + head] for layer in layers for head in heads]),
    }
    by_head = ["k", "kept_len", "capacity_excl_window", "given_size_excl_window"]
    if case["family"] == "ada_snapkv":
        # The scores of one case are enough: all policies that pool share the code.
        by_head.append("pooled_score")
    return piece | {key: arrays[key][np.ix_(layers, heads)] for key in by_head if key in arrays}


def small(array: np.ndarray) -> np.ndarray:
    """The same numbers in half the bits, where these can hold them."""
    half = {"float32": np.float16, "int32": np.int16}.get(str(array.dtype))
    return array.astype(half) if half and (array.astype(half) == array).all() else array


def of_schedules(folder: Path) -> dict[str, Any]:
    there = read(folder / "pyramid_schedules.json")
    return {
        "sources": there["sources"],
        "schedules": [each for each in there["schedules"] if each["id"] in SCHEDULES],
        "frozen_schedule_bug": [each for each in there["frozen_schedule_bug"] if each["id"] in FROZEN],
    }


def of_longbench(folder: Path) -> dict[str, Any]:
    """Token limits, and the hash of each task's prompt for two made-up fields."""
    prompts = read(folder / "prompts.json")
    hashes = {task: example["made_up_prompt_sha256"] for task, example in prompts["examples"].items()}
    return {"made_up_fields": prompts["made_up_fields"], "made_up_prompt_sha256": hashes}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def load(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def write(shared: Path, folder: Path) -> None:
    """Write all pieces into `folder`."""
    golden = shared / "golden"
    games, game_files = of_games(golden / "games")
    cases, policy_files = of_policies(shared)
    longbench = of_longbench(golden / "longbench")
    texts = {
        "games/index.json": {"games": games},
        "policies/index.json": {"cases": cases},
        "policies/pyramid_schedules.json": of_schedules(golden / "policies"),
        "longbench/made_up_prompts.json": longbench,
        "longbench/maxlen.json": read(golden / "longbench" / "maxlen.json"),
    }
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    for room, files in (("games", game_files), ("policies", policy_files)):
        for name, arrays in files.items():
            np.savez_compressed(folder / room / f"{name}.npz", **arrays)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
