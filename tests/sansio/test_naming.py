"""What clips are called."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from venice_async import UsageError, VideoRequest
from venice_async.sansio.naming import (
    FIELDS,
    Naming,
    checked_pattern,
    filled,
    in_folder,
    is_pattern,
    known_values,
    own_key,
    slug,
    with_number,
)

FOX = VideoRequest(model="wan-2.7", prompt="A fox, in the snow!", duration="5s", extra={"seed": 7})
VALUES = known_values(FOX, model="wan-2.7", key="shot_01", tags={"project": "Winter '26"}, date="2026-11-25")
JOB = "a65ba565-e646-4162-b00f-13716024ff2f"


def first(pattern: str, values: dict[str, str] = VALUES) -> str:
    return next(Naming(pattern=pattern, values=values).names(JOB))


def test_a_pattern_is_filled_with_what_is_known_of_the_job() -> None:
    assert {
        "{key}-{model}-{n:03}.mp4": "shot-01-wan-2.7-001.mp4",
        "{date}_{prompt:8}_{seed}.mp4": "2026-11-25_A-fox-in_7.mp4",
        "{tag.project} {duration}": "Winter-26 5s.mp4",
        "{{{id}}}.m4v": "{a65ba565}.m4v",
    } == {
        pattern: first(pattern)
        for pattern in (
            "{key}-{model}-{n:03}.mp4",
            "{date}_{prompt:8}_{seed}.mp4",
            "{tag.project} {duration}",
            "{{{id}}}.m4v",
        )
    }


def test_a_field_that_the_job_lacks_goes_with_its_separator() -> None:
    assert ["wan.mp4", "wan.mp4", "a65ba565.mp4"] == [
        first(pattern, {"model": "wan"}) for pattern in ("{key}-{model}", "{model}_{resolution}.mp4", "{key}")
    ]


def test_in_a_folder_a_clip_is_called_by_its_prompt_or_its_model_and_its_job() -> None:
    assert ["A-fox-in-the-snow-a65ba565.mp4", "wan-a65ba565.mp4"] == [
        next(in_folder(values).names(JOB)) for values in (VALUES, {"model": "wan"})
    ]
    assert ["wan-job-7.mp4", "wan-1000000012.mp4"] == [
        next(in_folder({"model": "wan"}).names(job)) for job in ("job-7", "1000000012")
    ]
    one, other = (next(in_folder({"model": "wan"}).names(job)) for job in ("../etc", "/etc"))
    assert one != other
    assert "/" not in one + other


def test_of_the_key_of_a_batch_only_the_callers_part_is_shown() -> None:
    batch = "0123456789abcdef/"
    keys = (None, "order-4711", f"{batch}fox#1", f"{batch}fox#3", f"{batch}{'a' * 64}#1")
    assert [None, "order-4711", "fox", "fox-3", None] == list(map(own_key, keys))


def test_names_go_on_until_one_is_free() -> None:
    plain, counted = Naming(pattern="{key}", values=VALUES), Naming(pattern="{n:02}-{key}", values=VALUES)

    assert ["shot-01.mp4", "shot-01-2.mp4", "shot-01-3.mp4"] == list(islice(plain.names(JOB), 3))
    assert ["01-shot-01.mp4", "02-shot-01.mp4"] == list(islice(counted.names(JOB), 2))
    assert [False, True] == [naming.names_the_job for naming in (plain, in_folder({}))]


def test_the_suffix_is_of_what_came_unless_the_pattern_names_one_of_another_kind() -> None:
    assert ["shot-01.mov", "shot-01.mov", "shot-01.bin", "shot-01.2026.mov"] == [
        next(Naming(pattern=pattern, values=VALUES).names(JOB, ".mov"))
        for pattern in ("{key}", "{key}.MP4", "{key}.bin", "{key}.2026.mov")
    ]


@given(st.text(max_size=80), st.sampled_from(FIELDS))
@example("take 1.5", "prompt")
@example("0.0", "id")
def test_no_value_decides_what_kind_of_file_a_name_says_it_is(text: str, name: str) -> None:
    values = {name: "5" if name == "n" else text}
    job_id = text if name == "id" else JOB

    assert next(Naming(pattern=f"a-{{{name}}}", values=values).names(job_id, ".mov")).endswith(".mov")


def test_a_number_is_bound_where_it_is_known() -> None:
    assert "{{x}}-{key:5}-004.mp4" == with_number("{{x}}-{key:5}-{n:03}.mp4", 4)


def test_a_pattern_that_makes_no_sense_is_refused_with_what_to_write() -> None:
    said = {}
    for pattern in ("{promt}", "{", "{key!r}", "{n:x}", "{id}/a.mp4", "{}"):
        with pytest.raises(UsageError) as caught:
            checked_pattern(pattern)
        said[pattern] = caught.value.message

    assert {
        "{promt}": "A name has no field {promt}. Did you mean {prompt}?",
        "{": "The pattern '{' has a brace that is not closed",
        "{key!r}": "A name has no field {key!r}. Did you mean {key}?",
        "{n:x}": "{n:x} makes no sense in a name",
        "{id}/a.mp4": "{id} is not known before the job is queued, so no folder can be called by it",
        "{}": "A name has no field {}.",
    } == said
    assert "{model}/{key}-{tag.city}.mp4" == checked_pattern("{model}/{key}-{tag.city}.mp4")


@given(st.text(max_size=300), st.sampled_from(FIELDS))
def test_no_value_leaves_its_place_in_the_path(text: str, name: str) -> None:
    made = filled(f"clips/{{{name}}}.mp4", {name: "5" if name == "n" else text})

    assert "clips" == made.rpartition("/")[0]
    assert len(slug(text).encode()) <= 60
    assert not set(slug(text)) & set('/\\:*?"<>|\0\n. ') - {"."}
    assert ".." not in slug(text)
    assert not slug(text).startswith((".", "-"))


@given(st.text(max_size=80), st.integers(1, 9999))
def test_no_name_is_longer_than_a_file_system_takes(text: str, number: int) -> None:
    naming = Naming(pattern="x" * 300 + "{prompt}", values={"prompt": text})

    assert len(next(islice(naming.names(JOB), number % 9, None)).encode()) <= 210


def test_a_destination_with_braces_is_a_pattern_and_a_long_text_is_cut_between_words() -> None:
    assert [True, True, False] == list(map(is_pattern, ("{key}", "a}", "clip.mp4")))
    assert ["A-fox-in", "A-fox-in", "Afoxinthesn"] == [
        slug("A fox in the snow", 9),
        slug("A fox in the snow", 8),
        slug("Afoxinthesnow", 11),
    ]
