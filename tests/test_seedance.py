"""Seedance's workflows and upscaling: the prompts they write, and what they refuse before sending."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from venice_async import seedance
from venice_async.errors import InvalidRequestError
from venice_async.media import Media
from venice_async.requests import VideoRequest
from venice_async.seedance import audio, extend, image, reference, stitch, subject, video
from venice_async.upscaling import upscale

OLD = "seedance-2-0-fast-reference-to-video-basic"
NEW = "seedance-2-5-reference-to-video-basic"
CLIP = "https://example.com/clip.mp4"
PICTURE = "https://example.com/picture.png"
SOUND = "https://example.com/voice.mp3"
DONOR = f"Refer to {subject(1)} in {image(1)} to generate "


def refusal(build: Any, *args: Any, **keywords: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        build(*args, **keywords)
    assert caught.value.charged is False
    return caught.value


def clips(count: int) -> list[str]:
    return [f"https://example.com/{number}.mp4" for number in range(1, count + 1)]


def pictures(count: int) -> list[str]:
    return [f"https://example.com/{number}.png" for number in range(1, count + 1)]


def mentioned(count: int) -> str:
    return "Refer to " + ", ".join(image(number) for number in range(1, count + 1)) + " to generate a walk"


def test_reference_opens_with_what_it_refers_to() -> None:
    """The canonical opening is put before what is to be generated, whatever the number of donors."""
    request = reference(
        OLD,
        "a walk through the snow.",
        refer_to=[
            f"{subject(1)} in {image(1)}",
            f"the camera scene in {video(1)}",
            f"the timbre in {audio(1)}",
        ],
        images=[PICTURE],
        videos=[CLIP],
        audios=[SOUND],
        duration=5,
    )

    expected = VideoRequest(
        model=OLD,
        prompt=(
            "Refer to <Subject 1> in <Image 1>, the camera scene in <Video 1> and the timbre in <Audio 1>"
            " to generate a walk through the snow."
        ),
        reference_image_urls=[PICTURE],
        reference_video_urls=[CLIP],
        reference_audio_urls=[SOUND],
        duration="5s",
    )
    assert expected == request


def test_reference_takes_one_donor_as_text() -> None:
    """A single donor needs no list."""
    request = reference(OLD, "a walk", refer_to="the style in <Image 1>", images=[PICTURE])

    assert request.prompt == "Refer to the style in <Image 1> to generate a walk"


def test_reference_sends_a_whole_prompt_as_it_is() -> None:
    """A prompt that opens canonically is the user's own."""
    assert reference(OLD, f"{DONOR}a walk", images=[PICTURE]).prompt == f"{DONOR}a walk"


@pytest.mark.parametrize(
    ("prompt", "refer_to"),
    [
        ("a walk with <Image 1>", ()),
        ("refer to <Image 1> to generate a walk", ()),
        (f"{DONOR}a walk", ["<Image 1>"]),
    ],
)
def test_reference_must_say_once_what_it_refers_to(prompt: str, refer_to: list[str]) -> None:
    """Without its opening the server would take the prompt for another workflow."""
    assert refusal(reference, OLD, prompt, refer_to=refer_to, images=[PICTURE]).field == "prompt"


@for_each(
    "instruction, prompt",
    [
        (
            seedance.change("the weather", to="a heavy rainstorm."),
            "Strictly edit <Video 1>, changing its weather to a heavy rainstorm.",
        ),
        (seedance.add("a kite"), "Add a kite to <Video 1>"),
        (
            seedance.add("a kite", when="00:02", where="the upper left"),
            "At 00:02 and the upper left of <Video 1>, add a kite",
        ),
        (seedance.add("a kite", when="00:02"), "At 00:02 of <Video 1>, add a kite"),
        (seedance.add("a kite", where="the sky"), "At the sky of <Video 1>, add a kite"),
        (
            seedance.remove("the red car"),
            "Remove the red car from <Video 1>, keeping the rest of the video content unchanged",
        ),
        (seedance.replace("the cup", by="a jar"), "Replace the cup in <Video 1> with a jar"),
        ("make it snow.", "Strictly edit <Video 1>: make it snow."),
        ("Add snow", "Strictly edit <Video 1>: Add snow"),
        ("Generate snow over <Video 1>", "Strictly edit <Video 1>: Generate snow over <Video 1>"),
        ("Add snow to the roof in <Video 1>", "Add snow to the roof in <Video 1>"),
    ],
)
def test_edit_writes_the_canonical_instruction(instruction: str, prompt: str) -> None:
    """Each instruction names the clip in the words that the server knows for an edit."""
    expected = VideoRequest(model=OLD, prompt=prompt, reference_video_urls=[CLIP], aspect_ratio="adaptive")
    assert expected == seedance.edit(OLD, CLIP, instruction, aspect_ratio="adaptive")


