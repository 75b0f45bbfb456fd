//! Certificates for one test: an authority, and what it vouches for, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// An authority with a folder of its own for what it makes.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
}

impl Authority {
    /// Makes an authority; `folder` must be there.
    ///
    /// # Errors
    /// When `openssl` cannot be run or refuses.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let authority = Authority { folder: folder.to_owned(), name: name.to_owned() };
        let subject = format!("/CN={name}");
        authority.new_key(name)?;
        authority.openssl(
            &["req", "-x509", "-new", "-key", &format!("{name}.key")],
            &["-subj", &subject, "-days", "2", "-out", &format!("{name}.pem")],
        )?;
        Ok(authority)
    }

    /// The file with its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Makes a private key and a certificate for 127.0.0.1 and localhost. The file holds both.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn vouch(&self, file: &str, subject: &str) -> Result<PathBuf> {
        self.vouch_for(file, subject, "DNS:localhost,IP:127.0.0.1")
    }

    /// As [`Authority::vouch`], for other hosts.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn vouch_for(&self, file: &str, subject: &str, hosts: &str) -> Result<PathBuf> {
        self.new_key(file)?;
        let at = |extension: &str| format!("{file}.{extension}");
        std::fs::write(self.folder.join(at("ext")), format!("subjectAltName={hosts}\n"))?;
        self.openssl(&["req", "-new", "-key", &at("key")], &["-subj", subject, "-out", &at("csr")])?;
        let (authority, key) = (format!("{}.pem", self.name), format!("{}.key", self.name));
        let by = ["x509", "-req", "-in", &at("csr"), "-CA", &authority, "-CAkey", &key, "-CAcreateserial"];
        self.openssl(&by, &["-days", "2", "-extfile", &at("ext"), "-out", &at("crt")])?;
        let read = |name: String| std::fs::read_to_string(self.folder.join(name));
        let both = read(at("key"))? + &read(at("crt"))?;
        let path = self.folder.join(at("pem"));
        // A server that looks for changes finds the whole new file or the whole old one.
        std::fs::write(self.folder.join(at("new")), both)?;
        std::fs::rename(self.folder.join(at("new")), &path)?;
        Ok(path)
    }

    fn new_key(&self, file: &str) -> Result<()> {
        let file = format!("{file}.key");
        let curve = "ec_paramgen_curve:prime256v1";
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve], &["-out", &file])
    }

    fn openssl(&self, what: &[&str], further: &[&str]) -> Result<()> {
        let output = Command::new("openssl")
            .current_dir(&self.folder)
            .args(what)
            .args(further)
            .output()
            .context("running openssl")?;
        ensure!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
