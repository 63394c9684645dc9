"""What tests/support/pages.py reads from a page, and which outputs it takes for the same."""

from __future__ import annotations

import pytest

from tests.support.pages import commands, shows, steps, untested

PAGE = """\
# Page

<!-- setup
mkdir shop
-->
```toml
# shop/msctl.toml
[project]
name = "shop"
```

```toml
[project]
name = "an excerpt"
```

```sh
msctl up -d    # starts it
```

```text
ready
```

```text
not the output of a command
```

```console
$ make test
```
"""


def test_page_becomes_a_session_of_setup_files_and_commands() -> None:
    setup, file, command = steps(PAGE)
    assert setup.script == "mkdir shop\n"
    assert "cat > shop/msctl.toml" in file.script
    assert 'name = "shop"' in file.script
    assert command.script.startswith("msctl up -d")
    assert (setup.shown, file.shown, command.shown) == (None, None, "ready\n")
    start, end = command.span
    assert PAGE[start:end] == "ready\n"


def test_commands_are_what_a_reader_types() -> None:
    assert commands(PAGE) == ["msctl up -d", "make test"]
    assert untested(PAGE) == ["make test"]


@pytest.mark.parametrize(
    ("shown", "output"),
    [
        ("a\nb\n", "\na\r\nb\n"),
        ("users  ready  http://127.0.0.1:26705", "users ready http://127.0.0.1:31641"),
        ("took 54.7 ms, 2 spans", "took 735 µs, 2 spans"),
        ("work  pid 12, up 1m08s", "work  pid 4321, up 0s"),
        ("first\n…\nlast", "first\n2\n3\nlast"),
        ("first\n…\nlast", "first\nlast"),
        ('{"status": 503, …}', '{"status": 503, "detail": "x"}'),
    ],
)
def test_outputs_that_differ_from_run_to_run_are_the_same(shown: str, output: str) -> None:
    assert shows(shown, output)


@pytest.mark.parametrize(
    ("shown", "output"),
    [
        ("a\n", "a\nb\n"),
        ("a\nb\n", "b\n"),
        ("HTTP/1.1 200 OK", "HTTP/1.1 503 OK"),
        ("hello 1 0 0", "hello 2 0 0"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("users  ready  http://127.0.0.1:26705", "users  stopped  http://127.0.0.1:26705"),
        ("first\n…\nlast", "first\n2\n"),
    ],
)
def test_outputs_that_differ_in_what_matters_are_not_the_same(shown: str, output: str) -> None:
    assert not shows(shown, output)
