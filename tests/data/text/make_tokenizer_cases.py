"""Small tokenizers that use what the released ones leave alone, and what `tokenizers` makes of
strings with them, into tokenizer_cases.json.

Run it by hand when cases are added: python3 make_tokenizer_cases.py. The version used is recorded
in the file. With two arguments, `SEED COUNT`, random strings take the place of the listed ones and
the result goes to standard output: for comparing at length, not for keeping.
"""
import json
import os
import random
import sys

import tokenizers
from tokenizers import Tokenizer

SPACE = "\u2581"
LETTERS = list("abcdeghilnorstwxyHTWEND0123.,!'-?<>|") + [SPACE, "\u00e9", "\u65e5", "\n"]
MERGES = ["t h", "th e", "h e", "r e", "i n", "in g", "l l", "a b", "b c", "ab c", "a bc", "1 2",
          f"{SPACE} {SPACE}", f"{SPACE} the", f"{SPACE} a", ". .", ".. .", "\n \n", "< |"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def byte_letters():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in keep}
    for b in range(256):
        letters.setdefault(b, chr(256 + len([x for x in letters if letters[x] > "\u00ff"])))
    return letters


def vocabulary(base):
    vocab = {}
    for piece in base:
        vocab.setdefault(piece, len(vocab))
    return vocab


def added(id_, content, **flags):
    return {"id": id_, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False, **flags}


def tokenizer(vocab, merges, tokens=(), **parts):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": False, "vocab": vocab, "merges": merges}
    model.update(parts.pop("model", {}))
    result = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens),
              "normalizer": None, "pre_tokenizer": None, "post_processor": None,
              "decoder": {"type": "Fuse"}, "model": model}
    result.update(parts)
    return result


def split(pattern, behavior, invert=False, regex=True):
    return {"type": "Split", "pattern": {"Regex" if regex else "String": pattern},
            "behavior": behavior, "invert": invert}


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


PIECES = vocabulary(["<unk>"] + LETTERS + ["".join(m.split(" ")) for m in MERGES])
N = len(PIECES)
FLAGGED = [added(N, "<s>", special=True), added(N + 1, "the end", normalized=True),
           added(N + 2, "<l>", lstrip=True), added(N + 3, "<r>", rstrip=True, special=True),
           added(N + 4, "to", single_word=True), added(N + 5, "<b>", lstrip=True, rstrip=True),
           added(N + 6, "<s><s>"), added(N + 7, "THE", normalized=True, single_word=True),
           added(N + 8, "\u00e9\u00e9", normalized=True)]
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
UNK = {"unk_token": "<unk>"}
WITH_BYTES = vocabulary(list(PIECES) + BYTES)
SOME_BYTES = vocabulary(list(PIECES) + BYTES[:200])
LLAMA2 = sequence("decoders", {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                  {"type": "ByteFallback"}, {"type": "Fuse"},
                  {"type": "Strip", "content": " ", "start": 1, "stop": 0})
LEVEL = byte_letters()
LEVEL_VOCAB = vocabulary([LEVEL[b] for b in range(256)] +
                         ["th", "the", "\u0120the", "he", "in", "\u0120t", "ing", "re", "12",
                          "\u0120a", "\u0120\u0120", "\u00c3\u00a9", "hello", "\u0120wow"])
LEVEL_MERGES = ["t h", "\u0120 t", "th e", "\u0120t he", "h e", "i n", "in g", "r e", "1 2",
                "\u0120 a", "\u0120 \u0120", "\u00c3 \u00a9"]
LEVEL_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                 "use_regex": True}


def level(prefix, regex):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True,
            "use_regex": regex}


def template(before, after, vocab_token=("<s>", N)):
    token, id_ = vocab_token
    one = [{"SpecialToken": {"id": token, "type_id": 0}}]
    return {"type": "TemplateProcessing",
            "single": one * before + [{"Sequence": {"id": "A", "type_id": 0}}] + one * after,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [id_], "tokens": [token]}}}


