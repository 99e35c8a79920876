"""What every device should hold, by a model that knows nothing of the engine: rows as a test wrote them, and in Python
what they say of who sees them. With random changes for it, each made in SQL and in the model alike."""

import random
import uuid

TABLES = {
    "boxes": ("project_id uuid, note text", "project:project_id"),
    "tasks": ("box_id uuid, owner_id uuid, watchers uuid[], note text, "
              "FOREIGN KEY (tenant_id, box_id) REFERENCES public.boxes ON DELETE SET NULL (box_id)",
              "project:box_id.project_id|user:owner_id|user:watchers"),
    "parts": ("task_id uuid, note text, FOREIGN KEY (tenant_id, task_id) REFERENCES public.tasks ON DELETE CASCADE",
              "project:task_id.box_id.project_id"),
    "team_notes": ("team_id uuid, task_id uuid, note text, "
                   "FOREIGN KEY (tenant_id, task_id) REFERENCES public.tasks ON DELETE SET NULL (task_id)", "team:team_id"),
    "orders_of_the_day": ("role_id uuid, note text", "role:role_id"),
}


# References that may bring their parents along: (table, column, parents' table).
REFERENCES = (("team_notes", "task_id", "tasks"), ("tasks", "box_id", "boxes"))


class Model:
    """The rows of all tables, and what each device holds and sees. brings: parents come along."""

    def __init__(self, brings=False):
        self.brings = REFERENCES if brings else ()
        self.rows = {table: {} for table in TABLES}  # {table: {id: {column: value}}}
        self.teams, self.roles = set(), set()        # (team, user), (role, user)
        self.parent_role = {}
        self.granted = set()                         # (device, scope)
        self.user = {}                               # {device: user}

    def scopes_of(self, table, row):
        found = set()
        if table == "boxes":
            found.add(row["project_id"] and "project:" + row["project_id"])
        elif table == "tasks":
            box = self.rows["boxes"].get(row["box_id"])
            found.add(box and box["project_id"] and "project:" + box["project_id"])
            found.add(row["owner_id"] and "user:" + row["owner_id"])
            found |= {"user:" + w for w in row["watchers"] or ()}
        elif table == "parts":
            task = self.rows["tasks"].get(row["task_id"])
            box = task and self.rows["boxes"].get(task["box_id"])
            found.add(box and box["project_id"] and "project:" + box["project_id"])
        elif table == "team_notes":
            found.add(row["team_id"] and "team:" + row["team_id"])
        else:
            found.add(row["role_id"] and "role:" + row["role_id"])
        return {f for f in found if f} or {"tenant"}

    def held(self, device):
        user = self.user[device]
        held = {"tenant"} | {s for d, s in self.granted if d == device}
        held |= {"team:" + t for t, u in self.teams if u == user}
        for role, u in self.roles:
            while u == user and role:
                held.add("role:" + role)
                role = self.parent_role.get(role)
        return held

    def sees(self, device, table, key):
        row = self.rows[table].get(key)
        return row is not None and (bool(self.scopes_of(table, row) & self.held(device)) or any(
            child_row[column] == key and self.sees(device, child, child_key)
            for child, column, parent in self.brings if parent == table for child_key, child_row in self.rows[child].items()))

    def view(self, device):
        return {table: {key: row["note"] for key, row in rows.items() if self.sees(device, table, key)}
                for table, rows in self.rows.items()}

    def delete(self, table, key):
        del self.rows[table][key]
        if table == "boxes":
            for task in self.rows["tasks"].values():
                task["box_id"] = None if task["box_id"] == key else task["box_id"]
        elif table == "tasks":
            self.rows["parts"] = {k: p for k, p in self.rows["parts"].items() if p["task_id"] != key}
            for note in self.rows["team_notes"].values():
                note["task_id"] = None if note["task_id"] == key else note["task_id"]


def create(sql, brings=False):
    """Makes and tracks the tables; sql runs a statement."""
    for name, (columns, scope) in TABLES.items():
        sql("CREATE TABLE public.%s (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), %s, "
            "PRIMARY KEY (tenant_id, id))" % (name, columns))
        sql("SELECT ferry.isolate('public.%s')" % name)
        sql("SELECT ferry.track('public.%s', '%s')" % (name, scope))
    for table, column, _ in REFERENCES if brings else ():
        sql("SELECT ferry.bring('public.%s', '%s')" % (table, column))


