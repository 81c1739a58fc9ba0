//! Servers that are recorded under load and turn live at random points: they serve on, with all that they had
//! acknowledged.

use crate::lives::{How, Living, Round, lives};
use crate::{possible, text};
use scribe_tests::installed;
use scribe_tests::process::{End, Running, kill};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A load, which ends with this value.
struct Load(Child);

impl Load {
    fn start(command: &str, args: &[&str]) -> Load {
        let mut command = Command::new(command);
        command.args(args).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Load(command.spawn().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection to redis.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Result<Client, String> {
        let failed = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Client(BufReader::new(stream)))
    }

    /// An answer of one line, or of one string.
    fn ask(&mut self, command: &str) -> Result<String, String> {
        let failed = |error: std::io::Error| format!("{command}: {error}");
        let line = format!("{command}\r\n");
        self.0
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(failed)?;
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(failed)?;
        if let Some(len) = line.trim_end().strip_prefix('$') {
            let Ok(len) = len.parse::<usize>() else {
                return Ok("nil".into());
            };
            let mut value = vec![0; len + 2];
            self.0.read_exact(&mut value).map_err(failed)?;
            return Ok(text(&value[..len]));
        }
        match line.trim_end() {
            "" => Err(format!("{command}: no answer")),
            line => Ok(line.to_owned()),
        }
    }
}

fn wait_until(what: &str, mut there: impl FnMut() -> bool) -> Result<(), String> {
    let begin = Instant::now();
    while !there() {
        if begin.elapsed() > PATIENCE {
            return Err(format!("{what} did not come"));
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A bookmark's time in the recording, from what a replay said of it.
fn time_of(said: &str) -> Option<Duration> {
    let last = said.split_once("live at bookmark ")?.1;
    let last = last.split_whitespace().next()?.trim_end_matches(';');
    let line = said
        .lines()
        .find_map(|line| line.split_once(&format!("bookmark {last} at ")))?;
    let seconds = line.1.split(' ').next()?.parse().ok()?;
    Some(Duration::from_secs_f64(seconds))
}

/// The recording ends: the recorder is killed, and the server with it, or the server is told to end. Where bookmarks
/// come by themselves it is let go, and killed: one may come while it ends.
fn end_recording(round: &mut Round, recorder: Running) -> Result<(), String> {
    let how = match (round.random.below(3), round.how) {
        (0, _) => libc::SIGKILL,
        (_, How::Every(_) | How::Asked(_)) => libc::SIGUSR1,
        _ => libc::SIGTERM,
    };
    kill(recorder.pid(), how);
    let end = recorder.wait();
    match (how, end.end) {
        (libc::SIGKILL, End::Signal(libc::SIGKILL)) => Ok(()),
        (_, End::Exit(0)) => Ok(()),
        _ => Err(format!("recording: {end:?}")),
    }
}

fn redis_round(round: &mut Round) -> Result<bool, String> {
    let port = free_port();
    let number = port.to_string();
    let server = [
        "redis-server",
        "--port",
        &number,
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let begin = Instant::now();
    let mut recorder = round.record(&server.map(OsString::from));
    redis_answers(port)?;
    let load = [
        "-p",
        &number,
        "-t",
        "set,lpush,lpop",
        "-n",
        "100000000",
        "-r",
        "1000",
        "-c",
        "8",
    ];
    let load = Load::start("redis-benchmark", &load);
    let mut client = Client::connect(port)?;
    // When each key had been acknowledged.
    let mut acknowledged: Vec<Duration> = Vec::new();
    let mut set = |client: &mut Client, until: Duration, stop: &dyn Fn(usize) -> bool| {
        while begin.elapsed() < until && !stop(acknowledged.len()) {
            let i = acknowledged.len();
            match client.ask(&format!("set key:{i} value:{i}"))?.as_str() {
                "+OK" => acknowledged.push(begin.elapsed()),
                other => return Err(format!("set: {other}")),
            }
        }
        Ok(acknowledged.len())
    };
    let length = Duration::from_millis(700);
    let before = begin.elapsed() + round.random.time_below(length);
    let sure = set(&mut client, before, &|_| false)?;
    let own = matches!(round.how, How::Signal | How::Command);
    if own {
        round.ask(&recorder);
        let begin = Instant::now();
        let there =
            |n: usize| n.is_multiple_of(16) && round.said("record").contains("bookmark 1 at");
        set(&mut client, PATIENCE, &there)?;
        if begin.elapsed() > PATIENCE {
            return Err("no bookmark comes".into());
        }
    }
    let after = begin.elapsed() + round.random.time_below(length / 2);
    set(&mut client, after, &|_| false)?;
    let alive = recorder.alive();
    if !alive {
        return Err(format!("the recording ended: {:?}", recorder.wait()));
    }
    drop((client, load));
    end_recording(round, recorder)?;
    let Some(living) = round.revive(length / 3)? else {
        return Ok(false);
    };
    let said = round.said("live");
    if !said.contains("live at ") {
        // It was over before it was told to.
        living.end()?;
        return Ok(false);
    }
    let sure = match (own, time_of(&said)) {
        (true, _) => sure,
        // The recorder had begun after us.
        (false, Some(time)) => acknowledged.partition_point(|at| *at < time),
        (false, None) => return Err("at which time?".into()),
    };
    // It may not have come so far yet.
    let served = redis_answers(port).and_then(|()| redis_serves(port, sure));
    end_living(living, served)
}

fn redis_answers(port: u16) -> Result<(), String> {
    wait_until("the server", || {
        Client::connect(port).is_ok_and(|mut client| client.ask("ping").is_ok())
    })
}

fn redis_serves(port: u16, keys: usize) -> Result<(), String> {
    let mut client = Client::connect(port)?;
    for i in 0..keys {
        let found = client.ask(&format!("get key:{i}"))?;
        if found != format!("value:{i}") {
            return Err(format!("key {i} of {keys} acknowledged ones: {found}"));
        }
    }
    let port = port.to_string();
    let args = [
        "-p",
        &port,
        "-t",
        "set,get,lpush",
        "-n",
        "1500",
        "-c",
        "8",
        "-q",
    ];
    serves("redis-benchmark", &args, |said| {
        said.matches("requests per second").count() == 3
    })
}

/// A client has no complaint.
fn serves(command: &str, args: &[&str], fine: impl Fn(&str) -> bool) -> Result<(), String> {
    let output = Command::new(command).args(args).output();
    let output = output.map_err(|error| format!("{command}: {error}"))?;
    let said = text(&output.stdout);
    match output.status.success() && fine(&said) {
        true => Ok(()),
        false => Err(format!("{command}: {output:?}")),
    }
}

/// Signals to the command are passed on to the program.
fn end_living(mut living: Living, served: Result<(), String>) -> Result<bool, String> {
    let there = living.alive();
    served.map_err(|why| match there {
        true => why,
        false => format!("{why}, and it has ended"),
    })?;
    kill(living.pid(), libc::SIGTERM);
    let end = living.end()?;
    match end.end {
        End::Exit(0) => Ok(true),
        other => Err(format!("the living server: {other}")),
    }
}

#[test]
fn redis_with_all_that_it_acknowledged() {
    if possible() && installed(&["redis-server", "redis-benchmark"]) {
        lives("redis", (100, 400), redis_round);
    }
}

fn page(port: u16) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("asking for a page: {error}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let ask = b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    Ok(answer)
}

fn nginx_round(round: &mut Round) -> Result<bool, String> {
    let port = free_port();
    let dir = round.dir;
    let conf = format!(
        "daemon off; worker_processes 2; pid nginx.pid; error_log error.log;
         events {{ worker_connections 64; }}
         http {{ access_log access.log; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
           uwsgi_temp_path t4; scgi_temp_path t5; sendfile on; keepalive_requests 1000;
           server {{ listen 127.0.0.1:{port}; root www; }} }}"
    );
    let written = fs::create_dir(dir.join("www"))
        .and_then(|()| fs::write(dir.join("nginx.conf"), conf))
        .and_then(|()| fs::write(dir.join("www/index.html"), "hello\n".repeat(100)));
    written.map_err(|error| error.to_string())?;
    let places = ["/usr/sbin/nginx", "/usr/bin/nginx"];
    let nginx = places.iter().find(|path| Path::new(path).exists());
    let server = [
        nginx.unwrap_or(&places[0]),
        "-p",
        "./",
        "-e",
        "error.log",
        "-c",
        "nginx.conf",
    ];
    let mut recorder = round.record(&server.map(OsString::from));
    wait_until("the server", || page(port).is_ok())?;
    let url = format!("http://127.0.0.1:{port}/");
    let load = Load::start("wrk", &["-t1", "-c4", "-d60s", &url]);
    let length = Duration::from_millis(600);
    sleep(round.random.time_below(length));
    if matches!(round.how, How::Signal | How::Command) {
        round.ask(&recorder);
        wait_until("a bookmark", || {
            round.said("record").contains("bookmark 1 at")
        })?;
    }
    sleep(round.random.time_below(length / 2));
    if !recorder.alive() {
        return Err(format!("the recording ended: {:?}", recorder.wait()));
    }
    drop(load);
    end_recording(round, recorder)?;
    let Some(living) = round.revive(length / 3)? else {
        return Ok(false);
    };
    if !round.said("live").contains("live at ") {
        living.end()?;
        return Ok(false);
    }
    let served = wait_until("the server", || page(port).is_ok());
    end_living(living, served.and_then(|()| nginx_serves(port, &url)))
}

fn nginx_serves(port: u16, url: &str) -> Result<(), String> {
    let answer = page(port)?;
    if !answer.starts_with("HTTP/1.1 200") || !answer.ends_with(&"hello\n".repeat(100)) {
        return Err(format!("the page: {answer}"));
    }
    serves("wrk", &["-t1", "-c4", "-d1s", url], |said| {
        !said.contains("Socket errors") && !said.contains("Non-2xx") && said.contains("requests in")
    })
}

#[test]
fn nginx_serves_on() {
    if possible() && installed(&["nginx", "wrk"]) {
        lives("nginx", (100, 400), nginx_round);
    }
}
