//! Changing the ensemble.

use bytes::{BufMut, BytesMut};

use crate::proto::jute::{DecodeError, Reader, put_buffer};

/// The record of `reconfig`. Null and empty strings mean "not given".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconfigRequest {
    /// `server.N=…` lines of servers that join, separated by commas.
    pub joining: Option<String>,
    /// Ids of servers that leave, separated by commas.
    pub leaving: Option<String>,
    /// The whole new membership; then the other two are not given.
    pub new_members: Option<String>,
    /// The configuration that is meant to be changed, −1 for whichever is current.
    pub current_config: i64,
}

impl ReconfigRequest {
    pub(crate) fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut given = || Ok::<_, DecodeError>(input.nullable_string()?.filter(|text| !text.is_empty()));
        Ok(ReconfigRequest {
            joining: given()?,
            leaving: given()?,
            new_members: given()?,
            current_config: input.long()?,
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        for text in [&self.joining, &self.leaving, &self.new_members] {
            put_buffer(out, text.as_ref().map(String::as_bytes));
        }
        out.put_i64(self.current_config);
    }
}
