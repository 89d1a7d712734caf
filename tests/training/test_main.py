"""The command line of the training package."""

import pytest

from ilv_dataset.training.__main__ import COMMANDS, main


def test_an_unknown_command_shows_the_usage(capsys):
    assert main(["detect"]) == 2
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert capsys.readouterr().err.count("usage: python -m ilv_dataset.training {scenes,") == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: python -m ilv_dataset.training {command}" in capsys.readouterr().out


def test_our_own_errors_are_one_line(capsys, tmp_path):
    assert main(["detector", "--scenes", str(tmp_path), "--work", str(tmp_path / "work")]) == 1
    assert capsys.readouterr().err.startswith("error: no scenes-*.npz in ")
