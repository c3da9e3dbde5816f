"""Eviction methods as models of other projects' evaluation harnesses."""
