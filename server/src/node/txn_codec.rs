//! The bytes of a transaction: header, record, digest, as Apache writes them into its log and between servers.
//!
//! What we write is what Apache writes for the same values. What we read may also be older: a create without the
//! parent's cversion, a closing of a session without paths, a transaction without a digest. Such a transaction
//! comes out in today's form when it is encoded again, so whoever passes records on keeps the bytes that came.
//!
//! A multi inside a multi, and a check outside one, are refused: nobody writes them.

use bytes::{BufMut, Bytes, BytesMut};
use docent::proto::jute::{put_bool, put_buffer, put_string, put_vec};
use docent::proto::ops::{decode_acl_list, encode_acl_list};
use docent::proto::{DecodeError, Reader};
use docent::{Acl, ErrorCode, SessionId, Zxid};

use super::txn::{CreateTxn, LoggedTxn, NodeKind, Txn, TxnHeader};

/// The version of the digest that we compute and compare; others are read over.
const DIGEST_VERSION: i32 = 2;

/// Bytes of a digest: version and value.
const DIGEST_BYTES: usize = 12;

/// Bytes of the smallest entry of a multi: type and an empty record.
const MULTI_ENTRY_MIN_BYTES: usize = 8;

const CREATE_SESSION: i32 = -10;
const CLOSE_SESSION: i32 = -11;
const ERROR: i32 = -1;
const CREATE: i32 = 1;
const DELETE: i32 = 2;
const SET_DATA: i32 = 5;
const SET_ACL: i32 = 7;
const CHECK: i32 = 13;
const MULTI: i32 = 14;
const CREATE2: i32 = 15;
const RECONFIG: i32 = 16;
const CREATE_CONTAINER: i32 = 19;
const DELETE_CONTAINER: i32 = 20;
const CREATE_TTL: i32 = 21;

impl LoggedTxn {
    /// Appends header, record and, where known, digest.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_txn(&self.header, &self.txn, self.digest, out);
    }

    /// Reads one whole payload of the log, or of a proposal. A digest of a version that we do not compute is
    /// read as none.
    ///
    /// # Errors
    /// The bytes are not a transaction.
    pub fn decode(bytes: Bytes) -> Result<LoggedTxn, DecodeError> {
        let mut input = Reader::new(bytes);
        let session = SessionId(input.long()?);
        let cxid = input.int()?;
        let zxid = Zxid(input.long()?);
        let time_ms = input.long()?;
        let header = TxnHeader { session, cxid, zxid, time_ms };
        let txn = match input.int()? {
            MULTI => Txn::Multi(input.vec(MULTI_ENTRY_MIN_BYTES, decode_entry)?),
            CREATE_SESSION => Txn::CreateSession { timeout_ms: input.int()? },
            CLOSE_SESSION => Txn::CloseSession { paths: decode_closed_paths(&mut input)? },
            SET_ACL => {
                Txn::SetAcl { path: input.string()?, acl: decode_acl(&mut input)?, version: input.int()? }
            }
            RECONFIG => decode_set_data(&mut input, true)?,
            kind @ (CHECK | i32::MIN..CLOSE_SESSION) => return Err(unknown(kind)),
            kind => decode_shared(kind, &mut input)?,
        };
        let digest = decode_digest(&mut input)?;
        Ok(LoggedTxn { header, txn, digest })
    }
}

/// Appends header, record and, where known, digest.
pub fn encode_txn(header: &TxnHeader, txn: &Txn, digest: Option<u64>, out: &mut BytesMut) {
    out.put_i64(header.session.0);
    out.put_i32(header.cxid);
    out.put_i64(header.zxid.0);
    out.put_i64(header.time_ms);
    out.put_i32(type_of(txn));
    encode_record(txn, out);
    if let Some(digest) = digest {
        out.put_i32(DIGEST_VERSION);
        out.put_u64(digest);
    }
}

