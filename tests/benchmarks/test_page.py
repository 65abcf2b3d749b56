"""The command line that benchmarks of real subjects share."""

import pytest

from benchmarks.page import add_subjects, page_parser


def test_subjects_are_all_of_them_or_those_that_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = page_parser("weight_rounding", None)
    add_subjects(parser, ("resnet20", "minilm"))
    assert parser.parse_args([]).subjects == ["resnet20", "minilm"]
    assert parser.parse_args(["minilm"]).subjects == ["minilm"]
    with pytest.raises(SystemExit):
        parser.parse_args(["vgg"])
    assert "'vgg' is none of resnet20, minilm" in capsys.readouterr().err
