"""A trainer that counts. It speaks the trainer's contract (docs/contracts.md) with the standard library alone.

What it does is told by `behaviour.json`, looked for in the folder that COUNTING names, as `job-<id>.json` first:

    {"steps": 100, "seconds_per_step": 0.01, "checkpoint_every": 10, "burst": 1,
     "crash_at": {"step": 50, "signal": "SEGV", "times": 1}, "exit_at": {"step": 5, "code": 70, "says": "..."},
     "ignore_stop": false, "ignore_term": false, "ignore_eof": false, "no_encoder": false, "junk": false}

It writes when it starts, at each step and when it ends, by the boot clock, to `audit.jsonl` in the same folder: one
line per write, appended, so that any number of trainers tell one story.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

DONE, MEND, STOPPED, ABANDONED = 0, 70, 75, 76

DEFAULTS = {
    "steps": 20,
    "seconds_per_step": 0.01,
    "checkpoint_every": 10,
    "burst": 1,
    "crash_at": None,
    "exit_at": None,
    "ignore_stop": False,
    "ignore_term": False,
    "ignore_eof": False,
    "no_encoder": False,
    "junk": False,
}


class Counter:
    def __init__(self, options):
        self.folder = options.workdir
        self.spec = json.loads(options.spec.read_text())
        self.inputs = json.loads(options.inputs.read_text())
        self.job = int(self.folder.parent.name.removeprefix("job-"))
        self.epoch = int(self.folder.name.removeprefix("epoch-"))
        self.side = Path(os.environ["COUNTING"])
        self.asked = {**DEFAULTS, **self._behaviour()}
        self.events = open(self.folder / "events.jsonl", "ab", buffering=0)  # noqa: SIM115  closed by the end
        self.seq = 0
        self.stop = False
        self.deadline = time.monotonic() + options.supervised
        self.said = threading.Lock()

    def _behaviour(self):
        for name in (f"job-{self.job}.json", "behaviour.json"):
            with contextlib.suppress(FileNotFoundError):
                return json.loads((self.side / name).read_text())
        return {}

    def audit(self, what, **more):
        line = {"job": self.job, "epoch": self.epoch, "pid": os.getpid(), "what": what, **more}
        line["at"] = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
        with open(self.side / "audit.jsonl", "ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def say(self, kind, **data):
        with self.said:
            self.seq += 1
            line = {"seq": self.seq, "time": time.time(), "kind": kind, **data}
            self.events.write(json.dumps(line).encode() + b"\n")

    def leave(self, code):
        self.audit("end", code=code)
        os._exit(code)

    def listen(self):
        for line in sys.stdin:
            word, _, rest = line.partition(" ")
            if word == "lease":
                self.deadline = time.monotonic() + float(rest)
            elif word.strip() == "stop":
                self.stop = not self.asked["ignore_stop"]
        if not self.asked["ignore_eof"]:
            self.leave(ABANDONED)

    def watch(self):
        while time.monotonic() < self.deadline:
            time.sleep(0.02)
        self.leave(ABANDONED)

    def write_file(self, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, path)
        return hashlib.sha256(content).hexdigest()

    def save(self, step):
        content = str(step).encode()
        folder = self.folder / "checkpoints" / f"step-{step:012d}"
        digest = self.write_file(folder / "state", content)
        seal = {"version": 1, "step": step, "files": {"state": digest}}
        self.write_file(folder / "complete.json", json.dumps(seal).encode())
        self.say("checkpoint", step=step, path=str(folder.relative_to(self.folder)))

    def artifact(self, kind, name, content, **facts):
        path = self.folder / "artifacts" / name
        digest = self.write_file(path, content)
        self.say(
            "artifact",
            artifact=kind,
            name=name,
            path=f"artifacts/{name}",
            sha256=digest,
            size=len(content),
            media_type="application/octet-stream",
            step=facts.pop("step", None),
            facts=facts,
        )

    def begin(self):
        for key in ("resume", "extend"):
            if path := self.inputs.get(key):
                return int((Path(path) / "state").read_text())
        return 0

    def crash_due(self, step):
        crash = self.asked["crash_at"]
        if not crash or step != crash["step"]:
            return
        before = self.side / f"crashes-{self.job}"
        times = len(before.read_text()) if before.exists() else 0
        if times < crash.get("times", 1):
            with open(before, "a") as file:
                file.write("x")
            print("about to crash", flush=True)
            if "signal" in crash:
                os.kill(os.getpid(), getattr(signal, f"SIG{crash['signal']}"))
                time.sleep(60)
            sys.exit(crash.get("code", 1))

    def run(self):
        steps = self.asked["steps"] * max(1, self.spec.get("epochs", 1))
        step = self.begin()
        self.audit("start", step=step)
        self.say("record", data={"steps_per_epoch": self.asked["steps"], "total_steps": steps})
        if self.asked["junk"]:
            self.events.write(b'{"seq": 2, "kind": "point"\n')
            self.events.write(b'{"kind": "note", "text": "nul \\u0000 and \\ud800", "level": "info"}\n')
            self.events.write(b'{"kind": "point", "name": "loss/train", "step": 1, "value": 1e999}\n')
        while step < steps:
            if self.asked["burst"] == 1 or step % self.asked["burst"] == 0:
                time.sleep(self.asked["seconds_per_step"])
            step += 1
            self.audit("step", step=step)
            self.say("point", name="loss/train", step=step, value=1 / step)
            self.say("progress", stage="", done=step, total=steps, unit="steps", rate=None, left=None)
            self.crash_due(step)
            leaving = self.asked["exit_at"]
            if leaving and step == leaving["step"]:
                self.say("note", text=leaving["says"], level="error")
                self.leave(leaving["code"])
            if step % self.asked["checkpoint_every"] == 0 or step == steps or self.stop:
                self.save(step)
            if self.stop:
                self.leave(STOPPED)
        facts = {"architecture": "resnet18", "channels": 3, "mean": [0.5] * 3, "deviation": [0.2] * 3}
        if not self.asked["no_encoder"]:
            weights = f"weights of job {self.job}".encode()
            self.artifact("encoder", "encoder.safetensors", weights, origin="byol", step=step, **facts)
        self.say("results", data={"loss": 1 / step, "steps": step})
        self.leave(DONE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run"])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--supervised", type=float, required=True)
    options = parser.parse_args()
    with open(options.workdir / "lock", "ab") as own, contextlib.ExitStack() as stack:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        counter = Counter(options)
        if counter.asked["ignore_term"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=counter.listen, daemon=True).start()
        threading.Thread(target=counter.watch, daemon=True).start()
        if path := os.environ.get("CRISTAE_DEVICE_LOCK"):
            fcntl.flock(stack.enter_context(open(path, "ab")), fcntl.LOCK_EX)
        counter.run()


main()
