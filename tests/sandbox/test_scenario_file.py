"""Scenarios and faults from a file, and what is said of a file that is wrong."""

from __future__ import annotations

import pytest

from tests.cases import for_each
from venice_async import UsageError
from venice_async.sandbox import Fault, Scenario
from venice_async.sandbox.scenario_file import parse_scenarios

TEXT = "wan-2-7-text-to-video"
TOML = f"""\
[[scenarios]]
model = "{TEXT}"
outcome = "content_policy"
[[scenarios]]
model = "{TEXT}"
seconds = 3
[[scenarios]]
consent = "always"
[[faults]]
on = "retrieve"
status = 503
times = 2
headers = {{ Retry-After = "1" }}
"""


def test_a_file_says_the_same_as_the_arguments_of_a_sandbox() -> None:
    declared = (
        {
            TEXT: [Scenario(outcome="content_policy"), Scenario(seconds=3.0)],
            "*": [Scenario(consent="always")],
        },
        [Fault(on="retrieve", status=503, times=2, headers={"Retry-After": "1"})],
    )
    assert declared == parse_scenarios(TOML, "faults.toml")
    assert declared == parse_scenarios(TOML, "-")
    by_model = f"""{{
        "scenarios": {{"{TEXT}": [{{"outcome": "content_policy"}}, {{"seconds": 3}}],
                       "*": {{"consent": "always"}}}},
        "faults": [{{"on": "retrieve", "status": 503, "times": 2, "headers": {{"Retry-After": "1"}}}}]}}"""
    assert declared == parse_scenarios(by_model, "faults.json")


def test_a_list_tells_faults_from_scenarios_and_takes_null_and_raw_text() -> None:
    text = (
        '[{"outcome": "never"}, {"on": "queue", "headers": {"Date": null}, "raw": "HTTP/1.1 200 OK\\r\\n"}]'
    )
    scenarios, faults = parse_scenarios(text, "-")
    assert {"*": [Scenario(outcome="never")]} == scenarios
    assert [Fault(on="queue", headers={"Date": None}, raw=b"HTTP/1.1 200 OK\r\n")] == faults


@for_each(
    "text, said",
    [
        ('[[faults]]\non = "queue"\ntiems = 2', "line 3: fault 1: 'tiems' is no field of a fault. Did you "),
        ('{"on": "queue", "cut": 3}', "entry 1: 'cut' is no field of a fault. Did you mean 'cut_at'?"),
        ('[[faults]]\non = "queu"', "line 2: fault 1: 'on': queu is none of 'models', 'quote', 'queue'"),
        ('[[faults]]\non = "queue"\ntimes = "2"', "line 3: fault 1: 'times': a whole number is wanted"),
        ('[[faults]]\non = "queue"\n\ntimes = -2', "line 4: fault 1: Fault.times must be a whole number at"),
        ("[[faults]]\nstatus = 500", "fault 1: a fault needs 'on'"),
        ('{"credits_refunded": 1}', "line 1: entry 1: 'credits_refunded': true or false is wanted, not 1"),
        ('[{"model": "wan-2-7-txt-to-video"}]', f"no model 'wan-2-7-txt-to-video'. Did you mean {TEXT!r}"),
        ('{"faults": [], "speed": 3}', "has 'speed' beside its scenarios and faults"),
        ('{"faults": 3}', "faults is no list"),
        ("[3]", "entry 1 is no object"),
        ("[]", "declares neither a scenario nor a fault"),
        ('{"on": }', "is not JSON: Expecting value: line 1 column 8"),
        ("[[faults]]\non =", "is not TOML: Invalid value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_scenarios(text, "f")
    assert said in str(caught.value)
