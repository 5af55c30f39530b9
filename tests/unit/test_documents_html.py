"""A page comes out as its words: headings make sections, and what is around the text is left away."""

import pytest

from sft_runner.data.documents import html

PAGE = """<!doctype html>
<html><head><title>Site | Guide</title><style>p { color: red }</style></head>
<body>
<nav><h2>Menu</h2><a href="/">Home</a></nav>
<main>
<!-- nothing to see -->
<h1>Guide<a class="headerlink" href="#guide">¶</a></h1>
<p>Hello <b>big</b>
   world, see<a href="x"> here</a>.<br>Call <code>run()</code>.</p>
<script>alert("# no")</script>
<section><div>
<h2>Install</h2>
loose words
<pre><code class="language-bash"># no heading
pip install it</code></pre>
<ul><li>one<ul><li>one and a half</li></ul></li><li><p>two</p><p>more</p></li></ul>
<ol><li>first</li></ol>
<a href="y"><div>a card</div></a>
</div></section>
<table><tr><th>key</th><th>a|b</th></tr><tr><td>1<br>2</td><td><div>x</div><div>y</div></td></tr></table>
</main>
<footer>imprint</footer>
</body></html>"""


def test_a_page_as_sections() -> None:
    document = html.read(PAGE)
    assert document.title == "Guide"
    assert [(section.headings, section.position) for section in document.sections] == [
        (("Guide",), 7),
        (("Guide", "Install"), 12),
    ]
    first, second = (section.text for section in document.sections)
    assert first == "Hello big world, see here.\nCall `run()`."
    assert second == (
        "loose words\n\n```bash\n# no heading\npip install it\n```\n\n- one\n  - one and a half\n- two more\n\n"
        "1. first\n\na card\n\n| key | a\\|b |\n| --- | --- |\n| 1 2 | x y |"
    )


@pytest.mark.parametrize(
    ("page", "title", "said"),
    [
        ("<title>T</title><p>one</p>two", "T", "one\n\ntwo"),
        ("<p>never <b>closed", "", "never closed"),
        ("<pre>```\nfenced\n```</pre>", "", "````\n```\nfenced\n```\n````"),
        ("<svg><title>icon</title></svg><p>a&nbsp;&lt;b&gt;</p>", "", "a <b>"),
        ("", "", ""),
    ],
)
def test_pages_that_are_hardly_one(page: str, title: str, said: str) -> None:
    document = html.read(page)
    assert (document.title, "".join(section.text for section in document.sections)) == (title, said)
