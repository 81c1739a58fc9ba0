//! Tools and languages.

use crate::check;
use scribe_tests::cache_dir;
use scribe_tests::round::Case;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Bytes that look random and compress badly, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut block = Vec::with_capacity(1 << 20);
    while block.len() < 1 << 20 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        block.extend(x.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(len + block.len());
    while bytes.len() < len {
        bytes.extend(bytes.len().to_le_bytes());
        bytes.extend(&block);
    }
    bytes.truncate(len);
    bytes
}

/// A tree of 60 text files.
fn tree(dir: &Path) {
    for i in 0..60 {
        let sub = dir.join(format!("tree/{}", i % 7));
        fs::create_dir_all(&sub).unwrap();
        let lines: String = (0..2000)
            .map(|k| format!("line {k} of file {i}: {}\n", k * i))
            .collect();
        fs::write(sub.join(format!("{i}.txt")), lines).unwrap();
    }
}

#[test]
fn date() {
    check(&["date"], Case::new("date", ["date", "+%s.%N %c"]));
}

#[test]
fn ls_recursive() {
    check(&["ls"], Case::new("ls", ["ls", "-lR", "/usr/share/doc"]));
}

#[test]
fn ls_colours_and_sort() {
    let script = "ls -la --color=always /usr/bin | sort | uniq -c | sort -rn | head -20; du -s /usr/share/doc";
    check(&["ls", "sort", "du"], Case::bash("ls-sort", script));
}

#[test]
fn cp_200_mb() {
    let case = Case::bash(
        "cp",
        "cp big copy && cksum copy && ls -l --time-style=full-iso copy",
    );
    let case = case.prepare(|dir| fs::write(dir.join("big"), noise(200 << 20)).unwrap());
    check(&["cp", "cksum"], case.wants("209715200 copy").limit(180));
}

#[test]
fn cat_and_dd() {
    let script = "cat big big | dd bs=4k 2>/dev/null | wc -c; dd if=big of=/dev/null bs=1 count=3000 2>&1 | tail -1";
    let case = Case::bash("cat-dd", script);
    check(
        &["dd"],
        case.prepare(|dir| fs::write(dir.join("big"), noise(8 << 20)).unwrap()),
    );
}

#[test]
fn find_grep() {
    let script = "find tree -type f -newermt 2000-01-01 | xargs -n 5 -P 3 grep -c 17 | sort | md5sum
                  grep -rl 'line 99 ' tree | wc -l; find tree -name '1*' -exec stat -c '%i %Y' {} +";
    check(
        &["find", "xargs"],
        Case::bash("find-grep", script).prepare(tree),
    );
}

#[test]
fn bash_pipelines() {
    let script = r#"
        seq 1000 | grep 7 | tee copy | awk '{ s += $1 } END { print s }'
        wc -l < copy
        x=$(echo in $(echo nested)); echo "$x" $$ $BASHPID $RANDOM $SECONDS $EPOCHREALTIME
        printf '%s\n' a b c | while read -r l; do echo "line $l"; done
        set -o pipefail; false | true; echo "status $?"
        cat <<< "here string"; cat << END
here document $((6 * 7))
END
    "#;
    check(
        &["bash"],
        Case::bash("bash-pipelines", script).wants("here document 42"),
    );
}

#[test]
fn bash_subshells_and_jobs() {
    let script = r#"
        (cd / && pwd; exit 3); echo "subshell $?"
        for i in 1 2 3 4 5; do (sleep 0.0$i; echo "job $i by $BASHPID") & done
        wait
        sleep 100 & kill %1; wait %1; echo "killed $?"
        { echo group; ls /nowhere; } 2>&1 | cat
        trap 'echo trapped' USR1; kill -USR1 $$; kill -USR1 $BASHPID
        trap 'echo leaving' EXIT
        coproc cat; echo through >&"${COPROC[1]}"; read -r l <&"${COPROC[0]}"; echo "$l"
        exec {COPROC[1]}>&-; wait
        jobs; wait -n; echo "none $?"
    "#;
    check(
        &["bash"],
        Case::bash("bash-jobs", script).wants("killed 143"),
    );
}

