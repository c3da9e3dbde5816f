"""Names of the methods, in the order of tables and figures, each with a line about it.

Apart from `cokv_bench.policies`, so that results can be read and shown without PyTorch, whose import takes seconds.
"""

METHODS = {
    "full": "FullKV: evicts nothing; what every method is measured against",
    "streaming-llm": "StreamingLLM: the first 4 tokens and the most recent ones (arXiv 2309.17453)",
    "h2o": "H2O: the tokens that received most attention over the whole prompt (arXiv 2306.14048)",
    "snapkv": "SnapKV: the tokens that the last prompt tokens look at (arXiv 2404.14469)",
    "pyramidkv": "PyramidKV: SnapKV's tokens, more in early layers than in late ones (arXiv 2406.02069)",
    "ada-snapkv": "Ada-SnapKV: SnapKV's tokens, the heads of a layer compete for them (arXiv 2407.11550)",
    "ada-pyramid": "Ada-Pyramid: PyramidKV's layer budgets, the heads of a layer compete (arXiv 2407.11550)",
    "headkv": "HeadKV-R2: SnapKV's tokens, budgets by retrieval and reasoning scores of the heads (arXiv 2410.19258)",
    "cokv": "CoKV: SnapKV's tokens, budgets by the heads' Shapley values in a cooperative game (arXiv 2502.17501)",
    "cokv-search": "CoKV-Search: SnapKV's tokens, budgets of the heads searched at the deployed total (this project)",
    "random": "Random: tokens by chance, the control that has to be beaten",
}
