"""The process that is made to crash, and the disk it is made to lose."""
import fcntl
import os
import random
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time

PROGRESS_WITHIN = 90       # seconds a broker may take from its start to new acknowledgements
ENDS_WITHIN = 30           # seconds a broker may go on without its disk
# _IOR('X', 125, u32) of ext4, and its flag to leave the file system's own journal unflushed: what a power cut leaves
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


def flumen_command():
    """How a crash test starts Flumen."""
    flumen = os.environ.get("FLUMEN_BIN", "target/release/flumen")
    overrides = ["listeners=PLAINTEXT://127.0.0.1:{port}", "log.dirs={data}", "flumen.admin.listener=", "group.initial.rebalance.delay.ms=0",
                 # so small that files are recycled, the window fills and segments roll within seconds
                 "flumen.journal.file.bytes=5242880", "flumen.journal.window.bytes=15728640", "log.segment.bytes=1048576",
                 # the disk that is cut off is smaller than the reserve would be
                 "flumen.disk.reserve.bytes=67108864", "flumen.disk.reserve.percent=1"]
    return " ".join([flumen, "serve", *(f"--override {override}" for override in overrides)])


class Broker:
    """A broker; its output goes to a file beside the data, or where `log` says."""

    def __init__(self, command, port, data, cores=(), seed=0, log=None):
        self.command = shlex.split(command.format(port=port, data=shlex.quote(data)))
        self.cores, self.dice = cores, random.Random(seed)
        self.port, self.data, self.process = port, data, None
        self.log = log or data.rstrip("/") + ".log"

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        with open(self.log, "ab") as out:
            # a session of its own: the command may be a script with the broker as its child
            cores = ["--override", f"flumen.cores={self.dice.choice(self.cores)}"] if self.cores else []
            self.process = subprocess.Popen(self.command + cores, stdout=out, stderr=out, start_new_session=True)

    def kill(self):
        """False where there was nothing left to kill: the broker had ended by itself."""
        alive = self.process is not None and self.process.poll() is None
        if alive:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return alive

    def freeze(self):
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.killpg(self.process.pid, signal.SIGCONT)

    def ended(self):
        """Its exit code, negative for a signal; None while it runs."""
        return None if self.process is None else self.process.poll()

    def serve(self):
        """Starts and waits until the port answers."""
        self.start()
        end = time.time() + PROGRESS_WITHIN
        while time.time() < end:
            if self.ended() is not None:
                sys.exit(f"the broker ended with {self.ended()}, see {self.log}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        sys.exit(f"the broker does not answer, see {self.log}")


def copy_frozen(broker, target, promise):
    """Copies the data of a broker that is stopped where it is, writes under way included; what `promise` said meanwhile.

    Stopped, because a copy of living files is of many moments: a record that moves from one file to another while they are
    copied would be in neither, which no power cut can do.
    """
    broker.freeze()
    try:
        promised = promise()
        subprocess.run(["cp", "-a", "--reflink=never", broker.data, target], check=True)
    finally:
        broker.thaw()
    return promised


class Disk:
    """A small ext4 file system in a file, whose power can be cut. Needs root and loop devices."""

    def __init__(self, image, mib):
        self.image, self.folder = image, image + ".mounted"
        with open(image, "wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        os.makedirs(self.folder)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.folder], check=True)

    def cut(self):
        """From now on every read and write fails, and what the file system had not written is gone."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def unmount(self):
        for _ in range(50):  # busy for a moment after its user was killed
            if subprocess.run(["umount", self.folder], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        sys.exit(f"{self.folder} stays busy")

    def remount(self):
        self.unmount()
        self.mount()

    def remove(self):
        subprocess.run(["umount", "-l", self.folder], stderr=subprocess.DEVNULL)
        os.rmdir(self.folder)
        os.unlink(self.image)
