"""Engines by name: what cannot start is refused before anything is loaded."""

import importlib.util

import pytest

from cokv_bench.catalogue import catalogue
from cokv_bench.engines import check
from cokv_bench.engines.check import check_engine
from cokv_bench.engines.options import EngineOptions
from cokv_bench.errors import RequestError


def test_engines_are_listed_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(catalogue("engines")) == ["local", "ray"]
    check_engine(EngineOptions())
    for engine, workers, address, said in (
        ("rai", None, None, "Unknown engine 'rai'; did you mean ray"),
        ("local", 2, None, "--workers 2 is for engines with workers; add --engine ray"),
        ("local", None, "auto", "--address auto is for engines with workers; add --engine ray"),
    ):
        with pytest.raises(RequestError, match=said):
            check_engine(EngineOptions(engine, workers, address))
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"--engine ray needs the package ray.*pip install 'cokv-bench\[ray\]'"):
        check_engine(EngineOptions("ray", 2))
    monkeypatch.setattr(check, "find_spec", lambda name: importlib.util.find_spec("json"))
    check_engine(EngineOptions("ray", 2, "auto"))
