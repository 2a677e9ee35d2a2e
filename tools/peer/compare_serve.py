#!/usr/bin/env python3
"""Many answers at once from Lapidary's server and llama.cpp's; started by bench_peer.sh serve.

Each round starts one server after the other on the same synthetic model and asks it for as many
streams as it has slots, with prompts of random tokens, all at once, through the same client. With
--prefix a prompt of so many tokens is then asked twice: what the second time costs is what the
prefix cache leaves. Standard library only.
"""
import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

from compare_speed import busy_seconds, make_models

VOCABULARY = 200000  # ids below it are in every vocabulary of the family


class Server:
    """A server process; answers under self.port while the block lasts."""

    def __init__(self, name, command):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name = name
        self.log = open(os.devnull, "w")
        self.process = subprocess.Popen([*command, "--port", str(self.port)], stdout=self.log,
                                        stderr=subprocess.STDOUT)

    def __enter__(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended with status {self.process.returncode}")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    connection.request("GET", "/v1/models")
                    self.model = json.load(connection.getresponse())["data"][0]["id"]
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"{self.name} does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def stream(self, prompt, n_tokens, seed):
        """Times of request and of each event, and the number of tokens, of one answer."""
        body = json.dumps({"model": self.model, "prompt": prompt, "max_tokens": n_tokens,
                           "stream": True, "stream_options": {"include_usage": True},
                           "temperature": 1.0, "top_k": 64, "seed": seed})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        times, n_new = [time.monotonic()], 0
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"{self.name}: {response.status} {response.read().decode()}")
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("choices"):
                times.append(time.monotonic())
            n_new = (event.get("usage") or {}).get("completion_tokens", n_new)
        return times, n_new

    def streams(self, prompts, n_tokens):
        """All at once: tokens per second, time to first token, gaps between events."""
        results = [None] * len(prompts)

        def one(i):
            results[i] = self.stream(prompts[i], n_tokens, i)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if None in results:
            raise SystemExit(f"{self.name}: an answer failed")
        start = min(times[0] for times, _ in results)
        end = max(times[-1] for times, _ in results)
        gaps = sorted(b - a for times, _ in results for a, b in zip(times[1:], times[2:]))
        return {"rate": sum(n for _, n in results) / (end - start),
                "first": statistics.median(times[1] - times[0] for times, _ in results),
                "gap": statistics.median(gaps), "gap_p99": gaps[int(0.99 * (len(gaps) - 1))]}

    def prefix(self, n_tokens):
        """Seconds to the first token of a prompt, and of one that differs in its last token."""
        prompt = random.Random(7).choices(range(1000, VOCABULARY), k=n_tokens)
        seconds = []
        for last in (5, 6):
            times, _ = self.stream(prompt + [last], 1, 0)
            seconds.append(times[1] - times[0])
        return seconds


def measure(name, command, options, prompts):
    with Server(name, command) as server:
        server.stream(prompts[0][:8], 2, 0)  # touches the weights
        busy, start = busy_seconds(), time.monotonic()
        result = server.streams(prompts, options.new_tokens)
        result["busy"] = (busy_seconds() - busy) / (time.monotonic() - start)
        if options.prefix:
            result["prefix"] = server.prefix(options.prefix)
        return result


def main():
    parser = argparse.ArgumentParser(prog="bench_peer.sh serve", description=__doc__.splitlines()[0])
    for name in ("--lapidary", "--llama-bench", "--llama-driver", "--llama-version", "--llama-server"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", choices=("e2b", "26b-a4b"), default="e2b")
    parser.add_argument("--weights", default="w4", help="our code; theirs is always Q4_0")
    parser.add_argument("--layers", type=int, default=0, help="only the first N layers; 0: all")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--prefix", type=int, default=0, help="also a prompt of N tokens, twice")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repetitions", type=int, default=1)
    options = parser.parse_args()

    ours, theirs = make_models(options, words=True)
    generator = random.Random(1)
    prompts = [generator.choices(range(1000, VOCABULARY), k=options.prompt_tokens)
               for _ in range(options.streams)]
    context = max(options.prompt_tokens + options.new_tokens, options.prefix + 2)
    threads, slots = str(options.threads), str(options.streams)
    commands = {
        f"Lapidary {options.weights}": [options.lapidary, "serve", ours, "--threads", threads,
                                        "--parallel", slots, "--context", str(context)],
        "llama-server Q4_0": [options.llama_server, "-m", theirs, "-t", threads, "-tb", threads,
                              "-np", slots, "-c", str(context * options.streams), "--no-webui",
                              "--no-warmup"],  # the first request warms it
    }
    rounds = {name: [] for name in commands}
    for _ in range(options.repetitions):
        for name, command in commands.items():
            rounds[name].append(measure(name, command, options, prompts))
            print(f"{name}: {rounds[name][-1]['rate']:.1f} tokens/s", file=sys.stderr, flush=True)

    def middle(name, field):
        return statistics.median(result[field] for result in rounds[name])

    layers = f", first {options.layers} layers" if options.layers else ""
    print(f"{options.streams} streams of {options.prompt_tokens} + {options.new_tokens} tokens; "
          f"synthetic {options.model}{layers}; {threads} threads; llama.cpp from llama-cpp-python "
          f"{options.llama_version}; medians of {options.repetitions} interleaved runs.\n")
    print("| server | tokens/s of all | first token, ms | between tokens, ms | 99 % | cores busy |")
    print("|---|---|---|---|---|---|")
    for name in commands:
        first, gap, p99 = (1e3 * middle(name, f) for f in ("first", "gap", "gap_p99"))
        print(f"| {name} | {middle(name, 'rate'):.1f} | {first:.0f} | {gap:.0f} | {p99:.0f} "
              f"| {middle(name, 'busy'):.2f} |")
    ratio = middle(list(commands)[0], "rate") / middle(list(commands)[1], "rate")
    print(f"\n{ratio:.2f}x the tokens per second.")
    if options.prefix:
        for name in commands:
            first, second = (statistics.median(r["prefix"][i] for r in rounds[name]) for i in (0, 1))
            print(f"{name}: {options.prefix} tokens to the first token in {first:.2f} s, "
                  f"again in {second:.3f} s ({100 * second / first:.1f} %)")


if __name__ == "__main__":
    sys.exit(main())
