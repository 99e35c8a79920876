#!/usr/bin/python3
# ferry-test: quick
"""Any table with a uuid key and a tenant can be tracked; others are told why not."""

import unittest
import uuid

from ferry_case import HubCase, run

T = uuid.UUID("11111111-1111-4111-8111-111111111111")


class Tracking(HubCase):
    PARTS = ("engine",)

    def table(self, columns="id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id)",
              name="public.thing", tail=""):
        self.sql("CREATE TABLE %s (%s) %s" % (name, columns, tail))

    def track(self, name="public.thing", more=""):
        return self.value("SELECT ferry.track('%s'%s)" % (name, more))

    def add(self, name="a", table="public.thing"):
        return self.value("INSERT INTO %s (tenant_id, name) VALUES ('%s', %%s) RETURNING id" % (table, T), name)

    def columns(self):
        return [row[0] for row in self.sql("SELECT name FROM ferry.tracked_column ORDER BY num")]

    # ------------------------------------------------------------ what can be tracked

    def test_table_of_a_user_is_tracked_and_backfilled(self):
        self.table()
        self.add("before")
        self.track()
        self.add("after")
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version"), 2)
        self.assert_sound()

    def test_large_table_is_backfilled_in_one_position(self):
        self.table()
        self.sql("INSERT INTO public.thing (tenant_id, name) SELECT %s, 'n' || i FROM generate_series(1, 5000) i", T)
        self.track()
        self.assertEqual(len(self.positions(T)), 1)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version"), 5000)
        self.assert_sound()

    def test_key_alone_as_primary_key_and_key_of_another_name(self):
        self.table("tenant_id uuid NOT NULL, no uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text")
        self.track()
        self.assertEqual(self.sql("SELECT key_col, tenant_col FROM ferry.tracked"), [("no", "tenant_id")])
        self.sql("INSERT INTO public.thing (tenant_id, name) VALUES (%s, 'a')", T)
        self.assert_sound()

    def test_names_that_need_quotes_are_tracked(self):
        self.sql('CREATE SCHEMA "my.app"')
        name, key = '"my.app"."O\'Neil; --"', '"the ""key"" \'"'
        self.table('tenant_id uuid NOT NULL, %s uuid NOT NULL DEFAULT gen_random_uuid(), "100%% of" text, "select" int, '
                   'PRIMARY KEY (tenant_id, %s)' % (key, key), name)
        self.value("SELECT ferry.track(%s::regclass)", name)
        self.sql("INSERT INTO " + name + ' (tenant_id, "100%% of") VALUES (%s, \'x\')', T)
        self.sql("UPDATE " + name + ' SET "select" = 1')
        self.sql("INSERT INTO " + name + " (tenant_id) SELECT %s FROM generate_series(1, 100)", T)
        self.assert_sound()

    def test_column_named_like_a_variable_of_the_engine_is_harmless(self):
        names = "t n me hint arm tx tbl keys tenant did h o f d p delta author scope marks cell what v r k changed now_scope a_key seed vid alive one s c z x u i".split()
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, %s, PRIMARY KEY (tenant_id, id)"
                   % ", ".join('"%s" int' % x for x in names))
        self.track()
        self.add()
        self.sql("UPDATE public.thing SET %s" % ", ".join('"%s" = 1' % x for x in names))
        self.sql("INSERT INTO public.thing (tenant_id, name) SELECT %s, 'n' || i FROM generate_series(1, 100) i", T)
        self.assert_sound()

    def test_catalogue_says_what_devices_must_know(self):
        self.sql("CREATE TYPE public.mood AS ENUM ('sad', 'it''s fine')")
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text NOT NULL DEFAULT 'x', "
                   "price numeric(12,2), twice numeric GENERATED ALWAYS AS (price * 2) STORED, mood public.mood, "
                   "state text CHECK (state IN ('a', 'b')), up uuid, PRIMARY KEY (tenant_id, id), "
                   "FOREIGN KEY (tenant_id, up) REFERENCES public.thing")
        tbl = self.track()
        rows = {row[0]: row[1:] for row in self.sql(
            "SELECT name, pg_type, kind, not_null, has_default, policy, labels, ref_tbl, generated FROM ferry.tracked_column")}
        self.assertEqual(rows["name"], ("text", "text", True, True, "lww", None, None, False))
        self.assertEqual(rows["price"], ("numeric(12,2)", "numeric", False, False, "lww", None, None, False))
        self.assertEqual(rows["twice"], ("numeric", "numeric", False, False, "hub", None, None, True))
        self.assertEqual(rows["mood"][5], ["sad", "it's fine"])
        self.assertEqual(rows["state"][5], ["a", "b"])
        self.assertEqual(rows["up"][6], tbl)
        self.assertEqual(rows["tenant_id"][4], "hub")

    def test_excluded_column_is_neither_synced_nor_readable_by_the_hub(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, secret text, PRIMARY KEY (tenant_id, id)")
        self.track(more=", exclude => '{secret}'")
        self.assertNotIn("secret", self.columns())
        self.refused("42501", "SELECT secret FROM public.thing", conn=self.conn("ferry_hub", T))
        self.add()
        head = self.head(T)
        self.sql("UPDATE public.thing SET secret = 's'")
        self.assertEqual(self.head(T), head)

    def test_read_only_table_can_t_be_written_by_the_hub(self):
        self.table()
        self.track(more=", write => false")
        self.refused("42501", "INSERT INTO public.thing (tenant_id) VALUES ('%s')" % T, conn=self.conn("ferry_hub", T))

    def test_ranks_put_parents_before_children_and_survive_a_cycle(self):
        self.table(name="public.a")
        self.table("id uuid NOT NULL, tenant_id uuid NOT NULL, a_id uuid, PRIMARY KEY (tenant_id, id), "
                   "FOREIGN KEY (tenant_id, a_id) REFERENCES public.a", "public.b")
        self.track("public.b")
        self.track("public.a")
        rank = dict(self.sql("SELECT name, rank FROM ferry.tracked"))
        self.assertLess(rank["a"], rank["b"])
        self.sql("ALTER TABLE public.a ADD COLUMN b_id uuid, ADD FOREIGN KEY (tenant_id, b_id) REFERENCES public.b")
        self.assertEqual(self.value("SELECT count(*) FROM ferry.tracked"), 2)

    def test_schema_hash_moves_with_what_devices_must_know(self):
        self.table()
        seen = [bytes(self.value("SELECT ferry.schema_hash(%s)", T))]
        for text in ("SELECT ferry.track('public.thing')", "SELECT ferry.policy('public.thing', 'name', 'hub')",
                     "ALTER TABLE public.thing ADD COLUMN n int", "ALTER TABLE public.thing RENAME COLUMN n TO m",
                     "ALTER TABLE public.thing DROP COLUMN m", "SELECT ferry.untrack('public.thing')"):
            self.sql(text)
            seen.append(bytes(self.value("SELECT ferry.schema_hash(%s)", T)))
            self.assertNotEqual(seen[-1], seen[-2], text)
        self.assertEqual({len(x) for x in seen}, {8})
        self.assertEqual(seen[0], seen[-1])

    def test_untrack_takes_everything_away_but_the_rows(self):
        self.table()
        self.track()
        self.add()
        self.sql("SELECT ferry.untrack('public.thing')")
        self.add("b")
        for table in ("tracked", "tracked_column", "tracked_part", "version", "change", "sum", "dirty"):
            self.assertEqual(self.value("SELECT count(*) FROM ferry." + table), 0, table)
        self.assertEqual(self.value("SELECT count(*) FROM public.thing"), 2)
        self.assertEqual(self.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'public.thing'::regclass"), 0)
        self.assertEqual(self.track(), 2)
        self.assert_sound()

    def test_dropped_table_is_untracked(self):
        self.table()
        self.track()
        self.add()
        self.sql("DROP TABLE public.thing")
        self.assertEqual(self.value("SELECT count(*) FROM ferry.tracked"), 0)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.version"), 0)

    # ------------------------------------------------------------ what can't

    def no(self, sqlstate, word, name="public.thing", more=""):
        error = self.refused(sqlstate, "SELECT ferry.track('%s'%s)" % (name, more))
        self.assertIn(word, error.diag.message_primary)
        return error

    def test_table_that_can_t_be_tracked_is_told_why(self):
        cases = (
            ("tenant_id uuid NOT NULL, name text", "55000", "no primary key"),
            ("id int PRIMARY KEY, tenant_id uuid NOT NULL", "42804", "type uuid"),
            ("id uuid PRIMARY KEY, name text", "42703", "no column tenant_id"),
            ("id uuid PRIMARY KEY, tenant_id uuid", "42804", "NOT NULL"),
            ("id uuid PRIMARY KEY, tenant_id text NOT NULL", "42804", "type uuid"),
            ("id uuid, tenant_id uuid, x int, PRIMARY KEY (tenant_id, id, x)", "55000", "more than one column"),
            ("id uuid PRIMARY KEY, tenant_id uuid NOT NULL, " + ", ".join("c%d int" % i for i in range(61)), "54000", "63 synced columns"),
        )
        for i, (columns, sqlstate, word) in enumerate(cases):
            with self.subTest(word=word):
                self.table(columns, "public.no%d" % i)
                self.no(sqlstate, word, "public.no%d" % i)
        self.assertEqual(self.value("SELECT count(*) FROM ferry.tracked"), 0)

    def test_sixty_two_columns_are_tracked(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id), "
                   + ", ".join("c%d int" % i for i in range(59)))
        self.track()
        self.add()
        self.sql("UPDATE public.thing SET c58 = 1, c0 = 2, name = 'b'")
        self.assertEqual(len(self.version("thing", self.value("SELECT id FROM public.thing"))["over"]), 3)
        self.refused("54000", "ALTER TABLE public.thing ADD COLUMN one_more int")
        self.assert_sound()

    def test_other_relations_are_refused(self):
        self.table()
        self.sql("CREATE VIEW public.seen AS SELECT * FROM public.thing")
        self.no("42809", "a view", "public.seen")
        self.table(name="public.quick")
        self.sql("ALTER TABLE public.quick SET UNLOGGED")
        self.no("42809", "unlogged", "public.quick")
        self.no("42809", "belongs to the system", "ferry.device")
        conn = self.conn()
        run(conn, "CREATE TEMP TABLE gone (id uuid PRIMARY KEY, tenant_id uuid NOT NULL)")
        self.refused("42809", "SELECT ferry.track('pg_temp.gone')", conn=conn)

    def test_wrong_scopes_and_names_are_refused(self):
        self.table()
        self.no("22023", "is no scope", more=", 'whatever'")
        self.no("42703", "needs the synced column", more=", 'project:project_id'")
        self.no("42830", "needs a foreign key", more=", 'project:name.x'")
        self.no("42703", "has no column", more=", exclude => '{x}'")
        self.no("22023", "can't be excluded", more=", exclude => '{id}'")
        self.no("42939", "keep the names", more=", replica_name => 'ferry_x'")
        self.track()
        self.no("42710", "is tracked already")
        self.sql("CREATE SCHEMA s2")
        self.table(name="s2.thing")
        self.assertIn("replica_name", self.no("42P07", "already have a table", "s2.thing").diag.message_hint)
        self.track("s2.thing", ", replica_name => 'thing2'")

    def test_policies_are_checked(self):
        self.table()
        self.refused("42704", "SELECT ferry.policy('public.thing', 'name', 'hub')")
        self.track()
        self.refused("42703", "SELECT ferry.policy('public.thing', 'x', 'hub')")
        self.refused("22023", "SELECT ferry.policy('public.thing', 'name', 'magic')")
        self.refused("22023", "SELECT ferry.policy('public.thing', 'tenant_id', 'lww')")
        self.sql("SELECT ferry.policy('public.thing', 'name', 'hub')")
        self.assertEqual(self.value("SELECT policy FROM ferry.tracked_column WHERE name = 'name'"), "hub")

    def test_policy_that_does_not_fit_its_column_is_refused_with_the_reason(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, n int, amount numeric(9,2), "
                   "at timestamptz, day date, f float8, flag bool, tags text[], doc jsonb, raw json, "
                   "state text CHECK (state IN ('free', 'sold')), PRIMARY KEY (tenant_id, id)")
        self.track()
        for policy, fits, reason in (("counter", ("n", "amount"), "adds exactly"),
                                     ("max", ("n", "amount", "at", "day", "f"), "compares numbers"),
                                     ("min", ("n", "amount", "at", "day", "f"), "compares numbers"),
                                     ("set", ("tags",), "elements of an array"), ("json", ("doc",), "keys of a jsonb"),
                                     ("text", ("name",), "lines and words"),
                                     ("review", ("name", "n", "amount", "at", "day", "f", "flag", "tags", "doc", "raw", "state"), "")):
            for column in ("name", "n", "amount", "at", "day", "f", "flag", "tags", "doc", "raw", "state"):
                text = "SELECT ferry.policy('public.thing', '%s', '%s')" % (column, policy)
                if column in fits:
                    self.sql(text)
                    self.assertEqual(self.value("SELECT policy FROM ferry.tracked_column WHERE name = %s", column), policy)
                else:
                    self.assertIn(reason, str(self.refused("22023", text)))
        self.assertIn("takes no options", str(self.refused("22023", "SELECT ferry.policy('public.thing', 'n', 'counter', '{}')")))

    def test_guard_needs_transitions_between_the_columns_values(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, n int, name text, "
                   "state text CHECK (state IN ('free', 'sold')), PRIMARY KEY (tenant_id, id)")
        self.track()
        text = "SELECT ferry.policy('public.thing', '%s', 'guard'%s)"
        for column, options, reason in (("n", ", '{\"1\": [\"2\"]}'", "a text or an enum"), ("state", "", "which values lead"),
                                        ("state", ", '{}'", "which values lead"), ("state", ", '[1]'", "which values lead"),
                                        ("state", ", '{\"free\": \"sold\"}'", "no list"), ("state", ", '{\"free\": [1]}'", "no list"),
                                        ("state", ", '{\"free\": [\"sod\"]}'", "no value \"sod\""),
                                        ("state", ", '{\"fre\": [\"sold\"]}'", "no value \"fre\"")):
            self.assertIn(reason, str(self.refused("22023", text % (column, options))))
        self.sql(text % ("state", ", '{\"\": [\"free\"], \"free\": [\"sold\"]}'"))
        self.sql(text % ("name", ", '{\"anything\": [\"goes\"]}'"))
        self.assertEqual(self.value("SELECT policy_options FROM ferry.tracked_column WHERE name = 'state'"),
                         {"": ["free"], "free": ["sold"]})
        self.sql("SELECT ferry.policy('public.thing', 'state', 'lww')")
        self.assertIsNone(self.value("SELECT policy_options FROM ferry.tracked_column WHERE name = 'state'"))

    def test_changed_policy_is_told_to_devices_by_the_schema_hash(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, n int, PRIMARY KEY (tenant_id, id)")
        self.track()
        before = bytes(self.value("SELECT ferry.schema_hash(%s)", T))
        self.sql("SELECT ferry.policy('public.thing', 'n', 'counter')")
        self.assertNotEqual(bytes(self.value("SELECT ferry.schema_hash(%s)", T)), before)

    def test_table_without_row_level_security_is_named_by_doctor(self):
        self.table()
        conn = self.conn()
        run(conn, "SELECT ferry.track('public.thing')")
        self.assertIn("no row-level security", "".join(conn.notices))
        conn.commit()
        self.assertEqual([row[:2] for row in self.sql("SELECT * FROM ferry.doctor()")], [("error", "public.thing")])
        self.sql("SELECT ferry.isolate('public.thing')")
        self.assertEqual(self.sql("SELECT * FROM ferry.doctor()"), [])

    # ------------------------------------------------------------ DDL

    def test_added_column_with_a_default_that_differs_by_row_is_a_change_of_every_row(self):
        self.table()
        self.track()
        key = self.add()
        self.sql("ALTER TABLE public.thing ADD COLUMN n int DEFAULT (random() * 100)::int")
        v = self.version("thing", key)
        self.assertEqual(set(v["over"]), {"n"})
        self.assertEqual(self.columns(), ["id", "tenant_id", "name", "n"])
        self.assert_sound()

    def test_added_column_without_a_default_changes_no_row(self):
        self.table()
        self.track()
        key = self.add()
        tx, head = self.version("thing", key)["tx"], self.head(T)
        self.sql("ALTER TABLE public.thing ADD COLUMN n int")
        self.assertEqual((self.version("thing", key)["tx"], self.head(T)), (tx, head))
        self.sql("UPDATE public.thing SET n = 1")
        self.assertEqual(set(self.version("thing", key)["over"]), {"n"})
        self.assert_sound()

    def test_dropped_column_takes_its_hashes_and_overrides_along(self):
        self.table()
        self.sql("ALTER TABLE public.thing ADD COLUMN a int, ADD COLUMN b int")
        self.track()
        key = self.add()
        self.sql("UPDATE public.thing SET a = 1, b = 2")
        self.sql("ALTER TABLE public.thing DROP COLUMN a")
        self.assertEqual(set(self.version("thing", key)["over"]), {"b"})
        self.sql("UPDATE public.thing SET b = 3, name = 'z'")
        self.assert_sound()

    def test_renamed_column_keeps_its_number_and_version(self):
        self.table()
        num = self.track() and self.num("thing", "name")
        key = self.add()
        tx = self.version("thing", key)["tx"]
        self.sql("ALTER TABLE public.thing RENAME COLUMN name TO title")
        self.assertEqual(self.num("thing", "title"), num)
        self.assertEqual(self.version("thing", key)["tx"], tx)
        self.sql("UPDATE public.thing SET title = 'b'")
        self.assertGreater(self.version("thing", key)["tx"], tx)
        self.assert_sound()

    def test_changed_type_goes_out_without_a_change_of_versions(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, n int, PRIMARY KEY (tenant_id, id)")
        self.track()
        key = self.add()
        self.sql("UPDATE public.thing SET n = 5")
        was = self.version("thing", key)
        self.sql("ALTER TABLE public.thing ALTER COLUMN n TYPE numeric(8,2)")
        self.assertEqual(self.value("SELECT kind FROM ferry.tracked_column WHERE name = 'n'"), "numeric")
        now = self.version("thing", key)
        self.assertEqual(now["over"], was["over"])
        self.assertGreater(now["tx"], was["tx"])
        self.assertEqual(self.value("SELECT max(tx) FROM ferry.retyped"), now["tx"])
        self.assert_sound()

    def test_renamed_table_stays_tracked(self):
        self.table()
        self.track()
        self.sql("ALTER TABLE public.thing RENAME TO stuff")
        self.add(table="public.stuff")
        self.assertEqual(self.sql("SELECT name, replica_name FROM ferry.tracked"), [("stuff", "thing")])
        self.assert_sound()

    def test_renamed_schema_and_enum_label_are_noticed(self):
        self.sql("CREATE SCHEMA s")
        self.sql("CREATE TYPE s.mood AS ENUM ('sad', 'glad')")
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, mood s.mood DEFAULT 'sad', PRIMARY KEY (tenant_id, id)", "s.thing")
        self.track("s.thing")
        self.sql("ALTER SCHEMA s RENAME TO z")
        self.add(table="z.thing")
        self.sql("ALTER TYPE z.mood ADD VALUE 'calm'")
        self.assertEqual(self.sql("SELECT t.nsp, c.labels FROM ferry.tracked t JOIN ferry.tracked_column c USING (tbl) WHERE c.name = 'mood'"),
                         [("z", ["sad", "glad", "calm"])])
        self.sql("UPDATE z.thing SET mood = 'calm'")
        self.assert_sound()

    def test_column_on_the_way_to_a_scope_follows_a_rename_and_can_t_be_dropped(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, site uuid, PRIMARY KEY (tenant_id, id)")
        self.track(more=", 'site:site'")
        self.sql("ALTER TABLE public.thing RENAME COLUMN site TO place")
        key = self.add()
        place = uuid.uuid4()
        self.sql("UPDATE public.thing SET place = %s", place)
        self.assertEqual(self.version("thing", key)["scope"], "site:%s" % place)
        self.refused("2BP01", "ALTER TABLE public.thing DROP COLUMN place")
        self.assert_sound()

    # ------------------------------------------------------------ partitions

    def parted(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id)",
                   tail="PARTITION BY HASH (tenant_id, id)")
        for i in range(3):
            self.sql("CREATE TABLE public.thing%d PARTITION OF public.thing FOR VALUES WITH (MODULUS 3, REMAINDER %d)" % (i, i))
        self.track()

    def test_R9_partitions_are_captured_through_the_root_and_directly(self):
        self.parted()
        self.sql("INSERT INTO public.thing (tenant_id, name) SELECT %s, 'n' || i FROM generate_series(1, 30) i", T)
        self.sql("UPDATE public.thing0 SET name = 'direct'")
        self.sql("DELETE FROM public.thing1")
        self.sql("UPDATE public.thing SET name = name || '!'")
        self.assert_sound()

    def test_R9_row_that_moves_to_another_partition_is_captured(self):
        self.parted()
        self.sql("INSERT INTO public.thing (tenant_id, name) SELECT %s, 'n' || i FROM generate_series(1, 30) i", T)
        self.sql("UPDATE public.thing SET id = gen_random_uuid()")
        self.assertEqual(dict(self.sql("SELECT deleted, count(*) FROM ferry.version GROUP BY 1")), {True: 30, False: 30})
        self.assert_sound()

    def test_R9_partition_made_later_is_captured(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id)",
                   tail="PARTITION BY LIST (tenant_id)")
        self.track()
        self.sql("CREATE TABLE public.mine PARTITION OF public.thing FOR VALUES IN ('%s')" % T)
        self.add()
        self.sql("UPDATE public.mine SET name = 'b'")
        self.assert_sound()

    def test_R9_attached_and_detached_partitions_bring_and_take_their_rows(self):
        self.table("id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id)",
                   tail="PARTITION BY LIST (tenant_id)")
        self.track()
        self.table(name="public.mine", columns="id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text, PRIMARY KEY (tenant_id, id)")
        key = self.add(table="public.mine")
        self.sql("ALTER TABLE public.thing ATTACH PARTITION public.mine FOR VALUES IN ('%s')" % T)
        self.assertFalse(self.version("thing", key)["deleted"])
        self.assert_sound()
        self.sql("ALTER TABLE public.thing DETACH PARTITION public.mine")
        self.assertTrue(self.version("thing", key)["deleted"])
        self.sql("UPDATE public.mine SET name = 'free'")
        self.sql("ALTER TABLE public.thing ATTACH PARTITION public.mine FOR VALUES IN ('%s')" % T)
        self.sql("DROP TABLE public.mine")
        self.assertTrue(self.version("thing", key)["deleted"])
        self.assert_sound()

    def test_owner_who_is_no_superuser_may_track(self):
        self.sql("CREATE SCHEMA app AUTHORIZATION ferry_owner")
        conn = self.conn()
        run(conn, "SET ROLE ferry_owner")
        run(conn, "CREATE TABLE app.thing (id uuid, tenant_id uuid, name text, PRIMARY KEY (tenant_id, id))")
        run(conn, "SELECT ferry.isolate('app.thing'), ferry.track('app.thing')")
        run(conn, "ALTER TABLE app.thing ADD COLUMN n int")
        conn.commit()
        self.sql("INSERT INTO app.thing VALUES (gen_random_uuid(), %s, 'a', 1)", T)
        self.assertEqual(self.sql("SELECT * FROM ferry.doctor()"), [])
        self.assert_sound()

    def test_owner_who_may_not_track_may_still_alter_and_drop(self):
        self.sql("CREATE ROLE team%s" % self.db.name)
        self.parted()
        for table in ("thing", "thing0", "thing1", "thing2"):
            self.sql("ALTER TABLE public.%s OWNER TO team%s" % (table, self.db.name))
        self.sql("GRANT CREATE ON SCHEMA public TO team" + self.db.name)
        self.sql("INSERT INTO public.thing (tenant_id, name) SELECT %s, 'n' || i FROM generate_series(1, 30) i", T)
        conn = self.conn()
        run(conn, "SET SESSION AUTHORIZATION team" + self.db.name)
        self.refused("42501", "SELECT ferry.untrack('public.thing')", conn=conn)
        run(conn, "SET SESSION AUTHORIZATION team" + self.db.name)
        run(conn, "ALTER TABLE public.thing ADD COLUMN n int DEFAULT 1")
        run(conn, "DROP TABLE public.thing2")
        run(conn, "CREATE TABLE public.thing3 PARTITION OF public.thing FOR VALUES WITH (MODULUS 3, REMAINDER 2)")
        conn.commit()
        self.sql("INSERT INTO public.thing (tenant_id, name) SELECT %s, 'n' || i FROM generate_series(1, 30) i", T)
        self.assert_sound()
        run(conn, "DROP TABLE public.thing")
        conn.commit()
        self.assertEqual(self.value("SELECT count(*) FROM ferry.tracked"), 0)

    def test_engine_s_own_steps_are_refused_to_others(self):
        self.table()
        tbl = self.track()
        for text in ("SELECT ferry.refresh(%d)", "SELECT ferry.unregister(%d)", "SELECT ferry.note_all(%d)", "SELECT ferry.note_strays(%d)",
                     "SELECT ferry.add_part(%d, 'public.thing')", "SELECT ferry.drop_part('public.thing'::regclass) -- %d"):
            self.refused("42501", text % tbl, conn=self.conn("ferry_hub"))


if __name__ == "__main__":
    unittest.main()
