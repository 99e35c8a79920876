"""Those who do harm. Each strike takes something away for some steps; recover() gives back what is due,
heal() everything at once, in random order."""

import signal

import ferry_run


class Nemesis:
    name = ""
    chance = 0.25   # of a step to be a strike

    def __init__(self, run):
        self.run, self.lane, self.rng = run, run.lane, run.rng
        self.step = 0
        self.due = []   # (step, what undoes it)

    # ---- what the run calls

    def strike(self):
        """Does some harm; says what, for the story."""
        strikes = self.strikes()
        chosen = self.rng.choices(list(strikes), list(strikes.values()))[0]
        return "%d %s%s" % (self.step, chosen.__name__, chosen() or "")

    def recover(self):
        self.step += 1
        now = [undo for step, undo in self.due if step <= self.step]
        self.due = [(step, undo) for step, undo in self.due if step > self.step]
        for undo in now:
            undo()

    def heal(self):
        self.rng.shuffle(self.due)
        for _, undo in self.due:
            undo()
        self.due = []
        for d in self.lane.devices:
            d.proxy.blackhole(False)
            d.proxy.refuse(False)
            d.proxy.cut_after()
        for p in self.lane.processes():
            if not p.running():
                p.start()

    # ---- words for strikes

    def later(self, undo, steps=12):
        self.due.append((self.step + self.rng.randrange(1, steps), undo))

    def some(self):
        """Some of the devices, at least one; labels for the story."""
        chosen = self.rng.sample(self.lane.devices, self.rng.randrange(1, len(self.lane.devices) + 1))
        return chosen, " " + " ".join(d.label for d in chosen)

    def strikes(self):
        raise NotImplementedError

    # ---- pause

    def stop_process(self, process):
        if process.running():
            process.pause()
            self.later(lambda: process.running() and process.process.send_signal(signal.SIGCONT))

    def pause_agents(self):
        chosen, names = self.some()
        for d in chosen:
            self.stop_process(d.agent)
        return names

    def pause_hub(self):
        self.stop_process(self.rng.choice(self.lane.hubs))

    def disconnect(self):
        chosen, names = self.some()
        for d in chosen:
            d.proxy.refuse(True)
            d.proxy.cut()
            self.later(lambda d=d: d.proxy.refuse(False))
        return names

    # ---- kill

    def kill_agents(self):
        chosen, names = self.some()
        for d in chosen:
            d.agent.kill9()
            self.restart(d.agent)
        return names

    def kill_and_kill_again(self):
        """While it starts, while it says hello."""
        device = self.rng.choice(self.lane.devices)
        for _ in range(self.rng.randrange(2, 5)):
            device.agent.kill9()
            device.agent.start()
            ferry_run.time.sleep(self.rng.choice([0.001, 0.005, 0.02, 0.05]))
        return " " + device.label

    def kill_hub(self):
        hub = self.rng.choice(self.lane.hubs)
        hub.kill9()
        self.restart(hub)

    def kill_database(self):
        self.lane.disconnect()
        self.lane.cluster.stop("immediate")
        self.lane.cluster.start()

    def kill_backends(self):
        self.lane.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ferry_hub' AND random() < 0.7")

    def restart(self, process):
        def start():
            if not process.running():
                ferry_run.Program.start(process)  # a hub's own start waits until it is ready
        if self.rng.random() < 0.4:
            start()
        else:
            self.later(start)

    # ---- partition

    def hold(self):
        """Nothing passes, in one direction or both; what was sent arrives in the end."""
        chosen, names = self.some()
        way = self.rng.choice([None, None, "up", "down"])
        for d in chosen:
            d.proxy.blackhole(True, way)
            self.later(lambda d=d: d.proxy.blackhole(False), 20)
        return "%s %s" % (names, way or "both ways")

    def strand(self):
        """Connections die without a word; new ones reach some hub, perhaps before the old one's hub has noticed."""
        chosen, names = self.some()
        for d in chosen:
            d.proxy.retarget(self.rng.choice(self.lane.hubs).device_port)
            d.proxy.strand()
        return names

    def move(self):
        """To another hub, at once."""
        chosen, names = self.some()
        for d in chosen:
            d.proxy.retarget(self.rng.choice(self.lane.hubs).device_port)
            d.proxy.cut()
        return names

    def cut_in_a_message(self):
        chosen, names = self.some()
        for d in chosen:
            how = self.rng.choice(["records", "sent", "received"])
            d.proxy.cut_after(**{how: self.rng.randrange(1, 20 if how == "records" else 2000)})
        return names



class Pause(Nemesis):
    name = "pause"

    def strikes(self):
        return {self.pause_agents: 6, self.pause_hub: 2, self.disconnect: 3}


class Kill(Nemesis):
    name = "kill"

    def strikes(self):
        return {self.kill_agents: 6, self.kill_and_kill_again: 2, self.kill_hub: 2, self.kill_backends: 1, self.kill_database: 0.3}


class Partition(Nemesis):
    name = "partition"

    def strikes(self):
        return {self.hold: 4, self.strand: 3, self.move: 2, self.cut_in_a_message: 3, self.disconnect: 2}


class Mixed(Nemesis):
    name = "mixed"

    def strikes(self):
        return {s: weight for kind in (Pause, Kill, Partition) for s, weight in kind.strikes(self).items()}


NEMESES = {kind.name: kind for kind in (Pause, Kill, Partition, Mixed)}
