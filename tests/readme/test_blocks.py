"""Documents are taken apart as a reader would."""

import pytest

from tests.readme.blocks import Block, blocks_of, commands_of, flattened, without_blocks

DOCUMENT = """\
# A title

Type `curl -s http://h/x \\| grep y`, not `curl -N`, nor `python -m app doctor`.

```sh
# only a remark
make run     # the first
curl -s http://h/chat -H 'A: "b" # no remark' \\
  -d '{"a": 1}'    # and its end
for how in a b; do
  echo "$how" | sort
done
a |
  b
echo 'one
two'
```

1. A list:
   ```json
   {"a": 1}
   ```
```jsx title="Chat.jsx"
x
```
"""


def test_commands_are_found_in_order() -> None:
    """Continued lines, loops and open quotes are one command, remarks are none; a sentence's command is one, too."""
    found = commands_of("D.md", DOCUMENT)
    assert [(each.line, each.flat) for each in found] == [
        (3, "curl -s http://h/x | grep y"),
        (7, "make run"),
        (8, """curl -s http://h/chat -H 'A: "b" # no remark' -d '{"a": 1}'"""),
        (10, 'for how in a b; do echo "$how" | sort done'),
        (13, "a | b"),
        (15, "echo 'one two'"),
    ]
    assert found[1].text == "make run     # the first"
    assert found[3].text == 'for how in a b; do\n  echo "$how" | sort\ndone'


def test_blocks_have_their_language_and_place() -> None:
    """A block in a list loses its indentation; what stands behind the language is kept."""
    _, json, jsx = blocks_of("D.md", DOCUMENT)
    assert json == Block(document="D.md", line=21, language="json", more="", text='{"a": 1}\n')
    assert (jsx.language, jsx.more, jsx.text) == ("jsx", 'title="Chat.jsx"', "x\n")
    assert "{" not in without_blocks(DOCUMENT)
    assert without_blocks(DOCUMENT).count("\n") == DOCUMENT.count("\n") - 1


@pytest.mark.parametrize("text", ["```sh\nmake run\n", "```sh\necho 'a\n```\n", "```sh\nfor a in b; do\n```\n"])
def test_what_does_not_end_is_an_error(text: str) -> None:
    """A fence without its other half, and a command without its end."""
    with pytest.raises(ValueError, match="does not end"):
        commands_of("D.md", text)


def test_a_hash_within_a_word_is_no_remark() -> None:
    """Nor is one in quotes."""
    assert flattened("echo a#b '# c' # d") == "echo a#b '# c'"