def test_edit_may_take_the_new_thing_from_an_image() -> None:
    """An image beside the clip is mentioned like any other reference."""
    request = seedance.edit(
        OLD, CLIP, seedance.replace("the cup", by="the jar in <Image 1>"), images=[PICTURE]
    )

    assert request.prompt == "Replace the cup in <Video 1> with the jar in <Image 1>"
    assert request.reference_image_urls == (PICTURE,)


@pytest.mark.parametrize(
    ("backward", "keep_input", "prompt"),
    [
        (False, False, "Extend <Video 1>, generate a chase {at dusk}"),
        (False, True, "Extend <Video 1>, start with <Video 1>, then a chase {at dusk}"),
        (True, False, "Extend <Video 1> backward, a chase {at dusk}"),
        (True, True, "Extend <Video 1> backward, a chase {at dusk}, and then end with <Video 1>"),
    ],
)
def test_extend_says_where_and_what_is_kept(*, backward: bool, keep_input: bool, prompt: str) -> None:
    """The four ways to extend a clip have four canonical prompts."""
    request = extend(OLD, CLIP, "a chase {at dusk}.", backward=backward, keep_input=keep_input)

    assert VideoRequest(model=OLD, prompt=prompt, reference_video_urls=[CLIP]) == request


def test_extend_sends_a_whole_prompt_as_it_is_and_takes_no_flags_beside_it() -> None:
    """A prompt of the user's own says itself where to extend."""
    whole = "Extend <Video 1>, generate rain"

    assert whole == extend(OLD, CLIP, whole).prompt
    assert refusal(extend, OLD, CLIP, whole, backward=True).field == "prompt"


def test_stitch_joins_clips_by_one_transition_or_one_for_each_gap() -> None:
    """Clips are numbered in order, with what happens between them."""
    alike = stitch(OLD, clips(3))
    different = stitch(OLD, clips(3), ["smoke becomes birds.", "a slow dolly-in"])

    cut = "+ a smooth seamless cut + followed by"
    assert alike.prompt == f"<Video 1> {cut} <Video 2> {cut} <Video 3>"
    assert different.prompt == (
        "<Video 1> + smoke becomes birds + followed by <Video 2> + a slow dolly-in + followed by <Video 3>"
    )
    assert different.reference_video_urls == tuple(clips(3))


@pytest.mark.parametrize("given", [[], clips(1), CLIP])
def test_stitch_needs_two_clips(given: Any) -> None:
    """One clip, or a bare URL where a list belongs, cannot be stitched."""
    error = refusal(stitch, OLD, given)

    assert (error.field, error.limit) == ("reference_video_urls", 2)


@pytest.mark.parametrize("transitions", [[], ["a", "b"]])
def test_stitch_needs_a_transition_for_each_gap(transitions: list[str]) -> None:
    """Two clips have one gap."""
    assert refusal(stitch, OLD, clips(2), transitions).limit == 1


@pytest.mark.parametrize("tag", ["<Image 2>", "<Video 1>", "<Audio 1>", "<Image 9999>"])
def test_a_tag_without_its_reference_is_refused(tag: str) -> None:
    """A tag counts the references given."""
    error = refusal(reference, OLD, f"{DONOR}a walk with {tag}", images=[PICTURE])

    assert error.field == "prompt"
    assert f"{tag} has no reference" in str(error)


@pytest.mark.parametrize(
    ("name", "media", "tag"),
    [("images", pictures(2), "<Image 2>"), ("videos", [CLIP], "<Video 1>"), ("audios", [SOUND], "<Audio 1>")],
)
def test_a_reference_never_mentioned_is_refused(name: str, media: list[str], tag: str) -> None:
    """The model would ignore it, and the user would pay for nothing."""
    error = refusal(reference, OLD, f"{DONOR}a walk", **{"images": [PICTURE], name: media})

    assert error.field == f"reference_{name.removesuffix('s')}_urls"
    assert f"{tag} is given but never mentioned" in str(error)


