#!/usr/bin/python3
"""Secrets: encrypted in the database, never shown, rotated under new keys; not on any device."""

import json
import os
import subprocess
import unittest
import uuid

import ferry_run


class Secrets(ferry_run.SiteCase):

    def set(self, name, value, *options, tenant=None):
        done = self.hub.run("secret", "set", tenant or self.tenant, name, *options, "--json", stdin=value)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def keys(self):
        return os.path.join(self.hub.state, "secret.keys")

    def ciphertext(self, made):
        return bytes(self.site.sql("SELECT ciphertext FROM governance.secrets WHERE id = %s", made["id"])[0][0])

    def test_value_stands_nowhere_in_the_clear(self):
        value = "s3cret-" + uuid.uuid4().hex
        made = self.set("smtp", value + "\n")
        self.assertEqual(os.stat(self.keys()).st_mode & 0o777, 0o600)
        text = self.ciphertext(made)
        self.assertEqual(len(text), len(value) + 37)
        dump = subprocess.run([os.path.join(ferry_run.ferry_pg.bin_dir(), "pg_dump"), "-h", self.site.cluster.socket, "-U", "postgres",
                               self.db.name], capture_output=True, check=True).stdout
        self.assertIn(text.hex().encode(), dump)
        self.assertNotIn(value.encode(), dump)
        self.assertNotIn(value, self.hub.log_text())
        done = self.hub.run("secret", "list", self.tenant, "--json")
        self.assertNotIn(value, done.stdout)
        self.assertNotIn(text.hex(), done.stdout)
        self.assertEqual([row["name"] for row in json.loads(done.stdout)], ["smtp"])

    def test_set_again_replaces_under_the_same_id(self):
        first, second = self.set("token", "one"), self.set("token", "two!")
        self.assertEqual(first["id"], second["id"])
        self.assertEqual(len(self.ciphertext(second)), 4 + 37)

    def test_rotation_encrypts_all_anew_and_finishes_one_cut_short(self):
        made = [self.set("n%d" % i, "value %d" % i) for i in range(5)]
        before = {m["id"]: self.ciphertext(m) for m in made}
        dry = self.hub.json("secret", "rotate", "--dry-run")
        self.assertEqual(before[made[0]["id"]], self.ciphertext(made[0]))
        done = self.hub.json("secret", "rotate")
        self.assertEqual((done["changed"], done["under_older_keys"]), (dry["secrets"], 0))
        self.assertNotEqual(done["key"], dry["key"])
        for m in made:
            self.assertNotEqual(before[m["id"]][1:9], self.ciphertext(m)[1:9])
            self.assertEqual(self.ciphertext(m)[1:9].hex(), done["key"])
        # as if it had stopped half way: two are still under the older key, which the file keeps
        for m in made[:2]:
            self.site.sql("UPDATE governance.secrets SET ciphertext = %s WHERE id = %s", before[m["id"]], m["id"])
        self.assertEqual(self.hub.json("secret", "check")["under_older_keys"], 2)
        again = self.hub.json("secret", "rotate")
        self.assertEqual((again["changed"], again["key"]), (2, done["key"]))
        self.assertEqual(self.hub.json("secret", "check")["under_older_keys"], 0)

    def test_swapped_and_damaged_secrets_are_found(self):
        a, b = self.set("a", "for a"), self.set("b", "for b")
        text = self.ciphertext(a)
        try:
            self.site.sql("UPDATE governance.secrets SET ciphertext = %s WHERE id = %s", self.ciphertext(b), a["id"])
            done = self.hub.run("secret", "check")
            self.assertEqual(done.returncode, 1)
            self.assertIn("1 are damaged", done.stderr)
            self.assertIn("[CORRUPT]", self.hub.run("secret", "rotate").stderr)
        finally:
            self.site.sql("UPDATE governance.secrets SET ciphertext = %s WHERE id = %s", text, a["id"])
        self.assertEqual(self.hub.run("secret", "check").returncode, 0)

    def test_key_file_that_others_may_read_is_refused(self):
        self.set("x", "y")
        os.chmod(self.keys(), 0o644)
        try:
            done = self.hub.run("secret", "check")
            self.assertIn("[CONFIG]", done.stderr)
        finally:
            os.chmod(self.keys(), 0o600)

    def test_empty_and_too_long_values_are_refused(self):
        for value in ("", "\n", "x" * 65537):
            done = self.hub.run("secret", "set", self.tenant, "n", stdin=value)
            self.assertEqual(done.returncode, 2)

    def test_second_factor_of_a_user_is_a_secret_and_is_on_no_device(self):
        user = self.site.sql("INSERT INTO identity.users (tenant_id, email) VALUES (%s, 'bob@x') RETURNING id", self.tenant)[0][0]
        value = "mfa" + uuid.uuid4().hex
        made = self.set("mfa bob", value, "--mfa-of", "bob@x")
        self.assertEqual(str(self.site.sql("SELECT mfa_secret_id FROM identity.users WHERE id = %s", user)[0][0]), made["id"])
        a = self.device("a")
        a.wait_filled()
        self.assertNotIn("mfa_secret_id", a.row("users", user))
        self.assertEqual(self.site.sql("SELECT count(*) FROM ferry.tracked WHERE nsp = 'governance' AND name IN ('secrets', 'kms_keys')"),
                         [(0,)])
        text = self.ciphertext(made)
        for name in os.listdir(a.state):
            path = os.path.join(a.state, name)
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    content = f.read()
                self.assertNotIn(value.encode(), content)
                self.assertNotIn(text, content)
        # and in no entry of the audit log, encrypted or not
        log = self.site.sql("SELECT coalesce(string_agg(to_jsonb(l)::text, ''), '') FROM governance.audit_logs l")[0][0]
        self.assertNotIn(value, log)
        self.assertNotIn(text.hex(), log)
        self.assertIn("no user", self.hub.run("secret", "set", self.tenant, "z", "--mfa-of", "nobody", stdin="v").stderr)
        self.assertEqual(self.site.sql("SELECT count(*) FROM governance.secrets WHERE tenant_id = %s AND name = 'z'", self.tenant), [(0,)])


if __name__ == "__main__":
    unittest.main()
