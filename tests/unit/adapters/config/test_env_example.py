import tomllib

from semantic.adapters.config.sources import CONFIG_VARIABLE, default_config

EXAMPLE = default_config().with_name(".env.example").read_text()


def test_the_example_lists_every_setting_with_its_default_and_no_other() -> None:
    defaults = tomllib.loads(default_config().read_text())
    real = [
        f"SEMANTIC_{section}__{key}".upper() + f"={value}"
        for section, values in defaults.items()
        for key, value in values.items()
    ]
    listed = [line.removeprefix("# ") for line in EXAMPLE.splitlines() if "=" in line]
    assert listed == [f"{CONFIG_VARIABLE}=", *real]


def test_the_example_sets_nothing() -> None:
    assert all(line.startswith("#") for line in EXAMPLE.splitlines() if line)
