"""What all programs ask: where the server is, the model's name, a question and a tool."""

import json
import sys
from typing import Literal

URL, MODEL = sys.argv[1:3]
QUESTION = "What will the weather be like in Paris tomorrow?"
RESULT = "Sunny, 21 degrees."
asked: list[tuple[str, int]] = []


def get_weather(city: Literal["Paris", "London", "Rome"], days: int) -> str:
    """The weather of a city on one of the next days."""
    asked.append((city, days))
    return RESULT


def report(text: str) -> None:
    """Say which calls were made, and what was answered in the end."""
    print(json.dumps({"calls": asked, "text": text}))
    asked.clear()