fn type_of(txn: &Txn) -> i32 {
    match txn {
        Txn::CreateSession { .. } => CREATE_SESSION,
        Txn::CloseSession { .. } => CLOSE_SESSION,
        Txn::Error(_) => ERROR,
        Txn::Create(create) => match create.kind {
            NodeKind::Container => CREATE_CONTAINER,
            NodeKind::Ttl(_) => CREATE_TTL,
            NodeKind::Persistent | NodeKind::Ephemeral if create.create2 => CREATE2,
            NodeKind::Persistent | NodeKind::Ephemeral => CREATE,
        },
        Txn::Delete { swept: false, .. } => DELETE,
        Txn::Delete { swept: true, .. } => DELETE_CONTAINER,
        Txn::SetData { reconfig: false, .. } => SET_DATA,
        Txn::SetData { reconfig: true, .. } => RECONFIG,
        Txn::SetAcl { .. } => SET_ACL,
        Txn::Check { .. } => CHECK,
        Txn::Multi(_) => MULTI,
    }
}

/// Servers before 3.8.2 do not know type 15 within a multi and silently leave such a create out when they read it.
/// Type 1 makes the same node, and every version knows it.
fn type_within_multi(txn: &Txn) -> i32 {
    match type_of(txn) {
        CREATE2 => CREATE,
        other => other,
    }
}

fn encode_record(txn: &Txn, out: &mut BytesMut) {
    match txn {
        Txn::CreateSession { timeout_ms } => out.put_i32(*timeout_ms),
        Txn::CloseSession { paths: None } => {}
        Txn::CloseSession { paths: Some(paths) } => put_vec(out, paths, |out, path| put_string(out, path)),
        Txn::Error(code) => out.put_i32(code.0),
        Txn::Create(create) => encode_create(create, out),
        Txn::Delete { path, .. } => put_string(out, path),
        Txn::SetData { path, data, version, .. } => {
            put_string(out, path);
            put_buffer(out, data.as_deref());
            out.put_i32(*version);
        }
        Txn::SetAcl { path, acl, version } => {
            put_string(out, path);
            encode_acl_list(Some(acl), out);
            out.put_i32(*version);
        }
        Txn::Check { path, version } => {
            put_string(out, path);
            out.put_i32(*version);
        }
        Txn::Multi(txns) => put_vec(out, txns, |out, txn| {
            out.put_i32(type_within_multi(txn));
            let length_at = out.len();
            out.put_i32(0);
            encode_record(txn, out);
            let length = i32::try_from(out.len() - length_at - 4).unwrap_or(i32::MAX);
            out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        }),
    }
}

fn encode_create(create: &CreateTxn, out: &mut BytesMut) {
    put_string(out, &create.path);
    put_buffer(out, create.data.as_deref());
    encode_acl_list(Some(&create.acl), out);
    match create.kind {
        NodeKind::Persistent | NodeKind::Ephemeral => {
            put_bool(out, create.kind == NodeKind::Ephemeral);
            out.put_i32(create.parent_cversion);
        }
        NodeKind::Container => out.put_i32(create.parent_cversion),
        NodeKind::Ttl(ttl_ms) => {
            out.put_i32(create.parent_cversion);
            out.put_i64(ttl_ms);
        }
    }
}

fn unknown(kind: i32) -> DecodeError {
    DecodeError::BadValue { what: "transaction type", value: kind.into() }
}

/// One entry of a multi: its type and, as a buffer, its record.
fn decode_entry(input: &mut Reader) -> Result<Txn, DecodeError> {
    let kind = input.int()?;
    let mut record = Reader::new(input.buffer()?.ok_or(DecodeError::Null("record of a multi"))?);
    match kind {
        CHECK => Ok(Txn::Check { path: record.string()?, version: record.int()? }),
        _ => decode_shared(kind, &mut record),
    }
}

