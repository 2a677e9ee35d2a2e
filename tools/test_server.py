"""Drives a running `lapidary serve` with the official clients of OpenAI and Anthropic.

    test_server.py URL [KEY]

The model is nano-e: small, but it calls tools. Each test is one claim; the last line counts them.
"""
import base64
import json
import struct
import sys
import traceback

import anthropic
import openai

URL, KEY = sys.argv[1], (sys.argv[2] if len(sys.argv) > 2 else "none")
client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
MODEL = client.models.list().data[0].id
ASK = [{"role": "user", "content": "Reverse the order of these words: bridge island harbor"}]
WEATHER_QUESTION = "What is the weather in Oslo in celsius?"
SYSTEM = "You can call functions."
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Unit"},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOL = {"name": "get_weather", "description": "Current weather of a city", "parameters": PARAMETERS}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": WEATHER_QUESTION}]


def chat(messages=ASK, **more):
    more.setdefault("temperature", 0)
    more.setdefault("max_tokens", 40)
    return client.chat.completions.create(model=MODEL, messages=messages, **more)


def refused(kind, status, act):
    try:
        act()
    except kind as error:
        assert error.status_code == status, error
        return error
    raise AssertionError("was not refused")


def test_models():
    assert client.models.retrieve(MODEL).id == MODEL


def test_chat_whole_and_streamed_agree():
    whole = chat()
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content, text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_a_seed_repeats_and_n_differ():
    one, two = (chat(temperature=1.5, seed=7, n=4) for _ in range(2))
    texts = [c.message.content for c in one.choices]
    assert texts == [c.message.content for c in two.choices]
    assert len(set(texts)) > 1, texts


def test_stop_and_length():
    text = chat().choices[0].message.content
    cut = chat(stop=[text[2:4]])
    assert cut.choices[0].message.content == text[: text.index(text[2:4])]
    assert chat(max_tokens=1).choices[0].finish_reason == "length"


def test_log_probabilities():
    logs = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    for token in logs:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob, "greedy takes the best"
        assert bytes(token.bytes).decode() == token.token


def test_logit_bias_forbids():
    first = chat(logprobs=True, max_tokens=1).choices[0].logprobs.content[0].token
    ids = client.post("/../tokenize", body={"content": first}, cast_to=dict)["tokens"]
    other = chat(logprobs=True, max_tokens=1, logit_bias={str(ids[0]): -100})
    content = other.choices[0].logprobs.content
    assert not content or content[0].token != first


def test_json_by_schema():
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    for seed in range(8):
        value = json.loads(chat(response_format=form, temperature=1.5, seed=seed, max_tokens=200).choices[0].message.content)
        assert set(value) == {"name", "age"} and 0 <= value["age"] <= 120, value
    assert isinstance(json.loads(chat(response_format={"type": "json_object"}, max_tokens=400, temperature=0.5, seed=1).choices[0].message.content), dict)


def test_a_tool_is_called_and_its_result_comes_back():
    tools = [{"type": "function", "function": TOOL}]
    answer = chat(WEATHER, tools=tools)
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "Oslo", "unit": "celsius"}
    turn = WEATHER + [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}]
    assert chat(turn, tools=tools).choices[0].finish_reason in ("stop", "length", "tool_calls")
    with client.chat.completions.stream(model=MODEL, messages=WEATHER, tools=tools, temperature=0) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments


def test_tool_choice():
    tools = [{"type": "function", "function": TOOL}]
    forced = chat(tools=tools, tool_choice="required", max_tokens=200, temperature=1, seed=3)
    arguments = json.loads(forced.choices[0].message.tool_calls[0].function.arguments)
    assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("celsius", "fahrenheit")
    named = chat(tools=tools, tool_choice={"type": "function", "function": {"name": "get_weather"}}, max_tokens=200)
    assert named.choices[0].message.tool_calls[0].function.name == "get_weather"
    assert not chat(WEATHER, tools=tools, tool_choice="none").choices[0].message.tool_calls


def test_completions():
    whole = client.completions.create(model=MODEL, prompt=["The", "A"], max_tokens=8, temperature=0, logprobs=2)
    assert len(whole.choices) == 2 and len(whole.choices[0].logprobs.tokens) == 8
    chunks = client.completions.create(model=MODEL, prompt="The", max_tokens=8, temperature=0, stream=True)
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text


def test_responses():
    whole = client.responses.create(model=MODEL, input=ASK[0]["content"], temperature=0, max_output_tokens=40)
    assert whole.output_text == chat().choices[0].message.content
    with client.responses.stream(model=MODEL, input=ASK[0]["content"], temperature=0, max_output_tokens=40) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == whole.output_text
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    call = client.responses.create(model=MODEL, input=WEATHER_QUESTION, instructions=SYSTEM, temperature=0, tools=[{"type": "function", "strict": True, **TOOL}])
    assert json.loads(call.output[-1].arguments) == {"city": "Oslo", "unit": "celsius"}


def test_messages():
    common = dict(model=MODEL, max_tokens=40, extra_body={"temperature": 0})
    whole = claude.messages.create(messages=ASK, **common)
    assert whole.content[0].text == chat().choices[0].message.content
    assert whole.stop_reason == "end_turn"
    with claude.messages.stream(messages=ASK, **common) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
    tools = [{"name": "get_weather", "description": TOOL["description"], "input_schema": PARAMETERS}]
    call = claude.messages.create(messages=WEATHER[1:], system=SYSTEM, tools=tools, **common)
    assert call.stop_reason == "tool_use"
    assert call.content[-1].input == {"city": "Oslo", "unit": "celsius"}
    count = claude.messages.count_tokens(model=MODEL, messages=ASK)
    assert count.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_embeddings():
    floats = client.embeddings.create(model=MODEL, input=["cat", "dog"], encoding_format="float").data
    coded = client.embeddings.create(model=MODEL, input="cat", encoding_format="base64").data[0].embedding
    raw = base64.b64decode(coded)
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == [struct.unpack("<f", struct.pack("<f", x))[0] for x in floats[0].embedding]
    assert abs(sum(x * x for x in floats[1].embedding) - 1) < 1e-5  # 192 roundings of 2^-24


def test_errors_are_the_clients_own():
    error = refused(openai.BadRequestError, 400, lambda: chat(temperature=9))
    assert error.param == "temperature" and error.type == "invalid_request_error"
    error = refused(openai.NotFoundError, 404, lambda: client.chat.completions.create(model="gpt-9", messages=ASK))
    assert error.code == "model_not_found"
    refused(anthropic.NotFoundError, 404, lambda: claude.messages.create(model="x", max_tokens=1, messages=ASK))
    refused(anthropic.BadRequestError, 400, lambda: claude.messages.create(model=MODEL, max_tokens=1, messages=[{"role": "pope", "content": "x"}]))
    if KEY != "none":
        stranger = openai.OpenAI(base_url=URL + "/v1", api_key="wrong", max_retries=0)
        refused(openai.AuthenticationError, 401, lambda: stranger.models.list())


failures = 0
tests = [(name, f) for name, f in list(globals().items()) if name.startswith("test_")]
for name, test in tests:
    try:
        test()
    except Exception as error:
        failures += 1
        where = traceback.extract_tb(error.__traceback__)[1]
        print(f"FAILED {name}, line {where.lineno}: {where.line}: {type(error).__name__}: {error}", file=sys.stderr)
if failures:
    sys.exit(f"{failures} of {len(tests)} tests failed")
print(f"{len(tests)} tests with openai {openai.__version__} and anthropic {anthropic.__version__} passed")
