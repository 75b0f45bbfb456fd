//! Docent and Apache's servers in one ensemble, each leading the other, and the move from one to the other under load.

mod across;
mod kills;
mod level;
mod membership;
mod migration;

use docent_integration_tests::availability::Suite;
use docent_integration_tests::backend::Backend;
use docent_integration_tests::ensemble;

/// Begins a test that needs servers of these kinds of Apache's.
fn begin(name: &str, kinds: &[Backend]) -> Option<Suite> {
    Suite::begin(name, &ensemble::needs(kinds))
}
