"""Text into token ids: seams, templates of all kinds, special tokens, and what of it is a run's identity."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cokv_bench.errors import Notice, RequestError
from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.log import differences
from cokv_bench.models import Model, encode, encode_answer, encode_apart, load_model
from cokv_bench.runs.journal import Journal
from cokv_bench.runs.plan import make_plan, variants_of
from cokv_bench.tasks import Example
from cokv_bench.tasks.prompts import Encoding, check_prompts, encode_parts, reading
from tests.models.written import CHAT, TEXTS, byte_level, save, sentencepiece

TEXT = "The boat was on the river.\nWhere was the boat?"
QUESTION = "Where was the boat?"
DATED = "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }}\n{{ messages[0]['content'] }}"
PARTS = "{% for m in messages %}<|user|>\n{% for c in m['content'] %}{{ c['text'] }}{% endfor %}<|end|>\n{% endfor %}"
TOKENIZERS = {"byte-level": byte_level, "sentencepiece": sentencepiece}


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(str(save(tmp_path_factory.mktemp("seams"), TOKENIZERS[request.param]())), device="cpu")


def read(tokenizer: Any, network: Any = None, name: str = "m") -> Model:
    """A model that only reads text."""
    return Model(name, network, tokenizer)


def written(model: Model, text: str, chat: bool) -> str:
    if not chat:
        return text
    message = [{"role": "user", "content": text}]
    return str(model.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("text", [TEXT, "The answer is:\n"])
def test_an_answer_is_what_the_whole_text_goes_on_with(model: Model, chat: bool, text: str) -> None:
    prompt, answer = encode(model, text, chat=chat), encode_answer(model, text, "stone", chat=chat)
    following = "stone" if chat or text.endswith("\n") else " stone"
    joined = written(model, text, chat) + following
    assert prompt + answer == model.tokenizer(joined, add_special_tokens=not chat).input_ids
    spelled = "".join(model.tokenizer.convert_ids_to_tokens(answer)).replace("▁", " ").replace("Ġ", " ")
    assert spelled == following


def test_teacher_forcing_is_that_of_plain_transformers_on_the_whole_text(model: Model) -> None:
    ids, answer = encode(model, TEXT, chat=True), encode_answer(model, TEXT, "stone by the gate", chat=True)
    whole = model.tokenizer(written(model, TEXT, True) + "stone by the gate", add_special_tokens=False).input_ids
    logits = model.network(torch.tensor([whole])).logits[0, len(ids) - 1 : -1]
    expected = torch.log_softmax(logits.float(), -1).gather(-1, torch.tensor(whole[len(ids) :])[:, None])[:, 0]
    found = decode(model, prefill(model, ids), [Selection.full(3, 2, len(ids))], teacher=answer)[0].logprobs
    assert found is not None
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("gap", ["\n", "\n\n", " ", ""])
def test_parts_joined_are_the_prompt(model: Model, chat: bool, gap: str) -> None:
    text = f"The boat was on the river.{gap}{QUESTION}"
    context, question = encode_apart(model, text, f"{gap}{QUESTION}", chat=chat)
    assert context + question == encode(model, text, chat=chat)
    before = written(model, text, chat)
    alone = model.tokenizer(before[: before.rindex(f"{gap}{QUESTION}")], add_special_tokens=not chat).input_ids
    # The context tells nothing of the question: its tokens are there without it, but for one at the seam perhaps.
    assert context == alone[: len(context)]
    assert len(alone) - len(context) <= 1
    assert QUESTION in model.tokenizer.decode(question)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("end", ["", " ", "\n"])
def test_a_begun_answer_stands_after_the_prompt_and_is_continued(model: Model, chat: bool, end: str) -> None:
    text = TEXT + end
    between = "" if chat or end else "\n"
    whole = f"{written(model, text, chat)}{between}It was on the"
    ids = encode(model, text, chat=chat, begun="It was on the")
    assert ids == model.tokenizer(whole, add_special_tokens=not chat).input_ids
    answer = encode_answer(model, text, "stone", chat=chat, begun="It was on the")
    assert ids + answer == model.tokenizer(f"{whole} stone", add_special_tokens=not chat).input_ids
    # It tells of the question, so it is never compressed before the question is known.
    context, question = encode_apart(model, text, QUESTION + end, chat=chat, begun=f"It was on the. {QUESTION}")
    assert context == encode_apart(model, text, QUESTION + end, chat=chat)[0]
    assert context + question == encode(model, text, chat=chat, begun=f"It was on the. {QUESTION}")


def test_an_answer_whose_first_token_reaches_into_the_prompt_is_encoded_on_its_own() -> None:
    code = read(byte_level())
    prompt, answer = "The answer is:\n", "    return stone"
    assert (
        encode(code, prompt, chat=False)
        != code.tokenizer(prompt + answer).input_ids[: len(encode(code, prompt, chat=False))]
    )
    assert encode_answer(code, prompt, answer, chat=False) == code.tokenizer(answer, add_special_tokens=False).input_ids
    pieces = read(sentencepiece())
    assert "".join(pieces.tokenizer.convert_ids_to_tokens(encode_answer(pieces, "sto", "ne", chat=True))) == "ne"


@pytest.mark.parametrize("closing", ["", "</s>"])
def test_no_end_of_text_within_or_after_a_prompt(closing: str) -> None:
    plain = read(byte_level(None, closing=closing))
    ids = encode(plain, TEXT, chat=True)
    assert ids[0] == 1
    assert 2 not in ids
    context, question = encode_apart(plain, TEXT, QUESTION, chat=True)
    assert context + question == ids
    answer = encode_answer(plain, TEXT, "stone", chat=True)
    assert ids + answer == plain.tokenizer(f"{TEXT} stone").input_ids[: len(ids) + len(answer)]
    assert 2 not in answer


def test_content_is_given_in_parts_to_a_template_that_wants_them() -> None:
    ids = encode(read(byte_level(PARTS)), TEXT, chat=True)
    assert read(byte_level(PARTS)).tokenizer.decode(ids) == f"<|user|>\n{TEXT}<|end|>\n"


@pytest.mark.parametrize(("knows_channels", "end"), [(True, "<|channel|>final<|message|>"), (False, "")])
def test_a_turn_with_channels_begins_with_that_of_the_answer(knows_channels: bool, end: str) -> None:
    turn = "<|start|>assistant"
    said = "{% if messages[0]['role'] == 'assistant' %}<|channel|>final<|message|>{% endif %}"
    template = (
        said * knows_channels + "{{ messages[0]['content'] }}{% if add_generation_prompt %}" + turn + "{% endif %}"
    )
    model = read(byte_level(template))
    assert model.tokenizer.decode(encode(model, TEXT, chat=True)) == TEXT + turn + end


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ bos_token }}<|user|>", "leaves out what a user writes"),
        ("{{ messages[0]['content'] | upper }}", "leaves out"),
        ("{{ messages[0]['content'] | replace('boat', 'ship') }}", "changes the text"),
        ("{{ raise_exception('A system message must come first') }}", "A system message must come first"),
        ("{% for m in messages %}", "fails on a user's turn"),
        ({"rag": CHAT, "tool_use": CHAT}, "named rag, tool_use and none named 'default'"),
    ],
)
def test_templates_that_cannot_be_used_are_refused(template: Any, words: str) -> None:
    with pytest.raises(RequestError) as error:
        encode(read(byte_level(template)), TEXT, chat=True)
    assert words in str(error.value)
    assert len(str(error.value)) <= 400
    # What needs no template goes on.
    assert encode(read(byte_level(template)), TEXT, chat=False)


def test_of_several_templates_the_default_is_used() -> None:
    both = read(byte_level({"default": CHAT, "rag": PARTS}))
    assert encode(both, TEXT, chat=True) == encode(read(byte_level()), TEXT, chat=True)


@pytest.mark.parametrize(
    ("form", "written"),
    [("%d %b %Y", "26 Jul 2024"), ("%Y-%m-%d", "2024-07-26"), ("%A, %B %-d", "Friday, July 26"), ("%H:%M", "00:00")],
)
def test_every_day_gives_the_same_prompt(form: str, written: str) -> None:
    dated = read(byte_level(DATED.replace("%d %b %Y", form)))
    assert dated.tokenizer.decode(encode(dated, TEXT, chat=True)) == f"<s>Today: {written}\n{TEXT}"


def test_a_date_that_a_template_sets_only_where_it_has_a_clock() -> None:
    template = (
        "{%- if strftime_now is defined %}{%- set today = strftime_now('%d %b %Y') %}{%- else %}"
        "{%- set today = 'never' %}{%- endif %}\n{{- today }}: {{ messages[0]['content'] }}"
    )
    dated = read(byte_level(template))
    assert dated.tokenizer.decode(encode(dated, TEXT, chat=True)) == f"26 Jul 2024: {TEXT}"


class Row:
    """A task of one example."""

    name, metric, version = "row", "none", 1

    def examples(self, split: str) -> list[Example]:
        return [Example("id", "row", TEXT, ("x",), 8, truncate=True)]

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        return {"score": 0.0}


def configuration(model: Model, **encoding: Any) -> dict[str, Any]:
    from cokv_bench.policies import get_policy

    return make_plan(
        model,
        [Row()],  # type: ignore[list-item]
        {"row": variants_of({"full": lambda _: get_policy("full")}, [16])},
        [16],
        window=8,
        split="test",
        seed=0,
        encoding=Encoding(**encoding),
        settings={},
        profiled={},
    ).configuration


def test_a_run_goes_on_with_its_own_tokenizer_template_and_rope_alone(tmp_path: Path) -> None:
    network = load_model(str(save(tmp_path / "m", byte_level())), device="cpu").network
    same = configuration(read(byte_level(), network))
    with Journal(tmp_path / "run", same, {}):
        pass
    other_vocabulary = byte_level()
    other_vocabulary.add_tokens(["boat"])
    for changed, name in (
        (read(byte_level(CHAT.replace("<|user|>", "<|user|> Answer in French.")), network), "chat_template"),
        (read(byte_level(None), network), "chat_template"),
        (read(other_vocabulary, network), "tokenizer"),
        (read(byte_level(closing="</s>"), network), "tokenizer"),
    ):
        with pytest.raises(RequestError, match=f"other settings: reading.{name}"):
            Journal(tmp_path / "run", configuration(changed), {})
    # A template that says the same in other words is the same; a model loaded again is.
    again = read(byte_level("{# in short #}" + CHAT), network)
    with Journal(tmp_path / "run", configuration(again), {}):
        pass
    before = {key: value for key, value in same.items() if key != "reading"}
    assert {phrase.split(" ")[0].split(".")[0] for phrase in differences(before, same)} == {"reading"}


def test_truncation_that_a_caller_has_left_set_is_no_other_tokenizer() -> None:
    first, second = byte_level(), byte_level()
    second(TEXT, truncation=True, max_length=4)
    assert read(first, _Config).reading["tokenizer"] == read(second, _Config).reading["tokenizer"]


class _Config:
    config = transformers.LlamaConfig()


def test_a_cut_below_what_was_asked_for_is_said_and_part_of_the_run(tmp_path: Path) -> None:
    model = load_model(str(save(tmp_path, byte_level(), max_position_embeddings=64)), device="cpu")
    rows = [Example("id", "row", " ".join(TEXTS), ("x",), 8, truncate=True)]
    with pytest.warns(Notice, match="Prompts of row are cut at 56 tokens, not at --max-length 60: .* holds 64"):
        check_prompts(model, rows, Encoding(60))
    assert len(encode_parts(model, rows[0], Encoding(60)).prompt) <= 56
    assert reading(model, rows, Encoding(60))["cut"] == {"row": 56}
    assert reading(model, rows, Encoding(40))["cut"] == {"row": 40}


@pytest.mark.filterwarnings("error")
def test_a_cut_as_asked_for_needs_no_word(tmp_path: Path) -> None:
    model = load_model(str(save(tmp_path, byte_level(), max_position_embeddings=64)), device="cpu")
    rows = [Example("id", "row", " ".join(TEXTS), ("x",), 8, truncate=True)]
    check_prompts(model, rows, Encoding(56))
    check_prompts(model, rows, Encoding())
