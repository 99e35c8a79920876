#!/usr/bin/python3
# ferry-test: long
"""clang-tidy over every C file of the product, as .clang-tidy says; with FERRY_TIDY=all over those of the tests, too.

A file that was clean is not looked at again until it, a header of the tree, its compile
command or the checks change; the record is in the build folder.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import unittest

ROOT = os.environ.get("FERRY_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FERRY_BUILD") or os.path.join(ROOT, "build", "release")
ALL = os.environ.get("FERRY_TIDY") == "all"
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def with_headers(path, seen):
    """The file and every header of the tree that it includes, however indirectly."""
    if path not in seen and os.path.exists(path):
        seen[path] = read(path)
        for header in INCLUDE.findall(seen[path]):
            with_headers(os.path.join(ROOT, header), seen)
    return seen


def state_of(entry, version):
    digest = hashlib.sha256((version + read(os.path.join(ROOT, ".clang-tidy")) + entry["command"]).encode())
    for path, text in sorted(with_headers(entry["file"], {}).items()):
        digest.update(f"{path}\0{text}\0".encode())
    return digest.hexdigest()


def tidy(entry):
    done = subprocess.run(["clang-tidy", "--quiet", "-p", BUILD, entry["file"]], capture_output=True, text=True)
    return entry["file"], done.returncode, done.stdout


class ClangTidy(unittest.TestCase):
    def test_every_file_is_clean(self):
        if not shutil.which("clang-tidy"):
            self.skipTest("clang-tidy is not installed; tools/setup does it")
        version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True).stdout
        clean = os.path.join(BUILD, "tidy-clean")
        os.makedirs(clean, exist_ok=True)
        entries = {entry["file"]: entry for entry in json.loads(read(os.path.join(BUILD, "compile_commands.json")))
                   if ALL or not entry["file"].startswith(os.path.join(ROOT, "tests", ""))}
        states = {file: state_of(entry, version) for file, entry in entries.items()}
        todo = [entry for file, entry in entries.items() if not os.path.exists(os.path.join(clean, states[file]))]
        wrong = []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for file, status, text in pool.map(tidy, todo):
                if status:
                    wrong.append(text)
                else:
                    open(os.path.join(clean, states[file]), "w", encoding="ascii").close()
        if wrong:
            self.fail(f"{len(wrong)} files are not clean:\n" + "\n".join(wrong))


if __name__ == "__main__":
    unittest.main()
