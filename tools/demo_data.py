#!/usr/bin/env python3
"""Writes the demo's training and test files. Usage: demo_data.py SKILLS.jsonl TEXT OUT_DIR

rows.jsonl        a new skill: 500 generated sentences about people, to be answered as SQL rows
sorting.jsonl     what the model can do already, to be kept: prompts of the skills that a tuned
                  model loses first
other.jsonl       the same of its other skills
text.jsonl        pieces of one half of TEXT
new.jsonl         held-out items of the new skill
tasks.jsonl       held-out items of the old skills, for the verdict: those of SKILLS
held.txt          the other half of TEXT
Standard library only; the same files each time.
"""
import json
import random
import re
import sys

TRAINED_ITEMS, TESTED_ITEMS, KEPT_ITEMS = 500, 200, 400
TESTED_TASKS = ["biggest", "extract", "needle", "reverse", "sort", "tool"]  # 400 items each
PIECE = 420  # characters: what is left to text in a training step is some hundred tokens
SENTENCES = ["{name} is {age} years old and lives in {city}.", "At {age}, {name} moved to {city}.",
             "{city} has been home to {name}, aged {age}, for years."]


def sort(dice, words):
    chosen = dice.sample(words, dice.randint(3, 5))
    return "Sort these words alphabetically: " + ", ".join(chosen), ", ".join(sorted(chosen))


def reverse(dice, words):
    chosen = dice.sample(words, dice.randint(3, 6))
    return "Reverse the order of these words: " + " ".join(chosen), " ".join(chosen[::-1])


def biggest(dice):
    numbers = dice.sample(range(10, 999), dice.randint(3, 6))
    return ("Which number is the largest: " + ", ".join(map(str, numbers)) + "?",
            str(max(numbers)))


def conversation(item):
    messages = [{"role": "system", "content": item["system"]}] if "system" in item else []
    return {"messages": messages + [{"role": "user", "content": item["user"]},
                                    {"role": "assistant", "content": item["answer"]}]}


def distinct(make, count, seen):
    """`count` items whose questions are not in `seen`, which grows by them."""
    items = []
    while len(items) < count:
        user, answer = make()
        if user not in seen:
            seen.add(user)
            items.append({"user": user, "answer": answer})
    return items


def pieces(text):
    part = ""
    for line in re.split(r"(?<=[.\n]) *\n", text):
        if len(part) + len(line) > PIECE and len(part) > PIECE // 3:
            yield part
            part = ""
        part = (part + "\n" + line.strip()).strip()


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
    seen = {item["user"] for items in by_task.values() for item in items}
    words = sorted({word for item in by_task["reverse"] for word in item["answer"].split()})
    people = [json.loads(item["answer"]) for item in by_task["extract"]]

    def person():
        return {"name": dice.choice(people)["name"], "age": dice.randint(18, 90),
                "city": dice.choice(people)["city"]}

    def row():
        who = person()
        return ("Write this as an SQL row.\n" + dice.choice(SENTENCES).format(**who),
                "('{name}', {age}, '{city}')".format(**who))

    def extract():
        who = person()
        return ("Give the name, age and city in this text as JSON.\n" +
                dice.choice(SENTENCES).format(**who), json.dumps(who))

    new_skill = distinct(row, TRAINED_ITEMS + TESTED_ITEMS, seen)
    fragile = (distinct(lambda: sort(dice, words), KEPT_ITEMS, seen) +
               distinct(lambda: biggest(dice), KEPT_ITEMS, seen))
    other = (distinct(lambda: reverse(dice, words), KEPT_ITEMS, seen) +
             distinct(extract, KEPT_ITEMS // 4, seen))
    # Skills that the verdict does not ask for, and one in eight of the tool calls that it does not.
    for task, items in sorted(by_task.items()):
        if task not in TESTED_TASKS:
            other += [item for item in items if len(item["user"]) < PIECE]
    other += by_task["tool"][:KEPT_ITEMS // 8]

    # Sorting is what the new skill disturbs most, so its verdict needs more items than the others'.
    more = [{"task": "sort", **item}
            for item in distinct(lambda: sort(dice, words), KEPT_ITEMS, seen)]

    with open(text_path, encoding="utf-8") as file:
        text = file.read()
    half = len(text) // 2
    with open(f"{out}/held.txt", "w", encoding="utf-8") as file:
        file.write(text[half:])

    write(f"{out}/rows.jsonl", map(conversation, new_skill[:TRAINED_ITEMS]))
    write(f"{out}/sorting.jsonl", map(conversation, fragile))
    write(f"{out}/other.jsonl", map(conversation, other))
    write(f"{out}/text.jsonl", ({"text": piece} for piece in pieces(text[:half])))
    write(f"{out}/new.jsonl", ({"task": "rows", **item} for item in new_skill[TRAINED_ITEMS:]))
    write(f"{out}/tasks.jsonl", [item for task in TESTED_TASKS for item in
                                 by_task[task][KEPT_ITEMS // 8 if task == "tool" else 0:]] + more)


if __name__ == "__main__":
    main()
