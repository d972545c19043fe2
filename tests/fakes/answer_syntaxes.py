# ruff: noqa: RUF001 - DeepSeek's marks are written with letters that look like others
"""How the families write calls: what trials on their templates find out, written down for tests."""

from semantic.domain.answer_syntax import (
    HERMES,
    AnswerSyntax,
    Arguments,
    ArgumentTags,
    CallSyntax,
    ReasoningSyntax,
)

LLAMA = CallSyntax(
    trigger='{"name": "',
    opening='{"name": "',
    naming='", "parameters": ',
    closing="}",
    between="; ",
)
QWEN_XML = CallSyntax(
    trigger="<tool_call>",
    opening="<tool_call>\n<function=",
    naming=">\n",
    closing="</function>\n</tool_call>",
    arguments=Arguments.TAGGED,
    lead="\n\n",
)
GLM = CallSyntax(
    trigger="<tool_call>",
    opening="<tool_call>",
    naming="\n",
    closing="</tool_call>",
    arguments=Arguments.TAGGED,
    tags=ArgumentTags("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
    lead="\n",
)
DEEPSEEK_V3 = CallSyntax(
    trigger="<｜tool▁calls▁begin｜>",
    opening="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    naming="\n```json\n",
    closing="\n```<｜tool▁call▁end｜>",
    before="<｜tool▁calls▁begin｜>",
    after="<｜tool▁calls▁end｜>",
)
DEEPSEEK_V31 = CallSyntax(
    trigger="<｜tool▁calls▁begin｜>",
    opening="<｜tool▁call▁begin｜>",
    naming="<｜tool▁sep｜>",
    closing="<｜tool▁call▁end｜>",
    between="",
    before="<｜tool▁calls▁begin｜>",
    after="<｜tool▁calls▁end｜>",
)
MISTRAL = CallSyntax(
    trigger="[TOOL_CALLS]",
    opening="[TOOL_CALLS]",
    naming="[ARGS]",
    closing="",
    between="",
)
KIMI = CallSyntax(
    trigger="<|tool_calls_section_begin|>",
    opening="<|tool_call_begin|>functions.",
    naming="<|tool_call_argument_begin|>",
    closing="<|tool_call_end|>",
    between="",
    before="<|tool_calls_section_begin|>",
    after="<|tool_calls_section_end|>",
    numbered=True,
)
THINKING = ReasoningSyntax()

SYNTAXES = {
    "Qwen 3": AnswerSyntax(HERMES, THINKING),
    "Llama 3": AnswerSyntax(LLAMA),
    "Qwen 3.5": AnswerSyntax(QWEN_XML, THINKING),
    "GLM 4.5": AnswerSyntax(GLM, THINKING),
    "DeepSeek V3": AnswerSyntax(DEEPSEEK_V3),
    "DeepSeek V3.1": AnswerSyntax(DEEPSEEK_V31, THINKING),
    "Mistral": AnswerSyntax(MISTRAL),
    "Kimi K2": AnswerSyntax(KIMI),
}
