"""The model of lm-evaluation-harness: what its `hf` model gives with the full cache, and something else without."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from tests.harness import tasks as made

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from cokv_bench.harness.lm_eval_model import EvictingLM


@pytest.fixture(scope="module")
def folder(texty: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of this project's own making."""
    found = tmp_path_factory.mktemp("tasks")
    made.add_ruler(found, texty)
    made.add_choices(found)
    return found


def answers(kind: str, arguments: dict[str, Any], tasks: Sequence[str], folder: Path, **options: Any) -> Any:
    """What a model of lm-eval answers in each task: texts, or log-probabilities and whether they are greedy."""
    done = simple_evaluate(
        model=kind,
        model_args=arguments,
        tasks=list(tasks),
        device="cpu",
        # Without its own tasks, of which it would read thousands of files.
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **options,
    )
    return {name: [sample["filtered_resps"] for sample in rows] for name, rows in done["samples"].items()}


def compare(folder: Path, texty_folder: Path, tasks: Sequence[str], **options: Any) -> None:
    """`full` equals `hf`, and `snapkv` does not in any task."""
    shared = {"pretrained": str(texty_folder), **options.pop("shared", {})}
    plain = answers("hf", shared, tasks, folder, **options)
    full = answers("cokv-bench", {**shared, "method": "full"}, tasks, folder, **options)
    few = answers("cokv-bench", {**shared, "method": "snapkv", "budget": 16}, tasks, folder, **options)
    for task in tasks:
        assert same(plain[task], full[task])
        assert not any(same([a], [b]) for a, b in zip(full[task], few[task], strict=True))


def same(rows: list[Any], others: list[Any]) -> bool:
    """Whether answers are equal, log-probabilities within what float32 has to spare."""
    flat, other = ([value for row in each for value in row] for each in (rows, others))
    if isinstance(flat[0], str):
        return flat == other
    logprobs, greedy = zip(*flat, strict=True)
    logprobs_of_others, greedy_of_others = zip(*other, strict=True)
    return greedy == greedy_of_others and logprobs == pytest.approx(logprobs_of_others, abs=2e-3)


def test_full_is_hf_and_snapkv_is_not(folder: Path, texty_folder: Path) -> None:
    compare(folder, texty_folder, ["ruler", "piers"])


def test_the_same_on_rows_of_longbench(shared: Path, texty_folder: Path, tmp_path: Path) -> None:
    made.add_longbench(tmp_path, shared / "longbench" / "hotpotqa.jsonl")
    compare(tmp_path, texty_folder, ["hotpotqa"])


def test_the_same_with_a_chat_template(folder: Path, texty_folder: Path) -> None:
    compare(folder, texty_folder, ["ruler", "piers"], apply_chat_template=True, limit=1)


def test_the_same_where_contexts_are_cut(folder: Path, texty_folder: Path) -> None:
    compare(folder, texty_folder, ["ruler", "piers"], shared={"max_length": 300}, limit=2)


def requests(kind: str, *arguments: Any) -> list[Instance]:
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


@pytest.fixture(scope="module")
def models(texty_folder: Path) -> tuple[HFLM, EvictingLM]:
    """The `hf` model, and this project's with the full cache."""
    named = {"pretrained": str(texty_folder), "device": "cpu"}
    return HFLM(**named), EvictingLM(**named, method="full")


def test_texts_are_cut_and_encoded_as_by_hf(models: tuple[HFLM, EvictingLM]) -> None:
    """Of the model's context, of a token, of spaces between the parts, of no context, and in any order."""
    long = "The tide comes in. " * 150
    pairs = [
        (long, " It goes out."),
        ("Where?", " There"),
        ("", "Where?"),
        (long, "!"),
        ("Where?  ", "There"),
        (long[:2047], "!"),
        (long[:2048], "!"),
        ("<bos>Where?", " There"),
        ("Where?", " Here"),
        ("A", "!"),
    ]
    hf, full = (each.loglikelihood(requests("loglikelihood", *pairs)) for each in models)
    assert [greedy for _, greedy in full] == [greedy for _, greedy in hf]
    assert [logprob for logprob, _ in full] == pytest.approx([logprob for logprob, _ in hf], abs=2e-3)


def test_a_greedy_continuation_is_told(models: tuple[HFLM, EvictingLM]) -> None:
    contexts = ["The tide comes in." * count for count in range(1, 30)]
    said = models[1].generate_until(requests("generate_until", *((each, {"max_gen_toks": 1}) for each in contexts)))
    # One byte, which the tokenizer reads as the token that it was.
    context, text = next(each for each in zip(contexts, said, strict=True) if each[1].isascii() and each[1].strip())
    pairs = requests("loglikelihood", (context, text), (context, chr(ord(text) + 1)))
    for each in models:
        assert [greedy for _, greedy in each.loglikelihood(pairs)] == [True, False]


def test_answers_end_as_those_of_hf(models: tuple[HFLM, EvictingLM]) -> None:
    contexts = ["The tide comes in. " * 20, "Where?", "The tide comes in. " * 150]
    plain = {"max_gen_toks": 24}
    whole = models[0].generate_until(requests("generate_until", *((each, plain) for each in contexts)))
    ends = [text[len(text) // 2 :][:1] or "." for text in whole]
    asked = [(each, {**plain, "until": [end, "<pad>"]}) for each, end in zip(contexts, ends, strict=True)]
    hf, full = (each.generate_until(requests("generate_until", *asked)) for each in models)
    assert full == hf
    assert full != whole


def test_whole_texts_are_scored_by_the_full_cache_alone(models: tuple[HFLM, EvictingLM], texty_folder: Path) -> None:
    asked = requests("loglikelihood_rolling", ("The tide comes in. " * 10,), ("Where?",))
    hf, full = (each.loglikelihood_rolling(asked) for each in models)
    assert full == pytest.approx(hf, abs=2e-3)
    few = EvictingLM(pretrained=str(texty_folder), method="snapkv", budget=16)
    with pytest.raises(RequestError, match="method=full"):
        few.loglikelihood_rolling(asked)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_sample": True, "temperature": 0.7}, "do_sample=False"),
        ({"temperature": 0.7}, "do_sample=False"),
        ({"num_beams": 4}, "num_beams"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
    ],
)
def test_what_is_not_greedy_is_refused(models: tuple[HFLM, EvictingLM], settings: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        models[1].generate_until(requests("generate_until", ("Where?", {"max_gen_toks": 4, **settings})))


@pytest.mark.parametrize("length", [1, 4096, "long"])
def test_a_length_that_the_model_has_not_is_refused(texty_folder: Path, length: Any) -> None:
    with pytest.raises(RequestError, match="max_length"):
        EvictingLM(pretrained=str(texty_folder), max_length=length)
