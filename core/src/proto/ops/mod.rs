//! The records of the operations, one family per file.

mod acl;
mod auth;
mod create;
mod data;
mod multi;
mod reconfig;
mod watch;

pub use acl::{decode_acl_list, encode_acl_list, encode_set_acl};
pub use auth::{AuthRequest, ClientInfo};
pub use create::{CreateFlags, CreateKind, CreateRequest, MAX_TTL_MS};
pub use data::{decode_names, encode_names, encode_path_version, encode_path_watch, encode_set_data};
pub use multi::{
    MultiOp, MultiResult, ReadOp, decode_multi, decode_multi_read, decode_multi_results, encode_multi,
    encode_multi_read, encode_multi_results,
};
pub use reconfig::ReconfigRequest;
pub use watch::{AddWatchMode, SetWatches, WatcherKind};
