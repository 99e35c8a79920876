/* Devices, schemas, and a database that is not there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/pg_store/pg_store_driver.h"

static struct {
	bool done;
	enum ferry_error error;
	struct hub_device device;
} found;

static void on_device(void *ctx, enum ferry_error e, const struct hub_device *d)
{
	(void)ctx;
	found.done = true;
	found.error = e;
	if (d)
		found.device = *d;
}

static void look_up(struct pg_store *s, unsigned n, int64_t position, int64_t mark)
{
	struct message_hello hello = {.position = position, .mark = mark, .incarnation = id_of(55)};
	uint8_t print[32] = {0};

	if (n) {
		const char *hex = ask("SELECT encode(sha256('%u'), 'hex')", n);

		for (int i = 0; i < 32; i++) {
			const char pair[] = {hex[i * 2], hex[i * 2 + 1], 0};
			char *end;

			print[i] = (uint8_t)strtoul(pair, &end, 16);
			CHECK(end == pair + 2);
		}
	}
	found.done = false;
	pg_store_ops.device(s, print, &hello, on_device, NULL);
	wait_for(&found.done);
}

void device_and_its_bookmark_are_known(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant,global"), incarnation = id_of(55);

	look_up(s, 0, -1, 0);
	CHECK(found.error == FERRY_UNKNOWN_DEVICE);
	look_up(s, 1, -1, 0);
	CHECK(found.error == FERRY_OK && uuid_equal(&found.device.id, &d) && uuid_equal(&found.device.tenant, &tenant_a));
	CHECK(found.device.scope_count == 2 && found.device.bookmark_code == FERRY_OK && found.device.head == 0);
	CHECK(uuid_equal(&found.device.incarnation, &incarnation));
	sql("INSERT INTO t.unit (tenant_id, id, code) VALUES ('%s', gen_random_uuid(), 'x')", text_of(&tenant_a));
	feed(s, &tenant_a, 0, NULL, 0);
	look_up(s, 1, fed.to, fed.mark);
	CHECK(found.device.bookmark_code == FERRY_OK && found.device.head == fed.to);
	look_up(s, 1, fed.to, fed.mark + 1);
	CHECK(found.device.bookmark_code == FERRY_OTHER_HISTORY);
	look_up(s, 1, fed.to + 5, fed.mark);
	CHECK(found.device.bookmark_code == FERRY_OTHER_HISTORY);
	look_up(s, 1, 0, 0);
	CHECK(found.device.bookmark_code == FERRY_OK);
	sql("SELECT ferry.prune_tombstones('%s', %lld)", text_of(&tenant_a), (long long)fed.to);
	look_up(s, 1, 0, 0);
	CHECK(found.device.bookmark_code == FERRY_PRUNED);
	sql("UPDATE ferry.device SET status = 'revoked'");
	look_up(s, 1, -1, 0);
	CHECK(found.error == FERRY_REVOKED);
	pg_store_close(s);
}

void changed_schema_is_noticed(void)
{
	struct pg_store *s = store_open();
	struct uuid d = device_new(1, &tenant_a, "tenant"), unit = id_of(1);
	struct merge_item one = item(d, new_unit(1, unit, "A1", "x"));
	uint64_t hash = schema->schema.hash;
	bool done = false;
	struct small_set *edit;

	merge(s, &tenant_a, &one, 1);
	sql("ALTER TABLE t.unit ADD COLUMN floor int DEFAULT 3");
	feed(s, &tenant_a, 0, NULL, 0);
	CHECK(fed.error == FERRY_OK);
	pg_store_ops.schema(s, &tenant_a, on_schema, &done);
	wait_for(&done);
	CHECK(schema->schema.hash != hash);
	edit = set_new(2, fed.to, "unit", ROW_UPDATE, unit);
	set_cell(edit, "unit", "floor", value_int(4));
	one = item(d, edit);
	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	CHECK(is(ask("SELECT floor FROM t.unit"), "4"));
	sql("ALTER TABLE t.unit DROP COLUMN price");
	one = item(d, retitle(3, fed.to, unit, "y"));
	merge(s, &tenant_a, &one, 1);
	CHECK(accepted(0));
	pg_store_close(s);
}

void no_database_is_an_answer(void)
{
	struct pg_store_config config = {.conninfo = "host=/nonexistent dbname=x"};
	struct pg_store *s = pg_store_open(&config, &io);
	struct merge_item one = {.device = id_of(1), .number = 1};

	merge_start(s, &tenant_a, &one, 1);
	wait_for(&merged.done);
	CHECK(merged.error == FERRY_DATABASE);
	pg_store_close(s);
}

void role_is_checked_at_start(void)
{
	struct ferry_why why = {{0}};
	struct pg_admin *a;

	CHECK(pg_check_role(admin, true, &why) == FERRY_CONFIG && strstr(why.text, "superuser"));
	CHECK(pg_admin_open(hub_conninfo, &a, &why) == FERRY_OK);
	CHECK(pg_check_role(a, true, &why) == FERRY_OK);
	CHECK(pg_check_role(a, false, &why) == FERRY_CONFIG && strstr(why.text, "fsync"));
	sql("ALTER TABLE t.unit OWNER TO ferry_hub");
	CHECK(pg_check_role(a, true, &why) == FERRY_CONFIG && strstr(why.text, "owns"));
	pg_admin_close(a);
}