class Changes:
    """Random changes in a tenant. value runs a statement that returns one value."""

    def __init__(self, seed, tenant, value, brings=False):
        self.random = random.Random(seed)
        self.tenant = tenant
        self.value = value
        self.model = Model(brings)
        self.devices = []
        self.projects = [self.made("inventory.projects", name="P%d" % n) for n in range(3)]
        self.users = [self.made("identity.users", email="u%d@example.com" % n) for n in range(3)]
        self.team_ids = [self.made("identity.groups", name="T%d" % n) for n in range(2)]
        self.role_ids = [self.made("identity.roles", code="r%d" % n, name="r") for n in range(2)]
        value("UPDATE identity.roles SET parent_role_id = %s WHERE id = %s RETURNING id", *self.role_ids)
        self.model.parent_role[self.role_ids[1]] = self.role_ids[0]

    def made(self, table, **columns):
        columns = dict({"tenant_id": self.tenant, "id": self.new_key()}, **columns)  # a seed replays keys too
        return str(self.value("INSERT INTO %s (%s) VALUES (%s) RETURNING id" % (
            table, ", ".join(columns), ", ".join(["%s"] * len(columns))), *columns.values()))

    def new_key(self):
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def add_device(self, device, user):
        """A device that exists, of one of the users and with his scope."""
        self.devices.append(device)
        self.model.user[device] = user
        self.model.granted.add((device, "user:" + user))

    def step(self, cur):
        """One random change, by this cursor."""
        self.random.choices((self.insert, self.change, self.grant, self.member, self.assign), (5, 8, 2, 1, 1))[0](cur)

    def one_of(self, values, none=0.2):
        values = sorted(values)
        return self.random.choice(values) if values and self.random.random() >= none else None

    def some_row(self, table):
        rows = self.model.rows
        if table == "boxes":
            return {"project_id": self.one_of(self.projects)}
        if table == "tasks":
            return {"box_id": self.one_of(rows["boxes"]), "owner_id": self.one_of(self.users, 0.5),
                    "watchers": [u for u in self.users if self.random.random() < 0.3] or None}
        if table == "parts":
            return {"task_id": self.one_of(rows["tasks"])}
        if table == "team_notes":
            return {"team_id": self.one_of(self.team_ids), "task_id": self.one_of(rows["tasks"])}
        return {"role_id": self.one_of(self.role_ids)}

    def insert(self, cur):
        table, key = self.random.choice(list(TABLES)), self.new_key()
        row = dict(self.some_row(table), note="n%d" % self.random.randrange(1000))
        self.model.rows[table][key] = row
        cur.execute("INSERT INTO public.%s (tenant_id, id, %s) VALUES (%%s, %%s, %s)" % (
            table, ", ".join(row), ", ".join("%s::uuid[]" if c == "watchers" else "%s" for c in row)), [self.tenant, key, *row.values()])

    def change(self, cur):
        table = self.random.choice([t for t in TABLES if self.model.rows[t]] or [None])
        if table is None:
            return self.insert(cur)
        key = self.one_of(self.model.rows[table], 0)
        if self.random.random() < 0.2:
            self.model.delete(table, key)
            return cur.execute("DELETE FROM public.%s WHERE tenant_id = %%s AND id = %%s" % table, (self.tenant, key))
        row = self.some_row(table) if self.random.random() < 0.8 else {"note": "c%d" % self.random.randrange(1000)}
        self.model.rows[table][key].update(row)
        return cur.execute("UPDATE public.%s SET %s WHERE tenant_id = %%s AND id = %%s" % (
            table, ", ".join("%s = %%s%s" % (c, "::uuid[]" if c == "watchers" else "") for c in row)), [*row.values(), self.tenant, key])

    def grant(self, cur):
        device = self.random.choice(self.devices)
        scope = self.random.choice(["project:" + p for p in self.projects] + ["user:" + u for u in self.users])
        self.toggle(cur, self.model.granted, (device, scope), "ferry.device_scope (device_id, scope)", ())

    def member(self, cur):
        self.toggle(cur, self.model.teams, (self.random.choice(self.team_ids), self.random.choice(self.users)),
                    "identity.group_members (group_id, user_id, tenant_id)", (self.tenant,))

    def assign(self, cur):
        self.toggle(cur, self.model.roles, (self.random.choice(self.role_ids), self.random.choice(self.users)),
                    "identity.role_assignments (role_id, user_id, tenant_id)", (self.tenant,))

    def toggle(self, cur, known, pair, table, more):
        name, columns = table.split(" ", 1)
        if pair in known:
            known.remove(pair)
            cur.execute("DELETE FROM %s WHERE %s" % (name, " AND ".join("%s = %%s" % c for c in columns.strip("()").split(", "))), pair + more)
        else:
            known.add(pair)
            cur.execute("INSERT INTO %s VALUES (%s)" % (table, ", ".join(["%s"] * len(pair + more))), pair + more)