#[test]
fn bash_process_substitution() {
    let script = r#"
        diff <(seq 1 10) <(seq 1 2 10); echo "diff $?"
        tee >(wc -l > lines) >(md5sum > sum) < <(seq 500) | tail -1
        while [ ! -s lines ] || [ ! -s sum ]; do sleep 0.01; done
        cat lines sum
        mkfifo f; seq 20 > f & paste -sd+ f | bc 2>/dev/null || echo no bc; wait
    "#;
    check(
        &["bash", "diff"],
        Case::bash("bash-substitution", script).wants("diff 1"),
    );
}

#[test]
fn dash_script() {
    let script =
        "i=0; while [ $i -lt 40 ]; do i=$((i+1)); /bin/true; done; echo $i $$; ulimit -n; umask";
    check(&["sh"], Case::new("dash", ["sh", "-c", script]));
}

#[test]
fn coreutils() {
    let script = "seq 2000 | shuf | sort -n --parallel=2 -S 1M | md5sum; seq 30 | shuf -n 3; mktemp -u
                  timeout 0.1 sleep 5; echo $?; yes | head -3; tac < /etc/passwd | rev | cut -c1-9 | head -2
                  stat -c '%Y %i' .; od -An -tx1 -N8 /dev/urandom; nproc; uptime | wc -l; id; df . | wc -l; env | wc -l";
    check(&["shuf", "od"], Case::bash("coreutils", script));
}

#[test]
fn tar_gzip() {
    let script = "tar czf a.tgz tree && tar xzf a.tgz --one-top-level=out && diff -r tree out/tree && ls -l a.tgz";
    check(
        &["tar", "gzip"],
        Case::bash("tar-gzip", script).prepare(tree),
    );
}

#[test]
fn tar_xz_threads() {
    let script =
        "tar cf - tree | xz -1 -T2 > a.xz && xz -T2 -dc a.xz | tar tvf - | md5sum && cksum a.xz";
    check(
        &["tar", "xz"],
        Case::bash("tar-xz", script).prepare(tree).limit(120),
    );
}

#[test]
fn tar_zstd_threads() {
    let script = "tar cf - tree | zstd -q -T2 -10 > a.zst && zstd -dc a.zst | cksum && cksum a.zst";
    check(
        &["tar", "zstd"],
        Case::bash("tar-zstd", script).prepare(tree).limit(120),
    );
}

fn sources(dir: &Path) {
    let hello = "#include <stdio.h>\n#include <time.h>\nint main(void) { printf(\"%s %ld\\n\", __DATE__ __TIME__, (long)time(0)); return 0; }\n";
    fs::write(dir.join("hello.c"), hello).unwrap();
    let cpp = "#include <iostream>\n#include <map>\n#include <regex>\n#include <string>\n#include <vector>\n\
               int main() { std::map<std::string, std::vector<int>> m; m[\"a\"].push_back(3);\n\
               std::cout << std::regex_match(\"abc\", std::regex(\"a.c\")) << m.size() << '\\n'; }\n";
    fs::write(dir.join("regex.cpp"), cpp).unwrap();
}

#[test]
fn gcc() {
    let script = "gcc -O2 -g -Wall -c hello.c && ld -r -o part.o hello.o && gcc -o hello part.o && ./hello && cksum hello";
    check(
        &["gcc", "ld"],
        Case::bash("gcc", script).prepare(sources).limit(120),
    );
}

#[test]
fn gcc_static() {
    let script = "gcc -O2 -static -o hello hello.c && ./hello";
    check(
        &["gcc"],
        Case::bash("gcc-static", script).prepare(sources).limit(120),
    );
}

#[test]
fn gxx_optimised() {
    let script = "g++ -O2 -o regex regex.cpp && ./regex";
    check(
        &["g++"],
        Case::bash("g++", script)
            .prepare(sources)
            .wants("11")
            .limit(180),
    );
}