VARIANTS = {
    "plain": tokenizer(PIECES, MERGES, model=UNK),
    "pairs": tokenizer(PIECES, [m.split(" ") for m in MERGES], model={**UNK, "fuse_unk": True}),
    "no_unknown": tokenizer(PIECES, MERGES),
    "flags": tokenizer(PIECES, MERGES, FLAGGED, model=UNK, post_processor=template(1, 1)),
    "flags_lower": tokenizer(PIECES, MERGES, FLAGGED, model=UNK,
                             normalizer=sequence("normalizers", {"type": "Lowercase"},
                                                 {"type": "NFC"}, REPLACE),
                             post_processor=sequence("processors", level(True, True),
                                                     template(2, 0))),
    "llama2": tokenizer(WITH_BYTES, MERGES, [added(len(WITH_BYTES), "<s>", special=True)],
                        model={**UNK, "byte_fallback": True, "fuse_unk": True},
                        normalizer=sequence("normalizers", {"type": "Prepend", "prepend": SPACE},
                                            REPLACE), decoder=LLAMA2),
    "llama2_normalized": tokenizer(WITH_BYTES, MERGES,
                                   [added(len(WITH_BYTES), "<s>", special=True, normalized=True),
                                    added(len(WITH_BYTES) + 1, "to to", normalized=True),
                                    added(PIECES["the"], "the", normalized=True)],
                                   model={**UNK, "byte_fallback": True, "fuse_unk": True},
                                   normalizer=sequence("normalizers",
                                                       {"type": "Prepend", "prepend": SPACE},
                                                       REPLACE), decoder=LLAMA2),
    "some_bytes": tokenizer(SOME_BYTES, MERGES,
                            model={**UNK, "byte_fallback": True, "fuse_unk": True}),
    "nfkc_strip": tokenizer(PIECES, MERGES, model=UNK,
                            normalizer=sequence("normalizers", {"type": "NFKC"},
                                                {"type": "Strip", "strip_left": True,
                                                 "strip_right": True},
                                                {"type": "Replace", "pattern": {"Regex": "\\s+"},
                                                 "content": SPACE})),
    "nfd": tokenizer(PIECES, MERGES, model=UNK, normalizer={"type": "NFD"}),
    "nfkd": tokenizer(PIECES, MERGES, model=UNK, normalizer={"type": "NFKD"}),
    "digits": tokenizer(PIECES, MERGES, model=UNK, pre_tokenizer=sequence(
        "pretokenizers", {"type": "Digits", "individual_digits": True},
        split(" ", "MergedWithNext", regex=False))),
    "digit_runs": tokenizer(PIECES, MERGES, model={**UNK, "ignore_merges": True}, pre_tokenizer=sequence(
        "pretokenizers", {"type": "Digits", "individual_digits": False}, split("\\w+", "Isolated"))),
    "gpt2": tokenizer(LEVEL_VOCAB, LEVEL_MERGES, pre_tokenizer=level(True, True),
                      decoder=LEVEL_DECODER),
    "gpt2_whole": tokenizer(LEVEL_VOCAB, LEVEL_MERGES,
                            [added(len(LEVEL_VOCAB), "\u00e9t\u00e9"),
                             added(len(LEVEL_VOCAB) + 1, "<s>", special=True)],
                            pre_tokenizer=level(False, True), model={"ignore_merges": True},
                            decoder=LEVEL_DECODER, normalizer={"type": "NFC"}),
}
for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    for invert in (False, True):
        name = behavior.lower() + ("_inverted" if invert else "")
        VARIANTS[name] = tokenizer(PIECES, MERGES, model=UNK,
                                   pre_tokenizer=split("[t.]|in|(?=x)", behavior, invert))

TEXTS = ["", " ", "the thing", "  the  end  ", "abcabc abc", "hello wow", "The END", "the end.",
         "a to b tot to", "x <l> y", "x  <r>  y", " <b> <b> <l>", "<s><s><s>", "<s> <s>", "THE the",
         "THEthe THE", "d\u00e9j\u00e0 vu \u00e9\u00e9", "e\u0301t\u00e9 \u00c9\u00c9", "12 123 3210",
         "\u65e5\u672c\u8a9e", "\u65e5\U0001f642x", "....!..", "a\n\n\nb", "it's the rest",
         "\uff21\ufb01\u00b2\u2460", "\u2581the\u2581", "\u0130I\u1e9e", "<|the|>", "tint.int..t",
         "xx txt x", "\u00a0\u3000the\u2003", "t", ".", "inin.in"]
ALPHABET = (LETTERS + [" "] * 6 + ["<s>", "<l>", "<r>", "<b>", "the end", "THE", "to", "\u00c9",
            "e\u0301", "\u0323", "\u00a0", "\uff11", "\U0001f642", "the", "in", ".", "t", "x"])


def main():
    texts = TEXTS
    if len(sys.argv) > 1:
        rng = random.Random(int(sys.argv[1]))
        texts = ["".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 14)))
                 for _ in range(int(sys.argv[2]))]
    out = []
    for name, source in VARIANTS.items():
        t = Tokenizer.from_str(json.dumps(source))
        cases = []
        for text in texts:
            ids = t.encode(text).ids
            t.encode_special_tokens = True
            as_text = t.encode(text, add_special_tokens=False).ids
            t.encode_special_tokens = False
            cases.append({"text": text, "ids": ids, "without_special": as_text,
                          "decoded": t.decode(ids, skip_special_tokens=False),
                          "skipped": t.decode(ids, skip_special_tokens=True)})
        out.append({"name": name, "tokenizer": source, "cases": cases})
    result = {"made_with": f"make_tokenizer_cases.py, tokenizers {tokenizers.__version__}",
              "tokenizers": out}
    if len(sys.argv) > 1:
        json.dump(result, sys.stdout)
        return
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer_cases.json")
    with open(path, "w") as f:
        json.dump(result, f, separators=(",", ":"))
        f.write("\n")
    print(len(out), "tokenizers,", sum(len(x["cases"]) for x in out), "cases")


main()
