//! A blocking toy HTTP/2 server around [`net::h2::Connection`] alone: answers every request, once complete, with a
//! few bytes. Not part of the product; it lets h2spec judge the HTTP/2 core by rows that wait for a body, which gRPC's
//! answers to h2spec's plain requests do not have.
//!
//! `cargo run --release -p kontiki-net --example h2_plain -- 127.0.0.1:9000`

use net::h2::{Config, Connection, ConnectionError, Event, StreamKey};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    for socket in TcpListener::bind(&address)?.incoming() {
        let socket = socket?;
        std::thread::spawn(move || serve(socket));
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    let mut http = Connection::new(Config::default(), Instant::now());
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        let mut input = &buffer[..filled];
        let polled = answer(&mut http, &mut input);
        let unread = input.len();
        while !http.output().is_empty() {
            let sent = socket.write(http.output())?;
            http.consume_output(Instant::now(), sent);
        }
        polled.map_err(std::io::Error::other)?;
        buffer.copy_within(filled - unread..filled, 0);
        filled = unread;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        match socket.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(len) => filled += len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                http.handle_timeout(Instant::now()).map_err(std::io::Error::other)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn answer(http: &mut Connection, input: &mut &[u8]) -> Result<(), ConnectionError> {
    while let Some(event) = http.poll_event(Instant::now(), input)? {
        match event {
            Event::Headers { stream, end_stream: true } | Event::Data { stream, end_stream: true, .. } => {
                respond(http, stream);
            }
            _ => {}
        }
    }
    Ok(())
}

fn respond(http: &mut Connection, stream: StreamKey) {
    http.send_headers(stream, &[(":status", b"200"), ("content-type", b"text/plain")]);
    http.send_data(stream, |out| out.extend_from_slice(b"kontiki"));
    http.finish(stream, &[("x-end", b"1")]);
}
