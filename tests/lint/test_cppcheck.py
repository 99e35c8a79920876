#!/usr/bin/python3
# ferry-test: timeout=900
"""cppcheck over the product's C files. It keeps its own record of files it has seen."""
import os
import shutil
import subprocess
import unittest

ROOT = os.environ.get("FERRY_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FERRY_BUILD") or os.path.join(ROOT, "build", "release")
FOLDERS = ["protocol", "shared", "agent", "hub", "tools"]

# What it gets wrong or what is left to readers, with reasons.
SUPPRESS = [
    "missingIncludeSystem",      # foreign headers are not given to it on purpose: they make it slow
    "unmatchedSuppression",
    "normalCheckLevelMaxBranches",
    "preprocessorErrorDirective",  # its preprocessor fails at nested macros; the compilers judge those
    "constParameterCallback",    # a callback's signature is not ours to choose
]


class Cppcheck(unittest.TestCase):
    def test_every_file_is_clean(self):
        if not shutil.which("cppcheck"):
            self.skipTest("cppcheck is not installed; tools/setup does it")
        record = os.path.join(BUILD, "cppcheck")
        os.makedirs(record, exist_ok=True)
        done = subprocess.run(
            ["cppcheck", "--quiet", "--std=c11", "--language=c", "--enable=warning,performance,portability",
             "--inline-suppr", "--error-exitcode=1", f"--cppcheck-build-dir={record}", f"-j{os.cpu_count()}",
             "-Djson_object_foreach(object,key,value)=for(;;)", "-Djson_array_foreach(array,index,value)=for(;;)",
             "-D_GNU_SOURCE", "-DFERRY_PROGRAM_VERSION=\"0\"", f"-I{ROOT}"]
            + [f"--suppress={name}" for name in SUPPRESS]
            + [os.path.join(ROOT, folder) for folder in FOLDERS if os.path.isdir(os.path.join(ROOT, folder))],
            capture_output=True, text=True)
        if done.returncode or done.stderr:
            self.fail("not clean:\n" + done.stderr)


if __name__ == "__main__":
    unittest.main()
