"""The file of results: it resumes, several processes append to it, and the published files are read."""

from argparse import ArgumentParser
from pathlib import Path

from benchmarks.results_file import ResultsFile, add_options, own_part

PUBLISHED = Path(__file__).parents[3] / "benchmarks/results"


def test_a_run_that_is_in_the_file_is_not_missing(tmp_path: Path) -> None:
    results, other = ResultsFile(tmp_path / "results.jsonl"), ResultsFile(tmp_path / "results.jsonl")
    assert results.records() == []
    assert results.missing("arm", ["a", "b"], task="push", seed=1) == ["a", "b"]
    results.add({"task": "push", "seed": 1, "arm": "a", "returns": [1.5]})
    other.add({"task": "push", "seed": 2, "arm": "b", "returns": []})
    assert results.missing("arm", ["a", "b"], task="push", seed=1) == ["b"]
    assert results.missing("arm", ["a", "b"], task="push") == []
    assert results.records(seed=2) == [{"task": "push", "seed": 2, "arm": "b", "returns": []}]
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2


def test_published_results_are_read() -> None:
    for name in ("reported", "tuning"):
        results = ResultsFile(PUBLISHED / f"metaworld_{name}.jsonl")
        first, *others = results.records()
        assert others
        assert results.missing("policy", [first["policy"]], task=first["task"], seed=first["seed"]) == []


def test_the_parts_are_all_jobs(tmp_path: Path) -> None:
    parser = ArgumentParser()
    add_options(parser, "mine.jsonl")
    assert parser.parse_args([]).results == Path("mine.jsonl")
    jobs = list(range(7))
    parts = [own_part(jobs, parser.parse_args(["--part", str(number), "3"])) for number in range(3)]
    assert sorted(job for part in parts for job in part) == jobs
    assert own_part(jobs, parser.parse_args([])) == jobs
