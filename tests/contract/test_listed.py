"""Every class that a configuration can name is listed in `tests/cases.py`, so that the contract tests cover it."""

import importlib
import pkgutil
import warnings
from contextlib import suppress

import pytest

import datamodules
import difftori_pl
from tests import cases


@pytest.fixture(scope="module", autouse=True)
def _import_all_modules() -> None:
    # Some modules import a simulator or Theseus, which may be missing or may warn.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in (difftori_pl, datamodules):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if not module.name.endswith("__main__"):
                    with suppress(ImportError):
                        importlib.import_module(module.name)


@pytest.mark.parametrize("base", cases.LISTED, ids=lambda base: base.__name__)
def test_every_concrete_class_is_listed(base: type) -> None:
    assert cases.concrete_subclasses(base) == cases.LISTED[base]
