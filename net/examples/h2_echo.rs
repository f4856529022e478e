//! A blocking toy server around the sans-IO cores: answers every unary call with an empty message. Not part of the
//! product; it exists so that h2spec, h2load and real clients can be pointed at [`net::grpc::Server`] alone.
//!
//! `cargo run --release -p kontiki-net --example h2_echo -- 127.0.0.1:9000`

use net::grpc::{CallId, Config, Event, Lookup, MethodId, MethodKind, Server, Status};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);
    for socket in listener.incoming() {
        let socket = socket?;
        std::thread::spawn(move || {
            if let Err(error) = serve(socket) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// Serves every method of every service, so that any client fits, but `Nope` and `foo.Bar`, so that errors can be
/// seen too. Unary unless the method is called `Stream`, which echoes each message.
fn route(service: &str, method: &str) -> Lookup {
    match (service, method) {
        ("foo.Bar", _) => Lookup::UnknownService,
        (_, "Nope") => Lookup::UnknownMethod,
        (_, "Stream") => Lookup::Method(MethodId(1), MethodKind::Streaming),
        _ => Lookup::Method(MethodId(0), MethodKind::OneMessage),
    }
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let config = Config { http: net::h2::Config::default(), message_len_max: 2 << 20, route };
    let mut server = Server::new(config, Instant::now());
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    loop {
        let now = Instant::now();
        let mut input = &buffer[..filled];
        let polled = handle(&mut server, now, &mut input);
        let unread = input.len();
        let refused = !server.wants_input();
        while !server.output().is_empty() {
            let sent = socket.write(server.output())?;
            server.consume_output(Instant::now(), sent);
        }
        polled.map_err(std::io::Error::other)?;
        buffer.copy_within(filled - unread..filled, 0);
        filled = unread;
        if refused && unread > 0 {
            continue;
        }
        match read(&mut socket, &mut buffer[filled..], server.next_timeout())? {
            Some(0) => return Ok(()),
            Some(len) => filled += len,
            None => server.handle_timeout(Instant::now()).map_err(std::io::Error::other)?,
        }
    }
}

fn handle(server: &mut Server, now: Instant, input: &mut &[u8]) -> Result<(), net::h2::ConnectionError> {
    while let Some(event) = server.poll_event(now, input)? {
        match event {
            Event::Request { call, .. } => {
                server.reply_unary(call, |_| {});
            }
            Event::Message { call, message, .. } => {
                let echo = message.to_vec();
                server.send_message(call, |out| out.extend_from_slice(&echo));
            }
            Event::HalfClosed { call } => finish(server, call),
            Event::Call { .. } | Event::Cancelled { .. } => {}
        }
    }
    Ok(())
}

fn finish(server: &mut Server, call: CallId) {
    server.finish(call, &Status::OK);
}

/// Bytes read, or `None` when `until` came first.
fn read(socket: &mut TcpStream, buffer: &mut [u8], until: Option<Instant>) -> std::io::Result<Option<usize>> {
    let wait =
        until.map(|until| until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    socket.set_read_timeout(wait)?;
    match socket.read(buffer) {
        Ok(len) => Ok(Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}