@for_each(
    "wrong",
    [
        "<image 1>",
        "<IMAGE 1>",
        "<Image1>",
        "<Image  1>",
        "< Image 1>",
        "<Image 1 >",
        "<Image\u00a01>",
        "<Image\n1>",
        "<Image_1>",
        "<Image-1>",
        "<Image 01>",
        "<Image 0>",
        "<Images 1>",
        "<Image>",
        "<Image 1",
        "<Image \u0661>",
        "[Image 1]",
        "@Image1",
        f"<Image {'9' * 5000}>",
    ],
)
def test_a_tag_that_the_server_would_not_read_is_refused(wrong: str) -> None:
    """Its syntax is case-sensitive with exactly one space; the error shows the right form."""
    error = refusal(reference, OLD, f"{DONOR}a walk like {wrong}", images=[PICTURE])

    assert error.field == "prompt"
    assert "is not a tag; write <Image " in str(error)


@pytest.mark.parametrize(
    ("wrong", "right"), [("<Image 02>", "<Image 2>"), ("<Image 0>", "<Image 1>"), ("@video3", "<Video 3>")]
)
def test_the_error_shows_a_tag_that_can_be_written(wrong: str, right: str) -> None:
    error = refusal(reference, OLD, f"{DONOR}a walk like {wrong}", images=[PICTURE])

    assert right == error.limit


@pytest.mark.parametrize(
    "text", ["<imagery> a > b", "a video 1 of cats", "mail me@imagine.org", "[images]", "a < b"]
)
def test_words_that_are_no_tags_are_left_alone(text: str) -> None:
    """Only what was meant as a tag is read as one."""
    assert reference(OLD, f"{DONOR}{text}", images=[PICTURE]).prompt == f"{DONOR}{text}"


def test_a_subject_must_be_found_in_an_image_or_a_clip() -> None:
    """The prompt says once where each subject is, before or after it, two in one image too."""
    shared = "Refer to <Subject 1> and <Subject 2> in <Image 1> to generate a duel"
    before = "Refer to <Image 1>, which shows <Subject 2>, to generate a duel. <Subject 2> wins."
    lost = f"{DONOR}a duel. <Subject 2> wins."

    assert shared == reference(OLD, shared, images=[PICTURE]).prompt
    assert before == reference(OLD, before, images=[PICTURE]).prompt
    assert "where <Subject 2> is" in str(refusal(reference, OLD, lost, images=[PICTURE]))


def test_sound_alone_is_refused() -> None:
    """A reference sound needs an image or a clip beside it."""
    error = refusal(reference, NEW, "a talk", refer_to="the tone in <Audio 1>", audios=[SOUND])

    assert error.field == "reference_audio_urls"


def test_nothing_to_refer_to_is_refused() -> None:
    """A reference workflow without media is for a text-to-video model."""
    assert refusal(reference, NEW, "a walk", refer_to="nothing").field == "reference_image_urls"


@pytest.mark.parametrize(
    ("model", "family", "limit"),
    [(OLD, None, 9), (NEW, None, 30), ("seedance-2.0-x", None, 9), ("alias", "2.0", 9), (OLD, "2.5", 30)],
)
def test_images_are_limited_by_the_family(model: str, family: str | None, limit: int) -> None:
    """The model's id tells the family, and `family` overrules it."""
    error = refusal(reference, model, mentioned(limit + 1), images=pictures(limit + 1), family=family)

    assert (error.field, error.limit) == ("reference_image_urls", limit)
    assert (
        len(reference(model, mentioned(limit), images=pictures(limit), family=family).reference_image_urls)
        == limit
    )


@pytest.mark.parametrize(("model", "limit"), [(OLD, 3), (NEW, 10)])
def test_clips_and_sounds_are_limited_by_the_family(model: str, limit: int) -> None:
    """Seedance 2.0 takes three of each, 2.5 ten."""
    sounds = ", ".join(audio(number) for number in range(1, limit + 2))
    many = f"Refer to <Image 1>, {sounds} to generate a song"

    assert limit == len(stitch(model, clips(limit)).reference_video_urls)
    assert refusal(stitch, model, clips(limit + 1)).limit == limit
    error = refusal(reference, model, many, images=[PICTURE], audios=[SOUND] * (limit + 1))
    assert (error.field, error.limit) == ("reference_audio_urls", limit)


def test_a_family_not_known_yet_is_bound_by_the_general_limits_only() -> None:
    """Tomorrow's model is not refused by today's table, but its tags are checked."""
    tomorrow = "seedance-3-0-reference-to-video"

    assert seedance.family_of(tomorrow) is None
    assert seedance.family_of("seedance-2-50-reference-to-video") is None
    assert extend(tomorrow, CLIP, "a chase", duration=60).seconds == 60
    assert refusal(extend, tomorrow, CLIP, "a chase like <Video 2>").field == "prompt"