/// A project of forty C files and a makefile.
fn project(dir: &Path) {
    let mut names = String::new();
    let mut body = String::from("#include <stdio.h>\n");
    for i in 0..40 {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint f{i}(int x) {{ char b[64]; snprintf(b, sizeof b, \"%d\", x * {i}); return (int)strlen(b) + atoi(b); }}\n"
        );
        fs::write(dir.join(format!("f{i}.c")), text).unwrap();
        names += &format!(" f{i}.o");
        body += &format!("int f{i}(int);\n");
    }
    body += "int main(void) { int s = 0;";
    for i in 0..40 {
        body += &format!(" s += f{i}({i});");
    }
    body += " printf(\"sum %d\\n\", s); return 0; }\n";
    fs::write(dir.join("main.c"), body).unwrap();
    let makefile = format!(
        "all: prog\n\t./prog\nprog: main.o{names}\n\t$(CC) -o $@ $^\n%.o: %.c\n\t$(CC) -O1 -c -o $@ $<\n"
    );
    fs::write(dir.join("Makefile"), makefile).unwrap();
}

#[test]
fn make_parallel() {
    let case = Case::new("make", ["make", "-j2"])
        .prepare(project)
        .wants("sum ")
        .limit(300);
    check(&["make", "gcc"], case);
}

#[test]
fn git() {
    let script = r#"
        export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$PWD
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q -b main repo && cd repo && cp -r ../tree . && git add . && git commit -qm one
        for i in 1 2 3; do echo $i $RANDOM >> tree/1/1.txt; git commit -qam "change $i"; done
        git log --oneline | cat; git branch side; git diff --stat HEAD~2 | cat
        git gc -q && git fsck && cd .. && git clone -q repo copy && cd copy && git log -1 --format=%H%n%cd
        git checkout -q -b other && git reset -q --hard HEAD~1 && git merge -q origin/main && git status -s
    "#;
    check(&["git"], Case::bash("git", script).prepare(tree).limit(180));
}

fn python(name: &str, program: &str) {
    check(
        &["python3"],
        Case::new(name, ["/usr/bin/python3", "-c", program]).limit(120),
    );
}

#[test]
fn python_start() {
    python(
        "python-start",
        "import sys, os, time; print(sys.version, os.getpid(), time.time(), id(sys), hash('x'))",
    );
}

#[test]
fn python_random() {
    python(
        "python-random",
        "import random, secrets, uuid, tempfile, datetime\n\
         print(random.random(), secrets.token_hex(16), uuid.uuid4(), uuid.uuid1(), datetime.datetime.now())\n\
         print(sorted({str(i) for i in range(10)}), list({str(i) for i in range(10)}))\n\
         print(tempfile.mkdtemp(dir='.'))",
    );
}

#[test]
fn python_threads() {
    python(
        "python-threads",
        r#"
import threading, queue, time, sys
sys.setswitchinterval(1e-4)
order, q, lock, racy = [], queue.Queue(), threading.Lock(), 0
def work(n):
    global racy
    for i in range(300):
        q.put((n, i))
        racy += 1
        with lock:
            order.append(n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert q.qsize() == 1200 and len(order) == 1200
print(''.join(map(str, order)), racy)
e = threading.Event()
threading.Timer(0.01, e.set).start()
print(e.wait(5))
"#,
    );
}

#[test]
fn python_multiprocessing() {
    python(
        "python-multiprocessing",
        r#"
import multiprocessing as mp, os, time
def f(x): return x * x, os.getpid()
def add(v, q):
    for _ in range(200):
        with v.get_lock(): v.value += 1
    q.put(os.getpid())
if __name__ == '__main__':
    mp.set_start_method('fork')
    with mp.Pool(3) as p:
        r = p.map(f, range(40), chunksize=2)
    print([pid for _, pid in r])
    assert [a for a, _ in r] == [i * i for i in range(40)]
    v, q = mp.Value('i', 0), mp.Queue()
    ps = [mp.Process(target=add, args=(v, q)) for _ in range(3)]
    for p in ps: p.start()
    print([q.get() for _ in ps])
    for p in ps: p.join()
    assert v.value == 600
"#,
    );
}

#[test]
fn python_asyncio() {
    python(
        "python-asyncio",
        r#"
import asyncio, random
seen = []
async def handle(r, w):
    while data := await r.readline():
        seen.append(data.decode().strip())
        w.write(data[::-1]); await w.drain()
    w.close()
async def client(port, n):
    r, w = await asyncio.open_connection('127.0.0.1', port)
    for i in range(20):
        w.write(f'{n}.{i}\n'.encode()); await w.drain()
        await r.readexactly(len(f'{n}.{i}\n'))
        await asyncio.sleep(random.random() / 1000)
    w.close()
async def main():
    s = await asyncio.start_server(handle, '127.0.0.1', 0)
    port = s.sockets[0].getsockname()[1]
    await asyncio.gather(*(client(port, n) for n in range(5)))
    p = await asyncio.create_subprocess_exec('echo', 'child', stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate()
    print(port, out, await asyncio.to_thread(lambda: 42))
    s.close()
asyncio.run(main())
print(' '.join(seen))
"#,
    );
}

#[test]
fn python_subprocess() {
    python(
        "python-subprocess",
        r#"
import subprocess, signal, os, sys
print(subprocess.check_output('echo $$; date +%N', shell=True, text=True))
p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
out, _ = p.communicate(os.urandom(200000))
print(len(out), hash(out))
p = subprocess.Popen(['sleep', '100']); p.terminate(); print(p.wait())
try: subprocess.run(['sleep', '10'], timeout=0.05)
except subprocess.TimeoutExpired: print('timed out')
signal.signal(signal.SIGALRM, lambda *a: print('alarm')); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
print(subprocess.run([sys.executable, '-c', 'import os; print(os.getpid())'], capture_output=True, text=True).stdout)
"#,
    );
}

#[test]
fn python_sqlite() {
    python(
        "python-sqlite",
        r#"
import sqlite3, random, os
db = sqlite3.connect('db')
db.execute('create table t(a integer primary key, b text)')
for i in range(100):
    with db: db.execute('insert into t(b) values (?)', (random.random(),))
print(db.execute('select count(*), sum(b) from t').fetchone(), os.stat('db').st_size)
m = sqlite3.connect(':memory:')
m.execute('create table t as with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) select x, random() r from c')
print(m.execute('select count(*), max(r) from t').fetchone())
"#,
    );
}

#[test]
fn perl() {
    let program = r#"
        use POSIX qw(:sys_wait_h); use Time::HiRes qw(time sleep);
        srand; my %h = map { $_ => rand } 1 .. 20; print join(' ', keys %h), "\n";
        pipe(my $r, my $w); my $pid = fork;
        if (!$pid) { close $r; print $w "child $$ ", time, "\n"; exit 3 }
        close $w; print <$r>; waitpid $pid, 0; print $? >> 8, "\n";
        local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; Time::HiRes::ualarm(5000); sleep 5 }; print $@;
        open my $p, '-|', 'sort -r /etc/passwd | head -2' or die; print <$p>; close $p;
        my $s = join '', map { chr(97 + rand 26) } 1 .. 5000; my $n = () = $s =~ /[aeiou][^aeiou]+/g; print "$n\n";
    "#;
    check(&["perl"], Case::new("perl", ["perl", "-e", program]));
}

fn node(name: &str, program: &str) {
    let program = program.to_owned();
    let case = Case::new(name, ["node", "main.js"]).limit(180);
    check(
        &["node"],
        case.prepare(move |dir| fs::write(dir.join("main.js"), &program).unwrap()),
    );
}

#[test]
fn node_start() {
    node(
        "node-start",
        "console.log(process.version, process.pid, Date.now(), Math.random(), process.hrtime.bigint())",
    );
}

#[test]
fn node_workers() {
    node(
        "node-workers",
        r#"
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (isMainThread) {
  const shared = new Int32Array(new SharedArrayBuffer(64));
  const order = [];
  let left = 3;
  for (let i = 0; i < 3; i++) {
    const w = new Worker(__filename, { workerData: { i, shared } });
    w.on('message', m => order.push(m));
    w.on('exit', () => { if (--left === 0) console.log(order.join(' '), shared[0], Atomics.load(shared, 1)); });
  }
} else {
  const { i, shared } = workerData;
  for (let k = 0; k < 20000; k++) { shared[0]++; Atomics.add(shared, 1, 1); }
  for (let k = 0; k < 10; k++) parentPort.postMessage(i + '.' + k);
}
"#,
    );
}

#[test]
fn node_crypto() {
    node(
        "node-crypto",
        r#"
const c = require('crypto'), zlib = require('zlib'), fs = require('fs'), cp = require('child_process');
console.log(c.randomBytes(16).toString('hex'), c.randomUUID());
c.pbkdf2('p', c.randomBytes(8), 2000, 32, 'sha256', (e, k) => console.log('pbkdf2', k.toString('hex')));
c.generateKeyPair('ec', { namedCurve: 'P-256' }, (e, k) => console.log(k.export({ type: 'spki', format: 'pem' })));
zlib.gzip(c.randomBytes(100000), (e, b) => console.log('gzip', b.length));
fs.promises.readdir('/usr/bin').then(l => console.log('files', l.length));
cp.exec('echo $$', (e, out) => console.log('child', out.trim()));
setTimeout(() => console.log('timer', performance.now()), 20);
let s = 0; for (let i = 0; i < 3e6; i++) s = (s * 31 + i) | 0; console.log(s);
const junk = []; for (let i = 0; i < 200000; i++) junk.push({ i, t: '' + i }); console.log(junk.length);
"#,
    );
}

#[test]
fn node_http() {
    node(
        "node-http",
        r#"
const http = require('http');
let served = [];
const server = http.createServer((q, r) => { served.push(q.url); r.end(q.url + ' ' + Math.random()); });
server.listen(0, '127.0.0.1', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const get = p => new Promise((ok, bad) => http.get({ port: server.address().port, host: '127.0.0.1', path: p, agent }, r => {
    let s = ''; r.on('data', d => s += d); r.on('end', () => ok(s)); }).on('error', bad));
  const all = await Promise.all(Array.from({ length: 200 }, (_, i) => get('/' + i)));
  console.log(server.address().port, served.join(' '));
  console.log(all[7], all.length);
  agent.destroy(); server.close();
});
"#,
    );
}

const JAVA: &str = r#"
import java.security.SecureRandom;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Main {
    static int racy;
    public static void main(String[] a) throws Exception {
        byte[] seed = new byte[16];
        new SecureRandom().nextBytes(seed);
        System.out.println(HexFormat.of().formatHex(seed) + " " + System.nanoTime() + " " + new Object().hashCode() + " " + UUID.randomUUID());
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> results = new ArrayList<>();
        AtomicInteger sum = new AtomicInteger();
        StringBuffer order = new StringBuffer();
        for (int i = 0; i < 40; i++) {
            final int n = i;
            results.add(pool.submit(() -> {
                List<byte[]> junk = new ArrayList<>();
                for (int k = 0; k < 400; k++) {
                    junk.add(new byte[10000]);
                    if (junk.size() > 50) junk.clear();
                    racy++;
                    sum.incrementAndGet();
                }
                order.append(n).append(' ');
                return n;
            }));
        }
        int total = 0;
        for (Future<Integer> f : results) total += f.get();
        pool.shutdown();
        System.out.println(order + "sum " + sum + " racy " + racy + " total " + total);
        Map<String, Integer> m = new ConcurrentHashMap<>();
        Thread[] ts = new Thread[3];
        for (int t = 0; t < 3; t++) { final int n = t; ts[t] = new Thread(() -> { for (int i = 0; i < 5000; i++) m.merge("k" + i % 100, n, Integer::sum); }); ts[t].start(); }
        for (Thread t : ts) t.join();
        System.out.println(m.values().stream().mapToInt(x -> x).sum() + " memory " + Runtime.getRuntime().totalMemory());
        long x = 1; for (int i = 0; i < 20_000_000; i++) x = x * 31 + i; System.out.println(x);
    }
}
"#;

#[test]
fn javac() {
    let case = Case::new("javac", ["javac", "-d", ".", "Main.java"]).limit(400);
    check(
        &["javac"],
        case.prepare(|dir| fs::write(dir.join("Main.java"), JAVA).unwrap()),
    );
}

#[test]
fn java() {
    let case = Case::new("java", ["java", "-Xmx64m", "-cp", ".", "Main"])
        .limit(400)
        .wants("sum 16000");
    let case = case.prepare(|dir| {
        fs::write(dir.join("Main.java"), JAVA).unwrap();
        let status = Command::new("javac")
            .arg("Main.java")
            .current_dir(dir)
            .status()
            .unwrap();
        assert!(status.success());
    });
    check(&["java", "javac"], case);
}

#[test]
fn java_serial_gc_interpreted() {
    let program = "public class Small { public static void main(String[] a) { System.out.println(System.nanoTime() + \" \" + Thread.currentThread()); } }";
    let argv = ["java", "-XX:+UseSerialGC", "-Xint", "-cp", ".", "Small"];
    let case = Case::new("java-serial", argv)
        .limit(200)
        .prepare(move |dir| {
            fs::write(dir.join("Small.java"), program).unwrap();
            assert!(
                Command::new("javac")
                    .arg("Small.java")
                    .current_dir(dir)
                    .status()
                    .unwrap()
                    .success()
            );
        });
    check(&["java", "javac"], case);
}

const GO: &str = r#"
package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

func main() {
	b := make([]byte, 8)
	rand.Read(b)
	fmt.Printf("%x %d %d %d\n", b, os.Getpid(), time.Now().UnixNano(), runtime.NumCPU())
	ch, out := make(chan int), make([]int, 0, 1000)
	var wg sync.WaitGroup
	for i := 0; i < 10; i++ {
		wg.Add(1)
		go func(n int) {
			defer wg.Done()
			for k := 0; k < 100; k++ {
				ch <- n
				_ = make([]byte, 10000)
			}
		}(i)
	}
	go func() { wg.Wait(); close(ch) }()
	for n := range ch {
		out = append(out, n)
	}
	fmt.Println(out)
	var mu sync.Mutex
	m := map[string]int{}
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			x := uint64(1)
			for k := 0; k < 3000000; k++ { // long enough to be preempted by a signal
				x = x*31 + uint64(k)
			}
			mu.Lock()
			m[fmt.Sprint(x)]++
			mu.Unlock()
		}()
	}
	wg.Wait()
	runtime.GC()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	go func() { c, _ := l.Accept(); fmt.Fprintf(c, "hello"); c.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil { panic(err) }
	n, _ := c.Read(b)
	for k := range map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5} { fmt.Print(k, " ") }
	s, err := exec.Command("echo", "child").Output()
	select { case <-time.After(5 * time.Millisecond): }
	fmt.Println(n, l.Addr(), len(m), string(s), err)
}
"#;

