//! Servers: recorded, while the client runs outside; then stopped cleanly, and replayed.

use scribe_tests::compare::excerpt;
use scribe_tests::process::{Running, kill};
use scribe_tests::round::{Case, Round};
use scribe_tests::scratch::Scratch;
use scribe_tests::{Settings, installed};
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// A port that was free just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a client command to its end and gives its output.
fn client(command: &str, args: &[&str]) -> String {
    let out = Command::new(command)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{command}: {e}"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "{command} {args:?}: {}\n{text}\n{errors}",
        out.status
    );
    text
}

fn wait_for(what: &str, server: &mut Running, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(server.alive(), "the server ended before {what}");
        assert!(Instant::now() < deadline, "no {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_port(port: u16, server: &mut Running) {
    wait_for("an open port", server, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
}

/// Records the server while `drive` uses it and asks it to stop (it gets the server's working
/// directory), then replays.
fn serve(case: Case, settings: &Settings, drive: impl FnOnce(&Path, &mut Running)) {
    let mut scratch = Scratch::new(&case.name, settings);
    let result = (|| {
        let round = Round::new(&case, settings, scratch.path());
        if settings.native_only {
            let mut server = round.start_native();
            drive(&scratch.path().join("native.cwd"), &mut server);
            return round.ran_natively(server.wait());
        }
        let mut server = round.start_record();
        drive(&scratch.path().join("record.cwd"), &mut server);
        let recorded = round.recorded(server.wait())?;
        round.replay(&recorded)
    })();
    if let Err(failure) = result {
        if settings.keep {
            println!("kept in {}", scratch.keep().display());
        }
        panic!("{failure}");
    }
}

#[test]
fn redis() {
    if !installed(&["redis-server", "redis-benchmark", "redis-cli"]) {
        return;
    }
    let port = free_port();
    let p = port.to_string();
    let argv = [
        "redis-server",
        "--port",
        &p,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "yes",
    ];
    let case = Case::new("redis", argv).limit(300);
    serve(case, &Settings::from_env(), |_, server| {
        wait_for_port(port, server);
        let out = client(
            "redis-benchmark",
            &[
                "-p",
                &p,
                "-c",
                "20",
                "-n",
                "10000",
                "-q",
                "-t",
                "set,get,lpush",
            ],
        );
        println!("{out}");
        assert_eq!(
            client("redis-cli", &["-p", &p, "set", "key", "value"]).trim(),
            "OK"
        );
        assert_eq!(
            client("redis-cli", &["-p", &p, "get", "key"]).trim(),
            "value"
        );
        client("redis-cli", &["-p", &p, "bgrewriteaof"]); // forks
        let _ = Command::new("redis-cli")
            .args(["-p", &p, "shutdown", "nosave", "force"])
            .output();
    });
}

fn nginx_conf(dir: &Path, port: u16) {
    let conf = format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
         events {{ worker_connections 64; }}
         http {{ access_log access.log; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
           uwsgi_temp_path t4; scgi_temp_path t5; sendfile on; keepalive_requests 100000;
           server {{ listen 127.0.0.1:{port}; root www; location /moved {{ return 301 /; }} }} }}"
    );
    fs::write(dir.join("nginx.conf"), conf).unwrap();
    fs::create_dir(dir.join("www")).unwrap();
    fs::write(dir.join("www/index.html"), "hello\n".repeat(100)).unwrap();
    fs::write(dir.join("www/big"), vec![b'x'; 1 << 20]).unwrap();
}

#[test]
fn nginx() {
    if !installed(&["nginx", "wrk", "ab"]) {
        return;
    }
    let port = free_port();
    let argv = ["nginx", "-p", "./", "-e", "error.log", "-c", "nginx.conf"];
    let mut case = Case::new("nginx", argv)
        .limit(300)
        .prepare(move |dir| nginx_conf(dir, port));
    case.env.push(("PATH".into(), with_sbin()));
    serve(case, &Settings::from_env(), |dir, server| {
        wait_for_port(port, server);
        let url = format!("http://127.0.0.1:{port}/");
        let out = client("ab", &["-q", "-k", "-n", "20000", "-c", "4", &url]);
        assert!(out.contains("Complete requests:      20000"), "{out}");
        assert!(out.contains("Failed requests:        0"), "{out}");
        let out = client("wrk", &["-t1", "-c4", "-d2s", &url]);
        assert!(
            !out.contains("Socket errors") && !out.contains("Non-2xx"),
            "{out}"
        );
        client("ab", &["-q", "-n", "20", "-c", "2", &format!("{url}big")]);
        let pid = fs::read_to_string(dir.join("nginx.pid")).unwrap();
        kill(pid.trim().parse().unwrap(), libc::SIGQUIT);
    });
}

fn with_sbin() -> OsString {
    let mut paths: Vec<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    paths.push("/usr/sbin".into());
    env::join_paths(paths).unwrap()
}

/// The directory of the newest PostgreSQL.
fn postgres_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut all: Vec<PathBuf> = versions.flatten().map(|e| e.path().join("bin")).collect();
    all.retain(|p| p.join("initdb").exists());
    all.sort();
    let bin = all.pop();
    if bin.is_none() {
        println!("skipped: postgresql is not installed");
    }
    bin
}

