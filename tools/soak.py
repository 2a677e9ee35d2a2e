"""Many clients at once, and every answer compared with what its request gets alone.

    soak.py URL SECONDS CLIENTS PID

Requests are short and long, greedy and sampled with a seed, of the base and of an adapter, free, by
a schema and with tools, whole and streamed; one in eight is left in the middle. At the end the
server's memory must not have grown with the number of requests. Only Python's own library is used,
so that a client costs little beside the server.
"""
import http.client
import json
import random
import sys
import threading
import time
import urllib.parse

URL, SECONDS, CLIENTS, PID = urllib.parse.urlparse(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Current weather of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Name"}}, "required": ["city"]}}}
WORDS = "bridge island harbor ladder violin hammer kettle lemon silver copper window garden".split()


def make_requests():
    chance = random.Random(1)
    out = []
    for i in range(48):
        words = [chance.choice(WORDS) for _ in range(chance.choice([3, 4, 8, 120, 400]))]
        body = {"messages": [{"role": "user", "content": "Reverse the order of these words: " + " ".join(words)}], "max_tokens": chance.choice([5, 20, 120]), "stream": i % 2 == 0}
        body.update({"temperature": 0} if i % 3 == 0 else {"temperature": 0.9, "seed": i})
        if i % 4 == 1:
            body["model"] = "tuned"
        if i % 5 == 2:
            body.update(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}, max_tokens=80)
        if i % 7 == 3:
            body["tools"] = [TOOL]
        out.append(body)
    return out


def ask(body, leave_after=None):
    """The answer's message, put together; None when it was left."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        if leave_after is not None and not body["stream"]:
            time.sleep(leave_after)
            return None
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read()[:200]}")
        if not body["stream"]:
            choice = json.loads(response.read())["choices"][0]
            calls = [[c["function"]["name"], c["function"]["arguments"]] for c in choice["message"].get("tool_calls", [])]
            return [choice["message"]["content"] or "", calls, choice["finish_reason"]]
        text, calls, finish, started = "", [], None, time.time()
        for line in response:
            if leave_after is not None and time.time() - started > leave_after:
                return None
            if not line.startswith(b"data: {"):
                continue
            choice = json.loads(line[6:])["choices"][0]
            text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls", []):
                if call["index"] == len(calls):
                    calls.append([call["function"]["name"], ""])
                calls[-1][1] += call["function"]["arguments"]
            finish = choice["finish_reason"] or finish
        return [text, calls, finish]
    finally:
        connection.close()


def resident():
    with open(f"/proc/{PID}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def metrics():
    connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {l.split("{")[0].split(" ")[0]: float(l.rsplit(" ", 1)[1]) for l in lines if l.startswith("lapidary_") and "_bucket" not in l and "le=" not in l}


requests = make_requests()
alone = [ask(body) for body in requests]
end = time.time() + SECONDS
lock, counts, failures, sizes = threading.Lock(), {"answered": 0, "left": 0}, [], []


def client(number):
    chance = random.Random(number)
    while time.time() < end and not failures:
        i = chance.randrange(len(requests))
        leaves = chance.random() < 1 / 8
        try:
            got = ask(requests[i], chance.random() * 0.05 if leaves else None)
            with lock:
                counts["left" if got is None else "answered"] += 1
                if got is not None and got != alone[i]:
                    failures.append(f"request {i}: {got} instead of {alone[i]}")
        except Exception as error:
            failures.append(f"request {i}: {type(error).__name__}: {error}")


threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
for thread in threads:
    thread.start()
while any(t.is_alive() for t in threads):
    time.sleep(min(1, SECONDS / 20))
    sizes.append(resident())
for thread in threads:
    thread.join()
for _ in range(100):  # what was left is cancelled in a moment
    state = metrics()
    if state["lapidary_answers_running"] == state["lapidary_answers_waiting"] == 0:
        break
    time.sleep(0.1)

third = len(sizes) // 3
early, late = max(sizes[third : 2 * third]), max(sizes[2 * third :])
print(f"{counts['answered']} answers equal to their single-request answers, {counts['left']} left in the middle, {CLIENTS} clients, {SECONDS:.0f} s")
print(f"resident memory: {early / 1e6:.1f} MB in the second third, {late / 1e6:.1f} MB in the last")
if state["lapidary_answers_running"] or state["lapidary_answers_waiting"]:
    failures.append("answers still run although nobody waits for them")
if late > early + 16e6:  # far below what any leak per request would leave, far above an allocator's moods
    failures.append("memory grows")
for failure in failures[:5]:
    print("FAILED", failure, file=sys.stderr)
sys.exit(1 if failures else 0)