/// The types that stand alone and within a multi.
fn decode_shared(kind: i32, input: &mut Reader) -> Result<Txn, DecodeError> {
    match kind {
        ERROR => Ok(Txn::Error(ErrorCode(input.int()?))),
        CREATE | CREATE2 | CREATE_CONTAINER | CREATE_TTL => decode_create(kind, input).map(Txn::Create),
        DELETE | DELETE_CONTAINER => {
            Ok(Txn::Delete { path: input.string()?, swept: kind == DELETE_CONTAINER })
        }
        SET_DATA => decode_set_data(input, false),
        _ => Err(unknown(kind)),
    }
}

fn decode_create(kind: i32, input: &mut Reader) -> Result<CreateTxn, DecodeError> {
    let path = input.string()?;
    let data = input.buffer()?;
    let acl = decode_acl(input)?;
    let ephemeral = matches!(kind, CREATE | CREATE2) && input.bool()?;
    // The first logs had no parent's cversion; such a record ends here.
    let parent_cversion = if kind == CREATE && input.remaining() == 0 { -1 } else { input.int()? };
    let kind_of_node = match kind {
        CREATE_CONTAINER => NodeKind::Container,
        CREATE_TTL => NodeKind::Ttl(input.long()?),
        _ if ephemeral => NodeKind::Ephemeral,
        _ => NodeKind::Persistent,
    };
    Ok(CreateTxn { create2: kind == CREATE2, path, data, acl, kind: kind_of_node, parent_cversion })
}

fn decode_set_data(input: &mut Reader, reconfig: bool) -> Result<Txn, DecodeError> {
    Ok(Txn::SetData { path: input.string()?, data: input.buffer()?, version: input.int()?, reconfig })
}

/// Apache takes a null list for the ACL that is open to everybody.
fn decode_acl(input: &mut Reader) -> Result<Vec<Acl>, DecodeError> {
    Ok(decode_acl_list(input)?.unwrap_or_else(Acl::open))
}

/// The paths, or `None` for a record without them: then nothing follows, or a digest alone. A digest cannot be
/// taken for paths, as its first number would announce two of them and leave no bytes for their names.
fn decode_closed_paths(input: &mut Reader) -> Result<Option<Vec<String>>, DecodeError> {
    let bare = match input.remaining() {
        0 => true,
        DIGEST_BYTES => input.clone().int()? == DIGEST_VERSION,
        _ => false,
    };
    if bare { Ok(None) } else { input.vec(4, Reader::string).map(Some) }
}

