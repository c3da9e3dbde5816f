"""Benchmarks that others publish as tables: a YAML file each, which says where it lies, what is asked and scored."""
