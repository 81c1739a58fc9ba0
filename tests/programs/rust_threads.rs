// Rust std: threads, channels, mutex and condvar, scoped threads, a child process, hash map with random state, time, panics caught.
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Instant, SystemTime};

fn main() {
    let (tx, rx) = mpsc::channel();
    let handles: Vec<_> = (0..4)
        .map(|i| {
            let tx = tx.clone();
            thread::spawn(move || {
                for k in 0..250 {
                    tx.send((i, k)).unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    let mut last = [-1i32; 4];
    let mut order = 0u32;
    for (i, k) in rx {
        assert_eq!(k, last[i] + 1);
        last[i] = k;
        order = order.wrapping_mul(31).wrapping_add(i as u32);
    }
    assert_eq!(last, [249; 4]);
    for h in handles {
        h.join().unwrap();
    }
    let pair = Arc::new((Mutex::new(0u32), Condvar::new()));
    thread::scope(|s| {
        for i in 0..3u32 {
            let pair = pair.clone();
            s.spawn(move || {
                let (m, c) = &*pair;
                for _ in 0..50 {
                    let mut g = c.wait_while(m.lock().unwrap(), |v| *v % 3 != i).unwrap();
                    *g += 1;
                    c.notify_all();
                }
            });
        }
    });
    assert_eq!(*pair.0.lock().unwrap(), 150);
    let map: HashMap<u32, u32> = (0..20).map(|i| (i, i)).collect();
    let keys: Vec<u32> = map.keys().copied().collect();
    let caught = thread::spawn(|| std::panic::catch_unwind(|| panic!("wanted")).is_err()).join().unwrap();
    assert!(caught);
    let out = std::process::Command::new("sh").args(["-c", "echo $$"]).output().unwrap();
    assert!(out.status.success());
    let start = Instant::now();
    println!("order {order:08x} keys {keys:?}");
    println!("child said {}", String::from_utf8_lossy(&out.stdout).trim());
    println!("{:?} {:?}", SystemTime::now(), start.elapsed());
}