/// PostgreSQL refuses to run as root: then it runs as the user postgres or nobody.
fn not_as_root() -> Settings {
    let mut settings = Settings::from_env();
    // SAFETY: plain call without pointers.
    if settings.user.is_none() && unsafe { libc::geteuid() } == 0 {
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(scribe_tests::user);
        settings.user = Some(user.expect("a user postgres or nobody"));
    }
    settings
}

fn initdb_args(bin: &Path) -> Vec<OsString> {
    let mut argv = vec![bin.join("initdb").into_os_string()];
    argv.extend(
        [
            "-D",
            "data",
            "-A",
            "trust",
            "-U",
            "me",
            "--no-sync",
            "--locale=C",
        ]
        .map(Into::into),
    );
    argv
}

#[test]
fn postgres_initdb() {
    let Some(bin) = postgres_bin() else { return };
    let case = Case::new("initdb", initdb_args(&bin)).limit(300);
    scribe_tests::check_case(&case, &not_as_root());
}

#[test]
fn postgres_pgbench() {
    let Some(bin) = postgres_bin() else { return };
    let settings = not_as_root();
    let port = free_port();
    let p = port.to_string();
    // The cluster is made natively and copied to where the server is recorded.
    let made = Scratch::new("pgdata", &settings);
    let mut initdb = Command::new(bin.join("initdb"));
    initdb
        .args(&initdb_args(&bin)[1..])
        .current_dir(made.path());
    scribe_tests::process::become_user(&mut initdb, &settings, made.path());
    assert!(initdb.output().unwrap().status.success());
    let from = made.path().join("data");
    let server = [
        bin.join("postgres").into_os_string(),
        "-D".into(),
        "data".into(),
        "-p".into(),
        p.clone().into(),
    ];
    let quiet = [
        "-k",
        "",
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "fsync=off",
        "-c",
        "shared_buffers=16MB",
    ];
    let case = Case::new("postgres", server.into_iter().chain(quiet.map(Into::into))).limit(600);
    let case = case.prepare(move |dir| {
        let ok = Command::new("cp")
            .arg("-a")
            .arg(&from)
            .arg(dir)
            .status()
            .unwrap()
            .success();
        assert!(ok);
    });
    serve(case, &settings, |dir, server| {
        let tool = |name: &str| bin.join(name).to_str().unwrap().to_owned();
        let ready = tool("pg_isready");
        wait_for("a ready server", server, || {
            Command::new(&ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &p])
                .status()
                .is_ok_and(|s| s.success())
        });
        let at = ["-h", "127.0.0.1", "-p", &p, "-U", "me"];
        let run = |name: &str, more: &[&str]| client(&tool(name), &[&at[..], more].concat());
        run("createdb", &["bench"]);
        run("pgbench", &["-i", "-q", "-s", "1", "bench"]);
        let out = run(
            "pgbench",
            &["-S", "-c", "4", "-j", "1", "-t", "5000", "bench"],
        );
        assert!(out.contains("20000/20000"), "{out}");
        let out = run("pgbench", &["-c", "4", "-t", "100", "bench"]);
        assert!(out.contains("400/400"), "{out}");
        let pid = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();
        kill(
            excerpt(pid.lines().next().unwrap().as_bytes())
                .parse()
                .unwrap(),
            libc::SIGINT,
        );
    });
}
