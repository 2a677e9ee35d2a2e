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

URL = urllib.parse.urlparse(sys.argv[1])
SECONDS, CLIENTS, PID = float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
SCHEMA = {"type": "object",
          "properties": {"name": {"type": "string", "maxLength": 12},
                         "age": {"type": "integer", "minimum": 0, "maximum": 120}},
          "required": ["name", "age"]}
TOOL = {"type": "function",
        "function": {"name": "get_weather", "description": "Current weather of a city",
                     "parameters": {"type": "object",
                                    "properties": {"city": {"type": "string", "description": "Name"}},
                                    "required": ["city"]}}}
WORDS = "bridge island harbor ladder violin hammer kettle lemon silver copper window garden".split()
# Far below what a leak per request would leave, far above an allocator's moods.
GROWTH_BOUND_BYTES = 16e6


def make_requests():
    chance = random.Random(1)
    out = []
    for i in range(48):
        words = " ".join(chance.choice(WORDS) for _ in range(chance.choice([3, 4, 8, 120, 400])))
        body = {"messages": [{"role": "user", "content": f"Reverse the order of these words: {words}"}],
                "max_tokens": chance.choice([5, 20, 120]), "stream": i % 2 == 0}
        body.update({"temperature": 0} if i % 3 == 0 else {"temperature": 0.9, "seed": i})
        if i % 4 == 1:
            body["model"] = "tuned"
        if i % 5 == 2:
            body["max_tokens"] = 80
            body["response_format"] = {"type": "json_schema",
                                       "json_schema": {"name": "s", "schema": SCHEMA}}
        if i % 7 == 3:
            body["tools"] = [TOOL]
        out.append(body)
    return out


def whole_answer(response):
    choice = json.loads(response.read())["choices"][0]
    message = choice["message"]
    calls = [[c["function"]["name"], c["function"]["arguments"]] for c in message.get("tool_calls", [])]
    return [message["content"] or "", calls, choice["finish_reason"]]


def streamed_answer(response, leave_after):
    """The same, put together from its pieces; None when it was left."""
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


def ask(body, leave_after=None):
    """The answer's text, calls and end; None when it was left."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        if leave_after is not None and not body["stream"]:
            time.sleep(leave_after)
            return None
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.read()[:200]}")
        return streamed_answer(response, leave_after) if body["stream"] else whole_answer(response)
    finally:
        connection.close()


def resident_bytes():
    with open(f"/proc/{PID}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def n_under_way():
    """Answers that the server makes or has waiting, by its own /metrics."""
    connection = http.client.HTTPConnection(URL.hostname, URL.port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    names = ("lapidary_answers_running", "lapidary_answers_waiting")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(names))


class Soak:
    def __init__(self):
        self.requests = make_requests()
        self.alone = [ask(body) for body in self.requests]
        self.lock = threading.Lock()
        self.n_answered = self.n_left = 0
        self.failures, self.sizes = [], []
        self.end = time.time() + SECONDS

    def client(self, number):
        chance = random.Random(number)
        while time.time() < self.end and not self.failures:
            i = chance.randrange(len(self.requests))
            leaves = chance.random() < 1 / 8
            try:
                got = ask(self.requests[i], chance.random() * 0.05 if leaves else None)
            except Exception as error:
                self.failures.append(f"request {i}: {type(error).__name__}: {error}")
                return
            with self.lock:
                self.n_left += got is None
                self.n_answered += got is not None
                if got is not None and got != self.alone[i]:
                    self.failures.append(f"request {i}: {got} instead of {self.alone[i]}")

    def run(self):
        threads = [threading.Thread(target=self.client, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(min(1, SECONDS / 20))
            self.sizes.append(resident_bytes())
        for _ in range(100):  # what was left is cancelled in a moment
            if n_under_way() == 0:
                return
            time.sleep(0.1)
        self.failures.append("answers still run although nobody waits for them")

    def report(self):
        third = len(self.sizes) // 3
        early, late = max(self.sizes[third:2 * third]), max(self.sizes[2 * third:])
        if late > early + GROWTH_BOUND_BYTES:
            self.failures.append("memory grows")
        print(f"{self.n_answered} answers equal to their single-request answers, "
              f"{self.n_left} left in the middle, {CLIENTS} clients, {SECONDS:.0f} s")
        print(f"resident memory: {early / 1e6:.1f} MB in the second third, {late / 1e6:.1f} MB in the last")
        for failure in self.failures[:5]:
            print("FAILED", failure, file=sys.stderr)
        return 1 if self.failures else 0


soak = Soak()
soak.run()
sys.exit(soak.report())
