"""Our Markdown as parts of a page."""

from sertk.results.markup import blocks, styled


def test_tables_lists_and_sentences_are_told_apart() -> None:
    lines = ["| a | b |", "|---|---|", r"| x\|y | |", "", "- one", "- two `c`", "Said.", "More."]
    found = [(one.kind, [list(map(str, row)) for row in one.rows]) for one in blocks(lines)]
    assert found == [
        ("table", [["a", "b"], ["x|y", ""]]),
        ("list", [["one"], ["two <code>c</code>"]]),
        ("text", [["Said."]]),
        ("text", [["More."]]),
    ]


def test_all_but_code_and_bold_is_escaped() -> None:
    assert styled('**4 of 5** `<i>` <b>&"') == ("<strong>4 of 5</strong> <code>&lt;i&gt;</code> &lt;b&gt;&amp;&#34;")
