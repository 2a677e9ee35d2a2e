#!/usr/bin/env python3
"""Writes the demo's training and test files. Usage: demo_data.py SKILLS.jsonl OUT_DIR

roman.jsonl       a new skill: a few hundred generated numbers as Roman numerals
general.jsonl     what the model can do already, to be mixed in: items of other tasks
tasks.jsonl       held-out items of both, for the verdicts
Standard library only; the same files each time.
"""
import json
import random
import sys

NUMERALS = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
            (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
LARGEST = 399        # numbers of the new skill: 1 to 399
TEST_NUMBERS = 60    # held out from training
REPEATS = 4          # each training number is seen this often in the file
KEPT_TASKS = {"biggest": 60, "extract": 40, "reverse": 60, "tool": 40}  # held-out general items


def roman(number):
    text = ""
    for value, symbol in NUMERALS:
        while number >= value:
            text += symbol
            number -= value
    return text


def question(number):
    return f"Write {number} as a Roman numeral."


def conversation(item):
    messages = [{"role": "system", "content": item["system"]}] if "system" in item else []
    return {"messages": messages + [{"role": "user", "content": item["user"]},
                                    {"role": "assistant", "content": item["answer"]}]}


def write(path, rows):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main():
    skills_path, out = sys.argv[1:3]
    dice = random.Random(2024)
    numbers = dice.sample(range(1, LARGEST + 1), LARGEST)
    test, train = numbers[:TEST_NUMBERS], numbers[TEST_NUMBERS:]
    rows = [{"user": question(n), "answer": roman(n)} for n in train] * REPEATS
    dice.shuffle(rows)
    write(f"{out}/roman.jsonl", [conversation(r) for r in rows])

    by_task = {}
    with open(skills_path, encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            by_task.setdefault(item["task"], []).append(item)
    held_out = [{"task": "roman", "user": question(n), "answer": roman(n)} for n in test]
    general = []
    for task, items in sorted(by_task.items()):
        keep = KEPT_TASKS.get(task, 0)
        held_out += items[:keep]
        if not task.startswith("needle"):  # long prompts would dominate the tokens
            general += items[keep:]
    dice.shuffle(general)
    write(f"{out}/general.jsonl", [conversation(i) for i in general])
    write(f"{out}/tasks.jsonl", held_out)


if __name__ == "__main__":
    main()
