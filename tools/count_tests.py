#!/usr/bin/env python3
"""Counts the tests of the last run in each build folder. Usage: count_tests.py BUILD_DIR...

A GoogleTest program counts case by case, from the XML it wrote; any other test of ctest (fuzz drivers,
scripts) counts as one. Prints "N passed, N failed, N skipped". Standard library only.
"""
import glob
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def count(build):
    passed = failed = skipped = 0
    with_xml = set()
    for path in glob.glob(f"{build}/test-results/*.xml"):
        with_xml.add(os.path.basename(path).removesuffix(".xml"))
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            if case.find("failure") is not None:
                failed += 1
            elif case.get("result") == "skipped" or case.find("skipped") is not None:
                skipped += 1
            elif case.get("status") == "run":
                passed += 1
    log_path = f"{build}/Testing/Temporary/LastTest.log"
    with open(log_path, encoding="utf-8", errors="replace") as file:
        log = file.read()
    for name, report in re.findall(r"\d+/\d+ Test: (\S+)\n(.*?)(?=\n\d+/\d+ Test: |\Z)", log, re.S):
        # A program may stand in ctest more than once, under its name and a suffix.
        if any(name.startswith(program) for program in with_xml):
            continue
        crashed = "Test Failed" in report or "***" in report
        passed += not crashed
        failed += crashed
    return passed, failed, skipped


def main():
    totals = [sum(column) for column in zip(*map(count, sys.argv[1:]))]
    print("{} passed, {} failed, {} skipped".format(*totals))


if __name__ == "__main__":
    main()
