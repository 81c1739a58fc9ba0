//! Programs that work under load are recorded for a moment, let go, recorded again: whoever they work for finds
//! no error, nothing of Scribe is left in them, and each recording replays.
//!
//! `SCRIBE_CYCLES` says how often (the issue wants 100).

use scribe_tests::process::{End, Outcome, Running, Spec, become_user, descendants, kill};
use scribe_tests::program::Program;
use scribe_tests::running::{Recording, left_of_scribe, replays, signal_state};
use scribe_tests::scratch::Scratch;
use scribe_tests::{Settings, installed};
use std::ffi::OsString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Without `SCRIBE_CYCLES`.
const CYCLES: u32 = 4;
/// How long a recording lasts, in milliseconds: from, to.
const LENGTH: (u64, u64) = (50, 300);
/// The program has so long without Scribe between two recordings.
const BETWEEN: Duration = Duration::from_millis(50);

fn cycles() -> u32 {
    let wanted = std::env::var("SCRIBE_CYCLES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(CYCLES)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A program that runs outside of Scribe, in a directory of its own.
struct Service {
    settings: Settings,
    scratch: Scratch,
    running: Option<Running>,
}

impl Service {
    fn new(name: &str, settings: Settings) -> Service {
        let scratch = Scratch::new(name, &settings);
        Service {
            settings,
            scratch,
            running: None,
        }
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn start(&mut self, argv: &[&str]) {
        let spec = Spec {
            argv: argv.iter().map(OsString::from).collect(),
            cwd: self.dir().to_owned(),
            env: Vec::new(),
            outputs: self.dir().to_owned(),
            label: "service".into(),
            limit: Duration::from_secs(24 * 3600),
        };
        self.running = Some(spec.start(&self.settings));
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().pid() as u32
    }

    fn wait_for(&mut self, what: &str, ready: impl Fn() -> bool) {
        let begin = Instant::now();
        while !ready() {
            let alive = self.running.as_mut().unwrap().alive();
            assert!(alive, "the program ended before {what}");
            assert!(begin.elapsed() < Duration::from_secs(60), "no {what}");
            sleep(Duration::from_millis(20));
        }
    }

    fn wait_for_port(&mut self, port: u16) {
        self.wait_for("an open port", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    fn end(&mut self, signal: i32) -> Outcome {
        let running = self.running.take().unwrap();
        kill(running.pid(), signal);
        running.wait()
    }

    /// Records it again and again, while `load` is done over and over.
    fn cycle(&mut self, tree: bool, load: impl Fn() -> Result<(), String> + Sync) {
        let result = self.cycles_under(tree, load);
        if let Err(why) = result {
            if self.settings.keep {
                println!("kept in {}", self.scratch.keep().display());
            }
            panic!("{why}");
        }
    }

    fn cycles_under(
        &mut self,
        tree: bool,
        load: impl Fn() -> Result<(), String> + Sync,
    ) -> Result<(), String> {
        let over = AtomicBool::new(false);
        let rounds = AtomicU64::new(0);
        scope(|threads| {
            let client = threads.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    load()?;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), String>(())
            });
            let mut random = u64::from(std::process::id());
            let mut done = Ok(());
            for round in 0..cycles() {
                random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
                let length = LENGTH.0 + (random >> 33) % (LENGTH.1 - LENGTH.0);
                done = self.one_cycle(tree, Duration::from_millis(length));
                if let Err(why) = &mut done {
                    *why = format!("cycle {round}, recorded for {length} ms: {why}");
                    break;
                }
                if client.is_finished() {
                    break;
                }
                sleep(BETWEEN);
            }
            over.store(true, Ordering::Relaxed);
            let client = client.join().map_err(|_| "the client failed".to_owned())?;
            println!("{} rounds of the client", rounds.load(Ordering::Relaxed));
            done?;
            client.map_err(|why| format!("the client: {why}"))
        })
    }

    fn one_cycle(&self, tree: bool, length: Duration) -> Result<(), String> {
        let (dir, pid) = (self.dir(), self.pid());
        let args: &[&str] = if tree { &["--tree"] } else { &[] };
        let before = signal_state(pid);
        let mut recording = Recording::start(&self.settings, dir, "log", pid, args);
        recording.begun()?;
        sleep(length);
        recording.detach()?;
        let processes = match tree {
            true => descendants(pid as i32).into_iter().collect(),
            false => vec![pid as i32],
        };
        for process in processes {
            let left = left_of_scribe(process as u32);
            if !left.is_empty() {
                return Err(format!("left in process {process}: {left:#?}"));
            }
        }
        let after = signal_state(pid);
        if before != after {
            return Err(format!("signals before {before:?}, after {after:?}"));
        }
        replays(&self.settings, dir, "log")
    }
}

/// Runs a client to its end: its output, or what went wrong.
fn client(command: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(command).args(args).output();
    let output = output.map_err(|e| format!("{command}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.success() && !errors.contains("rror") {
        true => Ok(text),
        false => Err(format!("{command}: {}\n{text}\n{errors}", output.status)),
    }
}

#[test]
fn redis_under_load() {
    if !installed(&["redis-server", "redis-benchmark", "redis-cli"]) {
        return;
    }
    let mut service = Service::new("cycle-redis", Settings::from_env());
    let port = free_port();
    let p = port.to_string();
    service.start(&["redis-server", "--port", &p, "--save", ""]);
    service.wait_for_port(port);
    service.cycle(false, || {
        let args = [
            "-p",
            &p,
            "-c",
            "10",
            "-n",
            "20000",
            "-q",
            "-t",
            "set,get,lpush,lpop",
        ];
        let text = client("redis-benchmark", &args)?;
        match text.matches("requests per second").count() {
            4 => Ok(()),
            _ => Err(text),
        }
    });
    client("redis-cli", &["-p", &p, "set", "key", "value"]).unwrap();
    let end = service.end(libc::SIGTERM);
    assert!(end.left.is_empty(), "{end:?}");
}

#[test]
fn nginx_under_load() {
    if !installed(&["nginx", "wrk"]) {
        return;
    }
    let mut service = Service::new("cycle-nginx", Settings::from_env());
    let port = free_port();
    let dir = service.dir();
    let conf = format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
         events {{ worker_connections 64; }}
         http {{ access_log access.log; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
           uwsgi_temp_path t4; scgi_temp_path t5; sendfile on; keepalive_requests 1000;
           server {{ listen 127.0.0.1:{port}; root www; }} }}"
    );
    fs::write(dir.join("nginx.conf"), conf).unwrap();
    fs::create_dir(dir.join("www")).unwrap();
    fs::write(dir.join("www/index.html"), "hello\n".repeat(100)).unwrap();
    // nginx starts its workers as another user.
    let nginx = ["/usr/sbin/nginx", "/usr/bin/nginx"];
    let nginx = nginx.iter().find(|path| Path::new(path).exists()).unwrap();
    let args = [nginx, "-p", "./", "-e", "error.log", "-c", "nginx.conf"];
    service.start(&args);
    service.wait_for_port(port);
    let url = format!("http://127.0.0.1:{port}/");
    service.cycle(true, || {
        let text = client("wrk", &["-t1", "-c4", "-d2s", &url])?;
        match text.contains("Socket errors") || text.contains("Non-2xx") {
            true => Err(text),
            false => Ok(()),
        }
    });
    let end = service.end(libc::SIGQUIT);
    assert!(end.left.is_empty(), "{end:?}");
}

/// The directory of the newest PostgreSQL.
fn postgres_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let all = versions.flatten().map(|entry| entry.path().join("bin"));
    all.filter(|path| path.join("initdb").exists()).max()
}

#[test]
fn postgres_under_load() {
    let Some(bin) = postgres_bin() else {
        println!("skipped: postgresql is not installed");
        return;
    };
    let mut settings = Settings::from_env();
    // It refuses to run as root.
    // SAFETY: plain call without pointers.
    if settings.user.is_none() && unsafe { libc::geteuid() } == 0 {
        let mut users = ["postgres", "nobody"].into_iter();
        settings.user = users.find_map(scribe_tests::user);
    }
    let mut service = Service::new("cycle-postgres", settings);
    let tool = |name: &str| bin.join(name).to_string_lossy().into_owned();
    let mut initdb = Command::new(tool("initdb"));
    initdb.args(["-D", "data", "-A", "trust", "-U", "me"]);
    initdb.args(["--no-sync", "--locale=C"]);
    initdb.current_dir(service.dir());
    become_user(&mut initdb, &service.settings, service.dir());
    assert!(initdb.output().unwrap().status.success());
    let port = free_port();
    let p = port.to_string();
    let postgres = tool("postgres");
    let mut argv = vec![&*postgres, "-D", "data", "-p", &p, "-k", ""];
    for setting in [
        "listen_addresses=127.0.0.1",
        "fsync=off",
        "shared_buffers=16MB",
    ] {
        argv.extend(["-c", setting]);
    }
    service.start(&argv);
    let at = ["-h", "127.0.0.1", "-p", &p, "-U", "me"];
    let run = |name: &str, more: &[&str]| client(&tool(name), &[&at[..], more].concat());
    service.wait_for("a ready server", || {
        let ready = Command::new(tool("pg_isready")).args(&at[..4]).output();
        ready.is_ok_and(|output| output.status.success())
    });
    run("createdb", &["bench"]).unwrap();
    run("pgbench", &["-i", "-q", "-s", "1", "bench"]).unwrap();
    service.cycle(true, || {
        let text = run("pgbench", &["-n", "-c", "4", "-t", "250", "bench"])?;
        match text.contains("1000/1000") {
            true => Ok(()),
            false => Err(text),
        }
    });
    // The sum of all that was paid is the sum of all accounts.
    let sums = "select (select sum(abalance) from pgbench_accounts) = \
        (select sum(delta) from pgbench_history)";
    let sound = run("psql", &["-At", "-c", sums, "bench"]).unwrap();
    assert_eq!(sound.trim(), "t");
    let end = service.end(libc::SIGINT);
    assert!(end.left.is_empty(), "{end:?}");
}

/// What the program has written so far grows while the load is waited for.
fn progress(dir: &Path) -> impl Fn() -> Result<(), String> + Sync + use<> {
    let path = dir.join("service.out");
    move || {
        let size = || fs::metadata(&path).map_or(0, |meta| meta.len());
        let (before, begin) = (size(), Instant::now());
        while size() <= before {
            if begin.elapsed() > Duration::from_secs(30) {
                return Err("the program does nothing any more".into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// One of our own programs, which goes on until it is told to end.
fn own_program(name: &str) {
    let mut service = Service::new(&format!("cycle-{name}"), Settings::from_env());
    let all = Program::all("detach");
    let program = all.iter().find(|program| program.name == name);
    let argv = program.unwrap().case().unwrap().argv;
    service.start(&[argv[0].to_str().unwrap()]);
    let load = progress(service.dir());
    load().unwrap();
    service.cycle(false, &load);
    let end = service.end(libc::SIGTERM);
    assert!(end.end == End::Exit(0) && end.stderr.is_empty(), "{end:?}");
}

/// Handlers that interrupt a function of the vDSO return there, whether it is the kernel's or Scribe's meanwhile.
#[test]
fn handlers_that_interrupt_the_vdso() {
    own_program("times");
}

/// Threads whose makers had restartable sequences can have them, too.
#[test]
fn threads_that_make_threads() {
    own_program("threads");
}

const PYTHON: &str = r#"
import threading, queue, time, os, socket, random, signal, subprocess, sys
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
work, done = queue.Queue(50), queue.Queue()
faults = []
def guarded(f):
    def run():
        try:
            f()
        except BaseException as e:
            faults.append(repr(e))
            over.set()
    return threading.Thread(target=run, daemon=True)
def worker():
    while (n := work.get()) is not None:
        done.put((n, sum(range(n)), os.urandom(4)))
def timer():
    while not over.is_set():
        begin = time.monotonic()
        time.sleep(0.01)
        assert time.monotonic() - begin >= 0.0099
def echo():
    a, b = socket.socketpair()
    while not over.is_set():
        data = os.urandom(random.randrange(1, 5000))
        a.sendall(data)
        got = b""
        while len(got) < len(data):
            got += b.recv(len(data) - len(got))
        assert got == data
def files():
    while not over.is_set():
        with open("scratch", "w+b") as f:
            f.write(b"x" * 10000)
            f.seek(5000)
            assert f.read() == b"x" * 5000
def children():
    while not over.is_set():
        out = subprocess.run(["cat"], input=b"hello", capture_output=True, check=True).stdout
        assert out == b"hello"
        time.sleep(0.05)
threads = [guarded(f) for f in [worker] * 3 + [timer, echo, files, children]]
for t in threads: t.start()
rounds = 0
while not over.is_set():
    for n in range(40): work.put(n * 10)
    for n in range(40):
        k, s, _ = done.get(timeout=60)
        assert s == k * (k - 1) // 2
    rounds += 1
    if rounds % 20 == 0: print(rounds, flush=True)
for _ in range(3): work.put(None)
for t in threads: t.join(60)
print("faults", faults)
sys.exit(1 if faults or any(t.is_alive() for t in threads) else 0)
"#;

#[test]
fn python_with_threads() {
    if !installed(&["/usr/bin/python3"]) {
        return;
    }
    let mut service = Service::new("cycle-python", Settings::from_env());
    fs::write(service.dir().join("work.py"), PYTHON).unwrap();
    service.start(&["/usr/bin/python3", "work.py"]);
    let load = progress(service.dir());
    load().unwrap();
    service.cycle(false, &load);
    let end = service.end(libc::SIGTERM);
    let text = String::from_utf8_lossy(&end.stdout).into_owned();
    assert!(text.ends_with("faults []\n"), "{end:?}");
}

const JAVA: &str = r#"
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Work {
    static volatile boolean over;
    public static void main(String[] args) throws Exception {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { over = true; }));
        ExecutorService pool = Executors.newFixedThreadPool(4);
        ConcurrentHashMap<Integer, byte[]> cache = new ConcurrentHashMap<>();
        long rounds = 0;
        while (!over) {
            List<Future<Long>> results = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                final int n = i;
                results.add(pool.submit(() -> {
                    List<long[]> junk = new ArrayList<>();
                    long sum = 0;
                    for (int k = 0; k < 200; k++) {
                        long[] some = new long[1000];
                        Arrays.fill(some, k);
                        junk.add(some);
                        if (junk.size() > 50) junk.subList(0, 25).clear();
                        sum += some[k];
                        cache.put(ThreadLocalRandom.current().nextInt(500), new byte[1000]);
                    }
                    synchronized (cache) { cache.wait(1); }
                    return sum;
                }));
            }
            for (Future<Long> result : results)
                if (result.get(60, TimeUnit.SECONDS) != 19900) throw new Error("wrong sum");
            if (++rounds % 5 == 0) { System.out.println(rounds); System.out.flush(); }
        }
        pool.shutdown();
    }
}
"#;

#[test]
fn java_with_threads() {
    if !installed(&["java", "javac"]) {
        return;
    }
    let mut service = Service::new("cycle-java", Settings::from_env());
    fs::write(service.dir().join("Work.java"), JAVA).unwrap();
    let mut javac = Command::new("javac");
    javac.arg("Work.java").current_dir(service.dir());
    assert!(javac.status().unwrap().success());
    service.start(&["java", "-Xmx64m", "-cp", ".", "Work"]);
    let load = progress(service.dir());
    load().unwrap();
    service.cycle(false, &load);
    let end = service.end(libc::SIGTERM);
    assert!(end.stderr.is_empty(), "{end:?}");
}
