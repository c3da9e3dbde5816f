"""Runs: plan a grid, execute it with one prefill an example, keep every record, tabulate."""
