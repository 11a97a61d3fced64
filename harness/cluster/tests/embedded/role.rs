//! What this program does inside a pod. Roles end with exit code 0 unless they say otherwise.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

pub(crate) fn run(words: &[&str]) -> ExitCode {
    match words {
        ["idle"] => idle(),
        ["stubborn"] => stubborn(),
        ["facts"] => facts(),
        ["print", text] => println!("{text}"),
        ["cat", path] => print!("{}", fs::read_to_string(path).unwrap()),
        ["write", path, text] => fs::write(path, text).unwrap(),
        ["env"] => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["resolve", name] => resolve(name),
        ["http", port] => {
            let port = port.parse().unwrap();
            std::thread::spawn(move || serve(port));
            until_asked_to_end();
        }
        ["get", peer] => println!("{}", get(peer)),
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap()),
        ["print-and-exit", text, code] => {
            println!("{text}");
            return ExitCode::from(code.parse::<u8>().unwrap());
        }
        ["exists", path] => {
            return if fs::exists(path).unwrap() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            };
        }
        ["upper"] => upper(),
        other => panic!("no such role: {other:?}"),
    }
    ExitCode::SUCCESS
}

fn idle() {
    println!("idle");
    until_asked_to_end();
    println!("asked to end");
}

fn until_asked_to_end() {
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end.thread_block().unwrap();
    end.wait().unwrap();
}

/// Takes no notice of a request to end.
fn stubborn() {
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end.thread_block().unwrap();
    println!("stubborn");
    loop {
        end.wait().unwrap();
    }
}

fn facts() {
    print!("{}", fs::read_to_string("/proc/self/status").unwrap());
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let devices: Vec<_> = devices
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    println!("devices={}", devices.join(","));
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    println!("processes={}", processes.count());
    let write = |path: &str| fs::write(path, "x").map_err(|error| error.kind());
    println!("write-root={:?}", write("/x"));
    println!("write-etc={:?}", write("/etc/hosts"));
    println!("write-tmp={:?}", write("/tmp/x"));
    println!(
        "raw-socket={:?}",
        nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Raw,
            nix::sys::socket::SockFlag::empty(),
            nix::sys::socket::SockProtocol::Icmp,
        )
        .map(drop)
    );
    println!(
        "new-mount={:?}",
        nix::mount::mount(
            None::<&str>,
            "/tmp",
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            None::<&str>
        )
    );
    let mut entries: Vec<_> = fs::read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.sort();
    println!("root={}", entries.join(","));
    let descriptors: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    // The fourth is the directory that is being read.
    println!("descriptors={}", descriptors.len());
    println!(
        "hostname={}",
        nix::unistd::gethostname().unwrap().to_string_lossy()
    );
}

fn resolve(name: &str) {
    match (name, 0).to_socket_addrs() {
        Ok(found) => found.for_each(|address| println!("{}", address.ip())),
        Err(error) => println!("error: {error}"),
    }
}

/// Answers every request with its own host name.
fn serve(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    println!("listening");
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 4096];
        // A peer that only connects (a probe) gets nothing.
        if matches!(stream.read(&mut request), Ok(1..)) {
            let status = if fs::exists("/tmp/sick").unwrap() {
                "503 Sick"
            } else {
                "200 OK"
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
                name.len()
            );
        }
    }
}

fn get(peer: &str) -> String {
    let mut stream = TcpStream::connect(peer).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned()
}

fn upper() {
    let text = std::io::read_to_string(std::io::stdin()).unwrap();
    print!("{}", text.to_uppercase());
}
