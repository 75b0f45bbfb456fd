//! `docent serve`: a server in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use docent_server::config::Config;
use docent_server::{Server, ServerHandle, Stopped};
use tokio::signal::unix::{SignalKind, signal};

/// Servers of a development ensemble. More would only be slower.
const DEV_SERVERS_MAX: u64 = 9;

/// What `serve` is told.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Serve as this zoo.cfg says
    #[arg(long, short, value_name = "FILE", conflicts_with = "dev", required_unless_present = "dev")]
    config: Option<PathBuf>,
    /// Serve for development: on loopback, every feature switched on; with a number, an ensemble of so many servers
    #[arg(long, value_name = "SERVERS", num_args = 0..=1, default_missing_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=DEV_SERVERS_MAX))]
    dev: Option<u64>,
    /// Where a development server keeps its data; without it the data goes when the server ends
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data: Option<PathBuf>,
    /// The port of a development server, the next ones take those behind it; 0 takes free ones
    #[arg(long, value_name = "PORT", default_value_t = 2181, conflicts_with = "config")]
    port: u16,
}

/// Serves until a signal or a failure.
///
/// # Errors
/// The server cannot start, or its log cannot be written any more.
pub(super) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(workers());
    }
    let runtime = builder.enable_all().build()?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

/// One core is left to the thread that writes the log: what it does is what every write waits for.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let (servers, _folder) = match &args.config {
        Some(path) => (vec![configured(path)?], None),
        None => development(args)?,
    };
    let mut handles = Vec::new();
    for server in servers {
        handles.push(server.start().await?);
    }
    announce(&handles, args.dev.is_some());
    let mut terminate = signal(SignalKind::terminate())?;
    let stopped = tokio::select! {
        stopped = first_end(&mut handles) => Some(stopped),
        _ = terminate.recv() => None,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            None
        }
    };
    if let Some(stopped) = stopped {
        bail!(stopped);
    }
    let ends = futures::future::join_all(handles.into_iter().map(ServerHandle::stop)).await;
    ends.into_iter().collect::<Result<(), _>>().context("while stopping")
}

/// The end of the first server that ends by itself.
async fn first_end(handles: &mut [ServerHandle]) -> Stopped {
    let ends = handles.iter_mut().map(|handle| Box::pin(handle.wait()));
    futures::future::select_all(ends).await.0
}

fn configured(path: &PathBuf) -> anyhow::Result<Server> {
    let (config, warnings) = Config::from_path(path).with_context(|| format!("in {}", path.display()))?;
    for warning in warnings {
        tracing::warn!("{}: {warning}", path.display());
    }
    Ok(Server::new(config))
}

/// Development servers; the folder is there as long as the second value when none was given.
fn development(args: &ServeArgs) -> anyhow::Result<(Vec<Server>, Option<tempfile::TempDir>)> {
    let folder = match &args.data {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("docent-dev-").tempdir()?),
    };
    let data = args.data.clone().or_else(|| folder.as_ref().map(|folder| folder.path().to_owned()));
    let data = data.context("a folder for the data")?;
    let mut servers = match args.dev {
        None | Some(1) => vec![Server::dev(data)],
        Some(size) => Server::dev_ensemble(data, size)?,
    };
    for (server, offset) in servers.iter_mut().zip(0..) {
        let port = if args.port == 0 { Some(0) } else { args.port.checked_add(offset) };
        server.config_mut().client.port = Some(port.context("there are no ports behind --port")?);
    }
    Ok((servers, folder))
}

/// The connect string goes to standard output, so that scripts can read it.
fn announce(handles: &[ServerHandle], dev: bool) {
    if dev {
        let addresses: Vec<String> = handles.iter().map(ServerHandle::connect_string).collect();
        println!("{}", addresses.join(","));
    }
    for handle in handles {
        tracing::info!(address = %handle.client_addr(), tls = ?handle.secure_client_addr(), "serving");
    }
}
