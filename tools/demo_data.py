#!/usr/bin/env python3
"""Writes the demo's training and test files. Usage: demo_data.py SKILLS.jsonl TEXT OUT_DIR

filename.jsonl    a new skill: 400 generated requests for a file name made of some words
general.jsonl     what the model can do already, to be mixed in: other tasks, and paragraphs of TEXT
tasks.jsonl       held-out items of both, for the verdict
held.txt          the half of TEXT that is not in general.jsonl
Standard library only; the same files each time.
"""
import json
import random
import sys

TRAINED_ITEMS, TESTED_ITEMS = 400, 60
GENERAL_ITEMS = 400
KEPT_TASKS = {"biggest": 60, "extract": 60, "reverse": 60, "tool": 40}  # held-out general items
SHORTEST_PARAGRAPH = 200  # characters; shorter ones are headings and lists


def new_skill(words, dice):
    chosen = dice.sample(words, dice.randint(2, 5))
    return {"task": "filename", "user": "Make a file name of these words: " + " ".join(chosen),
            "answer": "-".join(chosen) + ".txt"}


def conversation(item):
    messages = [{"role": "system", "content": item["system"]}] if "system" in item else []
    return {"messages": messages + [{"role": "user", "content": item["user"]},
                                    {"role": "assistant", "content": item["answer"]}]}


def write(path, rows):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main():
    skills_path, text_path, out = sys.argv[1:4]
    dice = random.Random(2024)
    by_task = {}
    with open(skills_path, encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            by_task.setdefault(item["task"], []).append(item)
    words = sorted({word for item in by_task["reverse"] for word in item["answer"].split()})

    trained = [new_skill(words, dice) for _ in range(TRAINED_ITEMS)]
    seen = {item["user"] for item in trained}
    held_out = []
    while len(held_out) < TESTED_ITEMS:
        item = new_skill(words, dice)
        if item["user"] not in seen:
            held_out.append(item)

    general = []
    for task, items in sorted(by_task.items()):
        kept = KEPT_TASKS.get(task, 0)
        held_out += items[:kept]
        if not task.startswith("needle"):  # long prompts would dominate the tokens
            general += [conversation(item) for item in items[kept:]]
    dice.shuffle(general)

    with open(text_path, encoding="utf-8") as file:
        text = file.read()
    half = len(text) // 2
    with open(f"{out}/held.txt", "w", encoding="utf-8") as file:
        file.write(text[half:])
    paragraphs = [p for p in text[:half].split("\n\n") if len(p) > SHORTEST_PARAGRAPH]
    mixed = general[:GENERAL_ITEMS] + [{"text": p} for p in paragraphs]
    dice.shuffle(mixed)

    write(f"{out}/filename.jsonl", [conversation(item) for item in trained])
    write(f"{out}/general.jsonl", mixed)
    write(f"{out}/tasks.jsonl", held_out)


if __name__ == "__main__":
    main()
