//! The image of the static binary: built from the project's own `Dockerfile`, and removed when nobody needs it.

use anyhow::{Context as _, Result};
use testcontainers::bollard::query_parameters::RemoveImageOptionsBuilder;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncBuilder as _;
use testcontainers::{GenericBuildableImage, GenericImage};

use crate::availability::workspace;
use crate::docent_bin::{STATIC_TARGET, static_binary};

const NAME: &str = "docent-containers";

/// Why there are no containers on this machine; `None` when there are.
pub async fn missing() -> Option<String> {
    let ping = async { Ok::<_, anyhow::Error>(docker_client_instance().await?.ping().await?) };
    ping.await.err().map(|error| format!("Docker ({error:#})"))
}

/// An image in the daemon's store. It has a name of its own in every run, so that none runs what another has built.
#[derive(Debug)]
pub struct Image {
    tag: String,
    built: GenericImage,
}

impl Image {
    /// Builds the binary and the image.
    ///
    /// # Errors
    /// When the binary or the image cannot be built.
    pub async fn build() -> Result<Image> {
        let binary = tokio::task::spawn_blocking(static_binary).await??;
        let tag = format!("{:016x}", fastrand::u64(..));
        let place = format!("target/{STATIC_TARGET}/release/docent");
        let built = GenericBuildableImage::new(NAME, &tag)
            .with_dockerfile(workspace().join("Dockerfile"))
            .with_file(binary, place)
            .with_file(workspace().join("docker/zoo.cfg"), "docker/zoo.cfg")
            .build_image()
            .await
            .context("building the image")?;
        Ok(Image { tag, built })
    }

    /// Bytes, as the daemon counts them.
    ///
    /// # Errors
    /// When the image is gone.
    pub async fn size(&self) -> Result<i64> {
        let about = docker_client_instance().await?.inspect_image(&self.name()).await?;
        about.size.context("an image has a size")
    }

    fn name(&self) -> String {
        format!("{NAME}:{}", self.tag)
    }

    /// A container of it that is still to be described.
    pub fn container(&self) -> GenericImage {
        self.built.clone()
    }

    /// Removes it from the daemon's store. All its containers must be gone.
    ///
    /// # Errors
    /// When a container still uses it.
    pub async fn remove(self) -> Result<()> {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let removed = docker_client_instance().await?.remove_image(&self.name(), Some(options), None).await;
        removed.with_context(|| format!("removing {}", self.name())).map(drop)
    }
}