def test_a_family_may_be_described_by_the_user() -> None:
    """A table of one's own serves a model that this version does not know."""
    tiny = seedance.Family(name="tiny", seconds=(1, 2), images=1, videos=1, audios=0)

    assert refusal(extend, "alias", CLIP, "a chase", duration=3, family=tiny).limit == "1s-2s"
    assert refusal(extend, "alias", CLIP, "a chase", family="9.9").field == "family"


@pytest.mark.parametrize(("model", "low", "high"), [(OLD, 4, 15), (NEW, 4, 30)])
def test_the_seconds_of_output_are_limited_by_the_family(model: str, low: int, high: int) -> None:
    """The ends of the range are allowed, what lies beyond is refused."""
    for seconds in (low, high):
        assert seconds == extend(model, CLIP, "a chase", duration=seconds).seconds
    for seconds in (low - 1, high + 1):
        error = refusal(extend, model, CLIP, "a chase", duration=f"{seconds}s")
        assert (error.field, error.limit) == ("duration", f"{low}s-{high}s")


@pytest.mark.parametrize("duration", ["auto", "Auto", "-1", -1])
def test_only_the_newer_family_follows_the_length_of_a_clip(duration: str | int) -> None:
    """Seedance 2.5 edits at the clip's own length, 2.0 needs seconds."""
    assert seedance.edit(NEW, CLIP, "make it snow", duration=duration).duration in {"auto", "Auto", "-1"}
    assert refusal(seedance.edit, OLD, CLIP, "make it snow", duration=duration).field == "duration"


@pytest.mark.parametrize(("name", "value"), [("duration", "auto"), ("aspect_ratio", "adaptive")])
def test_nothing_can_be_followed_without_a_clip(name: Any, value: str) -> None:
    """A length or a shape is taken from a reference clip, not from an image."""
    keywords: dict[str, Any] = {name: value}

    assert refusal(reference, NEW, f"{DONOR}a walk", images=[PICTURE], **keywords).field == name


def test_the_newer_family_is_told_the_workflow() -> None:
    """It is a hint that keeps 2.5 from taking one workflow for another; the user's own word wins."""
    assert extend(NEW, CLIP, "a chase").omni_reference_task_type == "extend"
    assert seedance.edit(NEW, CLIP, "snow").omni_reference_task_type == "edit"
    assert reference(NEW, f"{DONOR}a", images=[PICTURE]).omni_reference_task_type == "reference"
    assert stitch(NEW, clips(2)).omni_reference_task_type is None
    assert extend(NEW, CLIP, "a chase", omni_reference_task_type="auto").omni_reference_task_type == "auto"
    assert extend(OLD, CLIP, "a chase").omni_reference_task_type is None


def test_the_older_family_refuses_the_hint() -> None:
    """The vendor has the field for 2.5 only."""
    error = refusal(extend, OLD, CLIP, "a chase", omni_reference_task_type="extend")

    assert error.field == "omni_reference_task_type"


@pytest.mark.parametrize("blank", ["", "  ", ".", None, 3])
def test_every_part_of_a_prompt_must_be_text(blank: Any) -> None:
    """A blank part would leave a sentence that means something else."""
    builds: list[Any] = [
        lambda: seedance.change("sky", to=blank),
        lambda: seedance.change(blank, to="red"),
        lambda: seedance.add(blank),
        lambda: seedance.remove(blank),
        lambda: seedance.replace("a", by=blank),
        lambda: extend(OLD, CLIP, blank),
        lambda: seedance.edit(OLD, CLIP, blank),
        lambda: stitch(OLD, clips(2), [blank]),
        lambda: reference(OLD, blank, refer_to="<Image 1>", images=[PICTURE]),
        lambda: reference(OLD, "a walk", refer_to=[blank], images=[PICTURE]),
    ]
    assert {"prompt"} == {refusal(build).field for build in builds}


def test_a_builder_passes_on_every_other_field_of_a_request() -> None:
    """What a builder does not write itself it takes as a keyword of the same name."""
    own = {"model", "prompt", "reference_image_urls", "reference_video_urls", "reference_audio_urls"}

    assert {item.name for item in fields(VideoRequest)} - own == set(seedance.Fields.__annotations__)
    request = stitch(OLD, clips(2), resolution="720p", bitrate_mode="high", extra={"tomorrow": 1})
    assert (request.resolution, request.bitrate_mode, request.extra) == ("720p", "high", {"tomorrow": 1})


