"""`cokv-bench head-scores` by its earlier name, for a release."""

from cokv_bench.cli.failing import run_script
from cokv_bench.cli.head_scores import measure_head_scores as main

if __name__ == "__main__":
    run_script(main)
