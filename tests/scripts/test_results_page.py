from scripts.results_page import PAGE, page


def test_the_page_is_made_from_the_committed_records() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m scripts.results_page"
