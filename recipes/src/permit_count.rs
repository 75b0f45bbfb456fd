//! How many permits a semaphore has: a number that all programs agree on, or a node that says it.

use bytes::Bytes;
use docent::{CreateMode, ErrorCode, OneshotWatch, Reply, SessionRef, Version};

use crate::backoff::Backoff;
use crate::error::Error;
use crate::guarded;

/// How often the node with the number may vanish between making and reading it.
const ROUNDS_MAX: u32 = 16;

/// Where the number of permits comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PermitCount {
    /// Each program says it.
    Fixed(u32),
    /// Curator's `SharedCount`: four bytes, the highest first. The number here is for a node that is not there yet.
    Shared { path: String, seed: u32 },
    /// kazoo's: decimal text in the semaphore's own node, which must be what each program says.
    Text { path: String, given: u32 },
}

/// The number now, and the watch that was left by reading it.
pub(crate) struct Counted {
    pub(crate) permits: u32,
    pub(crate) changed: Option<OneshotWatch>,
}

impl PermitCount {
    fn path(&self) -> Option<&str> {
        match self {
            PermitCount::Fixed(_) => None,
            PermitCount::Shared { path, .. } | PermitCount::Text { path, .. } => Some(path),
        }
    }

    /// The most that can ever be had; `None` when that can change.
    pub(crate) fn bound(&self) -> Option<u32> {
        match self {
            PermitCount::Fixed(permits) => Some(*permits),
            PermitCount::Shared { .. } | PermitCount::Text { .. } => None,
        }
    }

    /// Refuses to begin when the stored number is another than this program's.
    pub(crate) async fn agree(&self, session: &SessionRef) -> Result<(), Error> {
        let PermitCount::Text { path, given } = self else { return Ok(()) };
        let stored = self.read(session).await?;
        if stored == *given {
            return Ok(());
        }
        Err(Error::PermitsDiffer { path: path.clone(), stored, given: *given })
    }

    /// Reads the number; makes the node when it is not there.
    pub(crate) async fn read(&self, session: &SessionRef) -> Result<u32, Error> {
        let PermitCount::Fixed(permits) = self else {
            let node = self.stored(session, |path| session.get_data(path)).await?;
            return self.decode(&node.bytes());
        };
        Ok(*permits)
    }

    /// As [`PermitCount::read`], leaving a watch.
    pub(crate) async fn read_and_watch(&self, session: &SessionRef) -> Result<Counted, Error> {
        if let PermitCount::Fixed(permits) = self {
            return Ok(Counted { permits: *permits, changed: None });
        }
        let (node, changed) = self.stored(session, |path| session.get_data_and_watch(path)).await?;
        Ok(Counted { permits: self.decode(&node.bytes())?, changed: Some(changed) })
    }

    async fn stored<T: Send + 'static>(
        &self,
        session: &SessionRef,
        read: impl Fn(&str) -> Reply<T> + Send + Sync,
    ) -> Result<T, Error> {
        let path = self.path().unwrap_or("/");
        let (mut backoff, mut rounds) = (Backoff::reconnecting(), 0);
        loop {
            match read(path).await {
                Ok(read) => return Ok(read),
                Err(error) if error.code() == Some(ErrorCode::NO_NODE) && rounds < ROUNDS_MAX => {
                    rounds += 1;
                    self.make(session, path).await?;
                }
                Err(error) if guarded::may_try_again(&error) => backoff.wait().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the node with this program's number. Whoever is first decides, so a lost reply does no harm.
    async fn make(&self, session: &SessionRef, path: &str) -> Result<(), Error> {
        match session.create(path, self.encode(self.given())).mode(CreateMode::Persistent).await {
            Ok(_) => Ok(()),
            Err(error) => match error.code() {
                Some(ErrorCode::NODE_EXISTS) => Ok(()),
                Some(ErrorCode::NO_NODE) => guarded::make_parents(session, path).await,
                _ if guarded::may_try_again(&error) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    /// Stores another number.
    pub(crate) async fn store(&self, session: &SessionRef, permits: u32) -> Result<(), Error> {
        let Some(path) = self.path() else { return Err(Error::FixedPermits) };
        self.read(session).await?;
        match session.set_data(path, self.encode(permits), Version::ANY).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(ErrorCode::NO_NODE) => {
                Err(Error::Missing { path: path.to_owned() })
            }
            Err(error) if error.may_have_applied() => {
                Err(Error::Ambiguous { op: "resize", path: path.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn given(&self) -> u32 {
        match self {
            PermitCount::Fixed(permits) => *permits,
            PermitCount::Shared { seed, .. } => *seed,
            PermitCount::Text { given, .. } => *given,
        }
    }

    fn encode(&self, permits: u32) -> Bytes {
        match self {
            PermitCount::Text { .. } => permits.to_string().into(),
            // Curator's number has a sign.
            _ => Bytes::copy_from_slice(&i32::try_from(permits).unwrap_or(i32::MAX).to_be_bytes()),
        }
    }

    fn decode(&self, data: &[u8]) -> Result<u32, Error> {
        match self {
            PermitCount::Fixed(permits) => Ok(*permits),
            PermitCount::Shared { path, .. } => {
                let bytes: [u8; 4] = data.try_into().map_err(|_| Error::Invalid {
                    path: path.clone(),
                    reason: format!("{} bytes instead of the 4 of a shared count", data.len()).into(),
                })?;
                // Below nothing is nothing, as for Curator.
                Ok(u32::try_from(i32::from_be_bytes(bytes)).unwrap_or(0))
            }
            // kazoo takes what is no number for somebody else's data, and goes by its own.
            PermitCount::Text { given, .. } => {
                Ok(std::str::from_utf8(data).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(*given))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stored_as_curator_and_kazoo_store_them() {
        let shared = PermitCount::Shared { path: "/n".to_owned(), seed: 3 };
        assert_eq!(&*shared.encode(258), [0, 0, 1, 2]);
        assert_eq!(shared.decode(&[0, 0, 1, 2]).ok(), Some(258));
        assert_eq!(shared.decode(&(-1i32).to_be_bytes()).ok(), Some(0));
        assert!(matches!(shared.decode(b"12"), Err(Error::Invalid { .. })));
        assert_eq!(&*shared.encode(u32::MAX), i32::MAX.to_be_bytes());
        let text = PermitCount::Text { path: "/n".to_owned(), given: 3 };
        assert_eq!(&*text.encode(12), b"12");
        assert_eq!(text.decode(b"12").ok(), Some(12));
        assert_eq!(text.decode(b"").ok(), Some(3));
        assert_eq!(text.decode(&[0xff]).ok(), Some(3));
    }
}
