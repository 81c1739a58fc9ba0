# Threads that hand work on, timers, connections between the program's parts, files, and children: whatever is lost
# when the program goes on elsewhere is a fault, or the end never comes.
import os, queue, random, signal, socket, subprocess, sys, threading, time

ROUNDS = 25
over = threading.Event()
work, done = queue.Queue(50), queue.Queue()
faults = []


def guarded(f):
    def run():
        try:
            f()
        except BaseException as e:
            faults.append((f.__name__, repr(e)))
            over.set()

    return threading.Thread(target=run, daemon=True)


def worker():
    while (n := work.get()) is not None:
        done.put((n, sum(range(n)), os.urandom(4)))


def sleeper():
    while not over.is_set():
        begin = time.monotonic()
        time.sleep(0.01)
        assert time.monotonic() - begin >= 0.0099


def exchange(a, b):
    while not over.is_set():
        data = os.urandom(random.randrange(1, 5000))
        a.sendall(data)
        got = b""
        while len(got) < len(data):
            part = b.recv(len(data) - len(got))
            assert part, "the other end is gone"
            got += part
        assert got == data
        time.sleep(0.002)


def local():
    exchange(*socket.socketpair())


# Not a port that the system gives to whoever asks for any: somebody might have it when the program goes on.
def listening():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    while True:
        try:
            s.bind(("127.0.0.1", random.randrange(20000, 32000)))
            s.listen(5)
            return s
        except OSError:
            pass


listener = listening()


def tcp():
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    exchange(client, server)


# It stays open when its thread has ended: who has connected by then waits, and is told nothing.
accepting = listening()


def echo_server():
    while not over.is_set():
        with accepting.accept()[0] as peer:
            while data := peer.recv(1000):
                peer.sendall(data.upper())


def echo_client():
    while not over.is_set():
        with socket.create_connection(accepting.getsockname()) as s:
            for _ in range(5):
                s.sendall(b"question")
                got = b""
                while len(got) < 8:
                    part = s.recv(8 - len(got))
                    assert part, "no answer"
                    got += part
                assert got == b"QUESTION"
                time.sleep(0.005)


def descriptors():
    a, b = socket.socketpair()
    while not over.is_set():
        r, w = os.pipe()
        socket.send_fds(a, [b"a pipe"], [r])
        os.close(r)
        os.write(w, b"through it")
        os.close(w)
        time.sleep(0.002)
        _, (r,), _, _ = socket.recv_fds(b, 100, 1)
        assert os.read(r, 100) == b"through it"
        os.close(r)
        time.sleep(0.005)


def files():
    while not over.is_set():
        with open("scratch", "w+b") as f:
            f.write(b"x" * 10000)
            f.seek(5000)
            assert f.read() == b"x" * 5000
        time.sleep(0.005)


def children():
    while not over.is_set():
        out = subprocess.run(["cat"], input=b"hello", capture_output=True, check=True).stdout
        assert out == b"hello"
        time.sleep(0.05)


ticks = 0


def tick(*_):
    global ticks
    ticks += 1


signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
threads = [guarded(f) for f in [worker] * 3 + [sleeper, local, tcp, echo_server, echo_client, descriptors, files, children]]
for t in threads:
    t.start()
rounds = 0
while not over.is_set() and rounds < ROUNDS:
    for n in range(40):
        work.put(n * 10)
    for n in range(40):
        k, s, _ = done.get(timeout=60)
        assert s == k * (k - 1) // 2
    rounds += 1
    time.sleep(0.03)
over.set()
before = ticks
time.sleep(0.1)
if ticks == before:
    faults.append(("timer", "it does not come any more"))
for _ in range(3):
    work.put(None)
for t in threads[:-5] + threads[-3:]:
    t.join(60)
    if t.is_alive():
        faults.append(("thread", "it does not end"))
signal.setitimer(signal.ITIMER_REAL, 0)
print("rounds", rounds, "faults", faults)
sys.exit(1 if faults else 0)
