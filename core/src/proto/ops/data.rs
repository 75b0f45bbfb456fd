//! The small records of reads, deletes and sets, and lists of names.

use bytes::{BufMut, BytesMut};

use crate::Version;
use crate::proto::jute::{DecodeError, Reader, put_bool, put_buffer, put_string, put_vec};

/// Appends path and version: `delete`, `check`.
pub fn encode_path_version(path: &str, version: Version, out: &mut BytesMut) {
    put_string(out, path);
    out.put_i32(version.0);
}

/// Appends path and watch flag: `exists`, `getData`, `getChildren`.
pub fn encode_path_watch(path: &str, watch: bool, out: &mut BytesMut) {
    put_string(out, path);
    put_bool(out, watch);
}

/// Appends the record of `setData`.
pub fn encode_set_data(path: &str, data: Option<&[u8]>, version: Version, out: &mut BytesMut) {
    put_string(out, path);
    put_buffer(out, data);
    out.put_i32(version.0);
}

/// Reads a list of strings; null reads as empty.
///
/// # Errors
/// The bytes are not such a list.
pub fn decode_names(input: &mut Reader) -> Result<Vec<String>, DecodeError> {
    Ok(input.nullable_vec(4, Reader::string_or_empty)?.unwrap_or_default())
}

/// Appends a list of strings.
pub fn encode_names(names: &[String], out: &mut BytesMut) {
    put_vec(out, names, |out, name| put_string(out, name));
}
