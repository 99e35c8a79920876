#!/usr/bin/python3
"""A change that came from a device stands in the audit log under that device's name and user."""

import unittest

from ferry_run import SiteCase


class DeviceAudit(SiteCase):

    def user(self, email):
        """A user who may change prices."""
        user = self.site.value("INSERT INTO identity.users (tenant_id, email) VALUES (%s, %s) RETURNING id::text", self.tenant, email)
        self.site.sql("INSERT INTO identity.role_assignments (tenant_id, user_id, role_id, scope_kind) SELECT tenant_id, %s, id, 'TENANT' "
                      "FROM identity.roles WHERE tenant_id = %s AND code = 'inventory_mgr'", user, self.tenant)
        return user

    def test_each_device_of_one_merge_is_the_author_of_its_own_prices(self):
        users = [self.user("a@x.y"), self.user("b@x.y")]
        units = [str(self.new_unit(code="A-1", price_minor=100, currency="EGP")),
                 str(self.new_unit(code="B-1", price_minor=100, currency="EGP"))]
        devices = [self.device(label, user=user) for label, user in zip("ab", users)]
        self.settle()
        for device, unit, price in zip(devices, units, (201, 202)):
            device.stop()
            device.sql("UPDATE units SET price_minor = ? WHERE id = ?", price, unit)
        for device in devices:
            device.start()
        self.settle()
        wanted = []
        for device, user, unit, price in zip(devices, users, units, (201, 202)):
            name = self.site.value("SELECT name FROM ferry.device WHERE user_id::text = %s", user)
            wanted.append((unit, user, "USER", name, "100", str(price), True))
        self.assertEqual(sorted(self.site.sql(
            "SELECT target_id::text, actor_id::text, actor_type, actor_name, old_values ->> 'price_minor', new_values ->> 'price_minor', "
            "change_set IS NOT NULL AND device_id IN (SELECT id FROM ferry.device) FROM governance.audit_logs "
            "WHERE target_model = 'inventory.units'")), sorted(wanted))
        self.assertEqual(sorted(self.site.sql("SELECT unit_id::text, changed_by_user_id::text, price_minor FROM inventory.unit_price_history "
                                              "WHERE changed_by_user_id IS NOT NULL")),
                         sorted((unit, user, price) for unit, user, price in zip(units, users, (201, 202))))
        self.assertEqual(self.site.sql("SELECT ok, problem FROM governance.verify_audit(%s)", self.tenant), [(True, None)])
        self.assert_same()


if __name__ == "__main__":
    unittest.main()
