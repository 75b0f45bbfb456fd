//! Several operations as one transaction: all of them, or none.

use docent::ErrorCode;

use super::{Applied, Change, Outcome, Tree};
use crate::node::txn::{Txn, TxnHeader};

impl Tree {
    pub(super) fn apply_multi(
        &mut self,
        header: &TxnHeader,
        txns: &[Txn],
        changes: &mut Vec<Change>,
    ) -> Applied {
        let refused = txns.iter().any(|txn| matches!(txn, Txn::Error(_)));
        let results: Vec<Outcome> = if refused {
            txns.iter().map(refusal).collect()
        } else {
            // In a replay an operation may find its effect done; the others are applied all the same.
            txns.iter().map(|txn| self.apply_one(header, txn, changes)).collect()
        };
        let error = results.iter().map(|result| result.error).find(|error| *error != ErrorCode::OK);
        Applied { error: error.unwrap_or(ErrorCode::OK), stat: None, results }
    }
}

/// The outcome of one operation of a refused multi. Those before the one that failed are recorded as if they had
/// been done.
fn refusal(txn: &Txn) -> Outcome {
    match txn {
        Txn::Error(code) => Outcome::error(*code),
        _ => Outcome::OK,
    }
}
