"""A file under its final name is whole."""

from pathlib import Path

import pytest

from maxrl.evaluation.files import atomic_text


def test_the_file_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "rows.jsonl"
    for text in ("first é\n", "second\n"):
        with atomic_text(path) as sink:
            sink.write(text)
            sink.flush()
            assert not path.exists() or path.read_text(encoding="utf-8") == "first é\n"
        assert path.read_text(encoding="utf-8") == text
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]


def test_an_error_in_between_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old\n")

    def write_half() -> None:
        with atomic_text(path) as sink:
            sink.write("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old\n"
