"""Measure HeadKV's head scores of a model on needles and write them to a file for `--head-scores`.

python scripts/headkv_scores.py --model smollm2-135m --examples 16 --out head_scores.json
"""

from cokv_bench.cli.failing import run_script
from cokv_bench.cli.headkv_scores import main

if __name__ == "__main__":
    run_script(main)
