"""What happened in one run, and what must hold of it. Pure: no process, no file, no clock.

A register is a row with four columns, written by transactions that first read all of them:

    s   policy set       the writer's own number is added: names every transaction that wrote here
    v   policy max       the same number, never used before
    w   policy lww       the same number, but of concurrent writes either may stand
    n   policy counter   one more

So what anybody reads names the transactions it came from, and with them everything that these wrote, and
everything that they had read before. An edit that waits on a device is laid over what the hub says: of s
and n both are seen then, v and w show the device's own. Checked, for every read:

    atomic      who sees one write of a transaction in s sees all of them
    causal      ... and all of others that this transaction itself had seen. Its own client's earlier
                transactions may be overtaken while the hub waits for rows that somebody holds locked
                (R6, R12): these are counted, and more than a few in a run are wrong
    monotonic   what a client saw in s it sees again; its v and n never fall; its own writes are there
    no return   a w that a client saw overwritten, by somebody who had read it, does not come back

and of the end: all clients and the hub show the same (strong convergence); s holds exactly the
transactions that were committed, v is the greatest of them, n is the number of committed additions
(nothing lost, nothing twice), and w is not one that somebody overwrote having read it.
"""

from collections import namedtuple

OVERTAKEN_MAX = 10

Register = namedtuple("Register", "s v w n")  # s: a frozenset


class Transaction:
    """reads: {key: Register} at its start. writes: keys whose s, v and w got the number. adds: keys that got n + 1.
    done: True committed, False undone, None nobody knows (the connection broke at COMMIT)."""

    def __init__(self, client, number, reads, writes=(), adds=(), done=True):
        self.client, self.number = client, number
        self.reads, self.writes, self.adds = reads, tuple(writes), tuple(adds)
        self.done = done

    def as_dict(self):
        reads = {key: dict(r._asdict(), s=sorted(r.s)) for key, r in self.reads.items()}
        return dict(client=self.client, number=self.number, reads=reads, writes=self.writes, adds=self.adds, done=self.done)


