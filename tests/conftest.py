"""Models for the tests: tiny random weights of every supported architecture, and the embedded one."""

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported: idle threads sleep, and no test asks a hub. Ray's workers give way to other processes by
# default, and would wait for the tests beside them to end.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_worker_niceness", "0")

import torch
import transformers
from hypothesis import HealthCheck, settings

from cokv_bench import plugins
from cokv_bench.catalogue import REGISTRIES
from cokv_bench.models import Model, load_model
from cokv_bench.registries import FAMILIES

# No test is judged by the clock: cores are busy now and then.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

_SIZES = {
    "vocab_size": 120,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_CONFIGS: dict[str, Callable[..., Any]] = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "phi3": transformers.Phi3Config,
}


def save_tiny(kind: str, folder: Path, **changes: Any) -> Path:
    """Save a tiny random decoder of that architecture, without a tokenizer; greedy text must not repeat at once."""
    extra = {"head_dim": 8} if kind == "qwen3" else {}
    config = _CONFIGS[kind](**{**_SIZES, **extra, "sliding_window": None, **changes})
    torch.manual_seed(11)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=sorted(_CONFIGS))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model of each supported architecture in turn."""
    return load_model(str(save_tiny(request.param, tmp_path_factory.mktemp(request.param))), device="cpu")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(str(save_tiny("llama", tmp_path_factory.mktemp("tiny-llama"))), device="cpu")


@pytest.fixture(scope="session")
def texty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Llama that reads text, a token a byte, with a chat template; its answers are noise."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = save_tiny(
        "llama", tmp_path_factory.mktemp("texty") / "texty", vocab_size=260, max_position_embeddings=2048
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<bos>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    fast.chat_template = "{% for m in messages %}<bos>[{{ m['content'] }}]{% endfor %}"
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def texty(texty_folder: Path) -> Model:
    return load_model(str(texty_folder), device="cpu")


@pytest.fixture(scope="session")
def worded(texty: Model) -> Model:
    """The same model, whose chat template writes other signs; its prompts are as long."""
    tokenizer = copy.deepcopy(texty.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("<bos>[", "<bos>(")
    return Model(texty.name, texty.network, tokenizer, texty.files)


@pytest.fixture(scope="session")
def embedded() -> Model:
    """The real embedded model."""
    return load_model("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden files and real rows that CI lays beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there; it holds real rows and golden files")
    return SHARED


@pytest.fixture
def registries_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test adds to the registries is taken out again, and no plug-in counts as loaded."""
    kept = [(registry, registry.keys()) for registry in (*REGISTRIES.values(), FAMILIES)]
    monkeypatch.setattr(plugins, "_loaded", {})
    yield
    for registry, names in kept:
        for name in set(registry) - set(names):
            del registry[name]


def random_ids(tokens: int, seed: int = 0) -> list[int]:
    """Token ids for the tiny models, special tokens left out."""
    return torch.randint(3, 120, (tokens,), generator=torch.Generator().manual_seed(seed)).tolist()
