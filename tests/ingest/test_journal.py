"""Records outlive a kill, and are found again by their place."""

from pathlib import Path

import pytest

from ingest.journal import Journal


def test_records_are_read_back_in_any_order_while_more_are_added(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        places = [journal.add({"text": f"né {n}\n\u2028" * n}) for n in range(50)]
        for n in (7, 49, 0, 23):
            assert journal.record(places[n]) == {"text": f"né {n}\n\u2028" * n}
            journal.add({"more": n})
        assert journal.record(places[31]) == {"text": "né 31\n\u2028" * 31}


@pytest.mark.parametrize("cut", [1, 5, 14])
def test_a_record_cut_short_is_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        for n in range(3):
            journal.add({"number": n})
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path) as journal:
        left = list(journal.records())
        assert [record["number"] for _, record in left] == [0, 1]
        journal.add({"number": 9})
        assert [journal.record(place)["number"] for place, _ in left] == [0, 1]
    with Journal(path) as journal:
        assert [record["number"] for _, record in journal.records()] == [0, 1, 9]
