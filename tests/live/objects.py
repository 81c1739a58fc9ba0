# Threads, timers, a child, and what lies in pipes and sockets of all kinds while the program goes on.
import os, queue, select, signal, socket, struct, subprocess, threading, time

me = os.getpid()

a, b = socket.socketpair()
d, e = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
srv = socket.socket()
srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
# No port that the system gives to whoever asks for any.
srv.bind(("127.0.0.1", 20000 + me % 12000))
srv.listen(5)
c = socket.create_connection(srv.getsockname())
s, _ = srv.accept()
r, w = os.pipe()
os.write(w, b"in the pipe")
a.send(b"in the socket")
d.send(b"first"), d.send(b"second")
c.send(b"in tcp")
counter = os.eventfd(5) if hasattr(os, "eventfd") else None
memory = os.memfd_create("some")
os.write(memory, b"in memory")
f = open("file.tmp", "w+")
f.write("first\n")
f.flush()
unlinked = open("gone.tmp", "w+")
unlinked.write("no name\n")
unlinked.flush()
os.unlink("gone.tmp")
q = queue.Queue()

def worker(n):
    for i in range(10):
        time.sleep(0.05 + n * 0.01)
        q.put((n, i))

threads = [threading.Thread(target=worker, args=(n,)) for n in range(5)]
[t.start() for t in threads]
ticks = 0

def tick(*_):
    global ticks
    ticks += 1

signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
ep = select.epoll()
for fd in (r, b.fileno(), s.fileno()):
    ep.register(fd, select.EPOLLIN)
later = threading.Timer(0.7, lambda: f.write("timer\n"))
later.start()
p = subprocess.Popen(["sh", "-c", "sleep 0.9; echo from child; exit 9"], stdout=subprocess.PIPE)
time.sleep(0.5)
got = 0
while got < 50:
    q.get()
    got += 1
print("queue", got)
names = {r: "pipe", b.fileno(): "pair", s.fileno(): "tcp"}
print(sorted(names[fd] for fd, _ in ep.poll(1)))
print(os.read(r, 100), b.recv(100), s.recv(100), e.recv(100), e.recv(100))
c.send(b"more")
print(s.recv(10))
s.close()
print(c.recv(10))
print(p.communicate(), p.returncode)
later.join()
f.flush()
f.seek(0)
print(f.read())
os.unlink("file.tmp")
unlinked.seek(0)
print(unlinked.read(), os.pread(memory, 100, 0))
if counter is not None:
    print(os.eventfd_read(counter))
print("ticks", ticks > 10)
signal.setitimer(signal.ITIMER_REAL, 0)
c2 = socket.create_connection(srv.getsockname())
c2.send(b"new")
s2, _ = srv.accept()
print(s2.recv(10), os.getpid() == me)