def test_media_is_not_opened() -> None:
    """A file that does not exist yet is fine: it is read when the job starts."""
    request = extend(OLD, Media("/nowhere/clip.mp4"), "a chase")

    assert request.reference_video_urls == (Media("/nowhere/clip.mp4"),)


def test_the_table_of_limits_cannot_be_changed() -> None:
    """It is one table, frozen."""
    families: Any = seedance.FAMILIES

    with pytest.raises(TypeError):
        families["2.0"] = None
    with pytest.raises(AttributeError):
        families["2.0"].images = 100


@given(st.text(max_size=80))
def test_any_prompt_is_sent_with_its_tags_right_or_refused(text: str) -> None:
    """No text makes a builder fail in another way, and what it sends mentions the clip."""
    try:
        request = extend(OLD, CLIP, text)
    except InvalidRequestError:
        return
    assert "<Video 1>" in str(request.prompt)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_upscale_sends_a_clip_and_a_factor_only(factor: int) -> None:
    """No prompt, no duration and no resolution: they follow from the clip."""
    expected = VideoRequest(model="some-upscaler", video_url=CLIP, upscale_factor=factor)

    assert expected == upscale("some-upscaler", CLIP, factor=factor)


@for_each("factor", [0, 3, 8, -2, True, 2.5, "2"])
def test_upscale_refuses_another_factor(factor: Any) -> None:
    """The factor is 1, 2 or 4."""
    error = refusal(upscale, "some-upscaler", CLIP, factor=factor)

    assert (error.field, error.limit) == ("upscale_factor", (1, 2, 4))


def test_upscale_doubles_unless_told() -> None:
    """The vendor's default is said aloud, so that the price is for it."""
    assert upscale("some-upscaler", CLIP).upscale_factor == 2


@pytest.mark.parametrize("name", ["prompt", "duration", "resolution"])
def test_upscale_refuses_what_an_upscaler_refuses(name: str) -> None:
    """Not even by the back door."""
    assert refusal(upscale, "some-upscaler", CLIP, extra={name: "x"}).field == name
    assert upscale("some-upscaler", CLIP, extra={"other": 1}).extra == {"other": 1}


@pytest.mark.parametrize("clip", [None, "clip.mp4", ""])
def test_upscale_needs_a_clip(clip: Any) -> None:
    """A plain string is a URL, never a file."""
    assert refusal(upscale, "some-upscaler", clip).field == "video_url"


TOPAZ = [
    "precision",
    "starlight",
    "starlight-fast",
    "astra",
    "hyperion",
    "interpolate",
    "denoise",
    "deblur",
    "colorize",
    "upscale",
]


def test_topaz_takes_a_factor_a_prompt_and_options_where_the_model_does() -> None:
    """What a model refuses is refused before it is sent, and not sent unasked."""
    models = [f"topaz-video-{name}" for name in TOPAZ]
    same_size = {
        "topaz-video-hyperion",
        "topaz-video-interpolate",
        "topaz-video-deblur",
        "topaz-video-colorize",
    }
    for model in models:
        assert (None if model in same_size else 2) == upscale(model, CLIP).upscale_factor
        if model in same_size:
            assert "upscale_factor" == refusal(upscale, model, CLIP, factor=4).field
        if model == "topaz-video-astra":
            assert "eyes" == upscale(model, CLIP, prompt="eyes").prompt
        else:
            assert "prompt" == refusal(upscale, model, CLIP, prompt="eyes").field


def test_topaz_options_are_checked_and_go_out_under_their_names() -> None:
    """They move the price, so a slip is refused and none is lost."""
    options: Any = {
        "enhancement_model": "astra-2",
        "target_fps": 59.94,
        "slowdown_factor": 8,
        "creativity": 0,
        "grain": 0.1,
        "softness": 1,
        "h264_output": False,
        "output_format": "prores",
    }
    assert options == upscale("topaz-video-astra", CLIP, prompt="eyes", **options).extra
    broken = {
        "target_fps": 15,
        "slowdown_factor": 3,
        "sharp": 1.1,
        "grain": 0.2,
        "softness": 0,
        "h264_output": 1,
        "enhancement_model": "",
        "sharpness": 1,
    }
    assert [*broken] == [refusal(upscale, "m", CLIP, **{name: value}).field for name, value in broken.items()]
