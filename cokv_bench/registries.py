"""The registries, and what the package itself has in them: names in the order of tables, one line each, and where.

Nothing is imported before it is used, so that names can be listed and checked, and results read and shown, without
PyTorch and SciPy, whose imports take seconds.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cokv_bench.registry import Registry, declared, described

if TYPE_CHECKING:
    from cokv_bench.engines.check import EngineKind
    from cokv_bench.exports import Request, Written
    from cokv_bench.game.estimators import Estimator
    from cokv_bench.game.sampling import Sampling
    from cokv_bench.game.utilities import PromptUtility
    from cokv_bench.policies.halves import Recipe
    from cokv_bench.policies.policy import Allocator, Scorer
    from cokv_bench.tasks.family import Family

Metric = Callable[[str, Any, Sequence[str]], float]
"""(prediction, answer, class names of the task) -> score in [0, 1]; all answers at once where it is marked `JOINT`."""
#: The mark of metrics that look at all answers together; of any other the best over the answers counts.
JOINT = "joint"

#: Rankings and splits say in their own files what they are called: a new one needs no other.
SCORERS: "Registry[Callable[..., Scorer]]" = Registry(
    "scorer",
    declared("policies/scorers/*.py", first=("sinks-recent", "accumulated", "window", "random")),
    earlier={"sinks-recency": "sinks-recent"},
)
#: The mark of scorers and methods that look at what no method can have: they are told but do not compete.
CEILING = "ceiling"
ALLOCATORS: "Registry[Callable[..., Allocator]]" = Registry(
    "allocator", declared("policies/allocators/*.py", first=("uniform", "pyramid", "adaptive", "ada-pyramid", "static"))
)

_RECIPES = "cokv_bench.policies.registry"
METHODS: "Registry[Recipe]" = Registry(
    "method",
    {
        "full": ("FullKV: evicts nothing; what every method is measured against", f"{_RECIPES}:FULL"),
        "streaming-llm": (
            "StreamingLLM: the first 4 tokens and the most recent ones (arXiv 2309.17453)",
            f"{_RECIPES}:STREAMING_LLM",
        ),
        "h2o": (
            "H2O: the tokens that received most attention over the whole prompt (arXiv 2306.14048)",
            f"{_RECIPES}:H2O",
        ),
        "snapkv": ("SnapKV: the tokens that the last prompt tokens look at (arXiv 2404.14469)", f"{_RECIPES}:SNAPKV"),
        "pyramidkv": (
            "PyramidKV: SnapKV's tokens, more in early layers than in late ones (arXiv 2406.02069)",
            f"{_RECIPES}:PYRAMIDKV",
        ),
        "ada-snapkv": (
            "Ada-SnapKV: SnapKV's tokens, the heads of a layer compete for them (arXiv 2407.11550)",
            f"{_RECIPES}:ADA_SNAPKV",
        ),
        "ada-pyramid": (
            "Ada-Pyramid: PyramidKV's layer budgets, the heads of a layer compete (arXiv 2407.11550)",
            f"{_RECIPES}:ADA_PYRAMID",
        ),
        "headkv": (
            "HeadKV-R2: SnapKV's tokens, budgets by retrieval and reasoning scores of the heads (arXiv 2410.19258)",
            f"{_RECIPES}:HEADKV",
        ),
        "cokv": (
            "CoKV: SnapKV's tokens, budgets by the heads' Shapley values in a cooperative game (arXiv 2502.17501)",
            f"{_RECIPES}:COKV",
        ),
        "cokv-search": (
            "CoKV-Search: SnapKV's tokens, budgets of the heads searched at the deployed total (this project)",
            f"{_RECIPES}:COKV_SEARCH",
        ),
        "random": ("Random: tokens by chance, the control that has to be beaten", f"{_RECIPES}:RANDOM"),
        "critical-ada": (
            "CriticalAdaKV: half by attention, half by attention times the projected value; heads compete "
            "(arXiv 2502.03805)",
            f"{_RECIPES}:CRITICAL_ADA",
        ),
        "cake": (
            "CAKE: by mean and variance of the window's attention, more for layers that look widely and changeably "
            "(arXiv 2503.12491)",
            f"{_RECIPES}:CAKE",
        ),
        "lava": (
            "LAVa: attention times the head's largest value, more for layers of high entropy, heads compete "
            "(arXiv 2509.09754)",
            f"{_RECIPES}:LAVA",
        ),
    },
)

_UTILITIES = "cokv_bench.game.utilities"
UTILITIES: "Registry[PromptUtility]" = Registry(
    "utility",
    {
        "loglik": (
            "mean log-probability of the reference answer, teacher forced (fast)",
            f"{_UTILITIES}.loglik:LOGLIK",
        ),
        "metric": ("the task's score of the greedy answer (as published)", f"{_UTILITIES}.metric:METRIC"),
        "agreement": (
            "mean log-probability of the full cache's own answer; needs no labels (fast)",
            f"{_UTILITIES}.agreement:AGREEMENT",
        ),
        "acceptance": (
            "how much of the full cache's own answer is said before the first other token; needs no labels (fast)",
            f"{_UTILITIES}.acceptance:ACCEPTANCE",
        ),
    },
)

_SAMPLING = "cokv_bench.game.sampling"
SAMPLINGS: "Registry[Sampling]" = Registry(
    "sampling",
    {
        "slices": ("pairs of complements of four sizes, n/8 to n/2 (CoKV)", f"{_SAMPLING}:SLICES"),
        "strata": ("pairs of complements of all sizes in turn", f"{_SAMPLING}:STRATA"),
        "neyman": (
            "pairs of complements, most from the sizes that spread most in a pilot",
            f"{_SAMPLING}:NEYMAN",
        ),
        "antithetic": (
            "the four sizes of CoKV, two coalitions without a common player at a time",
            f"{_SAMPLING}:ANTITHETIC",
        ),
        "permutation": (
            "walks from nobody to everybody along random orders and their reverses",
            f"{_SAMPLING}:PERMUTATION",
        ),
        "uniform": ("pairs of complements, each player in with probability 1/2", f"{_SAMPLING}:UNIFORM"),
    },
)

_ESTIMATORS = "cokv_bench.game.estimators"
ESTIMATORS: "Registry[Estimator]" = Registry(
    "estimator",
    {
        "ssv": ("sliced Shapley values over four coalition sizes (CoKV)", f"{_ESTIMATORS}.ssv:SSV"),
        "cc": ("complementary contributions of members and non-members, centred", f"{_ESTIMATORS}.cc:CC"),
        "shapley": (
            "Shapley values by complementary contributions over all sizes",
            f"{_ESTIMATORS}.shapley:SHAPLEY",
        ),
        "permutation": (
            "Shapley values by marginal contributions along random orders",
            f"{_ESTIMATORS}.permutation:PERMUTATION",
        ),
        "kernelshap": (
            "Shapley values by regression with leverage-score sampling",
            f"{_ESTIMATORS}.kernelshap:KERNELSHAP",
        ),
        "banzhaf": ("Banzhaf values, every coalition reused for every head", f"{_ESTIMATORS}.banzhaf:BANZHAF"),
        "ridge": ("ridge regression on membership, all coalitions inform all heads", f"{_ESTIMATORS}.ridge:RIDGE"),
    },
)

_TASKS = "cokv_bench.tasks"
#: Benchmarks are found in `tasks/NAME/family.py`, those that are published tables in `tasks/tables/NAME.yaml`.
FAMILIES: "Registry[Family]" = Registry(
    "task family",
    {
        **declared("tasks/*/family.py", first=("needle", "text", "ruler", "longbench", "jsonl")),
        **described("tasks/tables/*.yaml", f"{_TASKS}.tables.family"),
    },
)

_ENGINES = "cokv_bench.engines.check"
ENGINES: "Registry[EngineKind]" = Registry(
    "engine",
    {
        "local": ("this process, with one model", f"{_ENGINES}:LOCAL"),
        "ray": ("workers on several GPUs or hosts; each loads the model (docs/cluster.md)", f"{_ENGINES}:RAY"),
    },
)

#: Each target of `cokv-bench export` is a file. "lukv" is what the first of them was called.
EXPORTS: "Registry[Callable[[Request], Written]]" = Registry(
    "export target",
    declared("exports/*.py", first=("transformers", "kvpress", "duo", "layers")),
    earlier={"lukv": "kvpress"},
)

_METRICS = f"{_TASKS}.metrics"
METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "qa_f1": ("F1 of the words shared with the answer", f"{_METRICS}.f1:qa_f1"),
        "qa_f1_zh": ("the same of Chinese words", f"{_METRICS}.f1:qa_f1_zh"),
        "rouge": ("ROUGE-L as LongBench computes it", f"{_METRICS}.rouge_l:rouge"),
        "rouge_zh": ("the same of Chinese words", f"{_METRICS}.rouge_l:rouge_zh"),
        "rouge_score_l": ("ROUGE-L of the package rouge-score", f"{_METRICS}.rouge_sentence:rouge_score_l"),
        "classification": ("the class that the prediction names", f"{_METRICS}.classes:classification"),
        "count": ("share of the predicted numbers that are right", f"{_METRICS}.numbers:count"),
        "retrieval": ("share of the predicted paragraph numbers that are right", f"{_METRICS}.numbers:retrieval"),
        "retrieval_zh": ("the same of Chinese paragraphs", f"{_METRICS}.numbers:retrieval_zh"),
        "code_sim": ("edit similarity of the first line of code", f"{_METRICS}.edit_similarity:code_sim"),
        "string_match_all": (
            "share of all answers that occur in the prediction (RULER)",
            f"{_METRICS}.string_match:string_match_all",
            JOINT,
        ),
        "string_match_part": (
            "whether an answer occurs in the prediction, case ignored (RULER)",
            f"{_METRICS}.string_match:string_match_part",
        ),
        "contains": ("whether an answer occurs in the prediction, case kept", f"{_METRICS}.string_match:contains"),
        "choice_stated": (
            'whether it says "The correct answer is (B)" with the right letter (LongBench v2)',
            f"{_METRICS}.choices:choice_stated",
        ),
        "choice": ("whether the right letter or option is named (InfiniteBench)", f"{_METRICS}.choices:choice"),
        "choice_code": (
            "whether the right letter or function is named (InfiniteBench)",
            f"{_METRICS}.choices:choice_code",
        ),
        "first_integer": ("whether the first integer is the answer", f"{_METRICS}.retrieved:first_integer"),
        "last_integer": ("whether the last word is the answer's integer", f"{_METRICS}.retrieved:last_integer"),
        "first_number": ("whether the first number is the answer", f"{_METRICS}.retrieved:first_number"),
        "among_words": ("whether an answer is one of the words", f"{_METRICS}.retrieved:among_words"),
        "speaker": (
            "whether the first answer is one of the words, in capitals (InfiniteBench)",
            f"{_METRICS}.retrieved:speaker",
            JOINT,
        ),
        "char_f1_zh": ("F1 of the Chinese characters shared with the answer", f"{_METRICS}.f1:char_f1_zh"),
        "rouge_recall": ("recall of ROUGE-L as LooGLE computes it", f"{_METRICS}.rouge_l:rouge_recall"),
        "rouge_score_lsum": (
            "ROUGE-Lsum of the package rouge-score",
            f"{_METRICS}.rouge_sentence:rouge_score_lsum",
        ),
    },
)
