"""The demo's second act: the business's rules hold across devices that are offline, and its data
survives tables that change and a hub that is restored from a backup.

Each scene is played with the plain shells, and what came of it is read back and checked.
"""

import json

import psycopg2

from ferry_run import wait_until
from stage import Device, Problem, say, step

STATUS = '{"available": ["reserved", "sold"], "reserved": ["available", "sold"]}'


def expect(what, is_value, must):
    if is_value != must:
        raise Problem("%s: is %r, must be %r" % (what, is_value, must))


class Rules:
    """amina and omar: the two devices of the story, both online."""

    def __init__(self, office, amina, omar):
        self.office, self.amina, self.omar = office, amina, omar
        self.devices = [amina, omar]

    def play(self):
        for scene in (self.refusal_is_repaired, self.unit_is_reserved_twice, self.price_waits_for_approval,
                      self.permission_goes, self.table_changes, self.hub_is_restored):
            scene()

    # ---- helpers

    def settle(self):
        self.office.site.wait_settled(*(d.agent for d in self.devices))

    def unit(self, code, column):
        return self.office.value("SELECT %s FROM inventory.units WHERE tenant_id = %%s AND code = %%s" % column,
                                 self.office.tenant, code)

    def said(self, device, name):
        """The sentence of the one refusal with this code on a device."""
        found = [r for r in device.agent.json("rejected") if r["name"] == name]
        if len(found) != 1:
            raise Problem("%s: one refusal %s was expected, there are %d" % (device.name, name, len(found)))
        return found[0]

    # ---- scenes

    def refusal_is_repaired(self):
        step("Amina puts right what was refused")
        refused = self.said(self.amina, "UNIQUE")
        say("  refused  %s" % refused["sentence"])
        command = ("rejected", "retry", refused["number"], "--set", "email=layla.aziz@example.com")
        self.amina.agent.json(*command)
        say("  Amina    ferry-agent " + " ".join(map(str, command)))
        self.settle()
        expect("the contact at the hub", self.office.value(
            "SELECT email FROM crm.contacts WHERE tenant_id = %s AND full_name = 'Double'", self.office.tenant),
            "layla.aziz@example.com")
        expect("what Amina's device still keeps", self.amina.agent.json("rejected"), [])
        say("  the contact is at the hub; nothing is refused any more")

    def unit_is_reserved_twice(self):
        step("Both reserve the same unit while offline")
        self.office.psql("SELECT ferry.policy('inventory.units', 'status', 'guard', '%s')" % STATUS)
        self.settle()
        for d in (self.amina, self.omar):
            d.online(False)
            d.sqlite3("UPDATE units SET status = 'reserved' WHERE code = 'A-0203'")
            say("  %-8s sqlite3   A-0203: reserves the unit" % d.person)
        self.amina.online(True)
        self.office.site.wait_settled(self.amina.agent)
        self.omar.online(True)
        self.settle()
        expect("A-0203", self.unit("A-0203", "status"), "reserved")
        refused = self.said(self.omar, "GUARD")
        say("  Amina has it. Omar is told: %s" % refused["sentence"])
        if "Amina" not in refused["sentence"]:
            raise Problem("the sentence does not say who has the unit")
        expect("Omar's attempt", json.loads(refused["values"])["status"], "reserved")
        self.omar.agent.json("rejected", "discard", refused["number"])
        say("  Omar     ferry-agent rejected discard %s" % refused["number"])

    def price_waits_for_approval(self):
        step("A price waits until Nadia approves it")
        self.office.psql("""SELECT ferry.policy('inventory.units', 'price_minor', 'approval', '{"permission": "inventory.approve"}')""")
        nadia = Device(self.office, "laptop-c", "Nadia")
        self.devices.append(nadia)
        self.settle()
        before = self.unit("A-0204", "price_minor")
        self.omar.sqlite3("UPDATE units SET price_minor = 140000000 WHERE code = 'A-0204'")
        say("  Omar     sqlite3   A-0204: asks for a lower price")
        self.settle()
        expect("the price before it is approved", self.unit("A-0204", "price_minor"), before)
        asked = nadia.sqlite3("SELECT old_value || ' -> ' || new_value FROM approval_requests WHERE status = 'pending'")
        expect("what Nadia sees", asked, "%d -> 140000000" % before)
        nadia.sqlite3("UPDATE approval_requests SET status = 'approved', note = 'for the last one' WHERE status = 'pending'")
        say("  Nadia    sqlite3   sees %s, and approves" % asked)
        self.settle()
        expect("the price", self.unit("A-0204", "price_minor"), 140000000)
        expect("the price on Amina's device", self.amina.sqlite3("SELECT price_minor FROM units WHERE code = 'A-0204'"), "140000000")
        say("  the price stands at the hub and on every device, with Omar as who asked for it")

    def permission_goes(self):
        step("Omar loses the permission to see leads while he edits one offline")
        self.omar.online(False)
        lead = self.omar.sqlite3("SELECT id FROM leads ORDER BY id LIMIT 1")
        self.omar.sqlite3("UPDATE leads SET score = 99 WHERE id = '%s'" % lead)
        say("  Omar     sqlite3   scores a lead 99")
        self.office.psql("DELETE FROM identity.role_permissions p USING identity.roles r WHERE r.tenant_id = p.tenant_id "
                         "AND r.id = p.role_id AND r.code = 'sales_omar' AND p.permission = 'leads.*'")
        say("  office   psql      takes leads.* from his role")
        self.omar.online(True)
        self.settle()
        expect("leads on Omar's device", self.omar.sqlite3("SELECT count(*) FROM leads"), "0")
        if self.amina.sqlite3("SELECT count(*) FROM leads") == "0":
            raise Problem("Amina lost her leads, too")
        kept = self.said(self.omar, "OUT_OF_SCOPE")
        expect("what Omar wrote", (kept["key"], json.loads(kept["values"])["score"]), (lead, 99))
        say("  the leads left his device, not Amina's; what he wrote is kept there: %s" % kept["values"])

    def table_changes(self):
        step("The office adds a column to the units while Omar edits one offline")
        self.omar.online(False)
        self.omar.sqlite3("UPDATE units SET view = 'pool' WHERE code = 'A-0205'")
        say("  Omar     sqlite3   A-0205: the view is the pool")
        self.office.psql("ALTER TABLE inventory.units ADD COLUMN balcony_sqm numeric(6,2) NOT NULL DEFAULT 4.5")
        say("  office   psql      ALTER TABLE inventory.units ADD COLUMN balcony_sqm ...")
        self.omar.online(True)
        self.settle()
        expect("A-0205 view", self.unit("A-0205", "view"), "pool")
        expect("the column on Omar's device", self.omar.sqlite3("SELECT balcony_sqm FROM units WHERE code = 'A-0205'"), "4.50")
        self.omar.sqlite3("UPDATE units SET balcony_sqm = 12 WHERE code = 'A-0205'")
        self.settle()
        expect("A-0205 balcony", str(self.unit("A-0205", "balcony_sqm")), "12.00")
        say("  his edit arrived, his replica has the column, and he writes to it")

    def hub_is_restored(self):
        step("The hub is restored from a backup; its devices give back what came later")
        self.office.backup()
        say("  office             backs up with pg_dump")
        self.amina.sqlite3("UPDATE units SET status = 'reserved' WHERE code = 'A-0206'")
        self.omar.sqlite3("UPDATE units SET view = 'harbour' WHERE code = 'A-0207'")
        self.settle()
        say("  Amina    sqlite3   A-0206: reserves the unit")
        say("  Omar     sqlite3   A-0207: the view is the harbour")
        self.office.restore()
        say("  office             loses its server, and restores the backup with pg_restore")
        wait_until(self.regained, 60, "the hub to regain what its devices had pushed")
        self.settle()
        say("  the backup held neither edit; the hub has both again, each once, from the devices that made them")

    def regained(self):
        try:
            return (self.unit("A-0206", "status"), self.unit("A-0207", "view")) == ("reserved", "harbour")
        except psycopg2.OperationalError:
            return False
