"""Entry by entry, whatever the window: the same values and the same refusals as json.loads."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psa_pose.datasets import json_stream

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), values, max_size=5)


def read(path, window=json_stream.WINDOW):
    before, json_stream.WINDOW = json_stream.WINDOW, window
    try:
        return {k: list(v) if isinstance(v, Iterator) else v for k, v in json_stream.members(path)}
    finally:
        json_stream.WINDOW = before


@pytest.fixture(scope='module')
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('json') / 'some.json'


@given(objects, st.integers(1, 40), st.sampled_from([None, 2]), st.booleans())
def test_values_are_those_of_json(path, content, window, indent, ascii_only):
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding='utf-8')
    assert read(path, window) == content


@pytest.mark.parametrize('window', range(1, 16))
def test_a_number_may_be_cut_anywhere(path, window):
    text = '{"a": -12.75e+2, "b": [0.5, 1E-3, 20, 3e2]}'
    path.write_text(text)
    assert read(path, window) == json.loads(text)


@given(objects, st.integers(1, 40), st.data())
def test_what_json_refuses_is_refused(path, content, window, data):
    text = json.dumps(content)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(['', ',', '}', ']', '"', 'x'])) + text[at + 1 :]
    path.write_text(changed, encoding='utf-8')
    try:
        expected = json.loads(changed)
    except ValueError:
        with pytest.raises(ValueError, match='char'):
            read(path, window)
    else:
        assert read(path, window) == (expected if isinstance(expected, dict) else {})


@pytest.mark.parametrize('text', ['', ' ', '{"a": [1, 2', '{"a": 1} {}', '{"a": [1,]}', '{1: 2}'])
def test_refusals(path, text):
    path.write_text(text)
    with pytest.raises(ValueError, match='char'):
        read(path)


def test_entries_that_were_not_asked_for_are_passed_over(path):
    path.write_text('{"a": [1, [2], {"b": 3}], "c": 4}')
    assert [name for name, _ in json_stream.members(path)] == ['a', 'c']


def test_a_byte_order_mark_and_numbers_beyond_json(path):
    path.write_bytes(b'\xef\xbb\xbf{"a": [NaN, Infinity]}')
    assert str(read(path)) == "{'a': [nan, inf]}"
