//! Frames that were captured from Apache ZooKeeper 3.8.0, compared byte for byte: each is decoded, the values are
//! compared with those recorded next to the bytes, and encoded again.
//!
//! `frames-3.8.0.json` has every operation with its answers; the `session-…` files are whole conversations of Apache's
//! Java and C clients, reconnects included.

mod values;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use docent::proto::frame::{next_frame, put_frame};
use docent::proto::jute::{Decode, DecodeError, Encode, Reader};
use docent::proto::{
    ConnectRequest, ConnectResponse, OpCode, ReplyHeader, Request, RequestHeader, Response, WatcherEvent,
};
use docent::{ErrorCode, Xid};
use serde_json::{Value, json};

/// One captured frame.
struct Frame {
    name: String,
    connection: i64,
    from_client: bool,
    bytes: Bytes,
    recorded: Value,
}

fn frames(json: &str) -> Vec<Frame> {
    let file: Value = serde_json::from_str(json).unwrap();
    let frame = |(index, frame): (usize, &Value)| Frame {
        name: frame["name"].as_str().map_or_else(|| format!("frame {index}"), str::to_owned),
        connection: frame["conn"].as_i64().unwrap_or_default(),
        from_client: frame["dir"] == "c2s",
        bytes: bytes_of(frame["hex"].as_str().unwrap()),
        recorded: frame["decoded"].clone(),
    };
    file["frames"].as_array().unwrap().iter().enumerate().map(frame).collect()
}

fn bytes_of(hex: &str) -> Bytes {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What one frame is, and its bytes as we write them.
struct Read {
    values: Value,
    written: BytesMut,
}

/// Reads the frames of one file in their order, and remembers which operation an answer belongs to.
#[derive(Default)]
struct Reading {
    /// Operations by connection and xid; the last one with an xid counts.
    ops: BTreeMap<(i64, i32), i32>,
    /// Frames whose record cannot be read, and why.
    refused: Vec<(String, String)>,
}

impl Reading {
    fn read(&mut self, frame: &Frame) -> Read {
        let mut input = BytesMut::from(&frame.bytes[..]);
        let body = next_frame(&mut input, usize::MAX).unwrap().expect("a whole frame");
        assert!(input.is_empty(), "{}", frame.name);
        let mut input = Reader::new(body.clone());
        let mut written = BytesMut::new();
        let is_handshake = frame.recorded.get("protocolVersion").is_some();
        let read = match (is_handshake, frame.from_client) {
            (true, true) => {
                let request = ConnectRequest::decode(&mut input).unwrap();
                put_frame(&mut written, |out| request.encode(out));
                Ok(values::connect_request(&request))
            }
            (true, false) => {
                let response = ConnectResponse::decode(&mut input).unwrap();
                put_frame(&mut written, |out| response.encode(out));
                Ok(values::connect_response(&response))
            }
            (false, true) => self.request(frame, &mut input, &mut written),
            (false, false) => self.reply(frame, &mut input, &mut written),
        };
        match read {
            Ok(values) => {
                assert_eq!(input.remaining(), 0, "{}: bytes are left", frame.name);
                Read { values, written }
            }
            Err(error) => {
                self.refused.push((frame.name.clone(), error.to_string()));
                put_frame(&mut written, |out| out.extend_from_slice(&body));
                Read { values: frame.recorded.clone(), written }
            }
        }
    }

    fn request(
        &mut self,
        frame: &Frame,
        input: &mut Reader,
        out: &mut BytesMut,
    ) -> Result<Value, DecodeError> {
        let header = RequestHeader::decode(input).unwrap();
        self.ops.insert((frame.connection, header.xid.0), header.op);
        let mut values = json!({ "xid": header.xid.0, "op": header.op, "opName": frame.recorded["opName"] });
        let request = match OpCode::from_code(header.op) {
            Some(op) => Request::decode(op, input)?.expect("clients ask only for what they may"),
            None => {
                put_frame(out, |out| header.encode(out));
                return Ok(values);
            }
        };
        assert_eq!(request.op().code(), header.op);
        put_frame(out, |out| {
            header.encode(out);
            request.encode(out);
        });
        values::merge(&mut values, values::request(&request));
        Ok(values)
    }

    fn reply(&self, frame: &Frame, input: &mut Reader, out: &mut BytesMut) -> Result<Value, DecodeError> {
        let header = ReplyHeader::decode(input).unwrap();
        let mut values = json!({ "xid": header.xid.0, "zxid": header.zxid.0, "err": header.error.0 });
        if header.xid == Xid::EVENT {
            let event = WatcherEvent::decode(input)?;
            put_frame(out, |out| {
                header.encode(out);
                event.encode(out);
            });
            values::merge(&mut values, values::event(&event));
            return Ok(values);
        }
        let op = self.ops.get(&(frame.connection, header.xid.0)).expect("an answer follows its request");
        let response = match OpCode::from_code(*op) {
            Some(op) if header.error == ErrorCode::OK => Response::decode(op, input)?,
            _ => Response::Empty,
        };
        put_frame(out, |out| {
            header.encode(out);
            response.encode(out);
        });
        values::merge(&mut values, values::response(OpCode::from_code(*op), &response));
        Ok(values)
    }
}

/// Compares all frames of a file, and returns how many there were and which could not be read.
fn compare(json: &str) -> (usize, Vec<(String, String)>) {
    let frames = frames(json);
    let mut reading = Reading::default();
    for frame in &frames {
        let Read { values, written } = reading.read(frame);
        assert_eq!(values, frame.recorded, "{}: values", frame.name);
        assert_eq!(written, frame.bytes, "{}: bytes", frame.name);
    }
    (frames.len(), reading.refused)
}

#[test]
fn every_operation_and_its_answers() {
    let (frames, refused) = compare(include_str!("frames-3.8.0.json"));
    assert_eq!(frames, 122);
    // The one request that the server answers with a marshalling error.
    assert_eq!(refused, [("addWatch.badMode.req".to_owned(), "9 is not a watch mode".to_owned())]);
}

#[test]
fn a_session_of_zkcli() {
    assert_eq!(compare(include_str!("session-java-zkcli-3.8.0.json")), (134, vec![]));
}

#[test]
fn a_session_of_the_c_client() {
    assert_eq!(compare(include_str!("session-c-cli_mt-3.8.0.json")), (30, vec![]));
}

#[test]
fn a_java_session_over_two_reconnects() {
    assert_eq!(compare(include_str!("session-java-reconnect-3.8.0.json")), (40, vec![]));
}
