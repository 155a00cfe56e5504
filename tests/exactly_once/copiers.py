"""The stages of the chain: Kafka's own TransactionalMessageCopier, killed, frozen, succeeded."""
import json
import os
import signal
import subprocess
import threading

TRANSACTION_TIMEOUT = 30   # seconds; a copier that is killed is fenced by its successor long before


class Copier:
    """One process; what it says it has committed is in `copied`."""

    def __init__(self, command, log):
        self.copied, self.spoke, self.log = 0, False, log
        with open(log, "ab") as errors:
            # a session of its own, so that a script in front of the program dies with it
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self):
        for line in self.process.stdout:
            self.spoke = True  # it has its transactional id by now: whoever had it before is fenced
            try:
                self.copied = json.loads(line).get("totalProcessed", self.copied)
            except ValueError:
                pass  # the line that a kill cut off

    def signal(self, number):
        if self.ended() is None:
            os.killpg(self.process.pid, number)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.listener.join(1)

    def ended(self):
        return self.process.poll()

    def last_words(self):
        with open(self.log, errors="replace") as log:
            lines = [line.strip() for line in log if "Exception" in line]
        return lines[-1][:300] if lines else "nothing said"


class Stage:
    """One step of the chain: the copier that is at work, its forerunners, and the zombies that do not know it yet.

    A copier ends by itself when it has copied what its input held at its start, so there is always one more to come.
    """

    def __init__(self, tool, address, source, target, size, log):
        self.source, self.target, self.log = source, target, log
        self.group = f"{source}-to-{target}"
        self.command = [*tool, "transactional-message-copier", "--broker-list", address, "--input-topic", source, "--input-partition", "0",
                        "--output-topic", target, "--consumer-group", self.group, "--transactional-id", f"{self.group}-copier",
                        "--transaction-size", str(size), "--transaction-timeout", str(TRANSACTION_TIMEOUT * 1000),
                        "--enable-random-aborts", "--group-mode", "--use-group-metadata"]
        self.copier, self.zombies = None, []
        self.before, self.spoken, self.starts, self.fenced, self.deaths = 0, 0, 0, 0, []

    @property
    def copied(self):
        """Records that copiers said they had committed; what a killed one did not come to say is missing."""
        return self.before + (self.copier.copied if self.copier else 0)

    @property
    def takeovers(self):
        """How many copiers have had the transactional id."""
        return self.spoken + bool(self.copier and self.copier.spoke)

    def start(self):
        self.copier = Copier(self.command, self.log)
        self.starts += 1

    def retire(self):
        copier, self.copier = self.copier, None
        if copier.ended() is not None:
            copier.listener.join(1)
        self.before += copier.copied
        self.spoken += copier.spoke
        return copier

    def reap(self):
        """Takes note of processes that have ended by themselves."""
        if self.copier and self.copier.ended() is not None:
            copier = self.retire()
            if copier.ended() != 0:
                self.deaths.append(f"{self.group} ended with {copier.ended()}: {copier.last_words()}")
        for zombie in [z for z in self.zombies if z.ended() is not None]:
            self.zombies.remove(zombie)
            self.fenced += 1

    def kill(self):
        self.copier.kill()
        self.retire()

    def freeze(self):
        """The copier stops where it is and counts as dead, which it is not."""
        self.copier.signal(signal.SIGSTOP)
        self.zombies.append(self.retire())
        return self.zombies[-1]

    def stop(self):
        for copier in [*self.zombies, *([self.copier] if self.copier else [])]:
            copier.kill()
