//! Access control lists: who may do what to one znode.

use std::fmt;

/// A set of permissions. Bits that have no name are kept and returned as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permissions(pub i32);

impl Permissions {
    /// Read data and list children.
    pub const READ: Permissions = Permissions(1);
    /// Set data.
    pub const WRITE: Permissions = Permissions(2);
    /// Create children.
    pub const CREATE: Permissions = Permissions(4);
    /// Delete children.
    pub const DELETE: Permissions = Permissions(8);
    /// Set the ACL.
    pub const ADMIN: Permissions = Permissions(16);
    /// All five.
    pub const ALL: Permissions = Permissions(31);

    /// Whether any permission of `other` is in this set.
    #[must_use]
    pub const fn intersects(self, other: Permissions) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for Permissions {
    type Output = Permissions;
    fn bitor(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }
}

/// As the shell writes them: letters of `cdrwa`.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [
            (Self::CREATE, 'c'),
            (Self::DELETE, 'd'),
            (Self::READ, 'r'),
            (Self::WRITE, 'w'),
            (Self::ADMIN, 'a'),
        ] {
            if self.intersects(bit) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// One entry of an ACL: these permissions for this identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// What is allowed.
    pub permissions: Permissions,
    /// How the identity is proved: `world`, `auth`, `digest`, `ip`, `x509`, `sasl`.
    pub scheme: String,
    /// The identity within the scheme.
    pub id: String,
}

impl Acl {
    /// An entry.
    pub fn new(permissions: Permissions, scheme: impl Into<String>, id: impl Into<String>) -> Self {
        Acl { permissions, scheme: scheme.into(), id: id.into() }
    }

    /// Everybody may do everything: Apache's `OPEN_ACL_UNSAFE`.
    #[must_use]
    pub fn open() -> Vec<Acl> {
        vec![Acl::new(Permissions::ALL, "world", "anyone")]
    }

    /// Everybody may read: Apache's `READ_ACL_UNSAFE`.
    #[must_use]
    pub fn read_only() -> Vec<Acl> {
        vec![Acl::new(Permissions::READ, "world", "anyone")]
    }

    /// Every identity of the connection that creates may do everything: Apache's `CREATOR_ALL_ACL`.
    #[must_use]
    pub fn creator_all() -> Vec<Acl> {
        vec![Acl::new(Permissions::ALL, "auth", "")]
    }
}

/// The id of a digest entry can be turned into passwords by trying: it is not printed.
impl fmt::Debug for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = match (&*self.scheme, self.id.split_once(':')) {
            ("digest", Some((user, _))) => format!("{user}:…"),
            _ => self.id.clone(),
        };
        write!(f, "{}:{}:{}", self.scheme, id, self.permissions)
    }
}