class Record:
    """All transactions of a run, in the order in which they were made."""

    def __init__(self, keys):
        self.keys = list(keys)
        self.transactions = []
        self.notes = []         # violations that were seen at once
        self.overtaken = set()  # numbers that somebody missed though a later one of their client was there
        self._next = 0

    def next_number(self):
        """Numbers start at 1; a register starts with nothing in s, v = 0, w null, n = 0."""
        self._next += 1
        return self._next

    def add(self, transaction):
        self.transactions.append(transaction)

    def note(self, sentence):
        self.notes.append(sentence)

    # ---- checks: lists of sentences

    def violations(self):
        by_number = {t.number: t for t in self.transactions if t.writes}
        ancestors = self._ancestors(by_number)
        wrong = list(self.notes)
        clients = {}
        for t in self.transactions:
            if t.done is False:
                continue
            wrong += self._values(t, by_number)
            wrong += self._atomic_and_causal(t, by_number)
            wrong += self._session(t, clients.setdefault(t.client, Session()), ancestors)
        if len(self.overtaken) > OVERTAKEN_MAX:
            wrong.append("causal: %d transactions were overtaken by later ones of their client: %s" % (
                len(self.overtaken), sorted(self.overtaken)[:20]))
        return wrong

    def final_violations(self, finals):
        """finals: {who: {key: Register}}, when all is quiet."""
        wrong = []
        names = sorted(finals)
        for name in names[1:]:
            wrong += ["%s and %s differ in %s: %s, %s" % (names[0], name, key, finals[names[0]].get(key), finals[name].get(key))
                      for key in self.keys if finals[names[0]].get(key) != finals[name].get(key)]
        for key in self.keys:
            wrong += self._final_register(key, finals[names[0]].get(key))
        return wrong

    def _values(self, t, by_number):
        wrong = []
        for key, r in t.reads.items():
            for number in r.s | ({r.v, r.w} - {0, None}):
                writer = by_number.get(number)
                if writer is None or writer.done is False or key not in writer.writes:
                    wrong.append("%s of %s reads %s in %s, which nobody committed" % (t.number, t.client, number, key))
        return wrong

    def _atomic_and_causal(self, t, by_number):
        wrong = []
        seen = frozenset().union(*(r.s for r in t.reads.values()))
        for writer in (by_number[number] for number in sorted(seen) if number in by_number):
            for key in writer.writes:
                if writer.number not in t.reads[key].s:
                    wrong.append("atomic: %s of %s does not see in %s what %s wrote there, but elsewhere" % (
                        t.number, t.client, key, writer.number))
            for key, r in writer.reads.items():
                missing = r.s - t.reads[key].s
                own = {number for number in missing if number in by_number and by_number[number].client == writer.client}
                self.overtaken |= own
                if missing - own:
                    wrong.append("causal: %s of %s sees %s, but not in %s the %s that this one had seen" % (
                        t.number, t.client, writer.number, key, sorted(missing - own)))
        return wrong

    def _session(self, t, session, ancestors):
        wrong = []
        for key, r in t.reads.items():
            low = session.low.get(key, NOTHING)
            if not low.s <= r.s or r.v < low.v or r.n < low.n:
                wrong.append("monotonic: %s of %s reads %s in %s after %s" % (t.number, t.client, text(r), key, text(low)))
            if r.w in session.gone.get(key, ()):
                wrong.append("no return: %s of %s reads %s.w = %s, which it saw overwritten" % (t.number, t.client, key, r.w))
            session.saw(key, r, ancestors)
        if t.done:
            for key in t.writes:
                session.saw(key, Register(frozenset([t.number]), t.number, t.number, 0), ancestors)
            for key in t.adds:
                session.saw(key, NOTHING._replace(n=t.reads[key].n + 1), ancestors)
        return wrong

    @staticmethod
    def _ancestors(by_number):
        """{(key, number): the values of w that its writer had overwritten there, and theirs}"""
        found = {}
        for number in sorted(by_number):
            t = by_number[number]
            for key in t.writes:
                before = t.reads[key].w
                found[key, number] = found.get((key, before), frozenset()) | ({before} if before else frozenset())
        return found

    def _final_register(self, key, value):
        if value is None:
            return ["%s is gone" % key]
        sure = [t for t in self.transactions if t.done]
        maybe = [t for t in self.transactions if t.done is None]
        must = {t.number for t in sure if key in t.writes}
        may = must | {t.number for t in maybe if key in t.writes}
        wrong = []
        if not must <= value.s:
            wrong.append("lost: %s does not hold %s, which were committed" % (key, sorted(must - value.s)))
        if not value.s <= may or value.v != max(value.s, default=0):
            wrong.append("%s is %s at the end, of %s" % (key, text(value), sorted(may)))
        low = sum(key in t.adds for t in sure)
        high = low + sum(key in t.adds for t in maybe)
        if not low <= value.n <= high:
            wrong.append("%s: %s.n is %s after %s committed additions%s" % (
                "lost" if value.n < low else "twice", key, value.n, low,
                " and %d unknown ones" % (high - low) if high > low else ""))
        overwritten = {t.reads[key].w for t in sure if key in t.writes}
        if value.w in overwritten or (must and not value.w):
            wrong.append("lost: %s.w is %s, which was overwritten by somebody who had read it" % (key, value.w))
        return wrong


NOTHING = Register(frozenset(), 0, None, 0)


def text(r):
    return "s = %s, v = %s, w = %s, n = %s" % (sorted(r.s), r.v, r.w, r.n)


class Session:
    """What one client has seen."""

    def __init__(self):
        self.low = {}   # key -> Register: never less again (w does not count)
        self.gone = {}  # key -> values of w that must not come back

    def saw(self, key, r, ancestors):
        low = self.low.get(key, NOTHING)
        self.low[key] = Register(low.s | r.s, max(low.v, r.v), r.w, max(low.n, r.n))
        self.gone[key] = self.gone.get(key, frozenset()) | ancestors.get((key, r.w), frozenset())
