"""Runs: plan a grid, execute it with one prefill per example, keep every record."""
