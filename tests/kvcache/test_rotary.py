"""Rotary scalings that depend on the length of the text, against transformers over the whole text."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cokv_bench import decode, get_policy, load_model, prefill
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Prompt, RaggedCache, Selection, compress
from cokv_bench.kvcache.prefill import for_length
from cokv_bench.kvcache.ranked import RankedRow, answer_logprobs, by_rank
from cokv_bench.kvcache.scoring import score
from cokv_bench.models import Model
from tests.conftest import random_ids, save_tiny

WINDOW = 64  # where the factors change
NEW = 10
SCALINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": (
        "phi3",
        {
            "original_max_position_embeddings": WINDOW,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": WINDOW,
                "short_factor": [1.0] * 4,
                "long_factor": [1.0, 4.0, 7.0, 10.0],
            },
        },
    ),
    "dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "yarn": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": WINDOW,
            }
        },
    ),
    "llama3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": WINDOW,
            }
        },
    ),
}
LENGTHS = (WINDOW - NEW, WINDOW - 4, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 6, 2 * WINDOW)


class Roomy(Model):
    """A model whose context is beyond `max_position_embeddings`, which is the window that `dynamic` scales from."""

    @property
    def context(self) -> int:
        return 8 * WINDOW


class Pair:
    """A model, and plain transformers on the same folder."""

    def __init__(self, scaling: str, folder: Path) -> None:
        kind, changes = SCALINGS[scaling]
        if scaling == "dynamic":
            changes = {**changes, "max_position_embeddings": WINDOW}
        save_tiny(kind, folder, **changes)
        loaded = load_model(str(folder), device="cpu")
        self.model = Roomy(loaded.name, loaded.network, loaded.tokenizer)
        self.folder = folder

    def fresh(self) -> Any:
        """The plain network, that no text has been through."""
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def generated(self, ids: list[int], new: int = NEW) -> list[int]:
        start = torch.tensor([ids])
        made = self.fresh().generate(
            start, attention_mask=torch.ones_like(start), max_new_tokens=new, do_sample=False, eos_token_id=None
        )
        return made[0, len(ids) :].tolist()

    def scored(self, ids: list[int], answer: list[int]) -> torch.Tensor:
        """Log-probabilities of an answer by one forward pass over the whole text."""
        with torch.no_grad():
            logits = self.fresh()(torch.tensor([ids + answer])).logits[0]
        return logits.log_softmax(-1)[torch.arange(len(ids) - 1, len(ids) + len(answer) - 1), answer]


@pytest.fixture(scope="module", params=SCALINGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def longrope(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("longrope", tmp_path_factory.mktemp("longrope"))


def full(prompt: Prompt) -> Selection:
    return Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)


@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_greedy_answers_across_the_window_are_generates(pair: Pair, storage: Any) -> None:
    # From the longest on: what was read before must not matter.
    for tokens in reversed(LENGTHS):
        ids = random_ids(tokens, tokens)
        prompt = prefill(pair.model, ids)
        answer = decode(pair.model, prompt, [full(prompt)], max_new_tokens=NEW, storage=storage)[0]
        assert answer.token_ids == pair.generated(ids)[: len(answer.token_ids)]


@pytest.mark.parametrize("storage", ["shared", "ragged"])
def test_forced_answers_across_the_window_are_those_of_the_whole_text(pair: Pair, storage: Any) -> None:
    for tokens in reversed(LENGTHS):
        ids, teacher = random_ids(tokens, tokens), random_ids(NEW, 1)
        expected = pair.scored(ids, teacher)
        prompt = prefill(pair.model, ids)
        (row,) = decode(pair.model, prompt, [full(prompt)], teacher=teacher, storage=storage)
        torch.testing.assert_close(row.logprobs, expected, atol=2e-3, rtol=1e-3)
        # The same where the question is appended, or the room is known at once.
        apart = prefill(pair.model, ids[:-9], room=9 + NEW)
        (row,) = decode(pair.model, apart, [full(apart)], question=ids[-9:], teacher=teacher, storage=storage)
        torch.testing.assert_close(row.logprobs, expected, atol=2e-3, rtol=1e-3)


def test_scored_texts_across_the_window_are_each_read_as_one_text(pair: Pair) -> None:
    """Of one batch, some stay within the window and some do not."""
    texts = [random_ids(length, 1) for length in (2, NEW, 6)]
    for tokens in (WINDOW + 6, WINDOW - 4):
        ids = random_ids(tokens, tokens)
        expected = [float(pair.scored(ids, text).sum()) for text in texts]
        for prompt, question in ((prefill(pair.model, ids), []), (prefill(pair.model, ids[:-9]), ids[-9:])):
            found = score(pair.model, prompt, full(prompt), texts, question=question)
            assert [each.logprob for each in found] == pytest.approx(expected, abs=1e-2)


def test_a_question_across_the_window_is_read_as_one_text(pair: Pair) -> None:
    for tokens in LENGTHS:
        ids = random_ids(tokens, tokens)
        prompt = prefill(pair.model, ids[:-9])
        answer = decode(pair.model, prompt, [full(prompt)], question=ids[-9:], max_new_tokens=NEW)[0].token_ids
        assert answer == pair.generated(ids)[: len(answer)]


def test_evicted_rows_keep_their_positions_at_the_crossing(longrope: Pair) -> None:
    """Against a plain forward pass over the text so far with what was evicted masked, a token at a time."""
    model, ids = longrope.model, random_ids(WINDOW - 4, 3)
    prompt = prefill(model, ids)
    choices = [get_policy("snapkv").select(prompt, budget) for budget in (14, 30)]
    for storage in ("shared", "ragged"):
        answers = decode(model, prompt, [*choices, full(prompt)], max_new_tokens=NEW, storage=storage)
        for choice, answer in zip(choices, answers, strict=False):
            assert answer.token_ids == masked(longrope.fresh(), ids, choice, len(answer.token_ids))


def masked(network: Any, ids: list[int], choice: Selection, new: int) -> list[int]:
    """Greedy tokens by eager attention over the whole text, with another mask for each head."""
    text, found = list(ids), []
    heads = network.config.num_attention_heads // network.config.num_key_value_heads
    original = transformers.models.phi3.modeling_phi3.eager_attention_forward

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        total = query.shape[2]
        seen = torch.ones(total, total, dtype=torch.bool).tril().repeat(query.shape[1], 1, 1)
        dropped = ~choice.mask(module.layer_idx).repeat_interleave(heads, 0)
        # The prompt's own tokens were read before anything was evicted.
        seen[:, len(ids) :, : len(ids)] &= ~dropped[:, None]
        bias = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
        return original(module, query, key, value, bias[None], **kwargs)

    transformers.AttentionInterface.register("masked-for-the-test", attend)
    network.config._attn_implementation = "masked-for-the-test"
    for _ in range(new):
        with torch.no_grad():
            found.append(int(network(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
        text.append(found[-1])
    return found


def test_generate_from_a_compact_cache_is_right_or_refused(pair: Pair) -> None:
    for tokens in LENGTHS:
        ids = random_ids(tokens, tokens)
        for method, budget in (("full", None), ("snapkv", 16)):
            found = compress(pair.model, ids, get_policy(method), budget)
            start = torch.tensor([[*ids, int(found.logits.argmax())]])
            settings: dict[str, Any] = {
                "attention_mask": torch.ones_like(start),
                "do_sample": False,
                "eos_token_id": None,
            }
            settings.update(past_key_values=found.cache, max_new_tokens=NEW - 1)
            # The last token is never fed back, so it may come from beyond the window.
            if pair.model.config.model_type == "phi3" and tokens <= WINDOW < tokens + NEW - 1:
                with pytest.raises(RequestError, match=f"beyond the {WINDOW} at which"):
                    pair.model.network.generate(start, **settings)
                continue
            answer = pair.model.network.generate(start, **settings)[0, tokens:].tolist()
            # It is this cache that was gone on with.
            assert found.cache.layers[0].get_seq_length() == tokens + NEW - 1
            if method == "full":
                assert answer == pair.generated(ids)


def test_the_forward_pass_beyond_the_window_is_refused_too(longrope: Pair) -> None:
    prompt = prefill(longrope.model, random_ids(WINDOW - 1))
    cache = RaggedCache(prompt, [full(prompt)])
    with torch.inference_mode(), pytest.raises(RequestError, match=f"beyond the {WINDOW} at which"):
        longrope.model.hidden(torch.tensor([[5, 6]]), WINDOW - 1, cache)


def test_a_batch_of_a_search_takes_each_row_for_itself(pair: Pair) -> None:
    rows, expected = [], []
    for tokens in (WINDOW - NEW - 3, WINDOW + 6, WINDOW - 4, 2 * WINDOW):
        ids, teacher = random_ids(tokens, tokens), random_ids(NEW, tokens)
        prompt = for_length(pair.model, prefill(pair.model, ids, window=4), tokens + NEW)
        ranks = get_policy("snapkv").ranks(prompt)
        kept = torch.full(ranks.shape[:2], tokens - 4)
        question = torch.tensor([], dtype=torch.long)
        rows.append(RankedRow(by_rank(prompt, ranks), question, torch.tensor(teacher), kept))
        expected.append(float(pair.scored(ids, teacher)[1:].mean()))
    with torch.no_grad():
        assert answer_logprobs(pair.model, rows).tolist() == pytest.approx(expected, abs=1e-3)


def test_a_row_of_a_search_that_was_read_for_a_shorter_text_is_refused(longrope: Pair) -> None:
    prompt = prefill(longrope.model, random_ids(WINDOW - 4), window=4)
    ranks = get_policy("snapkv").ranks(prompt)
    row = RankedRow(
        by_rank(prompt, ranks), torch.tensor([], dtype=torch.long), torch.arange(5, 15), torch.ones(ranks.shape[:2])
    )
    with pytest.raises(RequestError, match=r"room=10"):
        answer_logprobs(longrope.model, [row])