#[test]
fn go_static() {
    let case = Case::new("go", ["./prog"]).limit(120).wants("child");
    check(
        &["go"],
        case.prepare(|dir| {
            fs::write(dir.join("main.go"), GO).unwrap();
            let mut build = Command::new("go");
            build
                .args(["build", "-o", "prog", "main.go"])
                .current_dir(dir)
                .env("CGO_ENABLED", "0");
            build
                .env("GOCACHE", cache_dir().join("go"))
                .env("GOFLAGS", "-mod=mod")
                .env("GO111MODULE", "off");
            build.env("HOME", dir).env("GOPATH", dir.join("gopath"));
            assert!(build.status().unwrap().success());
        }),
    );
}

#[test]
fn rustc() {
    if std::env::var_os("SCRIBE_TEST_USER").is_some() {
        println!("skipped: another user may not have this rustc");
        return;
    }
    let program = "fn main() { let v: Vec<u32> = (0..10).collect(); println!(\"{:?}\", v); }";
    let script = "rustc -O -C codegen-units=4 main.rs && ./main";
    let case = Case::bash("rustc", script).limit(180).wants("8, 9]");
    check(
        &["rustc"],
        case.prepare(move |dir| fs::write(dir.join("main.rs"), program).unwrap()),
    );
}

#[test]
fn sqlite_wal() {
    let script = r#"
        sqlite3 db 'pragma journal_mode=wal; create table t(a, b);'
        write() { for i in 1 2 3 4 5 6 7 8; do
            sqlite3 -cmd '.timeout 20000' db "insert into t values ($1, random()); select count(*) from t;"; done; }
        write 1 > one & write 2 > two & wait
        cat one two; sqlite3 db 'select count(*), sum(a) from t; pragma wal_checkpoint; pragma integrity_check;'
        sqlite3 db "with recursive c(x) as (select 1 union all select x+1 from c where x < 30000) insert into t select x, hex(randomblob(8)) from c; select count(*), max(b) from t;"
    "#;
    check(
        &["sqlite3"],
        Case::bash("sqlite-wal", script).wants("16|24").limit(120),
    );
}

#[test]
fn gdb_free_tools() {
    let script = "echo 'scale=50; a(1)*4' | bc -l 2>/dev/null; awk 'BEGIN { srand(); print rand(), systime() }'
                  sed 's/root/x/;q' /etc/passwd; openssl rand -hex 8 2>/dev/null; openssl dgst -sha256 /etc/passwd 2>/dev/null; true";
    check(&["awk", "sed"], Case::bash("small-tools", script));
}