fn decode_digest(input: &mut Reader) -> Result<Option<u64>, DecodeError> {
    if input.remaining() < DIGEST_BYTES {
        return Ok(None);
    }
    let version = input.int()?;
    let digest = input.long()?.cast_unsigned();
    Ok((version == DIGEST_VERSION).then_some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: TxnHeader =
        TxnHeader { session: SessionId(-7), cxid: 3, zxid: Zxid::new(1, 2), time_ms: 1_795_166_524_622 };

    fn every_kind() -> Vec<Txn> {
        let create = |create2, kind| {
            Txn::Create(CreateTxn {
                create2,
                path: "/a".into(),
                data: Some(Bytes::from_static(b"x")),
                acl: Acl::open(),
                kind,
                parent_cversion: 4,
            })
        };
        let check = Txn::Check { path: "/c".into(), version: -1 };
        let set = |reconfig| Txn::SetData { path: "/s".into(), data: None, version: 9, reconfig };
        let delete = |swept| Txn::Delete { path: "/d".into(), swept };
        vec![
            Txn::CreateSession { timeout_ms: 30_000 },
            Txn::CloseSession { paths: None },
            Txn::CloseSession { paths: Some(vec![]) },
            Txn::CloseSession { paths: Some(vec!["/a/b".into(), "/é".into()]) },
            Txn::Error(ErrorCode::NO_NODE),
            create(false, NodeKind::Persistent),
            create(true, NodeKind::Persistent),
            create(false, NodeKind::Ephemeral),
            create(true, NodeKind::Ephemeral),
            create(false, NodeKind::Container),
            create(false, NodeKind::Ttl(77)),
            delete(false),
            delete(true),
            set(false),
            set(true),
            Txn::SetAcl { path: "/l".into(), acl: Acl::read_only(), version: 1 },
            Txn::Multi(vec![]),
            Txn::Multi(vec![check, create(false, NodeKind::Ttl(1)), set(false), Txn::Error(ErrorCode::OK)]),
        ]
    }

    fn bytes_of(txn: &Txn, digest: Option<u64>) -> Bytes {
        let mut out = BytesMut::new();
        encode_txn(&HEADER, txn, digest, &mut out);
        out.freeze()
    }

    #[test]
    fn every_kind_comes_back() {
        for txn in every_kind() {
            for digest in [None, Some(0), Some(u64::MAX)] {
                let logged = LoggedTxn::decode(bytes_of(&txn, digest)).unwrap();
                assert_eq!(logged, LoggedTxn { header: HEADER, txn: txn.clone(), digest });
            }
        }
    }

    #[test]
    fn a_create_within_a_multi_is_of_the_type_that_every_server_reads() {
        let create = |create2| {
            Txn::Multi(vec![Txn::Create(CreateTxn {
                create2,
                path: "/a".into(),
                data: None,
                acl: Acl::open(),
                kind: NodeKind::Persistent,
                parent_cversion: 1,
            })])
        };
        assert_eq!(bytes_of(&create(true), None), bytes_of(&create(false), None));
    }

    #[test]
    fn cut_bytes_are_an_error_or_a_shorter_transaction_and_never_a_panic() {
        for txn in every_kind() {
            let whole = bytes_of(&txn, Some(5));
            for cut in 0..whole.len() {
                let Ok(logged) = LoggedTxn::decode(whole.slice(..cut)) else { continue };
                // Two paths that are cut off cannot be told from a digest; a checksum stands before all of it.
                let bare = logged.txn == Txn::CloseSession { paths: None };
                assert!(logged.digest.is_none() || bare, "{txn:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_create_of_the_first_logs_has_no_parent_cversion() {
        let txn = every_kind().swap_remove(5);
        let whole = bytes_of(&txn, None);
        let old = LoggedTxn::decode(whole.slice(..whole.len() - 4)).unwrap();
        let Txn::Create(create) = old.txn else { panic!("{old:?}") };
        assert_eq!((create.parent_cversion, create.path.as_str()), (-1, "/a"));
    }

    #[test]
    fn a_digest_of_another_version_is_not_compared() {
        let mut bytes = BytesMut::from(&bytes_of(&Txn::Delete { path: "/d".into(), swept: false }, None)[..]);
        bytes.put_i32(3);
        bytes.put_i64(1);
        assert_eq!(LoggedTxn::decode(bytes.freeze()).unwrap().digest, None);
    }

    #[test]
    fn types_that_nobody_writes_are_refused() {
        let check = Txn::Check { path: "/c".into(), version: -1 };
        let nested = Txn::Multi(vec![Txn::Multi(vec![])]);
        let acl_within = Txn::Multi(vec![Txn::SetAcl { path: "/l".into(), acl: vec![], version: 1 }]);
        for txn in [check, nested, acl_within] {
            let outcome = LoggedTxn::decode(bytes_of(&txn, None));
            assert!(matches!(outcome, Err(DecodeError::BadValue { .. })), "{outcome:?}");
        }
        for kind in [-12, -2, 0, 3, 99, i32::MIN, i32::MAX] {
            let mut bytes = BytesMut::new();
            bytes.put_bytes(0, 28);
            bytes.put_i32(kind);
            bytes.put_bytes(0, 64);
            assert_eq!(LoggedTxn::decode(bytes.freeze()), Err(unknown(kind)));
        }
    }
}
