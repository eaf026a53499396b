"""The checklists CLAIM and TRIPOD+AI: their items, and what answers them."""

import pytest
from evaluation_studies import checklist, make_predictions, report_of

from skmedimg.evaluation._checklists import AUTHOR, CLAIM, TRIPOD_AI


@pytest.fixture
def predictions():
    """Two images of each of 120 lesions, two lesions of each of 60 patients."""
    return make_predictions(0)


def test_checklists_are_whole_and_nothing_is_invented(predictions):
    assert [item.number for item in CLAIM] == [str(i) for i in range(1, 45)]
    assert len({item.number.rstrip("abcdefg") for item in TRIPOD_AI}) == 27
    assert len({item.number for item in TRIPOD_AI}) == len(TRIPOD_AI) == 52
    report = report_of(predictions)
    claim = checklist(report, "CLAIM 2024")
    # Of probabilities alone, nobody knows the model, nor who was trained on.
    for item in ("7", "20", "22", "24", "25", "36", "44"):
        assert claim[item] == AUTHOR
    assert "patients as clusters" in claim["29"]
    tripod = checklist(report, "TRIPOD+AI")
    assert tripod["13"] == AUTHOR
    assert f"threshold 0.5. {AUTHOR}" in tripod["15"]
    told = report_of(predictions, excluded={"unreadable": 3, "no consent": 0})
    assert "excluded: 3 images" in checklist(told, "CLAIM 2024")["35"]
    assert "Of 243 images, 3 were left out: 3 unreadable." in told.sections[0].sentences


# A word of the topic of items whose number tells one version of a list from another.
CLAIM_2024 = {
    "1": "category of technology",
    "6": "goal",
    "13": "acquisition",
    "14": "reference standard",
    "17": "test set",
    "18": "annotators",
    "20": "disjoint",
    "21": "size",
    "27": "Ensembling",
    "30": "Robustness",
    "32": "internal",
    "33": "external",
    "34": "registration",
    "36": "Demographic",
    "39": "failures",
    "42": "protocol",
    "44": "funders",
}
TRIPOD_AI_2024 = {
    "3c": "inequalities",
    "5b": "Dates",
    "7": "preparation",
    "8c": "Blinding",
    "9a": "Choice",
    "10": "study size",
    "11": "Missing",
    "12b": "rescaling",
    "12d": "clusters",
    "12f": "updating",
    "12g": "calculated",
    "13": "imbalance",
    "14": "Fairness",
    "15": "thresholds",
    "17": "Ethical",
    "18d": "Registration",
    "18f": "code",
    "19": "public involvement",
    "20c": "development data",
    "22": "full model",
    "23b": "clusters",
    "24": "updating",
    "27b": "expertise",
}


@pytest.mark.parametrize(
    ("items", "words"), [(CLAIM, CLAIM_2024), (TRIPOD_AI, TRIPOD_AI_2024)]
)
def test_items_have_the_numbers_of_the_published_lists(items, words):
    topics = {item.number: item.topic for item in items}
    assert not [number for number, word in words.items() if word not in topics[number]]


def test_answers_are_to_what_their_item_asks(predictions):
    report = report_of(predictions, subgroups={"site": predictions["lesion"] % 2})
    claim, tripod = checklist(report, "CLAIM 2024"), checklist(report, "TRIPOD+AI")
    # Patients as clusters of images answer nothing about clusters of patients.
    assert tripod["12d"] == tripod["12b"] == AUTHOR
    assert "joined by: mean" in tripod["12g"]
    assert "Tested: 240 images of 120 units" in claim["21"]
    assert "subgroups by site" in claim["37"]
    assert f"{AUTHOR} that on other partitions" in claim["37"]
    assert f"{AUTHOR} why, and how published models" in claim["28"]
