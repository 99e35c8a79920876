#!/usr/bin/python3
# ferry-test: quick
"""The rules of the tree that a compiler does not check.

- Each foreign library has a gate: its header appears only in the files made for it.
- Dependencies point downwards: protocol <- shared <- agent, hub; the two never meet.
- Banned calls stay out.
"""
import fnmatch
import os
import re
import subprocess
import unittest

ROOT = os.environ.get("FERRY_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# header (prefix) -> the files that may include it
GATES = {
    "sqlite3.h": ["agent/replica*.[ch]", "agent/sqlite*.[ch]", "agent/db*.[ch]",
                  "tests/*.[ch]", "tools/ferry_bench*.c"],
    "libpq-fe.h": ["hub/pg*.[ch]", "tests/*.[ch]", "tools/ferry_bench*.c"],
    "libwebsockets.h": ["shared/link*.[ch]", "shared/loop*.[ch]"],
    "mbedtls/": ["shared/pki*.[ch]", "shared/link*.[ch]", "shared/random.c", "shared/sha256.c",
                 "hub/secret_box.c"],
    "psa/": ["shared/pki*.[ch]", "shared/random.c"],
    "cbor.h": ["protocol/cbor*.[ch]"],
    "cbor/": ["protocol/cbor*.[ch]"],
    "zstd": ["protocol/zstd*.[ch]", "protocol/compress*.[ch]", "protocol/envelope*.[ch]"],
    "yaml.h": ["shared/config*.[ch]"],
    "jansson.h": ["shared/json*.[ch]"],
}

# folder -> the folders of the tree that it may include
LAYERS = {
    "protocol": {"protocol"},
    "shared": {"shared", "protocol"},
    "agent": {"agent", "shared", "protocol"},
    "hub": {"hub", "shared", "protocol"},
}
FOLDERS = {"protocol", "shared", "agent", "hub", "tests", "tools"}

BANNED = {
    r"\b(cbor_load)\s*\(": "libcbor's tree: five bytes of input can cost gigabytes",
}
# In what ships; a test may do as it likes with its own arguments.
BANNED_IN_PRODUCT = {
    r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok)\s*\(": "has no limit or hidden state",
    r"\b(alloca|atoi|atol|atof)\s*\(": "cannot report failure",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*', re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')


def sources():
    """Every C file of the tree, whether it is committed yet or not."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "*.c", "*.h"],
        capture_output=True, text=True)
    if listed.returncode == 0:
        names = listed.stdout.split("\n")
    else:  # an unpacked archive
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for top in FOLDERS for folder, _, files in os.walk(os.path.join(ROOT, top))
                 for name in files if name.endswith((".c", ".h"))]
    for name in sorted(set(filter(None, names))):
        path = os.path.join(ROOT, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                yield name, file.read()


class Layers(unittest.TestCase):
    def test_foreign_headers_appear_only_in_their_gates(self):
        wrong = []
        for name, text in sources():
            for header in INCLUDE.findall(text):
                for gate, allowed in GATES.items():
                    if header.startswith(gate) and not header.startswith(tuple(FOLDERS)) \
                            and not any(fnmatch.fnmatch(name, glob) for glob in allowed):
                        wrong.append(f"{name} includes <{header}>; its gate is {', '.join(allowed)}")
        self.assertEqual([], wrong)

    def test_dependencies_point_downwards(self):
        wrong = []
        for name, text in sources():
            allowed = LAYERS.get(name.split("/")[0])
            for header in INCLUDE.findall(text):
                folder = header.split("/")[0] if "/" in header else None
                if allowed and folder in FOLDERS and folder not in allowed:
                    wrong.append(f"{name} includes {header}")
        self.assertEqual([], wrong)

    def test_own_headers_are_included_by_their_folder(self):
        wrong = []
        for name, text in sources():
            for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.M):
                if header.split("/")[0] not in FOLDERS:
                    wrong.append(f'{name} includes "{header}" without its folder')
        self.assertEqual([], wrong)

    def test_banned_calls_stay_out(self):
        wrong = []
        for name, text in sources():
            code = STRING.sub('""', COMMENT.sub("", text))
            banned = {**BANNED, **BANNED_IN_PRODUCT} if name.split("/")[0] in LAYERS else BANNED
            for call, why in banned.items():
                for found in re.findall(call, code):
                    wrong.append(f"{name}: {found} ({why})")
        self.assertEqual([], wrong)


if __name__ == "__main__":
    unittest.main()
